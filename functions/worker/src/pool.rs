//! The pool of keys: reserves slots of the scopes' quotas, and notes what the provider's answers did to them.
//!
//! One conditional write reserves a slot. The scope to write is chosen beforehand from what was read: the one
//! with the earliest free slot, in turn among equals, so that refused scopes are not tried one by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use darkroom_aws::{KeyTable, KeyWrite, StoreError, now, random_fraction};
use darkroom_core::id::{KeyId, ModelName};
use darkroom_core::key::{ApiKey, KeyState, Scope, ScopeState, Secret};
use darkroom_core::model::ProviderName;
use darkroom_core::quota::{Reservation, reserve, state_at};
use darkroom_core::retry::{CONFLICT_TRIES_MAX, conflict_pause};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex as AsyncMutex;

/// Keys and scopes are read again when the last look is older.
const FRESH: Duration = Duration::from_secs(5);
/// A secret is kept in memory this long.
const SECRET_FRESH: Duration = Duration::from_secs(300);

/// One call that may be made.
#[derive(Clone)]
pub(crate) struct Slot {
    /// Not before then.
    pub(crate) at: Timestamp,
    /// With this key.
    pub(crate) key: ApiKey,
    /// Whose quota it uses.
    pub(crate) scope: Scope,
    /// The key's secret.
    pub(crate) secret: Secret,
}

/// What asking for a slot comes to.
pub(crate) enum Asked {
    /// A slot.
    Slot(Box<Slot>),
    /// None within the horizon; the earliest is then.
    FreeAt(Timestamp),
    /// No key or scope may be used until a person clears one.
    NoneUsable,
}

/// Slots whose claim was refused: they pass to another message of the invocation.
#[derive(Default)]
pub(crate) struct SpareSlots(Mutex<Vec<Slot>>);

/// A spare slot older than this is left unused: its minute may end before its call arrives.
const SPARE_FRESH: Duration = Duration::from_secs(1);

impl SpareSlots {
    /// Leaves a slot for another message.
    pub(crate) fn put(&self, slot: Slot) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    fn take(&self, provider: ProviderName, model: &ModelName, at: Timestamp) -> Option<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| at.since(slot.at) < SPARE_FRESH);
        let fits = |slot: &Slot| slot.scope.provider == provider && slot.scope.model == *model;
        slots.iter().position(fits).map(|index| slots.remove(index))
    }
}

/// The keys and scopes of every (provider, model) that this process draws with.
pub(crate) struct Pool {
    keys: KeyTable,
    quota_minute: Duration,
    models: Mutex<HashMap<(ProviderName, ModelName), SharedSeen>>,
}

/// Held while a slot is reserved: one process's messages do not race each other for a scope.
type SharedSeen = Arc<AsyncMutex<Seen>>;

/// One model's scopes and keys, as last read or written.
#[derive(Default)]
struct Seen {
    read_at: Timestamp,
    scopes: Vec<Scope>,
    keys: Vec<ApiKey>,
    secrets: HashMap<KeyId, (Timestamp, Secret)>,
    /// Whose turn it is among equals.
    turn: usize,
}

impl Pool {
    /// The pool of this table. `quota_minute` is the provider's minute.
    pub(crate) fn new(keys: KeyTable, quota_minute: Duration) -> Self {
        Self { keys, quota_minute, models: Mutex::default() }
    }

    /// Reserves one call of this model, at most `horizon` ahead.
    pub(crate) async fn slot(
        &self,
        provider: ProviderName,
        model: &ModelName,
        horizon: Duration,
        spare: &SpareSlots,
    ) -> Result<Asked, StoreError> {
        if let Some(slot) = spare.take(provider, model, now()) {
            return Ok(Asked::Slot(Box::new(slot)));
        }
        let seen = self.seen(provider, model);
        let mut seen = seen.lock().await;
        for tries in 1..=CONFLICT_TRIES_MAX {
            self.refresh(&mut seen, provider, model, tries > 1).await?;
            let asked_at = now();
            let Some((index, reservation)) = seen.earliest(asked_at, horizon, self.quota_minute) else {
                return Ok(Asked::NoneUsable);
            };
            let (at, usage) = match reservation {
                Reservation::Slot { at, usage } => (at, usage),
                Reservation::FreeAt(at) => return Ok(Asked::FreeAt(at)),
                Reservation::Disabled => return Ok(Asked::NoneUsable),
            };
            let Some(key) = seen.key_in_turn(index) else { return Ok(Asked::NoneUsable) };
            let Some(scope) = seen.scopes.get_mut(index) else { return Ok(Asked::NoneUsable) };
            let state = state_at(scope.state, at);
            if self.keys.reserve(scope, state, &usage).await? == KeyWrite::Applied {
                scope.usage = usage;
                scope.state = state;
                scope.version += 1;
                let scope = scope.clone();
                seen.turn = index + 1;
                let Some(secret) = self.secret(&mut seen, &key, asked_at).await? else {
                    // Removed since it was read: the slot is lost, the next look does not see the key.
                    continue;
                };
                return Ok(Asked::Slot(Box::new(Slot { at, key, scope, secret })));
            }
            pause(tries).await;
        }
        Err(StoreError::Throttled { store: "DynamoDB", operation: "UpdateItem scope usage" })
    }

