//! How far this process's clock is off, as the servers that it talks to tell by the `Date` of their answers.

use std::time::Duration;

use crate::time::Timestamp;

/// One answer of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When the request was sent, by the clock in question.
    pub sent: Timestamp,
    /// When the answer was received, by the clock in question.
    pub received: Timestamp,
    /// The server's time in between, cut to the second (RFC 9110, section 6.6.1).
    pub date: Timestamp,
}

/// What must be added to the clock: somewhere from `lowest_us` to `highest_us` microseconds.
///
/// An answer alone tells it to about a second; one sent just before a full second and one just after tell it to their
/// distance, since both are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetBounds {
    lowest_us: i64,
    highest_us: i64,
    as_of: Timestamp,
}

/// Servers' clocks agree to that.
const SERVERS_AGREE_US: i64 = 10_000;
/// A clock gains or loses at most so many microseconds a millisecond against the servers': quartz is good for a quarter of it.
const DRIFT: (u128, u128) = (1, 5);

impl OffsetBounds {
    /// By one answer; `None` when it was received before it was sent: the clock was set in between.
    pub fn of(told: Told) -> Option<Self> {
        let Told { sent, received, date } = told;
        (sent <= received).then(|| Self {
            lowest_us: difference_us(date, received),
            highest_us: difference_us(date, sent).saturating_add(1_000_000),
            as_of: received,
        })
    }

    /// With one more answer. Where it contradicts the ones before, the clock was set meanwhile, or one of the servers is wrong:
    /// then only the newest is believed.
    #[must_use]
    pub fn with(self, told: Told) -> Self {
        let Some(new) = Self::of(told) else { return self };
        let age = new.as_of.since(self.as_of).as_millis();
        let drift = i64::try_from((age * DRIFT.0).div_ceil(DRIFT.1)).unwrap_or(i64::MAX);
        let lowest_us = self.lowest_us.saturating_sub(drift).max(new.lowest_us);
        let highest_us = self.highest_us.saturating_add(drift).min(new.highest_us);
        if lowest_us > highest_us.saturating_add(SERVERS_AGREE_US) {
            return new;
        }
        Self { lowest_us: lowest_us.min(highest_us), highest_us: highest_us.max(lowest_us), as_of: new.as_of }
    }

    /// The least that must be added to the clock, in milliseconds: a clock that may be right is left alone.
    pub fn correction_ms(&self) -> i64 {
        let lowest = self.lowest_us.saturating_sub(SERVERS_AGREE_US);
        0_i64.clamp(lowest, self.highest_us.saturating_add(SERVERS_AGREE_US)) / 1_000
    }

    /// How far a clock that cannot be right may still be off after its correction; `None` for one that may be right.
    pub fn uncertainty(&self) -> Option<Duration> {
        let width = self.highest_us.saturating_sub(self.lowest_us).saturating_add(SERVERS_AGREE_US);
        (self.correction_ms() != 0).then(|| Duration::from_micros(u64::try_from(width).unwrap_or(0)))
    }
}

fn difference_us(a: Timestamp, b: Timestamp) -> i64 {
    let signed = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    signed(a).saturating_sub(signed(b)).saturating_mul(1_000)
}
