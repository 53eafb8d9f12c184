//! The pool of keys: reserves blocks of the scopes' quotas, and notes what the provider's answers did to them.
//!
//! One conditional write per scope reserves as many slots as the invocation's messages want, for all of them at once. The
//! scopes are chosen beforehand from what was read (`core::pool`); a lost race brings the scope as it is now, so that
//! nothing is read again.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use darkroom_aws::config::WorkerRules;
use darkroom_aws::{KeyTable, Opened, SecretBox, StoreError, Written, now, random_fraction};
use darkroom_core::id::ModelName;
use darkroom_core::key::{ApiKey, KeyDisabled, KeyState, Scope, Secret, Standing};
use darkroom_core::limits::{SLOT_EARLY, SLOT_WAIT_MAX};
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::pool::{Choice, Pick, choose, sending};
use darkroom_core::quota::{Ask, Slots, tolerance};
use darkroom_core::retry::{CONFLICT_TRIES_MAX, conflict_pause};
use darkroom_core::time::Timestamp;
use futures::future::join_all;

use crate::invocation::{Invocation, Slot};
use crate::secret_cache::SecretCache;
use crate::seen::{Ended, ModelPool, Promise, Seen, SharedSeen};
use crate::worker::sleep;

/// Keys and scopes are read again when the last look is older.
const FRESH: Duration = Duration::from_secs(5);
/// First and longest pause between two looks at first calls that others make. Of its own this process hears.
const TRIAL_LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// Messages of a batch, as a rule.
const FIRST_MESSAGES: u32 = 10;
/// A slot that lies ahead is claimed this long before its second.
const CLAIM_AHEAD: Duration = Duration::from_secs(1);

/// What asking for a slot comes to.
pub(crate) enum Asked {
    /// A slot.
    Slot(Box<Slot>),
    /// First calls of this process are under way whose answers should free one: the job may be claimed meanwhile.
    Promised(Promise),
    /// None within the horizon; look again then.
    FreeAt(Timestamp),
    /// No key or scope may be used until a person clears one.
    NoneUsable,
}

/// One look for a slot.
struct Look<'a> {
    /// Of this model.
    model: &'a Model,
    /// For a job that asks for this one.
    asked: &'a ModelName,
    invocation: &'a Invocation,
    ahead: Ahead,
    /// What was read is not read again when it is younger.
    fresh: Duration,
    /// The slot is not later than this.
    patient_until: Timestamp,
}

/// What one look comes to.
enum Looked {
    Done(Asked),
    OnTrial,
}

/// Whether a job is claimed before it has a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// It may be, on a promise.
    May,
    /// It has been.
    Has,
    /// It is not.
    Not,
}

/// The keys and scopes of every (provider, model) that this process draws with.
pub(crate) struct Pool {
    pub(crate) keys: KeyTable,
    secret_box: SecretBox,
    secrets: SecretCache,
    rules: WorkerRules,
    models: Mutex<HashMap<(ProviderName, ModelName), SharedSeen>>,
}

/// A block that is to be reserved: its scope as it was seen, and per slot the key with its secret.
struct Block {
    scope: Scope,
    slots: Slots,
    keys: Vec<(ApiKey, Secret)>,
}

impl Block {
    fn of(seen: &Seen, pick: Pick, secrets: Vec<Secret>) -> Option<Self> {
        let scope = seen.scopes.get(pick.scope)?.clone();
        let keys = pick.keys.iter().filter_map(|index| seen.keys.get(*index).cloned());
        Some(Self { scope, slots: pick.slots, keys: keys.zip(secrets).collect() })
    }
}

impl Pool {
    /// The pool of this table.
    pub(crate) fn new(keys: KeyTable, secret_box: SecretBox, rules: WorkerRules) -> Self {
        Self { keys, secret_box, secrets: SecretCache::default(), rules, models: Mutex::default() }
    }

