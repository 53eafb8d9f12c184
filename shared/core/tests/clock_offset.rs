//! What the servers' dates tell of a clock: never something false, soon something precise.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::cases;
use darkroom_core::clock_offset::{OffsetBounds, Told};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

/// The true time at which a test begins.
const START_MS: i64 = 1_800_000_000_000;

/// An exchange with a server whose clock is right, by a clock to which `offset_ms` must be added: sent at `at_ms` after the
/// start, answered `there_ms` later, received `back_ms` after that.
fn exchange(offset_ms: i64, at_ms: i64, there_ms: i64, back_ms: i64) -> Told {
    let answered = START_MS + at_ms + there_ms;
    let by_clock = |true_ms: i64| Timestamp::from_millis((true_ms - offset_ms).try_into().unwrap());
    Told {
        sent: by_clock(START_MS + at_ms),
        received: by_clock(answered + back_ms),
        date: Timestamp::from_millis((answered - answered.rem_euclid(1_000)).try_into().unwrap()),
    }
}

fn bounds(exchanges: impl IntoIterator<Item = Told>) -> OffsetBounds {
    let mut exchanges = exchanges.into_iter();
    let first = OffsetBounds::of(exchanges.next().unwrap()).unwrap();
    exchanges.fold(first, OffsetBounds::with)
}

/// What the servers' own disagreement is allowed to be, and the cutting to whole milliseconds.
const SLACK_MS: i64 = 11;

proptest! {
    #![proptest_config(cases())]

    /// However exchanges lie: a clock is never moved away from the truth, nor past it, and what is said to be left is enough.
    #[test]
    fn a_correction_is_never_false(
        offset_ms in -5_000_i64..5_000,
        gaps in prop::collection::vec((0_i64..4_000, 0_i64..400, 0_i64..400), 1..40),
    ) {
        let mut at = 0;
        let told = gaps.into_iter().map(|(gap, there, back)| {
            at += gap;
            exchange(offset_ms, at, there, back)
        });
        let bounds = bounds(told);
        let correction = bounds.correction_ms();
        prop_assert!(correction == 0 || correction.signum() == offset_ms.signum());
        prop_assert!(correction.abs() <= offset_ms.abs());
        let left = u64::try_from((offset_ms - correction).abs()).unwrap();
        if let Some(uncertainty) = bounds.uncertainty() {
            prop_assert!(Duration::from_millis(left) <= uncertainty + Duration::from_millis(1));
        }
    }

    /// A look each 50 ms over one second finds any error to within a look and a round trip.
    #[test]
    fn a_second_of_looks_tells_it(offset_ms in -5_000_i64..5_000, phase in 0_i64..1_000) {
        let bounds = bounds((0..=21).map(|look| exchange(offset_ms, phase + look * 50, 2, 2)));
        prop_assert!((offset_ms - bounds.correction_ms()).abs() <= 54 + SLACK_MS);
    }
}

/// Two seconds are seen in the first answer; half a second is not, unless the answer happens to lie well.
#[test]
fn one_answer_tells_a_second() {
    let off = |offset_ms, at_ms| bounds([exchange(offset_ms, at_ms, 5, 5)]).correction_ms();
    assert!((900..=2_000).contains(&off(2_000, 900)), "{}", off(2_000, 900));
    assert!((-2_000..=-900).contains(&off(-2_000, 900)), "{}", off(-2_000, 900));
    assert_eq!(off(500, 700), 0);
    assert!(off(500, 100) > 300, "{}", off(500, 100));
}

/// A clock that is right stays as it is, whatever the answers' delays.
#[test]
fn a_right_clock_is_left_alone() {
    let told = (0..1_000).map(|look| exchange(0, look * 37, look % 90, (look * 7) % 120));
    let bounds = bounds(told);
    assert_eq!((bounds.correction_ms(), bounds.uncertainty()), (0, None));
}

/// The clock is set back by three seconds in the midst: what was known before does not outlive it.
#[test]
fn a_clock_that_is_set_is_measured_anew() {
    let before = (0..40).map(|look| exchange(0, look * 50, 2, 2));
    let after = (40..100).map(|look| exchange(3_000, look * 50, 2, 2));
    let correction = bounds(before.chain(after)).correction_ms();
    assert!((2_900..=3_000).contains(&correction), "{correction}");
}

/// One server that is wrong by ten minutes is believed until the next answer, not longer.
#[test]
fn a_wrong_server_is_forgotten() {
    let right = |look: i64| exchange(0, look * 50, 2, 2);
    let told = (0..40).map(right).chain([exchange(600_000, 2_001, 2, 2)]).chain((41..45).map(right));
    assert_eq!(bounds(told).correction_ms(), 0);
}

/// What was known long ago is not as sharp now: a clock drifts.
#[test]
fn knowledge_fades() {
    let sharp = bounds((0..=21).map(|look| exchange(2_000, look * 50, 2, 2)));
    let hour_later = sharp.with(exchange(2_000, 3_600_500, 400, 400));
    assert!(hour_later.uncertainty() > sharp.uncertainty());
}

/// An answer that came before its question says that the clock was set, and no more.
#[test]
fn a_clock_set_in_between_tells_nothing() {
    let told = exchange(0, 0, 5, 5);
    let backwards = Told { received: told.sent.minus(Duration::from_secs(1)), ..told };
    assert_eq!(OffsetBounds::of(backwards), None);
    let known = bounds([told]);
    assert_eq!(known.with(backwards), known);
}
