//! Limits of projects, counted on arrival.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// A project's limits for each model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls per window; `None` for any number, 0 for a project that was granted nothing.
    pub per_minute: Option<u32>,
    /// Calls per day.
    pub per_day: Option<u32>,
}

/// Why a call is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The limit is zero.
    Zero,
    /// The day's.
    Day,
    /// The minute's; free again after this.
    Minute(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Quotas {
    limits: HashMap<String, Limits>,
    used: HashMap<(String, String), Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// Arrivals that still count, oldest first.
    window: VecDeque<Instant>,
    day: u32,
}

impl Quotas {
    pub(super) fn set(&mut self, project: &str, limits: Limits) {
        self.limits.insert(project.to_owned(), limits);
    }

    pub(super) fn new_day(&mut self) {
        for used in self.used.values_mut() {
            used.day = 0;
        }
    }

    /// Counts a call unless it is over a limit; refused calls do not count, as at the real API.
    pub(super) fn take(
        &mut self,
        project: &str,
        model: &str,
        window: Duration,
        now: Instant,
    ) -> Result<(), Over> {
        let Some(limits) = self.limits.get(project) else { return Ok(()) };
        if limits.per_minute == Some(0) || limits.per_day == Some(0) {
            return Err(Over::Zero);
        }
        let used = self.used.entry((project.to_owned(), model.to_owned())).or_default();
        while used.window.front().is_some_and(|arrival| now.duration_since(*arrival) >= window) {
            used.window.pop_front();
        }
        if limits.per_day.is_some_and(|limit| used.day >= limit) {
            return Err(Over::Day);
        }
        let full = limits.per_minute.is_some_and(|limit| used.window.len() >= limit as usize);
        if full && let Some(oldest) = used.window.front() {
            return Err(Over::Minute(window.saturating_sub(now.duration_since(*oldest))));
        }
        used.window.push_back(now);
        used.day += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides_exactly() {
        let mut quotas = Quotas::default();
        quotas.set("p", Limits { per_minute: Some(2), per_day: Some(4) });
        let start = Instant::now();
        let window = Duration::from_secs(10);
        let mut take = |millis, model| quotas.take("p", model, window, start + Duration::from_millis(millis));
        assert_eq!(take(0, "m"), Ok(()));
        assert_eq!(take(4_000, "m"), Ok(()));
        assert_eq!(take(9_999, "m"), Err(Over::Minute(Duration::from_millis(1))));
        assert_eq!(take(9_999, "other"), Ok(()), "each model has its own");
        assert_eq!(take(10_000, "m"), Ok(()));
        assert_eq!(take(13_999, "m"), Err(Over::Minute(Duration::from_millis(1))));
        assert_eq!(take(14_000, "m"), Ok(()));
        assert_eq!(take(60_000, "m"), Err(Over::Day));
        quotas.new_day();
        assert_eq!(quotas.take("p", "m", window, start + Duration::from_secs(60)), Ok(()));
        quotas.set("p", Limits { per_minute: Some(0), per_day: None });
        assert_eq!(quotas.take("p", "m", window, start + Duration::from_secs(99)), Err(Over::Zero));
        assert_eq!(quotas.take("unlimited", "m", window, start), Ok(()));
    }
}
