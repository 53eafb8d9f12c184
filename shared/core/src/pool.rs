//! Which scope's slots the next calls use, and with which keys.
//!
//! The choice is made on what was read, so that no refused scope is tried one by one; the conditional write that follows
//! decides whether it still holds.

use crate::key::{ApiKey, KeyState, Scope};
use crate::quota::{Ask, Reservation, Slots, reserve};
use crate::time::Timestamp;

/// What the pool has for the next calls of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Reserve these.
    Reserve(Pick),
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

/// Chooses among `scopes` (all of one provider and model) and `keys` (all of that provider). `turn` is whose turn it is
/// among equals: a number of the caller's own that rises, so that processes spread over the scopes.
pub fn choose(scopes: &[Scope], keys: &[ApiKey], ask: &Ask, turn: usize) -> Choice {
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
        (Some(best), ..) => Choice::Reserve(best.until(runner_up, scopes, ask)),
        (None, Some(until), _) => Choice::OnTrial(until),
        (None, None, Some(at)) => Choice::FreeAt(at),
        (None, None, None) => Choice::NoneUsable,
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
    // A key that nobody has tried is tried where the scope is known to be good, or where there is no other key.
    let on_trial = untried.filter(|_| scope.standing.is_proven() || proven.is_empty());
    if on_trial.is_none() && proven.is_empty() {
        let until = of_project().filter_map(|(_, key)| key.standing.on_trial(ask.now)).max()?;
        return Some(Err(Wait::OnTrial(until)));
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
        if sooner == self.slots.at.len() {
            return self;
        }
        let fewer = Ask { wanted: u32::try_from(sooner).unwrap_or(u32::MAX), ..*ask };
        match scopes.get(self.scope).map(|scope| reserve(scope, &fewer)) {
            Some(Reservation::Slots(slots)) => {
                let keys = self.keys.into_iter().take(slots.at.len()).collect();
                Pick { slots, keys, ..self }
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
