//! The pool of keys: reserves blocks of the scopes' quotas, and notes what the provider's answers did to them.
//!
//! One conditional write reserves as many slots of one scope as the invocation's messages want. The scope is chosen
//! beforehand from what was read (`core::pool`); a lost race brings the scope as it is now, so that nothing is read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use darkroom_aws::config::WorkerRules;
use darkroom_aws::{KeyTable, Opened, SecretBox, StoreError, Written, now, random_fraction};
use darkroom_core::id::ModelName;
use darkroom_core::key::{ApiKey, KeyDisabled, KeyState, Scope, Secret, Standing};
use darkroom_core::limits::SLOT_WAIT_MAX;
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::pool::{Choice, Pick, choose};
use darkroom_core::quota::{Ask, tolerance};
use darkroom_core::retry::{CONFLICT_TRIES_MAX, conflict_pause};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex as AsyncMutex;

use crate::invocation::{Invocation, Slot};

use crate::secret_cache::SecretCache;

/// Keys and scopes are read again when the last look is older.
const FRESH: Duration = Duration::from_secs(5);
/// First and longest pause between two looks at first calls that others make.
const TRIAL_LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Claiming a job takes about so many round trips of a store, and half of one more for each other job that this process
/// claims at the same time: a slot is asked for that much later than now, or it would be over before its call.
const LEAD_ROUND_TRIPS: u32 = 3;
/// What claims are given at most.
const LEAD_MAX: Duration = Duration::from_secs(2);
/// A slot that lies ahead is claimed this long before its second.
const CLAIM_AHEAD: Duration = Duration::from_secs(1);

/// What asking for a slot comes to.
pub(crate) enum Asked {
    /// A slot.
    Slot(Box<Slot>),
    /// None within the horizon; look again then.
    FreeAt(Timestamp),
    /// No key or scope may be used until a person clears one.
    NoneUsable,
}

/// What one look comes to.
enum Look {
    Slot(Box<Slot>),
    OnTrial,
    FreeAt(Timestamp),
    NoneUsable,
}

/// The keys and scopes of every (provider, model) that this process draws with.
pub(crate) struct Pool {
    pub(crate) keys: KeyTable,
    secret_box: SecretBox,
    secrets: SecretCache,
    rules: WorkerRules,
    models: Mutex<HashMap<(ProviderName, ModelName), SharedSeen>>,
}

/// Held while a block is reserved: one process's messages do not race each other for a scope.
type SharedSeen = Arc<AsyncMutex<Seen>>;

/// One model's scopes and keys, as last read or written.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) read_at: Timestamp,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) keys: Vec<ApiKey>,
    /// Whose turn it is among equals; processes begin at different ones.
    turn: usize,
    /// The longest of the latest round trips to the store, halved with each shorter one.
    round_trip: Duration,
}

impl Pool {
    /// The pool of this table.
    pub(crate) fn new(keys: KeyTable, secret_box: SecretBox, rules: WorkerRules) -> Self {
        Self { keys, secret_box, secrets: SecretCache::default(), rules, models: Mutex::default() }
    }

    /// Opens a key's secret ahead of the first slot, and with it the connection to KMS.
    pub(crate) async fn warm(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.open(key).await.map(drop)
    }

    /// A key's secret; `None` when the key is gone, or when its secret does not open.
    pub(crate) async fn opened(&self, key: &ApiKey) -> Result<Option<Secret>, StoreError> {
        let secret = self.secrets.get(&key.id, now());
        if secret.is_some() || !self.open(key).await? {
            return Ok(secret);
        }
        Ok(self.secrets.get(&key.id, now()))
    }

    /// Drops secrets that were opened too long ago.
    pub(crate) fn evict_secrets(&self) {
        self.secrets.evict(now());
    }

    /// A slot of this model, at most [`SLOT_WAIT_MAX`] ahead. What more was reserved is left for the invocation's others.
    pub(crate) async fn slot(&self, model: &Model, invocation: &Invocation) -> Result<Asked, StoreError> {
        let patient_until = now().plus(SLOT_WAIT_MAX);
        let mut pause = TRIAL_LOOK.0;
        loop {
            match self.look(model, invocation).await? {
                Look::Slot(slot) => return Ok(Asked::Slot(slot)),
                Look::FreeAt(at) => return Ok(Asked::FreeAt(at)),
                Look::NoneUsable => return Ok(Asked::NoneUsable),
                Look::OnTrial if now() >= patient_until => {
                    return Ok(Asked::FreeAt(now().plus(SLOT_WAIT_MAX)));
                }
                Look::OnTrial => {
                    sleep(pause.mul_f64(0.5 + random_fraction())).await;
                    pause = (pause * 2).min(TRIAL_LOOK.1);
                    self.forget(model).await;
                }
            }
        }
    }

