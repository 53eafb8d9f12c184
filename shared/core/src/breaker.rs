//! The circuit breaker of one (provider, model): one record for the whole fleet.
//!
//! Closed, it costs no write. The N-th failure in a row opens it; when its time is over one caller in the fleet wins the
//! probe; what the probe is answered closes it, or opens it for longer. Each change of state raises the epoch, and every
//! write names the record as it was read, so that what was learnt in an older epoch changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Stamp;
use crate::time::Timestamp;

/// The record. A model without one is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Raised by each change of state.
    pub epoch: u64,
    /// Rises with every write; each write names the one it saw.
    pub version: u64,
    /// Where it stands.
    pub state: State,
}

/// Where a breaker stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Calls are made.
    Closed {
        /// Since when; the epoch (1970) if it was never open.
        since: Timestamp,
        /// Failures in a row.
        failures: u32,
        /// The first of them.
        failing_since: Timestamp,
        /// Rounds in a row in which every scope was refused.
        exhausted: u32,
        /// The last of them lasts until a scope is free again: what is refused before then is of the same round.
        #[serde(default)]
        exhausted_until: Timestamp,
    },
    /// No calls are made.
    Open {
        /// Since when.
        at: Timestamp,
        /// Until then.
        until: Timestamp,
        /// Why.
        reason: OpenReason,
        /// How often it was opened in a row, from 1.
        openings: u32,
    },
    /// One call is made.
    HalfOpen {
        /// Who makes it.
        probe: Stamp,
        /// Somebody else may take over then.
        until: Timestamp,
        /// Why it was open.
        reason: OpenReason,
        /// How often it was opened in a row, from 1.
        openings: u32,
    },
}

impl State {
    /// The stable text.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
}

impl Default for State {
    fn default() -> Self {
        closed(Timestamp::EPOCH)
    }
}

const fn closed(since: Timestamp) -> State {
    let never = Timestamp::EPOCH;
    State::Closed { since, failures: 0, failing_since: never, exhausted: 0, exhausted_until: never }
}

/// Why a breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenReason {
    /// The provider failed time and again.
    Failures,
    /// Every scope was refused.
    Exhausted,
}

/// The operator's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it is open the first time.
    pub open: Duration,
    /// It is never open longer at a time.
    pub open_max: Duration,
    /// Rounds in which every scope was refused that open it.
    pub exhausted_rounds: u32,
    /// A probe that has not answered by then has died.
    pub probe: Duration,
}

/// Until when none of these lets a call through; `None` when one may.
pub fn all_open_until(gates: impl IntoIterator<Item = Gate>) -> Option<Timestamp> {
    let mut earliest = None;
    for gate in gates {
        let Gate::OpenUntil(until) = gate else { return None };
        earliest = Some(earliest.map_or(until, |earliest: Timestamp| earliest.min(until)));
    }
    earliest
}

/// Whether calls may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// They may.
    Closed,
    /// Not before then.
    OpenUntil(Timestamp),
    /// The probe is under way, at the latest until then.
    Probing(Timestamp),
    /// One may, by whoever wins [`Event::Probe`].
    MayProbe,
}

/// Who called: everything that is told to the breaker names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The epoch that let the call through.
    pub epoch: u64,
    /// The probe's stamp, when the call is the probe.
    pub probe: Option<Stamp>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants to be the probe.
    Probe(Stamp),
    /// A call was answered: with anything below 500 other than 429.
    Answered(Pass),
    /// A call failed: 500 and above, or no answer.
    Failed {
        /// Whose.
        pass: Pass,
        /// The caller's own last call that was answered.
        answered_at: Timestamp,
    },
    /// The probe did not reach the provider: no verdict. It may be tried again then.
    NotReached {
        /// The probe's.
        pass: Pass,
        /// Not before then.
        until: Timestamp,
    },
    /// After a refusal no scope is left. The earliest is free again then.
    Exhausted {
        /// Whose call found that.
        pass: Pass,
        /// When one is free again.
        free_at: Timestamp,
    },
}

impl Breaker {
    /// Whether calls may be made at `now`.
    pub fn gate(&self, now: Timestamp) -> Gate {
        match self.state {
            State::Closed { .. } => Gate::Closed,
            State::Open { until, .. } if until > now => Gate::OpenUntil(until),
            State::HalfOpen { until, .. } if until > now => Gate::Probing(until),
            State::Open { .. } | State::HalfOpen { .. } => Gate::MayProbe,
        }
    }

    /// The record after `event`; `None` when it changes nothing. `jitter` is uniform in 0..1.
    pub fn after(&self, event: &Event, now: Timestamp, rules: &Rules, jitter: f64) -> Option<Self> {
        let state = match event {
            Event::Probe(probe) => self.probed(probe, now, rules)?,
            Event::Answered(pass) => self.answered(pass, now)?,
            Event::Failed { pass, answered_at } => self.failed(pass, *answered_at, now, rules, jitter)?,
            Event::NotReached { pass, until } => self.not_reached(pass, *until, now, rules)?,
            Event::Exhausted { pass, free_at } => self.exhausted(pass, *free_at, now, rules)?,
        };
        let epoch = if same_kind(&state, &self.state) { self.epoch } else { self.epoch + 1 };
        Some(Self { epoch, version: self.version + 1, state })
    }

