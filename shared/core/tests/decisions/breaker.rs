//! The breaker's record: each state with each event.

use std::time::Duration;

use crate::common::breaker::{
    EPOCH, NOW, RULES, breaker, closed, closed_at, closed_in_round, half_open, open,
};
use crate::common::{at, cases, seconds, stamp};
use darkroom_core::breaker::{Breaker, Event, Gate, OpenReason, Pass, Rules, State};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

use OpenReason::{Exhausted, Failures};

/// A usual call's pass, and the probe's.
fn pass(probe: Option<u8>) -> Pass {
    Pass { epoch: EPOCH, probe: probe.map(stamp) }
}

fn probe(by: u8) -> Event {
    Event::Probe(stamp(by))
}

fn answered(by: Option<u8>) -> Event {
    Event::Answered(pass(by))
}

fn failed(by: Option<u8>, answered_at: u64) -> Event {
    Event::Failed { pass: pass(by), answered_at: at(answered_at) }
}

fn not_reached(by: Option<u8>, until: u64) -> Event {
    Event::NotReached { pass: pass(by), until: at(until) }
}

fn exhausted(by: Option<u8>, free_at: u64) -> Event {
    Event::Exhausted { pass: pass(by), free_at: at(free_at) }
}

/// The record after the event at [`NOW`], with the longest jitter.
fn after(state: State, event: &Event) -> Option<Breaker> {
    breaker(state).after(event, at(NOW), &RULES, 1.0)
}

#[test]
fn every_state_with_every_event() {
    let same = |state| Some((EPOCH, state));
    let next = |state| Some((EPOCH + 1, state));
    let row_begins = || State::Closed {
        since: at(10),
        failures: 1,
        failing_since: at(NOW),
        exhausted: 2,
        exhausted_until: at(95),
    };
    let cases = [
        // Closed.
        (closed(0, 0), probe(1), None),
        (closed(0, 0), answered(None), None),
        (closed(2, 0), answered(None), same(closed_at(10))),
        (closed(0, 1), answered(None), same(closed_at(10))),
        (closed(0, 2), failed(None, 0), same(row_begins())),
        (closed(3, 2), failed(None, 89), same(closed(4, 2))),
        (closed(3, 2), failed(None, 90), same(row_begins())),
        (closed(4, 2), failed(None, 89), next(open(NOW, 160, Failures, 1))),
        (closed(4, 2), failed(None, 95), same(row_begins())),
        (closed(3, 0), not_reached(None, 130), None),
        (closed(3, 1), exhausted(None, 130), same(closed_in_round(3, 2, 130))),
        (closed(3, 1), exhausted(None, 401), same(closed_in_round(3, 2, 400))),
        (closed_in_round(3, 1, 100), exhausted(None, 130), same(closed_in_round(3, 2, 130))),
        (closed_in_round(3, 1, 101), exhausted(None, 130), None),
        (closed_in_round(3, 2, 101), exhausted(None, 130), None),
        (closed(3, 2), exhausted(None, 130), next(open(NOW, 130, Exhausted, 1))),
        (closed(3, 2), exhausted(None, 401), next(open(NOW, 400, Exhausted, 1))),
        // Open, its time not over and just over.
        (open(40, 101, Failures, 2), probe(1), None),
        (open(40, 100, Failures, 2), probe(1), next(half_open(1, 210, Failures, 2))),
        (open(40, 100, Exhausted, 1), probe(1), next(half_open(1, 210, Exhausted, 1))),
        (open(40, 100, Failures, 2), answered(None), None),
        (open(40, 100, Failures, 2), answered(Some(1)), None),
        (open(40, 100, Failures, 2), failed(None, 0), None),
        (open(40, 100, Failures, 2), failed(Some(1), 0), None),
        (open(40, 100, Failures, 2), not_reached(Some(1), 130), None),
        (open(40, 100, Failures, 2), exhausted(None, 130), None),
        // Half open, its probe alive and given up.
        (half_open(1, 101, Failures, 2), probe(2), None),
        (half_open(1, 100, Failures, 2), probe(2), next(half_open(2, 210, Failures, 2))),
        (half_open(1, 150, Failures, 2), answered(Some(1)), next(closed_at(NOW))),
        (half_open(1, 100, Failures, 2), answered(Some(1)), next(closed_at(NOW))),
        (half_open(1, 150, Failures, 2), answered(Some(2)), None),
        (half_open(1, 150, Failures, 2), answered(None), None),
        (half_open(1, 150, Failures, 1), failed(Some(1), 99), next(open(NOW, 220, Failures, 2))),
        (half_open(1, 150, Exhausted, 1), failed(Some(1), 99), next(open(NOW, 220, Failures, 2))),
        (half_open(1, 150, Failures, 1), failed(Some(2), 0), None),
        (half_open(1, 150, Failures, 1), failed(None, 0), None),
        (half_open(1, 150, Failures, 2), not_reached(Some(1), 130), next(open(NOW, 130, Failures, 2))),
        (half_open(1, 150, Exhausted, 2), not_reached(Some(1), 401), next(open(NOW, 400, Exhausted, 2))),
        (half_open(1, 150, Failures, 2), not_reached(Some(2), 130), None),
        (half_open(1, 150, Failures, 2), not_reached(None, 130), None),
        (half_open(1, 150, Failures, 2), exhausted(Some(1), 130), next(open(NOW, 130, Exhausted, 2))),
        (half_open(1, 150, Failures, 2), exhausted(Some(1), 401), next(open(NOW, 400, Exhausted, 2))),
        (half_open(1, 150, Failures, 2), exhausted(None, 130), None),
    ];
    for (state, event, expected) in cases {
        let expected = expected.map(|(epoch, state)| Breaker { epoch, version: 41, state });
        assert_eq!(after(state.clone(), &event), expected, "{state:?} after {event:?}");
    }
}

