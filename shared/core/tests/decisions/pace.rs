//! The sweeper's pace: what it promises, and a backlog that is swept by it while a worker draws.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::pool::{Window, key, pool, scope};
use crate::common::{at, cases, end, image, job, rules, seconds, stamp};
use darkroom_core::breaker::{Breaker, OpenReason, State};
use darkroom_core::job::{Job, Pending, Stage, Status, WaitReason};
use darkroom_core::key::{ApiKey, CoolReason, KeyDisabled, KeyState, Scope, ScopeDisabled, ScopeState};
use darkroom_core::lifecycle::{Bounds, Command, apply};
use darkroom_core::limits::{
    CALLS_MAX, LEASE_MAX, QUOTA_MINUTE, SLOT_EARLY, SLOT_WAIT_MAX, SWEEP_READ, WAIT_LOOK,
};
use darkroom_core::model::ProviderName;
use darkroom_core::pace::{Pace, Turn};
use darkroom_core::pool::{Choice, choose};
use darkroom_core::quota::{Ask, Mark, Reservation, guard, reserve};
use darkroom_core::sweep::{SweepAction, paced, sweep_action};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

/// Now, where nothing else is said.
const NOW: u64 = 1_000;

fn breaker(state: State) -> Breaker {
    Breaker { epoch: 4, version: 40, state }
}

fn open(until: u64) -> Breaker {
    let (at, until) = (at(900), at(until));
    breaker(State::Open { at, until, reason: OpenReason::Failures, openings: 1 })
}

fn half_open(until: u64) -> Breaker {
    let (probe, until) = (stamp(1), at(until));
    breaker(State::HalfOpen { probe, until, reason: OpenReason::Failures, openings: 1 })
}

fn closed_since(since: Timestamp) -> Breaker {
    let never = Timestamp::EPOCH;
    breaker(State::Closed { since, failures: 0, failing_since: never, exhausted: 0, exhausted_until: never })
}

fn pace(scopes: &[Scope], keys: &[ApiKey], breaker: &Breaker, promised: &[Timestamp]) -> Pace {
    Pace::new(scopes, keys, breaker, at(NOW), QUOTA_MINUTE, promised)
}

fn turns(mut pace: Pace, count: usize) -> Vec<Turn> {
    std::iter::from_fn(|| pace.take()).take(count).collect()
}

fn moments(pace: Pace, count: usize) -> Vec<Timestamp> {
    turns(pace, count).into_iter().map(|turn| turn.at).collect()
}

/// A call a minute and a guard after one at this second.
fn minute_after(second: u64) -> Timestamp {
    at(second + 60).plus(guard(QUOTA_MINUTE))
}

#[test]
fn turns_follow_the_quota_of_every_scope_that_may_be_called() {
    let (mut scopes, mut keys) = pool(&[2, 1, 9, 9]);
    keys[2].state = KeyState::Disabled { reason: KeyDisabled::Invalid, at: at(0) };
    scopes[3].state = ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(0) };
    scopes[1].requests_per_day = Some(1);
    let turns = turns(pace(&scopes, &keys, &Breaker::default(), &[]), 5);
    assert_eq!(turns[..3], [Turn { at: at(NOW), reason: WaitReason::Quota, is_firm: true }; 3]);
    assert_eq!(turns[3..], [Turn { at: minute_after(NOW), reason: WaitReason::Quota, is_firm: true }; 2]);
    assert_eq!(pace(&scopes[2..], &keys, &Breaker::default(), &[]).take(), None);
    assert_eq!(pace(&[], &keys, &Breaker::default(), &[]).take(), None);
}

