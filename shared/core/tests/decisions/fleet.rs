//! A fleet with old copies of scopes and keys, against a provider that counts arrivals: how much of the quota is used, and
//! what is wasted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::pool::{Draws, TRIAL, Window, ask, pool, untried, untried_scope};
use crate::common::{at, seconds};
use darkroom_core::key::{ApiKey, KeyDisabled, KeyState, Scope, ScopeDisabled, ScopeState, Standing};
use darkroom_core::pool::{Choice, Pick, choose};
use darkroom_core::time::Timestamp;

/// What the provider makes of a project.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    Draws,
    ZeroQuota,
    InvalidKey,
}

/// A call and what was stored for it.
struct Call {
    scope: usize,
    scope_standing: Standing,
    key: usize,
    key_standing: Standing,
}

enum Event {
    /// A process asks for slots for its messages.
    Ask(usize),
    Arrives(Call),
    Answered(Call),
}

/// A process with its copies of scopes and keys.
struct Process {
    scopes: Vec<Scope>,
    keys: Vec<ApiKey>,
    read_at: Timestamp,
    turn: usize,
    messages: u32,
}

/// The table, the provider, and the processes between them.
struct Fleet {
    scopes: Vec<Scope>,
    keys: Vec<ApiKey>,
    truths: Vec<Truth>,
    windows: Vec<Window>,
    processes: Vec<Process>,
    /// Messages that a process takes at a time.
    batch: u32,
    jobs: u32,
    drawn: u32,
    total: u32,
    calls: Vec<u32>,
    refused: u32,
    first_and_last: Option<(Timestamp, Timestamp)>,
    events: BTreeMap<(Timestamp, u64), Event>,
    number: u64,
    draws: Draws,
}

impl Fleet {
    fn new(truths: &[Truth], limits: &[u32], is_proven: bool, size: (usize, u32), seed: u64) -> Self {
        let (mut scopes, mut keys) = pool(limits);
        if !is_proven {
            scopes = scopes.into_iter().map(untried_scope).collect();
            keys = keys.into_iter().map(untried).collect();
        }
        let process =
            |turn| Process { scopes: scopes.clone(), keys: keys.clone(), read_at: at(0), turn, messages: 0 };
        let mut draws = Draws(seed);
        let processes = (0..size.0).map(|_| process(usize::try_from(draws.below(1_000)).unwrap())).collect();
        let mut fleet = Self {
            windows: limits.iter().map(|_| Window::default()).collect(),
            calls: vec![0; limits.len()],
            truths: truths.to_vec(),
            scopes,
            keys,
            processes,
            batch: size.1,
            jobs: 600,
            drawn: 0,
            total: 600,
            refused: 0,
            first_and_last: None,
            events: BTreeMap::new(),
            number: 0,
            draws,
        };
        for process in 0..size.0 {
            let millis = fleet.draws.below(100);
            fleet.at(at(0).plus(Duration::from_millis(millis)), Event::Ask(process));
        }
        fleet
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    fn in_millis(&mut self, now: Timestamp, least: u64, most: u64, event: Event) {
        let millis = least + self.draws.below(most - least);
        self.at(now.plus(Duration::from_millis(millis)), event);
    }

    /// Until every job is drawn.
    fn run(mut self) -> Self {
        while let Some(((now, _), event)) = self.events.pop_first() {
            match event {
                Event::Ask(process) => self.asks(now, process),
                Event::Arrives(call) => self.arrives(now, call),
                Event::Answered(call) => self.answered(&call),
            }
            assert!(now < at(3_600), "{} of {} drawn", self.drawn, self.total);
        }
        assert_eq!(self.drawn, self.total);
        self
    }

    fn asks(&mut self, now: Timestamp, number: usize) {
        let process = &mut self.processes[number];
        if process.messages == 0 {
            process.messages = self.jobs.min(self.batch);
            self.jobs -= process.messages;
        }
        if process.messages == 0 {
            // The last ones are under way; one of them may be refused.
            if self.drawn < self.total {
                self.in_millis(now, 1_000, 1_001, Event::Ask(number));
            }
            return;
        }
        if now.since(process.read_at) >= seconds(5) {
            (process.scopes, process.keys, process.read_at) = (self.scopes.clone(), self.keys.clone(), now);
        }
        match choose(&process.scopes, &process.keys, &ask(now, process.messages), process.turn) {
            Choice::Reserve(picks) => self.reserves(now, number, &picks),
            Choice::OnTrial(_) => {
                process.read_at = Timestamp::EPOCH;
                self.in_millis(now, 50, 300, Event::Ask(number));
            }
            Choice::FreeAt(free_at) => {
                // The jobs go back, and some come again shortly before that second.
                self.jobs += std::mem::take(&mut process.messages);
                self.in_millis(free_at.minus(seconds(2)).max(now), 50, 2_000, Event::Ask(number));
            }
            Choice::NoneUsable => panic!("no scope of {} is usable", self.scopes.len()),
        }
    }

    /// Writes what was picked where nobody has written the scope, and the key on trial, since they were read.
    fn reserves(&mut self, now: Timestamp, number: usize, picks: &[Pick]) {
        let last = picks.iter().filter_map(|pick| self.reserve(number, pick)).max();
        match last {
            None => self.in_millis(now, 5, 40, Event::Ask(number)),
            Some(_) if self.processes[number].messages > 0 => self.in_millis(now, 2, 5, Event::Ask(number)),
            Some(last) => self.in_millis(last, 2, 3_000, Event::Ask(number)),
        }
    }

    /// The last second of a block; `None` after a lost race.
    fn reserve(&mut self, number: usize, pick: &Pick) -> Option<Timestamp> {
        let process = &mut self.processes[number];
        let (stored, copy) = (&mut self.scopes[pick.scope], &mut process.scopes[pick.scope]);
        if stored.version != copy.version {
            *copy = stored.clone();
            return None;
        }
        stored.usage = pick.slots.usage.clone();
        stored.standing = pick.slots.standing;
        stored.state = ScopeState::Active;
        stored.version += 1;
        *copy = stored.clone();
        process.turn = pick.scope + 1;
        let (stored, copy) = (&mut self.keys[pick.keys[0]], &mut process.keys[pick.keys[0]]);
        if !copy.standing.is_proven() {
            if stored.version != copy.version {
                *copy = stored.clone();
                self.end_scope_trial(pick.scope, pick.slots.standing, Standing::UNTRIED);
                return None;
            }
            stored.standing = Standing::Unproven { trial_until: pick.slots.at[0].plus(TRIAL) };
            stored.version += 1;
            *copy = stored.clone();
        }
        process.messages -= u32::try_from(pick.keys.len()).unwrap();
        let slots = pick.slots.at.iter().copied();
        for (slot, key) in slots.zip(&pick.keys) {
            let key_standing = self.keys[*key].standing;
            let call =
                Call { scope: pick.scope, scope_standing: pick.slots.standing, key: *key, key_standing };
            // Within the guard, both ends of it included.
            self.in_millis(slot, 0, 151, Event::Arrives(call));
        }
        pick.slots.at.last().copied()
    }

    fn arrives(&mut self, now: Timestamp, call: Call) {
        self.calls[call.scope] += 1;
        if self.truths[call.scope] == Truth::Draws {
            let limit = self.scopes[call.scope].requests_per_minute;
            self.refused += u32::from(!self.windows[call.scope].admits(now, limit));
            let first = self.first_and_last.map_or(now, |(first, _)| first);
            self.first_and_last = Some((first, now));
        }
        self.in_millis(now, 500, 1_500, Event::Answered(call));
    }

    /// What an answer does to key and scope, if they are on this trial still.
    fn answered(&mut self, call: &Call) {
        let state = KeyState::Disabled { reason: KeyDisabled::Invalid, at: at(0) };
        let key = &mut self.keys[call.key];
        key.version += u64::from(!key.standing.is_proven());
        match self.truths[call.scope] {
            Truth::InvalidKey => (key.state, key.standing) = (state, Standing::UNTRIED),
            Truth::Draws | Truth::ZeroQuota if key.standing == call.key_standing => {
                key.standing = Standing::Proven;
            }
            Truth::Draws | Truth::ZeroQuota => {}
        }
        match self.truths[call.scope] {
            Truth::Draws => self.end_scope_trial(call.scope, call.scope_standing, Standing::Proven),
            Truth::InvalidKey => self.end_scope_trial(call.scope, call.scope_standing, Standing::UNTRIED),
            Truth::ZeroQuota => {
                let scope = &mut self.scopes[call.scope];
                scope.state = ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(0) };
                scope.standing = Standing::UNTRIED;
                scope.version += 1;
            }
        }
        let is_drawn = self.truths[call.scope] == Truth::Draws;
        self.drawn += u32::from(is_drawn);
        self.jobs += u32::from(!is_drawn);
    }