    /// Reads keys and scopes of this model ahead of the first messages, and opens the secrets that these will ask for.
    pub(crate) async fn look_ahead(&self, model: &Model) -> Result<(), StoreError> {
        let shared = self.shared(model);
        let mut seen = shared.seen.lock().await;
        self.refresh(&mut seen, model, FRESH).await?;
        let ask = self.ask(&seen, model, FIRST_MESSAGES, 0);
        if let Choice::Reserve(picks) = choose(&seen.scopes, &seen.keys, &ask, seen.turn) {
            self.secrets(&mut seen, &picks).await?;
        }
        Ok(())
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

    /// A slot of this model, at most [`SLOT_WAIT_MAX`] from now, for a job that asks for the model `asked`. What more was
    /// reserved is left for the invocation's others.
    pub(crate) async fn slot(
        &self,
        model: &Model,
        asked: &ModelName,
        invocation: &Invocation,
        ahead: Ahead,
    ) -> Result<Asked, StoreError> {
        let shared = self.shared(model);
        let patient_until = now().plus(SLOT_WAIT_MAX);
        let (mut pause, mut fresh) = (TRIAL_LOOK.0, FRESH);
        loop {
            // In the queue before the look, so that no answer falls between the two.
            let mut free = pin!(shared.slot_is_free());
            free.as_mut().enable();
            let look = Look { model, asked, invocation, ahead, fresh, patient_until };
            if let Looked::Done(asked) = Box::pin(self.look(&shared, look)).await? {
                return Ok(asked);
            }
            if now() >= patient_until {
                return Ok(Asked::FreeAt(now().plus(SLOT_WAIT_MAX)));
            }
            tokio::select! {
                // What has come counts, and not what a die says.
                biased;
                () = &mut free, if ahead == Ahead::Has => fresh = FRESH,
                () = sleep(pause.mul_f64(0.5 + random_fraction())) => {
                    fresh = pause / 2;
                    pause = (pause * 2).min(TRIAL_LOOK.1);
                }
            }
        }
    }

    /// When the claim for a slot begins.
    pub(crate) fn claims_at(slot: &Slot) -> Timestamp {
        slot.at.minus(CLAIM_AHEAD)
    }

    async fn look(
        &self,
        shared: &SharedSeen,
        Look { model, asked, invocation, ahead, fresh, patient_until }: Look<'_>,
    ) -> Result<Looked, StoreError> {
        if let Some(slot) = invocation.take(model) {
            return Ok(Looked::Done(Asked::Slot(Box::new(slot))));
        }
        // Nobody came for them in time; somebody else may make the first calls that they were.
        self.end_trials(&invocation.take_out(|slot| slot.until < now())).await;
        let mut seen = shared.seen.lock().await;
        // Whoever held the lock may have left some.
        if let Some(slot) = invocation.take(model) {
            return Ok(Looked::Done(Asked::Slot(Box::new(slot))));
        }
        let started_at = now();
        self.refresh(&mut seen, model, fresh).await?;
        let mut tries = 1;
        while tries <= CONFLICT_TRIES_MAX {
            let claimed = shared.claimed_ahead();
            if ahead == Ahead::May && seen.promises() > claimed {
                return Ok(Looked::Done(Asked::Promised(Promise::of(shared))));
            }
            if ahead != Ahead::Has && claimed > 0 {
                // What is free first is theirs: they can use it at once.
                return Ok(Looked::OnTrial);
            }
            let mut ask = if ahead == Ahead::Has {
                let now = seen.after_own_blocks(now().plus(seen.round_trip));
                Ask { now, ..self.ask(&seen, model, claimed.max(1), seen.promises()) }
            } else {
                self.ask(&seen, model, invocation.wanted(asked), seen.promises())
            };
            ask.horizon = patient_until.since(now());
            let picks = match choose(&seen.scopes, &seen.keys, &ask, seen.turn) {
                Choice::Reserve(picks) => picks,
                Choice::OnTrial(_) => return Ok(Looked::OnTrial),
                Choice::FreeAt(at) => return Ok(Looked::Done(Asked::FreeAt(at))),
                // An operator may have added or cleared one since.
                Choice::NoneUsable if tries == 1 && seen.read_at < started_at => {
                    self.refresh(&mut seen, model, Duration::ZERO).await?;
                    continue;
                }
                Choice::NoneUsable => return Ok(Looked::Done(Asked::NoneUsable)),
            };
            // Opening a secret takes a while: it is done before a slot is reserved, and the slot is then chosen anew. No race
            // was lost: it is no try.
            let Some(secrets) = self.secrets(&mut seen, &picks).await? else { continue };
            let calls = picks.iter().map(|pick| pick.keys.len()).sum::<usize>();
            let calls = u32::try_from(calls).unwrap_or(u32::MAX);
            seen.next_block_at = ask.now.plus(sending(calls, ask.minute));
            let mut slots = self.reserve_all(&mut seen, picks, secrets).await?.into_iter();
            let first = slots.next();
            let spare = slots.len();
            invocation.leave(slots);
            shared.wake(spare);
            if let Some(slot) = first {
                return Ok(Looked::Done(Asked::Slot(Box::new(slot))));
            }
            pause(tries).await;
            tries += 1;
            // One lost race is an accident; after two, others are at work and what was read is out of date.
            if tries > 2 {
                self.refresh_scopes(&mut seen, model).await?;
            }
        }
        // Others want the same scopes: that is no fault of a store. The job waits on its record; it is woken early.
        let later = now().plus(SLOT_EARLY).plus(conflict_pause(6, random_fraction()) * 4);
        Ok(Looked::Done(Asked::FreeAt(later)))
    }

    /// What is asked for by so many messages that are not claimed yet.
    fn ask(&self, seen: &Seen, model: &Model, wanted: u32, promised: u32) -> Ask {
        Ask {
            now: seen.after_own_blocks(now().plus(seen.lead(wanted))),
            horizon: SLOT_WAIT_MAX,
            wanted,
            minute: self.rules.quota_minute,
            trial: self.rules.trial(model.provider),
            promised,
        }
    }

    /// The secrets of the keys that were picked, by block; `None` when one had to be opened, or is gone.
    async fn secrets(&self, seen: &mut Seen, picks: &[Pick]) -> Result<Option<Vec<Vec<Secret>>>, StoreError> {
        let mut is_complete = true;
        let mut secrets = Vec::with_capacity(picks.len());
        for pick in picks {
            let mut of_block = Vec::with_capacity(pick.keys.len());
            for index in &pick.keys {
                let Some(key) = seen.keys.get(*index) else { return Ok(None) };
                match self.secrets.get(&key.id, now()) {
                    Some(secret) => of_block.push(secret),
                    None if self.open(&key.clone()).await? => is_complete = false,
                    None => {
                        seen.keys.remove(*index);
                        return Ok(None);
                    }
                }
            }
            secrets.push(of_block);
        }
        Ok(is_complete.then_some(secrets))
    }

    /// Reserves what was picked, all blocks side by side; without those that others were faster for.
    async fn reserve_all(
        &self,
        seen: &mut Seen,
        picks: Vec<Pick>,
        secrets: Vec<Vec<Secret>>,
    ) -> Result<Vec<Slot>, StoreError> {
        let asked_at = now();
        let blocks: Vec<_> = picks
            .into_iter()
            .zip(secrets)
            .filter_map(|(pick, secrets)| Block::of(seen, pick, secrets))
            .collect();
        let writes = blocks.iter().map(|block| self.keys.reserve(&block.scope, &block.slots, asked_at));
        let written = join_all(writes).await;
        seen.took(now().since(asked_at));
        let (mut slots, mut failure) = (Vec::new(), None);
        for (block, written) in blocks.into_iter().zip(written) {
            match written {
                Ok(Written::Applied(reserved)) => {
                    seen.turn = seen.turn.wrapping_add(1);
                    match self.slots(seen, Block { scope: reserved, ..block }).await {
                        Ok(block) => slots.extend(block),
                        Err(error) => failure = Some(error),
                    }
                }
                Ok(Written::Refused(current)) => seen.put_scope(&block.scope.project, current),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            // What was reserved all the same is used.
            Some(error) if slots.is_empty() => Err(error),
            Some(error) => {
                tracing::warn!(error = %error, "a block of slots could not be reserved");
                Ok(slots)
            }
            None => Ok(slots),
        }
    }

    /// The slots of a block that was reserved; none when its key is on trial by somebody else.
    async fn slots(&self, seen: &mut Seen, block: Block) -> Result<Vec<Slot>, StoreError> {
        let Block { scope, slots, keys } = block;
        seen.put_scope(&scope.project, Some(scope.clone()));
        let late = tolerance(self.rules.quota_minute);
        let slots = slots.at.iter().zip(keys).map(|(at, (key, secret))| Slot {
            at: *at,
            until: at.plus(late),
            key,
            scope: scope.clone(),
            secret,
        });
        let mut slots: Vec<_> = slots.collect();
        let Some(trial) = slots.first_mut().filter(|slot| slot.is_trial()) else { return Ok(slots) };
        let begun =
            if trial.key.standing.is_proven() { Ok(true) } else { self.begin_key_trial(seen, trial).await };
        if let Ok(true) = begun {
            seen.begin_trial(&scope, trial.at.plus(self.rules.trial(scope.provider)));
            return Ok(slots);
        }
        let ended = self.write_trial(trial, Standing::UNTRIED, Standing::UNTRIED).await;
        seen.ended(trial, ended);
        begun.map(|_| Vec::new())
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
    pub(crate) async fn end_trials(&self, slots: &[Slot]) {
        for slot in slots.iter().filter(|slot| slot.is_trial()) {
            let ended = self.write_trial(slot, Standing::UNTRIED, Standing::UNTRIED).await;
            self.trial_ended(slot, ended).await;
        }
    }

    /// Takes note of the end of a first call, and wakes as many as it has promised a call to.
    pub(crate) async fn trial_ended(&self, slot: &Slot, ended: Ended) {
        let shared = self.shared_by(slot.scope.provider, &slot.scope.model);
        shared.seen.lock().await.ended(slot, ended);
        shared.wake(slot.scope.promises() as usize);
    }

    pub(crate) fn shared(&self, model: &Model) -> SharedSeen {
        self.shared_by(model.provider, &model.provider_model)
    }

    fn shared_by(&self, provider: ProviderName, model: &ModelName) -> SharedSeen {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(ModelPool::beginning_at(random_fraction()));
        models.entry((provider, model.clone())).or_insert_with(new).clone()
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

/// The pause before a lost race is run again.
pub(crate) async fn pause(tries: u32) {
    sleep(conflict_pause(tries, random_fraction())).await;
}
