//! When the next call of a scope may be made. Counts before the provider does, never above its limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::key::{Scope, ScopeState};
use crate::limits::MARKS_MAX;
use crate::time::Timestamp;

/// Calls that were reserved for one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The moment, not before which they are made.
    pub at: Timestamp,
    /// How many.
    pub count: u32,
}

/// What was reserved of a scope's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The latest reservations, oldest first, at most [`MARKS_MAX`] blocks: an exact sliding window.
    pub marks: Vec<Mark>,
    /// The provider's day that `day_count` counts, `2026-11-22`.
    pub day: String,
    /// Calls reserved on that day.
    pub day_count: u32,
}

/// What a reservation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// One call, at this moment; the usage must be stored before it is made.
    Slot {
        /// Not before then.
        at: Timestamp,
        /// The usage to store.
        usage: Usage,
    },
    /// Nothing until then.
    FreeAt(Timestamp),
    /// Nothing until a person clears the scope.
    Disabled,
}

/// Reserves one call of `scope`, at most `horizon` ahead of `now`.
///
/// `minute` is the provider's minute ([`crate::limits::QUOTA_MINUTE`]; tests shorten it). The provider
/// counts when a call arrives and we when it is reserved, so two calls that must not share a minute are
/// kept a minute and a guard of 1/200 apart, and where days are limited no call is made within a guard
/// before midnight: it would be counted on one day and could arrive on the next.
pub fn reserve(scope: &Scope, now: Timestamp, horizon: Duration, minute: Duration) -> Reservation {
    let cool_until = match scope.state {
        ScopeState::Disabled { .. } => return Reservation::Disabled,
        ScopeState::Cooling { until, .. } => until,
        ScopeState::Active => Timestamp::default(),
    };
    let guard = minute / 200;
    let window = minute + guard;
    let free = next_in_window(&scope.usage.marks, scope.requests_per_minute, window).max(now).max(cool_until);
    let at = if scope.requests_per_day.is_some() { clear_of_midnight(free, guard) } else { free };
    let day = at.pacific_day();
    let day_count = if scope.usage.day == day { scope.usage.day_count } else { 0 };
    if scope.requests_per_minute == 0 || scope.requests_per_day == Some(0) {
        return Reservation::Disabled;
    }
    if scope.requests_per_day.is_some_and(|limit| day_count >= limit) {
        return Reservation::FreeAt(at.next_pacific_midnight());
    }
    if at > now.plus(horizon) {
        return Reservation::FreeAt(at);
    }
    let usage =
        Usage { marks: marked(&scope.usage.marks, at, window), day, day_count: day_count.saturating_add(1) };
    Reservation::Slot { at, usage }
}

/// The earliest moment that keeps any window to `limit` calls: a window after the `limit`-th latest
/// mark, and never before the latest mark, so that marks stay in order.
fn next_in_window(marks: &[Mark], limit: u32, window: Duration) -> Timestamp {
    let latest = marks.last().map_or(Timestamp::default(), |mark| mark.at);
    let mut counted = 0_u64;
    for mark in marks.iter().rev() {
        counted += u64::from(mark.count);
        if counted >= u64::from(limit) {
            return latest.max(mark.at.plus(window));
        }
    }
    latest
}

/// This moment, or midnight when that is not more than a guard away.
fn clear_of_midnight(moment: Timestamp, guard: Duration) -> Timestamp {
    let midnight = moment.next_pacific_midnight();
    if midnight.since(moment) > guard { moment } else { midnight }
}

/// The marks with one more, without those that no window can reach any more.
fn marked(marks: &[Mark], at: Timestamp, window: Duration) -> Vec<Mark> {
    let reachable = at.minus(window);
    let mut next: Vec<Mark> = marks.iter().copied().filter(|mark| mark.at >= reachable).collect();
    match next.last_mut() {
        Some(last) if last.at == at => last.count = last.count.saturating_add(1),
        _ => next.push(Mark { at, count: 1 }),
    }
    while next.len() > MARKS_MAX {
        join_cheapest(&mut next);
    }
    next
}

/// Joins two neighbours at the later one's moment: that may make a call wait longer, never come too early.
/// Those two whose joining costs least: the calls that are moved times how far. By distance alone, calls at
/// an even pace would all be joined into one block, as late as its last call.
fn join_cheapest(marks: &mut Vec<Mark>) {
    let cheapest = marks
        .windows(2)
        .enumerate()
        .filter_map(|(index, pair)| match pair {
            [a, b] => Some((b.at.since(a.at).saturating_mul(a.count), index)),
            _ => None,
        })
        .min();
    if let Some((_, index)) = cheapest {
        let earlier = marks.remove(index);
        if let Some(later) = marks.get_mut(index) {
            later.count = later.count.saturating_add(earlier.count);
        }
    }
}

/// The state of a scope as of `now`: cooling that is over is active.
pub fn state_at(state: ScopeState, now: Timestamp) -> ScopeState {
    match state {
        ScopeState::Cooling { until, .. } if until <= now => ScopeState::Active,
        other => other,
    }
}

/// Calls reserved in the minute before `now` and, of the day that `now` is in, altogether.
pub fn used(usage: &Usage, now: Timestamp, minute: Duration) -> (u32, u32) {
    let from = now.minus(minute);
    let in_minute =
        usage.marks.iter().filter(|mark| mark.at > from && mark.at <= now).map(|mark| mark.count).sum();
    let in_day = if usage.day == now.pacific_day() { usage.day_count } else { 0 };
    (in_minute, in_day)
}
