//! What the servers' dates tell of a clock: never something false, soon something precise.

use std::time::Duration;

use crate::common::cases;
use darkroom_core::clock_offset::{ClockOffset, Told};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

/// The true time at which a test begins.
const START_MS: i64 = 1_800_000_000_000;

/// An exchange with a server whose clock is right, by a clock to which `offset_ms` must be added: sent at `at_ms` after the
/// start, answered `there_ms` later, received `back_ms` after that.
fn exchange(offset_ms: i64, at_ms: i64, there_ms: i64, back_ms: i64) -> Told {
    exchange_with(0, offset_ms, at_ms, there_ms, back_ms)
}

/// With a server whose clock is fast by `server_ms`.
fn exchange_with(server_ms: i64, offset_ms: i64, at_ms: i64, there_ms: i64, back_ms: i64) -> Told {
    let answered = START_MS + at_ms + there_ms;
    let by_server = answered + server_ms;
    let by_clock = |true_ms: i64| Timestamp::from_millis((true_ms - offset_ms).try_into().unwrap());
    Told {
        sent: by_clock(START_MS + at_ms),
        received: by_clock(answered + back_ms),
        date: Timestamp::from_millis((by_server - by_server.rem_euclid(1_000)).try_into().unwrap()),
    }
}

fn told(exchanges: impl IntoIterator<Item = Told>) -> ClockOffset {
    exchanges.into_iter().fold(ClockOffset::NOTHING_TOLD, ClockOffset::with)
}

fn off_by(offset: ClockOffset, true_ms: i64) -> Duration {
    Duration::from_millis((true_ms - offset.correction_ms()).unsigned_abs())
}

proptest! {
    #![proptest_config(cases())]

    /// However exchanges lie, over servers whose clocks differ by some milliseconds: what is said to be left is enough, and a
    /// clock that is right is not moved.
    #[test]
    fn a_correction_is_as_good_as_it_says(
        offset_ms in prop_oneof![Just(0), -5_000_i64..5_000],
        gaps in prop::collection::vec((0_i64..4_000, 0_i64..400, 0_i64..400, -4_i64..=4), 1..40),
    ) {
        let mut at = 0;
        let exchanges = gaps.into_iter().map(|(gap, there, back, server)| {
            at += gap;
            exchange_with(server, offset_ms, at, there, back)
        });
        let offset = told(exchanges);
        if let Some(uncertainty) = offset.uncertainty() {
            prop_assert!(off_by(offset, offset_ms) <= uncertainty + Duration::from_millis(1));
            prop_assert_ne!(offset_ms, 0);
        } else {
            prop_assert_eq!(offset.correction_ms(), 0);
        }
    }

    /// A look each 20 ms over one second finds any error that matters to within a look and two round trips.
    #[test]
    fn a_second_of_looks_tells_it(
        offset_ms in prop_oneof![-5_000_i64..-100, 100_i64..5_000],
        phase in 0_i64..1_000,
    ) {
        let offset = told((0..=45).map(|look| exchange(offset_ms, phase + look * 24, 2, 2)));
        prop_assert!(offset.uncertainty().unwrap() <= Duration::from_millis(30));
        prop_assert!(off_by(offset, offset_ms) <= Duration::from_millis(30));
    }
}

/// Two seconds are seen in the first two answers; half a second is not, unless they happen to lie well.
#[test]
fn two_answers_tell_a_second() {
    let off = |offset_ms, at_ms| {
        told([exchange(offset_ms, at_ms, 5, 5), exchange(offset_ms, at_ms + 10, 5, 5)]).correction_ms()
    };
    assert!((1_000..=2_600).contains(&off(2_000, 900)), "{}", off(2_000, 900));
    assert!((-2_600..=-1_000).contains(&off(-2_000, 900)), "{}", off(-2_000, 900));
    assert_eq!(off(500, 700), 0);
    assert!(off(500, 100) > 300, "{}", off(500, 100));
}

#[test]
fn one_answer_is_not_believed() {
    let offset = told([exchange(60_000, 0, 5, 5)]);
    assert_eq!(offset.correction_ms(), 0);
    let after = |millis: i64| Timestamp::from_millis((START_MS + millis).try_into().unwrap());
    assert!(!offset.is_known(Duration::MAX, after(10)));
    let twice = told([exchange(0, 0, 5, 5), exchange(0, 10, 5, 5)]);
    assert!(twice.is_known(Duration::ZERO, after(20)));
    assert!(!twice.is_known(Duration::ZERO, after(60_020)), "that was a while ago");
    assert!(!twice.with(exchange(60_000, 20, 5, 5)).is_known(Duration::MAX, after(30)), "it is in doubt");
}

/// A clock that is right stays as it is, whatever the answers' delays.
#[test]
fn a_right_clock_is_left_alone() {
    let offset = told((0..1_000).map(|look| exchange(0, look * 37, look % 90, (look * 7) % 120)));
    assert_eq!((offset.correction_ms(), offset.uncertainty()), (0, None));
}

/// The clock is set back by three seconds in the midst: what was known before does not outlive it.
#[test]
fn a_clock_that_is_set_is_measured_anew() {
    let before = (0..40).map(|look| exchange(0, look * 50, 2, 2));
    let after = (40..100).map(|look| exchange(3_000, look * 50, 2, 2));
    let offset = told(before.chain(after));
    assert!(off_by(offset, 3_000) < Duration::from_millis(60), "{offset:?}");
}

/// Set by less than a second: most answers fit both what was and what is, and do not hide that some fit only the latter.
#[test]
fn a_small_step_is_found_too() {
    let before = (0..40).map(|look| exchange(0, look * 50, 2, 2));
    let after = (0..60).map(|look| exchange(400, 2_000 + look * 230, 2, 2));
    let offset = told(before.chain(after));
    assert!(off_by(offset, 400) < Duration::from_millis(100), "{offset:?}");
}

/// One server that is wrong by ten minutes changes nothing, before others as after them.
#[test]
fn a_wrong_server_is_not_believed() {
    let right = |look: i64| exchange(0, look * 50, 2, 2);
    let wrong = exchange(600_000, 2_001, 2, 2);
    assert_eq!(told((0..40).map(right).chain([wrong])).correction_ms(), 0);
    assert_eq!(told((0..40).map(right).chain([wrong]).chain((41..45).map(right))).correction_ms(), 0);
    assert_eq!(told([wrong].into_iter().chain((41..43).map(right))).correction_ms(), 0);
}

/// What was known long ago is not as sharp now: a clock drifts.
#[test]
fn knowledge_fades() {
    let sharp = told((0..=21).map(|look| exchange(2_000, look * 50, 2, 2)));
    let hour_later = sharp.with(exchange(2_000, 3_600_500, 400, 400));
    assert!(hour_later.uncertainty() > sharp.uncertainty());
}

/// An answer that came before its question says that the clock was set, and no more.
#[test]
fn a_clock_set_in_between_tells_nothing() {
    let known = exchange(0, 0, 5, 5);
    let backwards = Told { received: known.sent.minus(Duration::from_secs(1)), ..known };
    assert_eq!(told([known]).with(backwards), told([known]));
}
