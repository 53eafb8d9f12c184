//! How long a job pauses between attempts.

use std::time::Duration;

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

/// The pause before a transaction that was cancelled for conflict or throttling is sent again
/// (`tries` so far, from 1): 10 ms doubling to 320 ms, fully jittered.
pub fn conflict_pause(tries: u32, jitter: f64) -> Duration {
    Duration::from_millis(10)
        .saturating_mul(1 << tries.saturating_sub(1).min(5))
        .mul_f64(jitter.clamp(0.05, 1.0))
}

/// How often a transaction that was cancelled for conflict or throttling is tried in all.
pub const CONFLICT_TRIES_MAX: u32 = 6;

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
}
