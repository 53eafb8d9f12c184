//! Points in time, in milliseconds since the Unix epoch.

use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Timestamp(u64);

/// The last moment that RFC 3339 can write: 9999-12-30, a day early so that no time zone overflows.
const LAST_MILLIS: u64 = 253_402_127_999_999;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The point `millis` milliseconds after the epoch, held within the years that RFC 3339 can write.
    pub const fn from_millis(millis: u64) -> Self {
        if millis > LAST_MILLIS { Self(LAST_MILLIS) } else { Self(millis) }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: DynamoDB's `ttl` counts in these.
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This point plus `duration`; it stops at the last representable moment.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This point minus `duration`; it stops at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// The time from `earlier` to this point; zero when `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whether what was seen at `seen_at` is younger than `span` at this point. What lies ahead is not: the clock was set
    /// since.
    pub fn finds_fresh(self, seen_at: Self, span: Duration) -> bool {
        self >= seen_at && self.since(seen_at) < span
    }

    /// `2026-11-22T10:00:00.123Z`.
    pub fn rfc3339(self) -> String {
        format!("{:.3}", self.jiff())
    }

    /// The calendar day in UTC, `2026-11-22`.
    pub fn utc_day(self) -> String {
        self.utc_date().to_string()
    }

    pub(crate) fn utc_date(self) -> jiff::civil::Date {
        self.jiff().to_zoned(TimeZone::UTC).date()
    }

    /// The calendar day in Los Angeles, `2026-11-22`. Gemini's daily quotas turn at midnight there
    /// (ai.google.dev, "Rate limits": requests per day reset at midnight Pacific time).
    pub fn pacific_day(self) -> String {
        self.jiff().to_zoned(pacific()).date().to_string()
    }

    /// The next midnight in Los Angeles after this point.
    pub fn next_pacific_midnight(self) -> Self {
        let day = self.jiff().to_zoned(pacific()).date();
        day.tomorrow()
            .and_then(|tomorrow| tomorrow.to_zoned(pacific()))
            .map_or(self.plus(Duration::from_secs(86_400)), |midnight| {
                Self::from_millis(u64::try_from(midnight.timestamp().as_millisecond()).unwrap_or(0))
            })
    }

    fn jiff(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or_default()
    }
}

impl From<u64> for Timestamp {
    fn from(millis: u64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for u64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

fn pacific() -> TimeZone {
    jiff::tz::get!("America/Los_Angeles")
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A length of time as a person reads it: `45 s`, `3.5 min`, `1.2 h`, `3.0 d`.
pub fn readable(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 3600.0 {
        format!("{:.1} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.1} h", seconds / 3600.0)
    } else {
        format!("{:.1} d", seconds / 86_400.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_day_turns_at_midnight_in_los_angeles() {
        // 2026-11-22T07:59:59Z is still the 21st there (UTC-8); one second later it is the 22nd.
        let before = Timestamp::from_millis(1_795_334_399_000);
        assert_eq!(before.rfc3339(), "2026-11-22T07:59:59.000Z");
        assert_eq!(before.pacific_day(), "2026-11-21");
        assert_eq!(before.next_pacific_midnight().rfc3339(), "2026-11-22T08:00:00.000Z");
        assert_eq!(before.next_pacific_midnight().pacific_day(), "2026-11-22");
    }

    #[test]
    fn the_day_that_summer_time_ends_has_25_hours() {
        // 2026-11-01 in Los Angeles starts at 07:00Z (UTC-7) and ends at 08:00Z (UTC-8).
        let start = Timestamp::from_millis(1_793_516_400_000);
        assert_eq!(start.rfc3339(), "2026-11-01T07:00:00.000Z");
        assert_eq!(start.next_pacific_midnight().since(start), Duration::from_secs(25 * 3600));
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Timestamp::from_millis(5).minus(Duration::from_secs(1)), Timestamp::from_millis(0));
        assert_eq!(Timestamp::from_millis(u64::MAX).plus(Duration::MAX), Timestamp::from_millis(LAST_MILLIS));
        assert!(Timestamp::from_millis(u64::MAX).rfc3339().starts_with("9999-"));
        assert_eq!(Timestamp::from_millis(1).since(Timestamp::from_millis(9)), Duration::ZERO);
    }

    #[test]
    fn what_lies_ahead_is_not_fresh() {
        let (seen_at, span) = (Timestamp::from_millis(10), Duration::from_millis(5));
        let fresh = [9, 10, 14, 15].map(|now| Timestamp::from_millis(now).finds_fresh(seen_at, span));
        assert_eq!(fresh, [false, true, true, false]);
    }

    #[test]
    fn durations_read_well() {
        let texts = [5, 89, 90, 3599, 3600, 4320, 172_800].map(|s| readable(Duration::from_secs(s)));
        assert_eq!(texts, ["5 s", "89 s", "1.5 min", "60.0 min", "1.0 h", "1.2 h", "2.0 d"]);
    }
}
