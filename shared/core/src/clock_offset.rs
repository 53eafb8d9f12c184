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

/// What is known of a clock's error.
///
/// Nothing is believed of one answer alone. What contradicts what is believed replaces it when the next answer says the same:
/// then the clock was set meanwhile. Otherwise that one server was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    believed: Option<Bounds>,
    /// By one answer that contradicts it.
    doubted: Option<Bounds>,
}

/// What must be added to the clock: somewhere from `lowest_us` to `highest_us` microseconds.
///
/// An answer alone tells it to about a second; one sent just before a full second and one just after tell it to their
/// distance, since both are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    lowest_us: i64,
    highest_us: i64,
    as_of: Timestamp,
}

/// Servers' clocks agree to that, and their dates are no older.
const SERVERS_AGREE_US: i64 = 10_000;
/// A machine may have been suspended, clocks and all, since an answer that is older.
const TOLD_LATELY: Duration = Duration::from_secs(60);
/// A clock gains or loses at most one microsecond in so many milliseconds against the servers': quartz is good for a quarter.
const DRIFT_MS: u128 = 5;

impl ClockOffset {
    /// Before the first answer.
    pub const NOTHING_TOLD: Self = Self { believed: None, doubted: None };

    /// With one more answer. One that was received before it was sent tells nothing: the clock was set in between.
    #[must_use]
    pub fn with(self, told: Told) -> Self {
        let Some(new) = Bounds::of(told) else { return self };
        let agreed = |known: Option<Bounds>| known.and_then(|known| known.with(new));
        match (agreed(self.believed), agreed(self.doubted)) {
            (None, None) => Self { doubted: Some(new), ..self },
            (None, believed) => Self { believed, doubted: None },
            // It says nothing for the one or the other while it fits both.
            (believed, doubted) => Self { believed, doubted },
        }
    }

    /// What is to be added to the clock, in milliseconds: nothing to one that may be right.
    pub fn correction_ms(&self) -> i64 {
        self.wrong().map_or(0, |bounds| bounds.middle_us() / 1_000)
    }

    /// How far a clock that cannot be right may still be off after its correction; `None` for one that may be right.
    pub fn uncertainty(&self) -> Option<Duration> {
        let half = |bounds: Bounds| bounds.highest_us.saturating_sub(bounds.lowest_us) / 2 + SERVERS_AGREE_US;
        self.wrong().map(|bounds| Duration::from_micros(u64::try_from(half(bounds)).unwrap_or(0)))
    }

    /// Whether it is known, and was told lately, that the clock may be right, or else how far it is off, to `within`.
    pub fn is_known(&self, within: Duration, now: Timestamp) -> bool {
        let is_fresh = self.believed.is_some_and(|known| now.finds_fresh(known.as_of, TOLD_LATELY));
        is_fresh
            && self.doubted.is_none()
            && self.uncertainty().is_none_or(|uncertainty| uncertainty <= within)
    }

    fn wrong(&self) -> Option<Bounds> {
        self.believed
            .filter(|known| known.lowest_us > SERVERS_AGREE_US || known.highest_us < -SERVERS_AGREE_US)
    }
}

impl Bounds {
    fn of(told: Told) -> Option<Self> {
        let Told { sent, received, date } = told;
        (sent <= received).then(|| Self {
            lowest_us: difference_us(date, received),
            highest_us: difference_us(date, sent).saturating_add(1_000_000),
            as_of: received,
        })
    }

    /// What fits both; `None` when nothing does.
    fn with(self, new: Self) -> Option<Self> {
        let age = new.as_of.since(self.as_of).as_millis();
        let drift = i64::try_from(age.div_ceil(DRIFT_MS)).unwrap_or(i64::MAX);
        let lowest_us = self.lowest_us.saturating_sub(drift).max(new.lowest_us);
        let highest_us = self.highest_us.saturating_add(drift).min(new.highest_us);
        let fits = lowest_us <= highest_us.saturating_add(SERVERS_AGREE_US);
        fits.then(|| Self {
            lowest_us: lowest_us.min(highest_us),
            highest_us: highest_us.max(lowest_us),
            as_of: new.as_of,
        })
    }

    const fn middle_us(self) -> i64 {
        self.lowest_us.midpoint(self.highest_us)
    }
}

fn difference_us(a: Timestamp, b: Timestamp) -> i64 {
    let signed = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    signed(a).saturating_sub(signed(b)).saturating_mul(1_000)
}
