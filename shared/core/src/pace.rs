//! How fast the sweeper wakes the jobs that wait for a model: no faster than its quota frees, so that a backlog is not
//! multiplied, and not at all while its breaker is open.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter;
use std::time::Duration;

use crate::breaker::{Breaker, Gate, State};
use crate::job::WaitReason;
use crate::key::{ApiKey, KeyState, Scope, ScopeState};
use crate::limits::SWEEP_READ;
use crate::quota::{Calendar, state_at};
use crate::time::Timestamp;

/// Jobs woken for one probe: one makes it, the other is there in case the first has ended meanwhile.
const PROBERS: u32 = 2;
/// Jobs woken in the first look after a breaker has closed; twice as many in each look after it.
const RAMP_START: u32 = 8;
/// As many as the quota allows when a breaker has been closed for this long.
const RAMP: Duration = Duration::from_secs(60);

/// The moments at which one model's next jobs may start, one after another.
#[derive(Clone, Debug)]
pub struct Pace {
    calendars: Vec<Calendar>,
    /// The next moment of each calendar.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Calls are limited by nothing but the breaker.
    keyless: bool,
    gate: Gate,
    /// No call is made before then.
    from: Timestamp,
    /// Calls that are reserved and not yet made: jobs that wait in a worker's hands.
    reserved: Vec<Timestamp>,
    /// Jobs that may still be woken before the rest has to wait for a later look; `None` for any number.
    ramp: Option<u32>,
}

/// When one job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Then.
    pub at: Timestamp,
    /// What it waits for until then.
    pub reason: WaitReason,
    /// Whether it may be woken for then. Otherwise a later look tells: a message would only find what this one has found.
    pub is_firm: bool,
}

impl Pace {
    /// The pace of a model with these scopes and keys, without the calls that were promised for `promised` already.
    pub fn new(
        scopes: &[Scope],
        keys: &[ApiKey],
        breaker: &Breaker,
        now: Timestamp,
        minute: Duration,
        promised: &[Timestamp],
    ) -> Self {
        let has_key = |scope: &&Scope| {
            let fits = |key: &&ApiKey| key.provider == scope.provider && key.project == scope.project;
            keys.iter().filter(fits).any(|key| key.state == KeyState::Active)
        };
        let keyless = Self::keyless(breaker, now);
        let calendars: Vec<_> = scopes
            .iter()
            .filter(has_key)
            .filter_map(|scope| Calendar::of(scope, keyless.from, minute))
            .collect();
        let next =
            calendars.iter().enumerate().map(|(at, calendar)| Reverse((calendar.peek(), at))).collect();
        let is_called =
            |scope: &&Scope| keyless.gate == Gate::Closed && state_at(scope.state, now) == ScopeState::Active;
        let called = scopes.iter().filter(has_key).filter(is_called);
        let ahead = called.flat_map(|scope| &scope.usage.marks).filter(|mark| mark.at > now);
        let mut reserved: Vec<_> =
            ahead.flat_map(|mark| iter::repeat_n(mark.at, mark.count as usize)).collect();
        reserved.sort_unstable();
        let mut pace = Self { calendars, next, keyless: false, reserved, ..keyless };
        for at in promised.iter().filter(|at| **at > now) {
            pace.slot();
            // Who was woken for the probe is on the way.
            if pace.gate != Gate::Closed && *at >= pace.from {
                pace.has_room();
            }
        }
        pace
    }

    /// The pace of a model without keys: its breaker's alone.
    pub fn keyless(breaker: &Breaker, now: Timestamp) -> Self {
        Self {
            calendars: Vec::new(),
            next: BinaryHeap::new(),
            keyless: true,
            reserved: Vec::new(),
            gate: breaker.gate(now),
            from: match breaker.gate(now) {
                Gate::OpenUntil(until) => until,
                Gate::Closed | Gate::MayProbe | Gate::Probing(_) => now,
            },
            ramp: ramp(breaker, now),
        }
    }

    /// The moments of the calls that are reserved and not yet made, in order. Their jobs still wait, and need no other turn.
    pub fn reserved(&self) -> &[Timestamp] {
        &self.reserved
    }

    /// The next job's turn; `None` when no quota is left that time alone frees: a worker tells its owner so.
    pub fn take(&mut self) -> Option<Turn> {
        let slot = self.slot()?;
        let is_closed = self.gate == Gate::Closed;
        let is_firm = self.has_room();
        let reason = if is_closed && is_firm { WaitReason::Quota } else { WaitReason::BreakerOpen };
        // All others by the same pause, so that they stay as far apart as their quota wants them.
        let pause = match (is_firm, is_closed) {
            (true, _) => Duration::ZERO,
            (false, true) => SWEEP_READ,
            // Only the probe's answer tells when there is more.
            (false, false) => SWEEP_READ * 2,
        };
        Some(Turn { at: slot.plus(pause), reason, is_firm })
    }

    fn slot(&mut self) -> Option<Timestamp> {
        if self.keyless {
            return Some(self.from);
        }
        let Reverse((at, index)) = self.next.pop()?;
        let calendar = self.calendars.get_mut(index)?;
        calendar.take(at);
        self.next.push(Reverse((calendar.peek(), index)));
        Some(at)
    }

    fn has_room(&mut self) -> bool {
        match &mut self.ramp {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

fn ramp(breaker: &Breaker, now: Timestamp) -> Option<u32> {
    match breaker.state {
        // Its answer comes when it comes; until then there is nothing to be woken for.
        State::HalfOpen { until, .. } if until > now => Some(0),
        State::Open { .. } | State::HalfOpen { .. } => Some(PROBERS),
        State::Closed { since, .. } => {
            let closed_for = now.since(since);
            let looks = u32::try_from(closed_for.as_secs() / SWEEP_READ.as_secs()).unwrap_or(u32::MAX);
            (closed_for < RAMP).then(|| RAMP_START << looks.min(12))
        }
    }
}
