//! Breakers in every state.

use std::time::Duration;

use darkroom_core::breaker::{Breaker, OpenReason, Rules, State};
use darkroom_core::limits::{BREAKER_FAILURES, BREAKER_OPEN, BREAKER_OPEN_MAX, EXHAUSTED_ROUNDS};
use darkroom_core::time::Timestamp;

use super::{at, stamp};

pub(crate) const RULES: Rules = Rules {
    failures: BREAKER_FAILURES,
    open: BREAKER_OPEN,
    open_max: BREAKER_OPEN_MAX,
    exhausted_rounds: EXHAUSTED_ROUNDS,
    probe: Duration::from_secs(110),
};
/// Every record of the tables is at this epoch.
pub(crate) const EPOCH: u64 = 4;
/// The tables' now.
pub(crate) const NOW: u64 = 100;

pub(crate) fn breaker(state: State) -> Breaker {
    Breaker { epoch: EPOCH, version: 40, state }
}

/// Closed at 10, its failures since 90, its last round without a scope over at 95.
pub(crate) fn closed(failures: u32, exhausted: u32) -> State {
    closed_in_round(failures, exhausted, 95)
}

/// The same, the round over at `until`.
pub(crate) fn closed_in_round(failures: u32, exhausted: u32, until: u64) -> State {
    let failing_since = if failures == 0 { Timestamp::EPOCH } else { at(90) };
    let exhausted_until = if exhausted == 0 { Timestamp::EPOCH } else { at(until) };
    State::Closed { since: at(10), failures, failing_since, exhausted, exhausted_until }
}

pub(crate) fn closed_at(since: u64) -> State {
    let never = Timestamp::EPOCH;
    State::Closed {
        since: at(since),
        failures: 0,
        failing_since: never,
        exhausted: 0,
        exhausted_until: never,
    }
}

pub(crate) fn open(since: u64, until: u64, reason: OpenReason, openings: u32) -> State {
    State::Open { at: at(since), until: at(until), reason, openings }
}

/// Probed by this stamp.
pub(crate) fn half_open(probe: u8, until: u64, reason: OpenReason, openings: u32) -> State {
    State::HalfOpen { probe: stamp(probe), until: at(until), reason, openings }
}
