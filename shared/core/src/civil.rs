//! Calendar days in UTC.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::export::GroupBy;
use crate::time::Timestamp;

/// Days in UTC, the first and the last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Days {
    start: Day,
    end: Day,
}

/// A calendar day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(Date);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Days::parse_day(&text)
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.0.to_string()
    }
}

impl Days {
    /// Parses `2026-11-22`, in this form alone.
    ///
    /// # Errors
    /// What it must be, in words.
    pub fn parse_day(text: &str) -> Result<Day, String> {
        let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text && day.year() >= 1970);
        day.map(Day).ok_or_else(|| "must be a day of the calendar since 1970, such as 2026-11-22".to_owned())
    }

    /// The days from `start` to `end`, at most so many.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn new(start: Day, end: Day, most: i32) -> Result<Self, String> {
        if end < start {
            return Err("must not lie before start_date".to_owned());
        }
        let days = (end.0 - start.0).get_days().saturating_add(1);
        if days > most {
            return Err(format!("start_date and end_date must span at most {most} days, these span {days}"));
        }
        Ok(Self { start, end })
    }

    /// The first day.
    pub fn start(&self) -> String {
        self.start.into()
    }

    /// The last day.
    pub fn end(&self) -> String {
        self.end.into()
    }

    /// The first moment.
    pub fn from(&self) -> Timestamp {
        midnight(Ok(self.start.0))
    }

    /// The first moment after the last.
    pub fn until(&self) -> Timestamp {
        midnight(self.end.0.tomorrow())
    }
}

/// The beginning of a day; the last moment that there is where the calendar ends.
fn midnight(day: Result<Date, jiff::Error>) -> Timestamp {
    let millis = day.and_then(|day| day.to_zoned(TimeZone::UTC)).map(|at| at.timestamp().as_millisecond());
    Timestamp::from_millis(millis.ok().and_then(|millis| u64::try_from(millis).ok()).unwrap_or(u64::MAX))
}

impl GroupBy {
    /// The name of the period that a moment lies in, in UTC: `2026-11-22`, `2026-W47` or `2026-11`. Names sort as the periods do.
    pub fn period(self, at: Timestamp) -> String {
        let day = at.utc_date();
        match self {
            Self::Day => day.to_string(),
            Self::Week => {
                let week = day.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Self::Month => format!("{:04}-{:02}", day.year(), day.month()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Days::parse_day(text).unwrap()
    }

    #[test]
    fn a_day_is_written_in_one_way() {
        for text in ["1970-01-01", "2026-11-22", "2028-02-29", "9999-12-31"] {
            assert_eq!(String::from(day(text)), text);
        }
        for text in [
            "",
            "2026-11-31",
            "2027-02-29",
            "2026-1-1",
            "20261122",
            "2026-11-22T00:00:00Z",
            "2026-11-22 ",
            "22.11.2026",
            "1969-12-31",
            "-000001-01-01",
            "10000-01-01",
            "2026-W47-7",
        ] {
            assert!(Days::parse_day(text).is_err(), "{text}");
        }
    }

    #[test]
    fn both_ends_count() {
        let span = |start, end| Days::new(day(start), day(end), 365);
        assert!(span("2026-01-01", "2026-01-01").is_ok());
        assert!(span("2026-01-01", "2026-12-31").is_ok());
        assert!(span("2026-01-01", "2027-01-01").unwrap_err().contains("span 366"));
        assert!(span("2028-01-01", "2028-12-31").unwrap_err().contains("span 366"));
        assert!(span("1970-01-01", "9999-12-31").is_err());
        assert!(span("2026-01-02", "2026-01-01").unwrap_err().contains("before start_date"));
        let day = span("2026-11-22", "2026-11-22").unwrap();
        assert_eq!(
            (day.from().rfc3339(), day.until().rfc3339()),
            ("2026-11-22T00:00:00.000Z".to_owned(), "2026-11-23T00:00:00.000Z".to_owned())
        );
        assert!(
            span("9999-12-31", "9999-12-31").unwrap().until() > Timestamp::from_millis(253_402_000_000_000)
        );
    }

    #[test]
    fn periods_are_those_of_utc_and_of_iso_weeks() {
        for (at, periods) in [
            (1_795_305_600_000, ["2026-11-22", "2026-W47", "2026-11"]),
            // A Thursday of 2026's last week but one; the Friday after New Year's Eve is still week 53.
            (1_798_675_200_000, ["2026-12-31", "2026-W53", "2026-12"]),
            (1_798_761_599_999, ["2026-12-31", "2026-W53", "2026-12"]),
            (1_798_761_600_000, ["2027-01-01", "2026-W53", "2027-01"]),
            (1_799_020_800_000, ["2027-01-04", "2027-W01", "2027-01"]),
        ] {
            let at = Timestamp::from_millis(at);
            assert_eq!([GroupBy::Day, GroupBy::Week, GroupBy::Month].map(|by| by.period(at)), periods);
        }
    }
}
