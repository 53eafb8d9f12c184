//! Which scope's slots the next calls use, and with which keys.
//!
//! The choice is made on what was read, so that no refused scope is tried one by one; the conditional write that follows
//! decides whether it still holds.

use std::time::Duration;

use crate::key::{ApiKey, KeyState, Scope, Standing};
use crate::quota::{Ask, Calendar, Reservation, Slots, guard, reserve};
use crate::time::Timestamp;

/// What the pool has for the next calls of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Reserve these: a block of each of one or more scopes.
    Reserve(Vec<Pick>),
    /// Nothing yet: first calls are under way, and their answers may free more. The latest end of them.
    OnTrial(Timestamp),
    /// Nothing until then.
    FreeAt(Timestamp),
    /// Nothing until a person adds a key or clears one.
    NoneUsable,
}

/// Slots of one scope with their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The scope's index.
    pub scope: usize,
    /// Its calls.
    pub slots: Slots,
    /// Per slot the index of its key. One that is not proven has one slot alone, and is on trial with it.
    pub keys: Vec<usize>,
}

/// Moments less than 1/200 of a minute apart count as one: a block from one scope is worth that much waiting.
const COARSE: u32 = 200;

/// A process's blocks begin as much later than one another as that many calls take to be sent, at 1/16,000 of a minute each:
/// calls that it sends all at once would arrive late.
pub fn sending(calls: u32, minute: Duration) -> Duration {
    guard(minute) * calls / 40
}

/// Chooses among `scopes` (all of one provider and model) and `keys` (all of that provider). `turn` is whose turn it is
/// among equals: a number of the caller's own that rises, so that processes spread over the scopes.
pub fn choose(scopes: &[Scope], keys: &[ApiKey], ask: &Ask, turn: usize) -> Choice {
    let (mut scopes, mut keys, mut ask) = (scopes.to_vec(), keys.to_vec(), *ask);
    let mut picks: Vec<Pick> = Vec::new();
    loop {
        let turn = turn + picks.len();
        match next_block(&scopes, &keys, &ask, turn) {
            Ok(pick) if picks.iter().all(|other| other.scope != pick.scope) => {
                pick.count(&mut scopes, &mut keys, &mut ask);
                picks.push(pick);
                if ask.wanted == 0 {
                    return Choice::Reserve(picks);
                }
            }
            Err(wait) if picks.is_empty() => return wait,
            // The next one is a second block of a scope, or there is none: that is asked for again when these are stored.
            Ok(_) | Err(_) => return Choice::Reserve(picks),
        }
    }
}

/// The block that goes first, or what there is to wait for. Calls that are promised take what is free now, and leave later
/// moments to others.
fn next_block(scopes: &[Scope], keys: &[ApiKey], ask: &Ask, turn: usize) -> Result<Pick, Choice> {
    let pick = soonest(scopes, keys, ask, turn)?;
    if ask.promised == 0 {
        return Ok(pick);
    }
    let free_now = pick.slots.at.iter().filter(|at| coarse(**at, ask) == 0).count();
    let unpromised = ask.wanted.saturating_sub(ask.promised) as usize;
    match (free_now, unpromised) {
        (0, 0) => Err(Choice::OnTrial(ask.now.plus(ask.trial))),
        (0, calls) | (calls, _) => Ok(pick.cut(calls, scopes, ask)),
    }
}

fn soonest(scopes: &[Scope], keys: &[ApiKey], ask: &Ask, turn: usize) -> Result<Pick, Choice> {
    let mut best: Option<Pick> = None;
    let (mut runner_up, mut on_trial, mut free_at) = (None, None, None);
    for index in (0..scopes.len()).map(|step| (step + turn) % scopes.len()) {
        let Some(scope) = scopes.get(index) else { continue };
        match offer(index, scope, keys, ask, turn) {
            None => {}
            Some(Err(Wait::OnTrial(until))) => on_trial = on_trial.max(Some(until)),
            Some(Err(Wait::FreeAt(at))) => keep_earlier(&mut free_at, at),
            Some(Ok(offered)) => {
                let is_better = best.as_ref().is_none_or(|best| offered.goes_before(best, ask));
                let loser = if is_better { best.replace(offered) } else { Some(offered) };
                if let Some(loser) = loser {
                    keep_earlier(&mut runner_up, loser.first_at());
                }
            }
        }
    }
    match (best, on_trial, free_at) {
        (Some(best), ..) => Ok(best.until(runner_up, scopes, ask)),
        (None, Some(until), _) => Err(Choice::OnTrial(until)),
        (None, None, Some(at)) => Err(Choice::FreeAt(at)),
        (None, None, None) => Err(Choice::NoneUsable),
    }
}

/// When one scope has something again.
enum Wait {
    OnTrial(Timestamp),
    FreeAt(Timestamp),
}