/// Calls that are reserved for later have jobs that still wait: those in the queue before them need no turns of their own.
#[test]
fn what_is_reserved_and_not_called_yet_is_told_apart() {
    let (mut scopes, mut keys) = pool(&[9, 9, 9]);
    let mark = |second, count| Mark { at: at(second), count };
    scopes[0].usage.marks = vec![mark(NOW - 10, 3), mark(NOW, 1), mark(NOW + 7, 2)];
    scopes[1].usage.marks = vec![mark(NOW + 5, 1)];
    scopes[2].usage.marks = vec![mark(NOW + 6, 4)];
    keys[2].state = KeyState::Disabled { reason: KeyDisabled::Invalid, at: at(0) };
    let pace = pace(&scopes, &keys, &Breaker::default(), &[]);
    assert_eq!(pace.reserved(), [at(NOW + 5), at(NOW + 7), at(NOW + 7)]);
    // Nobody calls while the breaker is open, or with a scope that rests: these jobs have lost their slots.
    assert!(self::pace(&scopes, &keys, &open(NOW + 60), &[]).reserved().is_empty());
    scopes[0].state = ScopeState::Cooling { reason: CoolReason::RateLimited, at: at(0), until: at(NOW + 1) };
    assert_eq!(self::pace(&scopes, &keys, &Breaker::default(), &[]).reserved(), [at(NOW + 5)]);
    assert!(Pace::keyless(&Breaker::default(), at(NOW)).reserved().is_empty());
}

#[test]
fn an_open_breaker_is_waited_for_and_two_are_woken_to_probe_it() {
    let (scopes, keys) = pool(&[4, 4]);
    let firm = |second| Turn { at: at(second), reason: WaitReason::BreakerOpen, is_firm: true };
    let later = |at: Timestamp| Turn { at, reason: WaitReason::BreakerOpen, is_firm: false };
    let paused = |second| later(at(second + 10));
    // Its time is not over, is over, and is over for the probe that is under way.
    let next_minute = |from| later(minute_after(from + 10));
    for (breaker, from) in [(open(1_050), 1_050), (open(1_000), NOW), (half_open(1_000), NOW)] {
        let mut expected = vec![firm(from); 2];
        expected.extend([paused(from); 6]);
        expected.push(next_minute(from));
        assert_eq!(turns(pace(&scopes, &keys, &breaker, &[]), 9), expected, "{breaker:?}");
    }
    // Somebody probes: nobody else is woken.
    let mut expected = vec![paused(NOW); 8];
    expected.push(next_minute(NOW));
    assert_eq!(turns(pace(&scopes, &keys, &half_open(1_050), &[]), 9), expected);
    // Who was woken for the probe before is on the way; who comes before it is none.
    let promised = [at(1_010), at(1_010), at(1_050)];
    let some = turns(pace(&scopes, &keys, &open(1_050), &promised), 5);
    assert_eq!(some, [firm(1_050), paused(1_050), paused(1_050), paused(1_050), paused(1_050)]);
}

