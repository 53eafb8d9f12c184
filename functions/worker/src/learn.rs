//! What the pool learns from an answer. Nothing here can fail a job: what cannot be stored is logged, and the next answer
//! says it again.

use darkroom_aws::{StoreError, Written, now};
use darkroom_core::answer::{Effect, KeyEffect, Reach, ScopeEffect};
use darkroom_core::id::ProjectName;
use darkroom_core::key::{ApiKey, KeyDisabled, KeyState, Scope, ScopeState, Standing};
use darkroom_core::model::Model;
use darkroom_core::retry::CONFLICT_TRIES_MAX;
use darkroom_core::time::Timestamp;

use crate::invocation::{Invocation, Slot};
use crate::pool::{Pool, pause};
use crate::seen::Ended;

impl Pool {
    /// Stores what an answer says of the slot's key and scope. When it leaves no scope that may be called, the moment at which
    /// the earliest is free again.
    pub(crate) async fn learn(
        &self,
        model: &Model,
        slot: &Slot,
        effect: &Effect,
        invocation: &Invocation,
    ) -> Option<Timestamp> {
        let key_is_out = matches!(effect.key, KeyEffect::Disabled(..));
        let scope_is_out = matches!(effect.scope, ScopeEffect::State(_));
        let key = async {
            match effect.key {
                KeyEffect::Disabled(reason, reach) => self.disable(slot, reason, reach).await.map(|()| None),
                KeyEffect::Proven => self.write_key_trial(slot, Standing::Proven).await,
                KeyEffect::Unknown => self.write_key_trial(slot, Standing::UNTRIED).await,
            }
        };
        let scope = async {
            match effect.scope {
                ScopeEffect::State(state) => self.set_scope(slot, state).await.map(|()| None),
                ScopeEffect::Proven => self.write_scope_trial(slot, Standing::Proven).await,
                ScopeEffect::Unknown => self.write_scope_trial(slot, Standing::UNTRIED).await,
            }
        };
        let (key, scope) = tokio::join!(Box::pin(key), Box::pin(scope));
        let ended = Ended { key: stored(slot, key), scope: stored(slot, scope) };
        if !key_is_out && !scope_is_out {
            if slot.is_trial() {
                self.trial_ended(slot, ended).await;
            }
            return None;
        }
        let refused = |other: &Slot| {
            matches!(effect.key, KeyEffect::Disabled(_, reach) if shares_fate(slot, &other.key, reach))
                || (scope_is_out && other.scope.project == slot.scope.project)
        };
        self.end_trials(&invocation.take_out(refused)).await;
        let free_at = self.exhausted(model).await;
        if slot.is_trial() {
            self.trial_ended(slot, ended).await;
        }
        free_at
    }

    /// Ends the trial of a slot's key and scope, as far as they are on it.
    pub(crate) async fn write_trial(&self, slot: &Slot, key: Standing, scope: Standing) -> Ended {
        let key = Box::pin(self.write_key_trial(slot, key));
        let (key, scope) = tokio::join!(key, Box::pin(self.write_scope_trial(slot, scope)));
        Ended { key: stored(slot, key), scope: stored(slot, scope) }
    }

    /// The key as it is then. Refused: somebody has taken the trial over, or has changed the key; theirs counts.
    async fn write_key_trial(&self, slot: &Slot, standing: Standing) -> Result<Option<ApiKey>, StoreError> {
        if slot.key.standing.is_proven() {
            return Ok(None);
        }
        self.keys.set_key_standing(&slot.key, standing).await.map(Written::into_current)
    }

    async fn write_scope_trial(&self, slot: &Slot, standing: Standing) -> Result<Option<Scope>, StoreError> {
        if slot.scope.standing.is_proven() {
            return Ok(None);
        }
        self.keys.end_scope_trial(&slot.scope, standing).await.map(Written::into_current)
    }

    /// Puts the key away, and those that share its fate.
    async fn disable(&self, slot: &Slot, reason: KeyDisabled, reach: Reach) -> Result<(), StoreError> {
        let state = KeyState::Disabled { reason, at: now() };
        // Whoever has changed this key first has dealt with its like.
        if !self.set_key(&slot.key, slot, state).await? || reach == Reach::Key {
            return Ok(());
        }
        let keys = self.keys.keys().await?;
        let others = keys.iter().filter(|key| key.id != slot.key.id && key.state == KeyState::Active);
        for key in others.filter(|key| shares_fate(slot, key, reach)) {
            self.set_key(key, slot, state).await?;
        }
        Ok(())
    }