    /// When the claim for a slot begins.
    pub(crate) fn claims_at(slot: &Slot) -> Timestamp {
        slot.at.minus(CLAIM_AHEAD)
    }

    async fn look(&self, model: &Model, invocation: &Invocation) -> Result<Look, StoreError> {
        let seen = self.seen(model);
        let mut seen = seen.lock().await;
        if let Some(slot) = invocation.take(model) {
            return Ok(Look::Slot(Box::new(slot)));
        }
        let started_at = now();
        self.refresh(&mut seen, model, FRESH).await?;
        let mut tries = 1;
        while tries <= CONFLICT_TRIES_MAX {
            let wanted = invocation.wanted(&model.name);
            let ask = Ask {
                now: now().plus(seen.lead(wanted)),
                horizon: SLOT_WAIT_MAX,
                wanted,
                minute: self.rules.quota_minute,
                trial: self.rules.trial(model.provider),
            };
            let pick = match choose(&seen.scopes, &seen.keys, &ask, seen.turn) {
                Choice::Reserve(pick) => pick,
                Choice::OnTrial(_) => return Ok(Look::OnTrial),
                Choice::FreeAt(at) => return Ok(Look::FreeAt(at)),
                // An operator may have added or cleared one since.
                Choice::NoneUsable if tries == 1 && seen.read_at < started_at => {
                    self.refresh(&mut seen, model, Duration::ZERO).await?;
                    continue;
                }
                Choice::NoneUsable => return Ok(Look::NoneUsable),
            };
            // Opening a secret takes a while: it is done before a slot is reserved, and the slot is then chosen anew. No race
            // was lost: it is no try.
            let Some(secrets) = self.secrets(&mut seen, &pick).await? else { continue };
            if let Some(slots) = self.reserve(&mut seen, pick, secrets).await? {
                let mut slots = slots.into_iter();
                let first = slots.next();
                invocation.leave(slots);
                if let Some(slot) = first {
                    return Ok(Look::Slot(Box::new(slot)));
                }
            }
            pause(tries).await;
            tries += 1;
            // One lost race is an accident; after two, others are at work and what was read is out of date.
            if tries > 2 {
                self.refresh_scopes(&mut seen, model).await?;
            }
        }
        // Others want the same scopes: that is no fault of a store. The job waits on its record.
        Ok(Look::FreeAt(now().plus(Duration::from_secs(1)).plus(conflict_pause(6, random_fraction()) * 4)))
    }

    /// The secrets of the keys that were picked; `None` when one had to be opened, or is gone.
    async fn secrets(&self, seen: &mut Seen, pick: &Pick) -> Result<Option<Vec<Secret>>, StoreError> {
        let mut secrets = Vec::with_capacity(pick.keys.len());
        for index in &pick.keys {
            let Some(key) = seen.keys.get(*index).cloned() else { return Ok(None) };
            let Some(secret) = self.secrets.get(&key.id, now()) else {
                if !self.open(&key).await? {
                    seen.keys.retain(|other| other.id != key.id);
                }
                return Ok(None);
            };
            secrets.push(secret);
        }
        Ok(Some(secrets))
    }

    /// Reserves what was picked; `None` after a lost race.
    async fn reserve(
        &self,
        seen: &mut Seen,
        pick: Pick,
        secrets: Vec<Secret>,
    ) -> Result<Option<Vec<Slot>>, StoreError> {
        let Some(scope) = seen.scopes.get(pick.scope).cloned() else { return Ok(None) };
        let keys: Vec<_> = pick.keys.iter().filter_map(|index| seen.keys.get(*index).cloned()).collect();
        let asked_at = now();
        let written = self.keys.reserve(&scope, &pick.slots, asked_at).await?;
        seen.took(now().since(asked_at));
        let scope = match written {
            Written::Applied(scope) => scope,
            Written::Refused(current) => {
                seen.put_scope(pick.scope, current);
                return Ok(None);
            }
        };
        seen.put_scope(pick.scope, Some(scope.clone()));
        seen.turn = pick.scope + 1;
        let until = |at: Timestamp| at.plus(tolerance(self.rules.quota_minute));
        let slots = pick.slots.at.iter().zip(keys.into_iter().zip(secrets)).map(|(at, (key, secret))| Slot {
            at: *at,
            until: until(*at),
            key,
            scope: scope.clone(),
            secret,
        });
        let mut slots: Vec<_> = slots.collect();
        if let Some(trial) = slots.first_mut().filter(|slot| !slot.key.standing.is_proven())
            && !self.begin_key_trial(seen, trial).await?
        {
            self.end_trial(&slots).await;
            return Ok(None);
        }
        Ok(Some(slots))
    }