/// What this scope has; `None` when only a person can clear it.
fn offer(index: usize, scope: &Scope, keys: &[ApiKey], ask: &Ask, turn: usize) -> Option<Result<Pick, Wait>> {
    let mine = |key: &&ApiKey| key.project == scope.project && key.state == KeyState::Active;
    let of_project = || keys.iter().enumerate().filter(|(_, key)| mine(key));
    let proven: Vec<usize> =
        of_project().filter(|(_, key)| key.standing.is_proven()).map(|(at, _)| at).collect();
    let untried = of_project()
        .find(|(_, key)| !key.standing.is_proven() && key.standing.on_trial(ask.now).is_none())
        .map(|(at, _)| at);
    let may_try = ask.promised < ask.wanted;
    // A key that nobody has tried is tried where the scope is known to be good, or where there is no other key.
    let on_trial = untried.filter(|_| may_try && (scope.standing.is_proven() || proven.is_empty()));
    if on_trial.is_none() && proven.is_empty() {
        let until = of_project().filter_map(|(_, key)| key.standing.on_trial(ask.now)).max();
        let until = until.or_else(|| untried.map(|_| ask.now.plus(ask.trial)))?;
        return Some(Err(Wait::OnTrial(until)));
    }
    if !scope.standing.is_proven() && !may_try {
        let until = scope.standing.on_trial(ask.now).unwrap_or_else(|| ask.now.plus(ask.trial));
        return Calendar::of(scope, ask.now, ask.minute).map(|_| Err(Wait::OnTrial(until)));
    }
    let wanted = if on_trial.is_some() { ask.wanted.min(1) } else { ask.wanted };
    let slots = match reserve(scope, &Ask { wanted, ..*ask }) {
        Reservation::Slots(slots) => slots,
        Reservation::OnTrial(until) => return Some(Err(Wait::OnTrial(until))),
        Reservation::FreeAt(at) => return Some(Err(Wait::FreeAt(at))),
        Reservation::Disabled => return None,
    };
    let in_turn = |step: usize| proven.get((turn + step) % proven.len().max(1)).copied();
    let keys = (0..slots.at.len()).filter_map(|step| on_trial.or_else(|| in_turn(step))).collect();
    Some(Ok(Pick { scope: index, slots, keys }))
}

impl Pick {
    /// Whether it is the first call of its scope, or of its key.
    fn is_trial(&self, scopes: &[Scope], keys: &[ApiKey]) -> bool {
        let key = self.keys.first().and_then(|index| keys.get(*index)).map(|key| key.standing);
        let scope = scopes.get(self.scope).map(|scope| scope.standing);
        [key, scope].into_iter().flatten().any(|standing| !standing.is_proven())
    }

    /// Counts it, as the writes that follow will: what is asked for afterwards goes by it.
    fn count(&self, scopes: &mut [Scope], keys: &mut [ApiKey], ask: &mut Ask) {
        let calls = u32::try_from(self.slots.at.len()).unwrap_or(u32::MAX);
        let is_trial = self.is_trial(scopes, keys);
        ask.wanted = ask.wanted.saturating_sub(calls);
        ask.now = ask.now.plus(sending(calls, ask.minute));
        let Some(scope) = scopes.get_mut(self.scope) else { return };
        scope.usage = self.slots.usage.clone();
        scope.standing = self.slots.standing;
        if is_trial {
            ask.promised = ask.promised.saturating_add(scope.promises());
        }
        let key = self.keys.first().and_then(|index| keys.get_mut(*index));
        if let Some(key) = key.filter(|key| !key.standing.is_proven()) {
            key.standing = Standing::Unproven { trial_until: self.first_at().plus(ask.trial) };
        }
    }

    fn first_at(&self) -> Timestamp {
        self.slots.at.first().copied().unwrap_or_default()
    }

    /// Sooner goes first; at about the same time, the one whose turn it is: so a new key is tried with one of the next calls.
    fn goes_before(&self, other: &Self, ask: &Ask) -> bool {
        coarse(self.first_at(), ask) < coarse(other.first_at(), ask)
    }

    /// Without the slots for which another scope has earlier ones.
    fn until(self, runner_up: Option<Timestamp>, scopes: &[Scope], ask: &Ask) -> Self {
        let Some(runner_up) = runner_up else { return self };
        let limit = coarse(runner_up, ask);
        let sooner = self.slots.at.iter().filter(|at| coarse(**at, ask) <= limit).count().max(1);
        self.cut(sooner, scopes, ask)
    }

    /// Its first `calls` calls.
    fn cut(self, calls: usize, scopes: &[Scope], ask: &Ask) -> Self {
        if calls >= self.slots.at.len() {
            return self;
        }
        let fewer = Ask { wanted: u32::try_from(calls).unwrap_or(u32::MAX), ..*ask };
        match scopes.get(self.scope).map(|scope| reserve(scope, &fewer)) {
            Some(Reservation::Slots(slots)) => {
                let keys = self.keys.into_iter().take(slots.at.len()).collect();
                Self { slots, keys, ..self }
            }
            _ => self,
        }
    }
}

fn coarse(at: Timestamp, ask: &Ask) -> u128 {
    at.since(ask.now).as_millis() / (ask.minute / COARSE).as_millis().max(1)
}

fn keep_earlier(earliest: &mut Option<Timestamp>, at: Timestamp) {
    *earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
}