#[test]
fn a_closed_breaker_lets_twice_as_many_through_at_each_look() {
    let (scopes, keys) = pool(&[10_000]);
    let firm_at = |closed_for: u64| {
        let breaker = closed_since(at(NOW - closed_for));
        let turns = turns(pace(&scopes, &keys, &breaker, &[]), 9_000);
        let firm = turns.iter().take_while(|turn| turn.is_firm).count();
        for (number, turn) in turns.iter().enumerate() {
            let expected = if number < firm {
                Turn { at: at(NOW), reason: WaitReason::Quota, is_firm: true }
            } else {
                Turn { at: at(NOW + 5), reason: WaitReason::BreakerOpen, is_firm: false }
            };
            assert_eq!(*turn, expected, "number {number} after {closed_for} s");
        }
        firm
    };
    assert_eq!([0, 4, 5, 10, 15, 20, 25, 30].map(firm_at), [8, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!([45, 50, 59, 60, NOW].map(firm_at), [4_096, 8_192, 9_000, 9_000, 9_000]);
    // What was promised before is of the look before.
    let promised = turns(pace(&scopes, &keys, &closed_since(at(NOW - 5)), &[at(NOW + 1); 8]), 17);
    assert_eq!(promised.iter().filter(|turn| turn.is_firm).count(), 16);
    let never_open = turns(pace(&scopes, &keys, &Breaker::default(), &[]), 9_000);
    assert!(never_open.iter().all(|turn| turn.is_firm));
}

#[test]
fn a_key_of_another_provider_serves_no_scope() {
    let (mut scopes, keys) = pool(&[10]);
    scopes[0].provider = ProviderName::OpenAi;
    assert_eq!(pace(&scopes, &keys, &Breaker::default(), &[]).take(), None);
}

#[test]
fn a_model_without_keys_has_its_breakers_pace_alone() {
    let now = |breaker: &Breaker| turns(Pace::keyless(breaker, at(NOW)), 3);
    let turn = |second, reason, is_firm| Turn { at: at(second), reason, is_firm };
    assert_eq!(now(&Breaker::default()), [turn(NOW, WaitReason::Quota, true); 3]);
    let breaker_open = |second, is_firm| turn(second, WaitReason::BreakerOpen, is_firm);
    let firm = breaker_open(1_050, true);
    assert_eq!(now(&open(1_050)), [firm, firm, breaker_open(1_060, false)]);
    assert_eq!(now(&half_open(1_050)), [breaker_open(1_010, false); 3]);
    let ramp = turns(Pace::keyless(&closed_since(at(NOW)), at(NOW)), 9);
    assert_eq!(ramp[7..], [turn(NOW, WaitReason::Quota, true), breaker_open(NOW + 5, false)]);
}

/// A job that has been waiting since this second, due at that one.
fn waiting(wait_at: u64, due_at: u64) -> Job {
    let (wait_at, due_at) = (at(wait_at), at(due_at));
    job(
        0,
        Stage::Pending(Pending {
            wait_at,
            not_before: due_at,
            due_at,
            wakes: 0,
            reason: WaitReason::Capacity,
        }),
    )
}

/// One look at a job with this pace, at [`NOW`].
fn look(job: &Job, pace: &mut Pace) -> SweepAction {
    paced(job, sweep_action(job, at(NOW), &rules()), pace, at(NOW), &rules())
}

#[test]
fn a_message_goes_out_for_its_turn_within_the_look_and_otherwise_the_job_waits_on_its_record() {
    let (scopes, keys) = pool(&[1]);
    let sent = |due_at_seen: u64, starts_at: Timestamp| SweepAction::Send {
        command: Command::Mark { due_at_seen: at(due_at_seen), due_at: starts_at.plus(seconds(120)) },
        delay: starts_at.since(at(NOW)),
    };
    let waits =
        |not_before, reason| SweepAction::Wait { command: Command::Defer { attempt: 0, not_before, reason } };
    let used_at = |second| {
        let mut used = scopes.clone();
        let now = at(second);
        let ask = Ask {
            now,
            horizon: seconds(0),
            wanted: 1,
            minute: QUOTA_MINUTE,
            trial: seconds(110),
            promised: 0,
        };
        let Reservation::Slots(slots) = reserve(&used[0], &ask) else { panic!("no slot") };
        used[0].usage = slots.usage;
        used
    };
    let free_at = |second: u64| pace(&used_at(second - 60), &keys, &Breaker::default(), &[]);
    // Woken a little before its turn.
    let early = |second: u64| minute_after(second - 60).minus(SLOT_EARLY);
    for (due_at, mut pace, expected) in [
        (990, pace(&scopes, &keys, &Breaker::default(), &[]), sent(990, at(NOW))),
        // The later of its own second and its turn.
        (1_015, pace(&scopes, &keys, &Breaker::default(), &[]), sent(1_015, at(1_015))),
        (990, free_at(1_010), sent(990, early(1_010))),
        (1_015, free_at(1_010), sent(1_015, at(1_015))),
        (990, free_at(1_002), sent(990, at(NOW))),
        (990, free_at(1_022), sent(990, early(1_022))),
        (990, free_at(1_023), waits(early(1_023), WaitReason::Quota)),
        (990, free_at(1_055), waits(early(1_055), WaitReason::Quota)),
        // Not due: it does not take a turn.
        (1_021, pace(&scopes, &keys, &Breaker::default(), &[]), SweepAction::Leave),
        // The prober's second, within the look and beyond it.
        (990, pace(&scopes, &keys, &open(1_015), &[]), sent(990, at(1_015))),
        (990, pace(&scopes, &keys, &open(1_025), &[]), waits(at(1_025), WaitReason::BreakerOpen)),
        // Nothing is sent for a turn that only a later look can tell, and nothing written again for it.
        (990, pace(&scopes, &keys, &half_open(1_050), &[]), waits(at(1_010), WaitReason::BreakerOpen)),
        (1_001, pace(&scopes, &keys, &half_open(1_050), &[]), SweepAction::Leave),
        // No quota that time alone frees: a worker tells its owner.
        (990, pace(&scopes, &[], &Breaker::default(), &[]), sent(990, at(NOW))),
    ] {
        let job = waiting(500, due_at);
        assert_eq!(look(&job, &mut pace), expected, "due at {due_at}, {pace:?}");
    }
    // What is not sent takes no turn.
    let mut pace = pace(&scopes, &keys, &Breaker::default(), &[]);
    for other in [
        waiting(500, 1_021),
        job(1, crate::common::processing(at(990))),
        job(1, crate::common::processing(at(1_990))),
    ] {
        let action = sweep_action(&other, at(NOW), &rules());
        assert_eq!(look(&other, &mut pace), action);
    }
    assert_eq!(pace.take().map(|turn| turn.at), Some(at(NOW)));
}

#[test]
fn a_pause_after_a_failure_is_not_made_a_turn() {
    let (scopes, keys) = pool(&[1]);
    let paused_until = |second| job(1, crate::common::paused(at(500), at(second)));
    let pace = || pace(&scopes, &keys, &open(1_025), &[]);
    assert_eq!(look(&paused_until(1_015), &mut pace()), SweepAction::Leave);
    assert!(matches!(look(&paused_until(1_000), &mut pace()), SweepAction::Wait { .. }));
}

#[test]
fn no_job_waits_for_its_turn_past_its_end() {
    let (scopes, keys) = pool(&[1]);
    let not_before = |job: &Job, breaker: &Breaker| match look(job, &mut pace(&scopes, &keys, breaker, &[])) {
        SweepAction::Wait { command: Command::Defer { not_before, .. } } => not_before,
        other => panic!("{other:?}"),
    };
    // However long it is, it is looked at again within minutes: a key may have been added.
    assert_eq!(not_before(&waiting(500, 990), &open(9_000)), at(NOW).plus(WAIT_LOOK));
    let mut short = waiting(500, 990);
    short.order.deadline_at = at(1_100);
    assert_eq!(not_before(&short, &open(9_000)), at(1_100));
    let retried = Job { attempt: 1, ..short };
    assert_eq!(not_before(&Job { stage: waiting(990, 990).stage, ..retried }, &open(9_000)), at(1_100));
}

fn breakers() -> impl Strategy<Value = Breaker> {
    prop_oneof![
        2 => Just(Breaker::default()),
        1 => (900..=NOW).prop_map(|since| closed_since(at(since))),
        1 => (950..1_100_u64).prop_map(open),
        1 => (950..1_100_u64).prop_map(half_open),
    ]
}

/// Scopes that were used up to now, one after another.
fn used_scopes() -> impl Strategy<Value = Vec<Scope>> {
    let one = (1..8_u32, proptest::collection::vec(0..30_u64, 0..10)).prop_map(|(limit, pauses)| {
        let mut one = scope(0, limit);
        let mut time = 900;
        for pause in pauses {
            time = (time + pause).min(NOW);
            let now = at(time);
            let ask = Ask {
                now,
                horizon: seconds(20),
                wanted: 1,
                minute: QUOTA_MINUTE,
                trial: seconds(110),
                promised: 0,
            };
            if let Reservation::Slots(slots) = reserve(&one, &ask) {
                one.usage = slots.usage;
            }
        }
        one
    });
    proptest::collection::vec(one, 1..4).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(number, one)| Scope { project: crate::common::pool::project(number), ..one }).collect()
    })
}