#[test]
fn who_may_call_and_when() {
    for (state, gate, word) in [
        (closed(4, 2), Gate::Closed, "closed"),
        (open(40, 101, Failures, 1), Gate::OpenUntil(at(101)), "open"),
        (open(40, 100, Failures, 1), Gate::MayProbe, "open"),
        (half_open(1, 101, Failures, 1), Gate::Probing(at(101)), "half_open"),
        (half_open(1, 100, Failures, 1), Gate::MayProbe, "half_open"),
        (State::default(), Gate::Closed, "closed"),
    ] {
        assert_eq!((breaker(state.clone()).gate(at(NOW)), state.as_str()), (gate, word), "{state:?}");
    }
    assert_eq!(Breaker::default().epoch, 0);
}

/// How long each opening lasts while every probe fails.
fn openings(jitter: f64) -> Vec<Duration> {
    let mut record = breaker(closed(4, 0));
    let mut now = at(NOW);
    let mut event = failed(None, 0);
    let mut lasted = Vec::new();
    for _ in 0..7 {
        record = record.after(&event, now, &RULES, jitter).unwrap();
        let State::Open { until, .. } = record.state else { panic!("{record:?}") };
        lasted.push(until.since(now));
        now = until;
        record = record.after(&probe(1), now, &RULES, jitter).unwrap();
        event = Event::Failed {
            pass: Pass { epoch: record.epoch, probe: Some(stamp(1)) },
            answered_at: Timestamp::EPOCH,
        };
    }
    lasted
}

#[test]
fn each_opening_lasts_twice_as_long_up_to_the_longest() {
    assert_eq!(openings(1.0), [60, 120, 240, 300, 300, 300, 300].map(seconds));
    assert_eq!(openings(0.0), [54, 108, 216, 270, 270, 270, 270].map(seconds));
    assert_eq!(openings(9.0), openings(1.0), "a draw beyond its bounds");
    let last = State::HalfOpen { probe: stamp(1), until: at(150), reason: Failures, openings: u32::MAX };
    assert_eq!(
        after(last, &failed(Some(1), 0)).unwrap().state,
        State::Open { at: at(NOW), until: at(400), reason: Failures, openings: u32::MAX }
    );
}

