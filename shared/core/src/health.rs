//! Whether the system does its work, judged by what a look at its stores shows.

use crate::key::{ApiKey, KeyState, Scope, ScopeState};
use crate::limits::{HEARTBEAT_STALE, QUOTA_MINUTE};
use crate::quota::{state_at, used};
use crate::time::Timestamp;

/// Whether a worker is missing: it last showed itself more than [`HEARTBEAT_STALE`] ago, and the job that has waited
/// longest has waited longer than that. A worker without work shows nothing, so the first job after a quiet time says
/// nothing against it.
pub fn worker_is_missing(
    last_beat: Option<Timestamp>,
    longest_waiting_since: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    is_stale(last_beat, now) && longest_waiting_since.is_some_and(|since| now.since(since) > HEARTBEAT_STALE)
}

/// Whether the sweeper is missing: it last showed itself more than [`HEARTBEAT_STALE`] ago, and a live job is due, be
/// it pending or processing.
pub fn sweeper_is_missing(last_beat: Option<Timestamp>, a_job_is_due: bool, now: Timestamp) -> bool {
    a_job_is_due && is_stale(last_beat, now)
}

/// Whether the last sign of life is longer ago than [`HEARTBEAT_STALE`], or there was none.
pub fn is_stale(last_beat: Option<Timestamp>, now: Timestamp) -> bool {
    last_beat.is_none_or(|beat| now.since(beat) > HEARTBEAT_STALE)
}

/// How many keys a call could be made with: active, and of a project that has a usable scope at the key's provider.
pub fn available_keys(keys: &[ApiKey], scopes: &[Scope], now: Timestamp) -> usize {
    let has_scope = |key: &ApiKey| {
        let own = |scope: &&Scope| scope.provider == key.provider && scope.project == key.project;
        scopes.iter().filter(own).any(|scope| is_usable(scope, now))
    };
    keys.iter().filter(|key| key.state == KeyState::Active && has_scope(key)).count()
}

/// Neither disabled nor resting, and something left of the day. A full minute is no reason: it passes while a job
/// waits for its slot.
fn is_usable(scope: &Scope, now: Timestamp) -> bool {
    let (_, in_day) = used(&scope.usage, now, QUOTA_MINUTE);
    state_at(scope.state, now) == ScopeState::Active
        && scope.requests_per_minute > 0
        && scope.requests_per_day.is_none_or(|limit| in_day < limit)
}