    /// The record after an operator has closed it.
    pub fn reset(&self, now: Timestamp) -> Self {
        Self { epoch: self.epoch + 1, version: self.version + 1, state: closed(now) }
    }

    fn probed(&self, probe: &Stamp, now: Timestamp, rules: &Rules) -> Option<State> {
        match self.state {
            State::Open { until, reason, openings, .. } | State::HalfOpen { until, reason, openings, .. }
                if until <= now =>
            {
                let until = now.plus(rules.probe);
                Some(State::HalfOpen { probe: probe.clone(), until, reason, openings })
            }
            _ => None,
        }
    }

    /// Whether what `pass` learnt is about this state.
    fn concerns(&self, pass: &Pass) -> bool {
        let is_probe = match &self.state {
            State::HalfOpen { probe, .. } => pass.probe.as_ref() == Some(probe),
            State::Closed { .. } => true,
            State::Open { .. } => false,
        };
        self.epoch == pass.epoch && is_probe
    }

    fn answered(&self, pass: &Pass, now: Timestamp) -> Option<State> {
        if !self.concerns(pass) {
            return None;
        }
        match self.state {
            State::Closed { failures: 0, exhausted: 0, .. } | State::Open { .. } => None,
            State::Closed { since, .. } => Some(closed(since)),
            State::HalfOpen { .. } => Some(closed(now)),
        }
    }

    fn failed(
        &self,
        pass: &Pass,
        answered_at: Timestamp,
        now: Timestamp,
        rules: &Rules,
        jitter: f64,
    ) -> Option<State> {
        if !self.concerns(pass) {
            return None;
        }
        match self.state {
            State::Closed { since, failures, failing_since, exhausted, exhausted_until } => {
                // The caller has been answered since the row began: others' failures are not in a row with this one.
                let starts = failures == 0 || answered_at >= failing_since;
                let (failures, failing_since) = if starts { (1, now) } else { (failures + 1, failing_since) };
                Some(if failures >= rules.failures {
                    open(now, open_for(1, rules, jitter), OpenReason::Failures, 1)
                } else {
                    State::Closed { since, failures, failing_since, exhausted, exhausted_until }
                })
            }
            State::HalfOpen { openings, .. } => {
                let openings = openings.saturating_add(1);
                Some(open(now, open_for(openings, rules, jitter), OpenReason::Failures, openings))
            }
            State::Open { .. } => None,
        }
    }

    fn not_reached(&self, pass: &Pass, until: Timestamp, now: Timestamp, rules: &Rules) -> Option<State> {
        match self.state {
            State::HalfOpen { reason, openings, .. } if self.concerns(pass) => {
                // The quota that the probe waits for may be hours away, and a person may add some before.
                let until = until.min(now.plus(rules.open_max));
                Some(State::Open { at: now, until, reason, openings })
            }
            _ => None,
        }
    }

    fn exhausted(&self, pass: &Pass, free_at: Timestamp, now: Timestamp, rules: &Rules) -> Option<State> {
        if !self.concerns(pass) {
            return None;
        }
        let until = free_at.min(now.plus(rules.open_max));
        match self.state {
            State::Closed { exhausted_until, .. } if now < exhausted_until => None,
            State::Closed { since, failures, failing_since, exhausted, .. } => {
                let exhausted = exhausted + 1;
                Some(if exhausted >= rules.exhausted_rounds {
                    State::Open { at: now, until, reason: OpenReason::Exhausted, openings: 1 }
                } else {
                    State::Closed { since, failures, failing_since, exhausted, exhausted_until: until }
                })
            }
            State::HalfOpen { openings, .. } => {
                Some(State::Open { at: now, until, reason: OpenReason::Exhausted, openings })
            }
            State::Open { .. } => None,
        }
    }
}

/// Two half-open records of different probes differ: the epoch tells the probes apart.
fn same_kind(one: &State, other: &State) -> bool {
    match (one, other) {
        (State::Closed { since: one, .. }, State::Closed { since: other, .. }) => one == other,
        _ => false,
    }
}

fn open(at: Timestamp, until: Duration, reason: OpenReason, openings: u32) -> State {
    State::Open { at, until: at.plus(until), reason, openings }
}

/// How long the n-th opening in a row lasts: doubling, up to the longest, the last tenth of it jittered.
fn open_for(openings: u32, rules: &Rules, jitter: f64) -> Duration {
    let doublings = openings.saturating_sub(1).min(16);
    let longest = rules.open.saturating_mul(1 << doublings).min(rules.open_max);
    longest.mul_f64(0.9 + 0.1 * jitter.clamp(0.0, 1.0))
}