    /// Notes a key's new state after an answer. A key that somebody else has disabled already keeps that.
    pub(crate) async fn set_key(&self, slot: &Slot, state: KeyState) -> Result<(), StoreError> {
        let written = self.keys.set_key_state(&slot.key, state).await?;
        if written == KeyWrite::Applied {
            tracing::error!(key.id = %slot.key.id, key.state = ?state, "the provider refuses this key: `darkroom keys list`");
        }
        self.forget(slot).await;
        Ok(())
    }

    /// Notes a scope's new state after an answer, unless it is disabled or rests longer already.
    pub(crate) async fn set_scope(&self, slot: &Slot, state: ScopeState) -> Result<(), StoreError> {
        for tries in 1..=CONFLICT_TRIES_MAX {
            let scopes = self.keys.scopes(slot.scope.provider, &slot.scope.model).await?;
            let Some(scope) = scopes.into_iter().find(|scope| scope.project == slot.scope.project) else {
                break;
            };
            if !is_stricter(state, scope.state)
                || self.keys.set_scope_state(&scope, state).await? == KeyWrite::Applied
            {
                break;
            }
            pause(tries).await;
        }
        tracing::warn!(scope.project = %slot.scope.project, scope.model = %slot.scope.model, scope.state = ?state,
            "the provider refuses this scope");
        self.forget(slot).await;
        Ok(())
    }

    /// Makes the next look read the table.
    async fn forget(&self, slot: &Slot) {
        let seen = self.seen(slot.scope.provider, &slot.scope.model);
        seen.lock().await.read_at = Timestamp::default();
    }

    fn seen(&self, provider: ProviderName, model: &ModelName) -> SharedSeen {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.entry((provider, model.clone())).or_default().clone()
    }

    async fn refresh(
        &self,
        seen: &mut Seen,
        provider: ProviderName,
        model: &ModelName,
        at_once: bool,
    ) -> Result<(), StoreError> {
        let at = now();
        if !at_once && at.since(seen.read_at) < FRESH {
            return Ok(());
        }
        let (scopes, keys) = tokio::try_join!(self.keys.scopes(provider, model), self.keys.keys())?;
        seen.scopes = scopes;
        seen.keys = keys
            .into_iter()
            .filter(|key| key.provider == provider && key.state == KeyState::Active)
            .collect();
        seen.read_at = at;
        Ok(())
    }

    async fn secret(
        &self,
        seen: &mut Seen,
        key: &ApiKey,
        at: Timestamp,
    ) -> Result<Option<Secret>, StoreError> {
        if let Some((read_at, secret)) = seen.secrets.get(&key.id)
            && at.since(*read_at) < SECRET_FRESH
        {
            return Ok(Some(secret.clone()));
        }
        let secret = self.keys.secret(key).await?;
        match &secret {
            Some(secret) => seen.secrets.insert(key.id.clone(), (at, secret.clone())),
            None => seen.secrets.remove(&key.id),
        };
        Ok(secret)
    }
}

impl Seen {
    /// The scope with the earliest free slot among those with a usable key, in turn among equals.
    fn earliest(&self, at: Timestamp, horizon: Duration, minute: Duration) -> Option<(usize, Reservation)> {
        let count = self.scopes.len();
        let mut best: Option<(Timestamp, usize, Reservation)> = None;
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let Some(scope) = self.scopes.get(index) else { continue };
            if !self.keys.iter().any(|key| key.project == scope.project) {
                continue;
            }
            let reservation = reserve(scope, at, horizon, minute);
            let free_at = match &reservation {
                Reservation::Slot { at, .. } | Reservation::FreeAt(at) => *at,
                Reservation::Disabled => continue,
            };
            if best.as_ref().is_none_or(|(best_at, ..)| free_at < *best_at) {
                best = Some((free_at, index, reservation));
            }
        }
        best.map(|(_, index, reservation)| (index, reservation))
    }

    /// A key of the scope's project, in turn.
    fn key_in_turn(&self, index: usize) -> Option<ApiKey> {
        let scope = self.scopes.get(index)?;
        let keys: Vec<_> = self.keys.iter().filter(|key| key.project == scope.project).collect();
        let turn = usize::try_from(scope.version).unwrap_or(0).checked_rem(keys.len())?;
        keys.get(turn).map(|key| (*key).clone())
    }
}

fn is_stricter(new: ScopeState, old: ScopeState) -> bool {
    match (new, old) {
        (_, ScopeState::Disabled { .. }) | (ScopeState::Active, ScopeState::Cooling { .. }) => false,
        (ScopeState::Cooling { until: new, .. }, ScopeState::Cooling { until: old, .. }) => new > old,
        (_, ScopeState::Active) | (ScopeState::Disabled { .. }, ScopeState::Cooling { .. }) => true,
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause before a lost race is run again")]
async fn pause(tries: u32) {
    tokio::time::sleep(conflict_pause(tries, random_fraction())).await;
}