#[test]
fn a_probe_that_did_not_get_there_does_not_make_the_next_opening_longer() {
    let mut record = breaker(half_open(1, 150, Failures, 1));
    for round in 0..3 {
        let by = Pass { epoch: record.epoch, probe: Some(stamp(1)) };
        let event = Event::NotReached { pass: by, until: at(NOW + round) };
        record = record.after(&event, at(NOW + round), &RULES, 1.0).unwrap();
        record = record.after(&probe(1), at(NOW + round), &RULES, 1.0).unwrap();
    }
    let by = Pass { epoch: record.epoch, probe: Some(stamp(1)) };
    let event = Event::Failed { pass: by, answered_at: Timestamp::EPOCH };
    let State::Open { until, .. } = record.after(&event, at(200), &RULES, 1.0).unwrap().state else {
        panic!("not open")
    };
    assert_eq!(until, at(320));
}

#[test]
fn rounds_without_a_scope_open_it_only_in_a_row() {
    let mut record = breaker(closed(0, 0));
    for (event, time) in [
        (exhausted(None, 130), 100),
        (exhausted(None, 160), 130),
        (answered(None), 135),
        (exhausted(None, 170), 140),
        (exhausted(None, 200), 170),
    ] {
        record = record.after(&event, at(time), &RULES, 1.0).unwrap();
        assert_eq!(record.gate(at(time)), Gate::Closed);
    }
    record = record.after(&exhausted(None, 230), at(200), &RULES, 1.0).unwrap();
    assert_eq!(record.gate(at(200)), Gate::OpenUntil(at(230)));
}

/// Ten calls that are under way when the quota ends are refused together: that is one round, not ten.
#[test]
fn calls_that_are_refused_together_are_one_round() {
    let mut record = breaker(closed(0, 0));
    for time in [100, 100, 101, 105, 129] {
        record = record.after(&exhausted(None, 130), at(time), &RULES, 1.0).unwrap_or(record);
    }
    assert_eq!(record.state, closed_in_round(0, 1, 130));
}

#[test]
fn states_are_stored_under_stable_names() {
    for (state, stored) in [
        (
            closed(1, 2),
            r#"{"state":"closed","since":S10,"failures":1,"failing_since":S90,"exhausted":2,"exhausted_until":S95}"#,
        ),
        (open(3, 4, Failures, 5), r#"{"state":"open","at":S3,"until":S4,"reason":"failures","openings":5}"#),
        (
            half_open(1, 4, Exhausted, 5),
            r#"{"state":"half_open","probe":"P","until":S4,"reason":"exhausted","openings":5}"#,
        ),
    ] {
        let mut stored = stored.replace('P', stamp(1).as_str());
        for second in [10, 90, 95, 3, 4] {
            stored = stored.replace(&format!("S{second}"), &at(second).as_millis().to_string());
        }
        assert_eq!(serde_json::to_string(&state).unwrap(), stored);
        let record = breaker(state);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Breaker>(&text).unwrap(), record);
    }
}

fn reasons() -> impl Strategy<Value = OpenReason> {
    prop_oneof![Just(Failures), Just(Exhausted)]
}

/// Every state, its times around [`NOW`].
fn states() -> impl Strategy<Value = State> {
    let time = || NOW - 5..NOW + 5;
    prop_oneof![
        (time(), 0..5_u32, time(), 0..3_u32, time()).prop_map(
            |(since, failures, failing, exhausted, until)| State::Closed {
                since: at(since),
                failures,
                failing_since: at(failing),
                exhausted,
                exhausted_until: at(until),
            }
        ),
        (time(), time(), reasons(), 1..9_u32)
            .prop_map(|(since, until, reason, openings)| open(since, until, reason, openings)),
        (0..3_u8, time(), reasons(), 1..9_u32)
            .prop_map(|(probe, until, reason, openings)| half_open(probe, until, reason, openings)),
    ]
}