    fn end_scope_trial(&mut self, scope: usize, seen: Standing, standing: Standing) {
        let scope = &mut self.scopes[scope];
        if !seen.is_proven() && scope.standing == seen {
            scope.standing = standing;
            scope.version += 1;
        }
    }

    /// From the first call to the last, as a share of the shortest time that the limits allow.
    fn use_of_quota(&self) -> f64 {
        let scopes = self.scopes.iter().zip(&self.truths).filter(|(_, truth)| **truth == Truth::Draws);
        let per_minute: u32 = scopes.map(|(scope, _)| scope.requests_per_minute).sum();
        let floor = seconds(u64::from(self.total.div_ceil(per_minute) - 1) * 60);
        let (first, last) = self.first_and_last.unwrap();
        floor.as_secs_f64() / last.since(first).as_secs_f64()
    }
}

/// Processes and the messages that each takes at a time. Fewer at once could not use up a minute's quota at its beginning.
const SIZES: [(usize, u32); 3] = [(1, 200), (20, 10), (50, 10)];

#[test]
fn a_fleet_uses_a_proven_pool_up_and_never_above_its_limits() {
    for limits in [vec![10; 17], vec![1, 2, 5, 10, 20, 30, 60]] {
        for (seed, size) in (0..20).flat_map(|seed| SIZES.map(|size| (seed, size))) {
            let fleet = Fleet::new(&vec![Truth::Draws; limits.len()], &limits, true, size, seed).run();
            assert_eq!(fleet.refused, 0, "{size:?}, seed {seed}");
            assert_eq!(fleet.calls.iter().sum::<u32>(), fleet.total);
            let used = fleet.use_of_quota();
            assert!(used >= 0.99, "{used} of {limits:?} by {size:?}, seed {seed}");
        }
    }
}

#[test]
fn a_fleet_calls_each_dead_key_of_a_new_pool_once() {
    let mut truths = vec![Truth::Draws; 20];
    truths[3] = Truth::ZeroQuota;
    truths[11] = Truth::ZeroQuota;
    truths[17] = Truth::InvalidKey;
    for (seed, size) in (0..20).flat_map(|seed| SIZES.map(|size| (seed, size))) {
        let fleet = Fleet::new(&truths, &[10; 20], false, size, seed).run();
        assert_eq!([3, 11, 17].map(|dead| fleet.calls[dead]), [1, 1, 1], "{size:?}, seed {seed}");
        assert_eq!(fleet.refused, 0, "{size:?}, seed {seed}");
        let used = fleet.use_of_quota();
        assert!(used >= 0.98, "{used} by {size:?}, seed {seed}");
    }
}