    /// Takes the key's trial for this slot; `false` when somebody else has it.
    async fn begin_key_trial(&self, seen: &mut Seen, slot: &mut Slot) -> Result<bool, StoreError> {
        let standing = Standing::Unproven { trial_until: slot.at.plus(self.rules.trial(slot.key.provider)) };
        match self.keys.set_key_standing(&slot.key, standing).await? {
            Written::Applied(key) => {
                seen.put_key(key.clone());
                slot.key = key;
                Ok(true)
            }
            Written::Refused(current) => {
                match current {
                    Some(key) => seen.put_key(key),
                    None => seen.keys.retain(|key| key.id != slot.key.id),
                }
                Ok(false)
            }
        }
    }

    /// Gives up the trials of slots that will not be used; the slots themselves are spent.
    pub(crate) async fn end_trial(&self, slots: &[Slot]) {
        for slot in slots.iter().filter(|slot| slot.is_trial()) {
            self.learn_nothing(slot).await;
        }
    }

    /// Makes the next look read the table.
    pub(crate) async fn forget(&self, model: &Model) {
        self.seen(model).lock().await.read_at = Timestamp::EPOCH;
    }

    pub(crate) fn seen(&self, model: &Model) -> SharedSeen {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = || {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 999")]
            let turn = (random_fraction() * 1_000.0) as usize;
            Arc::new(AsyncMutex::new(Seen { turn, ..Seen::default() }))
        };
        models.entry((model.provider, model.provider_model.clone())).or_insert_with(seen).clone()
    }

    /// Reads scopes and keys unless the last look is younger than `fresh`.
    pub(crate) async fn refresh(
        &self,
        seen: &mut Seen,
        model: &Model,
        fresh: Duration,
    ) -> Result<(), StoreError> {
        if seen.is_younger_than(fresh) {
            return Ok(());
        }
        let asked_at = now();
        let (scopes, keys) =
            tokio::try_join!(self.keys.scopes(model.provider, &model.provider_model), self.keys.keys())?;
        seen.scopes = scopes;
        seen.keys = keys.into_iter().filter(|key| key.provider == model.provider).collect();
        seen.read_at = now();
        seen.took(seen.read_at.since(asked_at));
        Ok(())
    }

    async fn refresh_scopes(&self, seen: &mut Seen, model: &Model) -> Result<(), StoreError> {
        let asked_at = now();
        seen.scopes = self.keys.scopes(model.provider, &model.provider_model).await?;
        seen.took(now().since(asked_at));
        Ok(())
    }

    /// Opens a key's secret into the cache. `false` when the key is gone, or when its secret does not open, which takes
    /// the key out of use.
    async fn open(&self, key: &ApiKey) -> Result<bool, StoreError> {
        match self.keys.secret(key, &self.secret_box).await? {
            Some(Opened::Secret(secret)) => {
                self.secrets.put(key.id.clone(), now(), secret);
                Ok(true)
            }
            Some(Opened::Unusable(problem)) => {
                let state = KeyState::Disabled { reason: KeyDisabled::Unreadable, at: now() };
                // Of all workers the one whose write applies says it.
                if let Written::Applied(key) = self.keys.set_key_state(key, state).await? {
                    tracing::error!(key.id = %key.id, error = %problem, "the key is out of use: its secret does not open");
                }
                Ok(false)
            }
            None => Ok(false),
        }
    }
}

impl Seen {
    fn is_younger_than(&self, fresh: Duration) -> bool {
        now().since(self.read_at) < fresh
    }

    /// How long this process's claims take, as far as the store's latest answers tell.
    fn lead(&self, claims: u32) -> Duration {
        (self.round_trip * (LEAD_ROUND_TRIPS + claims / 2)).min(LEAD_MAX)
    }

    fn took(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.max(self.round_trip / 2);
    }

    /// The scope as it is now; without one it is gone.
    fn put_scope(&mut self, index: usize, scope: Option<Scope>) {
        match (self.scopes.get_mut(index), scope) {
            (Some(place), Some(scope)) => *place = scope,
            (Some(_), None) => drop(self.scopes.remove(index)),
            (None, _) => {}
        }
    }

    pub(crate) fn put_key(&mut self, key: ApiKey) {
        if let Some(place) = self.keys.iter_mut().find(|other| other.id == key.id) {
            *place = key;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at the pool")]
async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}

async fn pause(tries: u32) {
    sleep(conflict_pause(tries, random_fraction())).await;
}
