//! How long a job pauses between attempts, and how long a write goes on that others contend for.

use std::time::Duration;

use crate::limits::{METADATA_PATIENCE, METADATA_TRIES_MAX};

/// The pause after the first failed attempt.
const BASE: Duration = Duration::from_secs(2);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after attempt number `attempt` (1 is the first): exponential, with jitter.
///
/// `jitter` is uniform in 0..1 and spreads the pause over the upper half of its range, so that jobs
/// that failed together do not come back together and none comes back at once.
pub fn backoff(attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let ceiling = BASE.saturating_mul(1 << doublings).min(LONGEST);
    ceiling.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// The pause before a write that met a conflict or throttling is sent again (`tries` so far, from 1): 10 ms doubling
/// to 1 s, fully jittered.
pub fn conflict_pause(tries: u32, jitter: f64) -> Duration {
    Duration::from_millis(10)
        .saturating_mul(1 << tries.saturating_sub(1).min(7))
        .min(CONFLICT_PAUSE_MAX)
        .mul_f64(jitter.clamp(0.05, 1.0))
}

/// No pause of a contended write is longer: another writer of the same item is done within milliseconds.
const CONFLICT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often a write that met a conflict or throttling is tried in all, where somebody waits for the answer.
pub const CONFLICT_TRIES_MAX: u32 = 6;

/// How long a write goes on that meets other writes of the same item, or throttling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For [`CONFLICT_TRIES_MAX`] tries: nothing is lost, and whoever asked can ask again.
    Tries,
    /// For this long: what would be lost is worth the wait.
    For(Duration),
    /// For [`METADATA_TRIES_MAX`] tries that begin within [`METADATA_PATIENCE`]: a write that names the version which it read,
    /// and that others overtake.
    Race,
}

/// The pause of a race doubles no further: what was read is the older the longer it lasts.
const RACE_DOUBLES_UNTIL: u32 = 4;

impl Patience {
    /// The pause before the next try, after `tries` (from 1) in `elapsed`; `None` when there is no next.
    /// `jitter` is uniform in 0..1.
    pub fn pause(self, tries: u32, elapsed: Duration, jitter: f64) -> Option<Duration> {
        let doubles = if self == Self::Race { tries.min(RACE_DOUBLES_UNTIL) } else { tries };
        let pause = conflict_pause(doubles, jitter);
        let goes_on = match self {
            Self::Tries => tries < CONFLICT_TRIES_MAX,
            Self::Race => tries < METADATA_TRIES_MAX && elapsed.saturating_add(pause) < METADATA_PATIENCE,
            Self::For(patience) => elapsed.saturating_add(pause) < patience,
        };
        goes_on.then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<_> = (1..=7).map(|attempt| backoff(attempt, 1.0).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(u32::MAX, 0.0), Duration::from_secs(30));
    }

    #[test]
    fn whoever_waits_is_answered_after_six_tries() {
        let pauses = (1..=CONFLICT_TRIES_MAX).map(|tries| Patience::Tries.pause(tries, Duration::MAX, 1.0));
        assert_eq!(pauses.flatten().count(), 5);
        assert_eq!(Patience::Tries.pause(u32::MAX, Duration::ZERO, 0.0), None);
    }

    #[test]
    fn a_race_has_sixty_short_turns() {
        let turns: Vec<_> =
            (1..=60).map_while(|tries| Patience::Race.pause(tries, Duration::ZERO, 1.0)).collect();
        assert_eq!(turns.len(), 59);
        let millis: Vec<_> = turns.iter().take(6).map(Duration::as_millis).collect();
        assert_eq!(millis, [10, 20, 40, 80, 80, 80]);
        let late = METADATA_PATIENCE.saturating_sub(Duration::from_millis(80));
        assert_eq!(Patience::Race.pause(9, late, 1.0), None);
        assert!(Patience::Race.pause(9, late, 0.5).is_some());
    }

    #[test]
    fn patience_lasts_for_any_number_of_tries_and_no_pause_outlasts_it() {
        let patience = Patience::For(Duration::from_secs(10));
        let at = |millis| patience.pause(100, Duration::from_millis(millis), 1.0);
        assert_eq!(at(0), Some(Duration::from_secs(1)));
        assert_eq!(at(8_999), Some(Duration::from_secs(1)));
        assert_eq!(at(9_000), None);
        assert_eq!(patience.pause(100, Duration::MAX, 1.0), None);
        assert_eq!(Patience::For(Duration::ZERO).pause(1, Duration::ZERO, 0.0), None);
    }
}