    /// Whether it was stored. A key that was cleared by a person since the call was made is left alone: the answer is about
    /// what it was.
    async fn set_key(&self, key: &ApiKey, slot: &Slot, state: KeyState) -> Result<bool, StoreError> {
        let mut seen = key.clone();
        for tries in 1..=CONFLICT_TRIES_MAX {
            match self.keys.set_key_state(&seen, state).await? {
                Written::Applied(key) => {
                    tracing::error!(key.id = %key.id, key.project = %key.project, key.state = ?state,
                        "the provider refuses this key: `darkroom keys list`");
                    return Ok(true);
                }
                Written::Refused(None) => return Ok(false),
                Written::Refused(Some(now)) => {
                    let is_cleared = now.standing.is_cleared_since(slot.key.standing);
                    if now.state != KeyState::Active || is_cleared {
                        return Ok(false);
                    }
                    seen = now;
                }
            }
            pause(tries).await;
        }
        tracing::error!(key.id = %key.id, key.state = ?state, "the key is being written without pause: its state is lost");
        Ok(false)
    }

    /// Notes a scope's new state, unless it is disabled or rests longer already.
    async fn set_scope(&self, slot: &Slot, state: ScopeState) -> Result<(), StoreError> {
        let mut seen = slot.scope.clone();
        for tries in 1..=CONFLICT_TRIES_MAX {
            match self.keys.set_scope_state(&seen, state).await? {
                Written::Applied(_) => {
                    tracing::warn!(scope.project = %seen.project, scope.model = %seen.model, scope.state = ?state,
                        "the provider refuses this scope");
                    return Ok(());
                }
                Written::Refused(None) => return Ok(()),
                Written::Refused(Some(now)) if !is_stricter(state, now.state) => return Ok(()),
                Written::Refused(Some(now)) => seen = now,
            }
            pause(tries).await;
        }
        tracing::error!(scope.project = %seen.project, scope.model = %seen.model, scope.state = ?state,
            "the scope is being written without pause: its state is lost");
        Ok(())
    }

    /// When every scope that has a key is refused by the provider, the moment at which the earliest is free again.
    async fn exhausted(&self, model: &Model) -> Option<Timestamp> {
        let shared = self.shared(model);
        let mut seen = shared.seen.lock().await;
        if let Err(error) = self.refresh(&mut seen, model, std::time::Duration::ZERO).await {
            tracing::warn!(model.name = %model.name, error = %error, "the pool could not be read again");
            return None;
        }
        let at = now();
        let has_key = |project: &ProjectName| {
            seen.keys.iter().any(|key| key.project == *project && key.state == KeyState::Active)
        };
        let mut free_at: Option<Timestamp> = None;
        for scope in seen.scopes.iter().filter(|scope| has_key(&scope.project)) {
            match scope.state {
                ScopeState::Disabled { .. } => {}
                ScopeState::Cooling { until, .. } if until > at => {
                    free_at = Some(free_at.map_or(until, |earliest| earliest.min(until)));
                }
                ScopeState::Cooling { .. } | ScopeState::Active => return None,
            }
        }
        free_at
    }
}

/// What was stored; a store's failure is logged: the trial ends by itself, and the next answer says the same again.
fn stored<T>(slot: &Slot, written: Result<Option<T>, StoreError>) -> Option<T> {
    written.unwrap_or_else(|error| {
        tracing::warn!(key.id = %slot.key.id, error = %error, "what is known of a key could not be stored");
        None
    })
}

/// Whether a refusal of the slot's key that reaches so far is about this key, too.
fn shares_fate(slot: &Slot, key: &ApiKey, reach: Reach) -> bool {
    key.provider == slot.key.provider
        && match reach {
            Reach::Key => key.id == slot.key.id,
            Reach::Project => key.project == slot.key.project,
            Reach::Account => key.account == slot.key.account,
        }
}

fn is_stricter(new: ScopeState, old: ScopeState) -> bool {
    match (new, old) {
        (_, ScopeState::Disabled { .. }) | (ScopeState::Active, ScopeState::Cooling { .. }) => false,
        (ScopeState::Cooling { until: new, .. }, ScopeState::Cooling { until: old, .. }) => new > old,
        (_, ScopeState::Active) | (ScopeState::Disabled { .. }, ScopeState::Cooling { .. }) => true,
    }
}
