//! The best that anybody could do within a provider's limits.

use std::time::Duration;

/// What one project allows from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Calls per minute; the minute before that moment was quiet.
    pub per_minute: u32,
    /// Calls that its day still allows; `None` for any number.
    pub left_today: Option<u32>,
    /// From then on it allows none.
    pub until: Option<Duration>,
}

/// How long `calls` calls take at least, from the first arrival to the last: whatever the sliding minutes allow
/// arrives at once, and again a minute later. `None` when the supplies never allow so many.
pub fn shortest_span(calls: usize, minute: Duration, supplies: &[Supply]) -> Option<Duration> {
    let mut left: Vec<_> = supplies.iter().map(|supply| supply.left_today.unwrap_or(u32::MAX)).collect();
    let mut missing = calls;
    let mut at = Duration::ZERO;
    while missing > 0 {
        let mut arrived = 0;
        for (supply, left) in supplies.iter().zip(&mut left) {
            if supply.until.is_none_or(|until| at < until) {
                let now = supply.per_minute.min(*left);
                *left -= now;
                arrived += now as usize;
            }
        }
        if arrived == 0 {
            return None;
        }
        missing = missing.saturating_sub(arrived);
        if missing > 0 {
            at += minute;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::quota::{Limits, Quotas};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(10);

    fn supply(per_minute: u32, left_today: Option<u32>) -> Supply {
        Supply { per_minute, left_today, until: None }
    }

    /// When the last of `calls` calls is taken by a caller that tries every project all the time.
    fn greedy(calls: usize, supplies: &[Supply]) -> Duration {
        let mut quotas = Quotas::default();
        for (number, supply) in supplies.iter().enumerate() {
            let limits = Limits { per_minute: Some(supply.per_minute), per_day: supply.left_today };
            quotas.set(&number.to_string(), limits);
        }
        let start = Instant::now();
        let mut taken = 0;
        for step in 0_u32.. {
            let at = MINUTE / 10 * step;
            for number in 0..supplies.len() {
                while taken < calls && quotas.take(&number.to_string(), "m", MINUTE, start + at).is_ok() {
                    taken += 1;
                }
            }
            if taken == calls {
                return at;
            }
        }
        unreachable!()
    }

    #[test]
    fn the_shortest_span_is_what_the_providers_own_count_allows() {
        let equal = [supply(10, None); 17];
        let unequal: Vec<_> =
            [5, 10, 20].into_iter().cycle().take(17).map(|limit| supply(limit, None)).collect();
        let days: Vec<_> = (0..17).map(|number| supply(10, (number < 6).then_some(15))).collect();
        for supplies in [equal.as_slice(), &unequal, &days] {
            for calls in [1, 170, 171, 189, 340, 341, 600, 640, 641] {
                let span = shortest_span(calls, MINUTE, supplies);
                assert_eq!(span, Some(greedy(calls, supplies)), "{calls} calls of {supplies:?}");
            }
        }
        assert_eq!(shortest_span(600, MINUTE, &equal), Some(MINUTE * 3));
        assert_eq!(shortest_span(0, MINUTE, &equal), Some(Duration::ZERO));
    }

    #[test]
    fn a_project_that_goes_away_allows_what_came_before() {
        let going = Supply { until: Some(Duration::from_secs(20)), ..supply(10, None) };
        assert_eq!(shortest_span(20, MINUTE, &[going]), Some(MINUTE));
        assert_eq!(shortest_span(21, MINUTE, &[going]), None, "the third ten would arrive as it goes");
        assert_eq!(shortest_span(50, MINUTE, &[going, supply(10, None)]), Some(MINUTE * 2));
        assert_eq!(shortest_span(16, MINUTE, &[supply(10, Some(15))]), None);
    }
}