fn keys_of(scopes: &[Scope]) -> Vec<ApiKey> {
    (0..scopes.len()).map(|number| key(number, 0)).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_minute_is_promised_more_calls_than_the_limits(scopes in used_scopes(), breaker in breakers()) {
        let promised = moments(pace(&scopes, &keys_of(&scopes), &breaker, &[]), 40);
        let marks = scopes.iter().flat_map(|scope| &scope.usage.marks);
        let mut all: Vec<_> = marks.flat_map(|mark| vec![mark.at; mark.count as usize]).collect();
        all.extend(&promised);
        all.sort_unstable();
        let limit: u32 = scopes.iter().map(|scope| scope.requests_per_minute).sum();
        let fits = all.windows(limit as usize + 1).all(|calls| {
            calls[limit as usize].since(calls[0]) >= QUOTA_MINUTE
        });
        prop_assert!(fits, "{} per minute: {:?}", limit, all);
        prop_assert!(promised.iter().all(|turn| *turn >= at(NOW)));
        if let State::Open { until, .. } = breaker.state {
            prop_assert!(promised.iter().all(|turn| *turn >= until));
        }
    }

    #[test]
    fn what_was_promised_is_taken_off(
        scopes in used_scopes(),
        ahead in proptest::collection::vec(0..20_u64, 0..12),
    ) {
        let keys = keys_of(&scopes);
        let promised: Vec<_> = ahead.iter().map(|second| at(NOW + second)).collect();
        let rest = moments(pace(&scopes, &keys, &Breaker::default(), &promised), 20);
        let all = moments(pace(&scopes, &keys, &Breaker::default(), &[]), 40);
        let still_to_come = ahead.iter().filter(|second| **second > 0).count();
        prop_assert_eq!(&rest[..], &all[still_to_come..still_to_come + 20]);
    }

    #[test]
    fn a_job_that_waits_for_its_turn_is_sent_within_the_look_or_moved_to_before_its_end(
        scopes in used_scopes(),
        breaker in breakers(),
        skipped in 0..12_usize,
        (created, due_at) in (0..NOW, 900..1_021_u64),
        deadline in NOW + 1..1_300,
    ) {
        let keys = keys_of(&scopes);
        let mut pace = pace(&scopes, &keys, &breaker, &[]);
        for _ in 0..skipped {
            pace.take();
        }
        let mut job = waiting(created, due_at);
        job.order.deadline_at = at(deadline);
        let turn = pace.clone().take().unwrap();
        let plain = sweep_action(&job, at(NOW), &rules());
        match look(&job, &mut pace) {
            SweepAction::Send { command, delay } => {
                prop_assert!(delay <= rules().ahead && turn.is_firm);
                let wakes_at = turn.reason.wakes_at(turn.at);
                prop_assert_eq!(at(NOW).plus(delay), wakes_at.max(at(due_at)).max(at(NOW)));
                prop_assert!(apply(&job, &command, stamp(9)).is_ok());
            }
            SweepAction::Wait { command } => {
                let next = apply(&job, &command, stamp(9)).unwrap();
                let Stage::Pending(next) = next.stage else { panic!("not waiting") };
                prop_assert!(next.not_before <= job.order.deadline_at && next.not_before > at(NOW));
                prop_assert_eq!(next.due_at, next.not_before);
                let wakes_at = turn.reason.wakes_at(turn.at);
                prop_assert!(!turn.is_firm || wakes_at.max(at(due_at)) > at(NOW).plus(rules().ahead));
            }
            SweepAction::Leave => {
                let waits = due_at > NOW && !turn.is_firm;
                prop_assert!(plain == SweepAction::Leave || waits);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

enum Event {
    Look,
    /// These jobs' messages are received together.
    Received(Vec<usize>),
    /// The slot's second, with its scope.
    Calls(usize, usize),
    Drawn(usize),
}

/// A backlog, its sweeper and its worker.
struct Backlog {
    jobs: Vec<Job>,
    scopes: Vec<Scope>,
    keys: Vec<ApiKey>,
    breaker: Breaker,
    windows: Vec<Window>,
    events: BTreeMap<(Timestamp, u64), Event>,
    number: u64,
    /// From a message's arrival to its worker's reservation.
    lag: Duration,
    sent: Vec<Timestamp>,
    promised: Vec<Timestamp>,
    called: Vec<Timestamp>,
}

impl Backlog {
    /// So many jobs that are due and have no message.
    fn new(jobs: usize, limits: &[u32], lag: u64) -> Self {
        let (scopes, keys) = pool(limits);
        let mut backlog = Self {
            jobs: vec![waiting(0, 0); jobs],
            windows: limits.iter().map(|_| Window::default()).collect(),
            scopes,
            keys,
            breaker: Breaker::default(),
            events: BTreeMap::new(),
            number: 0,
            lag: Duration::from_millis(lag),
            sent: Vec::new(),
            promised: Vec::new(),
            called: Vec::new(),
        };
        backlog.at(at(0), Event::Look);
        backlog
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    /// Until every job is drawn, or this second.
    fn run(mut self, until: u64) -> Self {
        while let Some(((now, _), event)) = self.events.pop_first() {
            if now > at(until) {
                break;
            }
            match event {
                Event::Look => self.looks(now),
                Event::Received(jobs) => self.received(now, &jobs),
                Event::Calls(job, scope) => self.calls(now, job, scope),
                Event::Drawn(job) => {
                    let (image, drawn_by) = (image(1), "painter-1".to_owned());
                    self.change(job, &Command::Capture { image, drawn_by, end: end(now) });
                }
            }
        }
        self
    }

    fn change(&mut self, job: usize, command: &Command) -> bool {
        let next = apply(&self.jobs[job], command, stamp(1));
        next.map(|next| self.jobs[job] = next).is_ok()
    }

    fn looks(&mut self, now: Timestamp) {
        self.promised.retain(|at| *at > now);
        let (promised, rules) = (self.promised.clone(), rules());
        let mut pace = Pace::new(&self.scopes, &self.keys, &self.breaker, now, QUOTA_MINUTE, &promised);
        let mut sent: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let is_due = |job: &Job| job.due_at().is_some_and(|due_at| due_at <= now.plus(rules.ahead));
        let due: Vec<_> = (0..self.jobs.len()).filter(|job| is_due(&self.jobs[*job])).collect();
        for number in due {
            let job = &self.jobs[number];
            match paced(job, sweep_action(job, now, &rules), &mut pace, now, &rules) {
                SweepAction::Send { command, delay } => {
                    let starts_at = now.plus(delay);
                    assert!(self.change(number, &command));
                    // SQS delays by whole seconds.
                    let delay = delay.as_millis().div_ceil(1_000);
                    sent.entry(u64::try_from(delay).unwrap()).or_default().push(number);
                    self.sent.push(now);
                    self.promised.push(starts_at);
                }
                SweepAction::Wait { command } => assert!(self.change(number, &command)),
                SweepAction::Leave => {}
                other => panic!("{other:?}"),
            }
        }
        for (delay, jobs) in sent {
            for batch in jobs.chunks(10) {
                self.at(now.plus(seconds(delay)).plus(self.lag), Event::Received(batch.to_vec()));
            }
        }
        if self.jobs.iter().any(|job| job.settlement().is_none()) {
            self.at(now.plus(SWEEP_READ), Event::Look);
        }
    }

    /// Reserves for as many as it can, and defers the others.
    fn received(&mut self, now: Timestamp, jobs: &[usize]) {
        let mut left: Vec<_> =
            jobs.iter().copied().filter(|job| self.jobs[*job].status() == Status::Pending).collect();
        while !left.is_empty() {
            let wanted = u32::try_from(left.len()).unwrap();
            let ask = Ask {
                now,
                horizon: SLOT_WAIT_MAX,
                wanted,
                minute: QUOTA_MINUTE,
                trial: seconds(110),
                promised: 0,
            };
            match choose(&self.scopes, &self.keys, &ask, self.called.len()) {
                Choice::Reserve(picks) => {
                    for pick in picks {
                        self.scopes[pick.scope].usage = pick.slots.usage;
                        for slot in pick.slots.at {
                            self.at(slot, Event::Calls(left.remove(0), pick.scope));
                        }
                    }
                }
                Choice::FreeAt(free_at) => {
                    for job in left.drain(..) {
                        let command = Command::defer(&self.jobs[job], free_at, WaitReason::Quota);
                        self.change(job, &command);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn calls(&mut self, now: Timestamp, job: usize, scope: usize) {
        let bounds = Bounds { attempts_max: 3, calls_max: CALLS_MAX };
        let claim = Command::Claim { now, lease_until: now.plus(LEASE_MAX), bounds };
        if self.change(job, &claim) {
            assert!(self.windows[scope].admits(now, self.scopes[scope].requests_per_minute));
            self.called.push(now);
            self.at(now.plus(seconds(8)), Event::Drawn(job));
        }
    }
}

#[test]
fn a_backlog_is_neither_multiplied_nor_starved() {
    for limits in [vec![10; 17], vec![60, 60, 30, 15, 5], vec![200]] {
        for lag in [0, 300, 1_500] {
            let backlog = Backlog::new(1_000, &limits, lag).run(3_600);
            let drawn = backlog.jobs.iter().filter(|job| job.status() == Status::Draft).count();
            assert_eq!((drawn, backlog.called.len()), (1_000, 1_000), "{limits:?}, {lag} ms");
            let sent = backlog.sent.len();
            assert!(sent <= 1_200, "{sent} messages for 1,000 calls of {limits:?}, {lag} ms");
            let per_minute: u64 = limits.iter().map(|limit| u64::from(*limit)).sum();
            let floor = (1_000_u64.div_ceil(per_minute) - 1) * 60_000;
            let span = u64::try_from(backlog.called[999].since(at(0)).as_millis()).unwrap();
            assert!(floor * 100 >= span * 95, "{span} ms where {floor} are possible: {limits:?}, {lag} ms");
        }
    }
}

#[test]
fn a_backlog_behind_a_breaker_is_woken_two_by_two_and_then_twice_as_many_each_look() {
    let sent_by = |backlog: &Backlog| {
        let mut looks = BTreeMap::<u64, usize>::new();
        for sent in &backlog.sent {
            *looks.entry(sent.since(at(0)).as_secs()).or_default() += 1;
        }
        looks.into_iter().collect::<Vec<_>>()
    };
    let mut opened = Backlog::new(1_000, &[1_000], 0);
    opened.breaker = open(60);
    // Sent within the look before it, for its second; from then on two at each look until somebody probes.
    let opened = opened.run(59);
    assert_eq!(sent_by(&opened), [(40, 2)]);
    let mut probed = Backlog::new(1_000, &[1_000], 0);
    probed.breaker = half_open(300);
    assert_eq!(sent_by(&probed.run(200)), []);
    let mut closed = Backlog::new(1_000, &[1_000], 0);
    closed.breaker = closed_since(at(0));
    let closed = closed.run(600);
    let rest = 1_000 - 8 - 16 - 32 - 64 - 128 - 256;
    let looks = [(0, 8), (5, 16), (10, 32), (15, 64), (20, 128), (25, 256), (30, rest)];
    assert_eq!(sent_by(&closed), looks);
    assert_eq!(closed.called.len(), 1_000);
}