/// What a call with this pass can tell.
fn told(pass: Pass) -> impl Strategy<Value = Event> {
    let by = pass.clone();
    let told_at = 0..NOW * 9;
    prop_oneof![
        Just(Event::Answered(pass.clone())),
        (0..NOW * 2).prop_map(move |time| Event::Failed { pass: by.clone(), answered_at: at(time) }),
        (told_at, any::<bool>()).prop_map(move |(time, exhausted)| if exhausted {
            Event::Exhausted { pass: pass.clone(), free_at: at(time) }
        } else {
            Event::NotReached { pass: pass.clone(), until: at(time) }
        }),
    ]
}

fn passes() -> impl Strategy<Value = Pass> {
    (EPOCH - 1..=EPOCH + 1, proptest::option::of((0..3_u8).prop_map(stamp)))
        .prop_map(|(epoch, probe)| Pass { epoch, probe })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn only_what_the_state_itself_let_through_changes_it(
        state in states(),
        (pass, event) in passes().prop_flat_map(|pass| (Just(pass.clone()), told(pass))),
        jitter in 0.0..1.0,
    ) {
        let record = breaker(state);
        let next = record.after(&event, at(NOW), &RULES, jitter);
        let is_mine = pass.epoch == EPOCH && match &record.state {
            State::Closed { .. } => true,
            State::Open { .. } => false,
            State::HalfOpen { probe, .. } => pass.probe.as_ref() == Some(probe),
        };
        prop_assert!(is_mine || next.is_none(), "{:?} after {:?}: {:?}", record, event, next);
        if let Some(next) = next {
            prop_assert_eq!(next.version, record.version + 1);
            if let State::Open { at: since, until, openings, .. } = next.state {
                prop_assert_eq!(since, at(NOW));
                prop_assert!(until <= at(NOW).plus(RULES.open_max), "open until {}", until);
                if let Event::Failed { .. } = event {
                    let longest = RULES.open.saturating_mul(1 << (openings - 1).min(9)).min(RULES.open_max);
                    let lasts = until.since(since);
                    prop_assert!(lasts <= longest && lasts >= longest.mul_f64(0.899), "{:?}", lasts);
                }
            }
        }
    }

    #[test]
    fn a_closed_breaker_is_written_for_failures_alone(
        times in proptest::collection::vec((0..1_000_u64, any::<bool>()), 1..20),
        since in 0..100_u64,
    ) {
        let mut record = breaker(closed_at(since));
        for (time, fails) in times {
            let event = if fails { failed(None, time) } else { answered(None) };
            let is_clean = record.state == closed_at(since);
            match record.after(&event, at(time), &RULES, 0.5) {
                None => prop_assert!(!fails && is_clean),
                Some(next) => {
                    prop_assert!(fails || !is_clean);
                    prop_assert!(fails || next.state == closed_at(since));
                    record = if next.epoch == EPOCH { next } else { breaker(closed_at(since)) };
                }
            }
        }
    }

    #[test]
    fn a_provider_that_always_fails_is_left_alone_after_exactly_so_many_failures(
        failures in 1..12_u32,
        answers in proptest::collection::vec(0..NOW, 4),
        calls in proptest::collection::vec((0..4_usize, 0..60_u64), 12),
    ) {
        // Each worker was answered some time before the first failure, at NOW.
        let rules = Rules { failures, ..RULES };
        let mut record = breaker(closed_at(0));
        let mut now = NOW;
        for (number, (worker, pause)) in (1_u32..).zip(calls).take(failures as usize) {
            let event = failed(None, answers[worker]);
            record = record.after(&event, at(now), &rules, 0.5).unwrap();
            prop_assert_eq!(record.gate(at(now)) == Gate::Closed, number < failures, "after {}", number);
            now += pause;
        }
    }
}

#[test]
fn an_operator_closes_it_from_wherever_it_is() {
    for state in [closed(3, 2), open(40, 160, Failures, 2), half_open(1, 150, Failures, 2)] {
        let seen = breaker(state);
        let (epoch, version) = (seen.epoch + 1, seen.version + 1);
        assert_eq!(seen.reset(at(NOW)), Breaker { epoch, version, state: closed_at(NOW) }, "{seen:?}");
    }
}
