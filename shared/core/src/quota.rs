//! When the next call of a scope may be made. Counts before the provider does, never above its limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::key::{Scope, ScopeState, Standing};
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

/// Calls that may be made; the usage must be stored before the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Each call not before its moment, in order; at least one.
    pub at: Vec<Timestamp>,
    /// The usage to store.
    pub usage: Usage,
    /// The standing to store: an unproven scope is on trial by this reservation.
    pub standing: Standing,
}

/// What a reservation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// At least one call.
    Slots(Slots),
    /// The scope's first call is under way, at the latest until then.
    OnTrial(Timestamp),
    /// Nothing until then.
    FreeAt(Timestamp),
    /// Nothing until a person clears the scope.
    Disabled,
}

/// When, how far ahead and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Not before this moment.
    pub now: Timestamp,
    /// At most this far ahead of `now`.
    pub horizon: Duration,
    /// At most so many.
    pub wanted: u32,
    /// The provider's minute ([`crate::limits::QUOTA_MINUTE`]; tests shorten it).
    pub minute: Duration,
    /// How long the first call of an unproven scope or key may take.
    pub trial: Duration,
    /// So many of the wanted calls follow the asker's own first calls that are under way, when those are answered. For the
    /// choice among scopes: more first calls than are of use are left to others.
    pub promised: u32,
}

/// How much later than its moment a call may reach the provider, against any other call: 1/400 of the minute.
pub fn guard(minute: Duration) -> Duration {
    minute / 400
}

/// How much later than its moment a call may be sent; the rest of the guard is the network's. A slot that is older is not used.
pub fn tolerance(minute: Duration) -> Duration {
    guard(minute) / 2
}

/// Reserves calls of `scope`.
///
/// The provider counts when a call arrives and we when it is reserved, so two calls that must not share a minute are
/// kept a minute and a [`guard`] apart, and where days are limited no call is made within a guard before midnight: it
/// would be counted on one day and could arrive on the next.
pub fn reserve(scope: &Scope, ask: &Ask) -> Reservation {
    let Some(mut calendar) = Calendar::of(scope, ask.now, ask.minute) else { return Reservation::Disabled };
    let wanted = match scope.standing {
        Standing::Proven => ask.wanted,
        Standing::Unproven { trial_until } if trial_until > ask.now => {
            return Reservation::OnTrial(trial_until);
        }
        Standing::Unproven { .. } => ask.wanted.min(1),
    };
    let mut at = Vec::new();
    let mut next = calendar.peek();
    while next <= ask.now.plus(ask.horizon) && at.len() < wanted as usize {
        calendar.take(next);
        at.push(next);
        next = calendar.peek();
    }
    let Some(first) = at.first() else { return Reservation::FreeAt(next) };
    let standing = match scope.standing {
        Standing::Proven => Standing::Proven,
        Standing::Unproven { .. } => Standing::Unproven { trial_until: first.plus(ask.trial) },
    };
    Reservation::Slots(Slots { at, usage: calendar.usage, standing })
}

/// A scope's next calls, one after another: what [`reserve`] and the sweeper's pace go by.
#[derive(Clone, Debug)]
pub struct Calendar {
    usage: Usage,
    from: Timestamp,
    per_minute: u32,
    per_day: Option<u32>,
    guard: Duration,
    window: Duration,
}

impl Calendar {
    /// The calendar from `now` on; `None` when only a person can clear the scope.
    pub fn of(scope: &Scope, now: Timestamp, minute: Duration) -> Option<Self> {
        let from = match scope.state {
            ScopeState::Disabled { .. } => return None,
            ScopeState::Cooling { until, .. } => now.max(until),
            ScopeState::Active => now,
        };
        if scope.requests_per_minute == 0 || scope.requests_per_day == Some(0) {
            return None;
        }
        Some(Self {
            usage: scope.usage.clone(),
            from,
            per_minute: scope.requests_per_minute,
            per_day: scope.requests_per_day,
            guard: guard(minute),
            window: minute + guard(minute),
        })
    }

    /// The earliest moment of the next call.
    pub fn peek(&self) -> Timestamp {
        let free = next_in_window(&self.usage.marks, self.per_minute, self.window).max(self.from);
        let Some(per_day) = self.per_day else { return free };
        let at = clear_of_midnight(free, self.guard);
        let is_used_up = self.usage.day_count >= per_day && self.usage.day == at.pacific_day();
        if is_used_up { at.next_pacific_midnight() } else { at }
    }

    /// Counts a call at this moment, which [`peek`](Self::peek) gave.
    pub fn take(&mut self, at: Timestamp) {
        let day = at.pacific_day();
        let counted = if self.usage.day == day { self.usage.day_count } else { 0 };
        self.usage.marks = marked(&self.usage.marks, at, self.window);
        self.usage.day = day;
        self.usage.day_count = counted.saturating_add(1);
    }
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
