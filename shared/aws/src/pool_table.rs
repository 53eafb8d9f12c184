//! Conditional writes of the pool: what is reserved and learnt of keys, scopes and breakers.
//!
//! Each names what it saw. The value as it is now comes back with a refusal, so that a lost race costs no read.

use darkroom_core::breaker::Breaker;
use darkroom_core::id::ModelName;
use darkroom_core::key::{ApiKey, KeyState, Probe, Scope, ScopeState, Standing};
use darkroom_core::model::ProviderName;
use darkroom_core::quota::{Slots, state_at};
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, Reader, json, number};
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::ItemError;
use crate::items::key::{api_key, breaker, name, scope};
use crate::key_table::{KeyTable, Stamped, Written};
use crate::keys::{BREAKER_PARTITION, Key, SK};

impl KeyTable {
    /// Reserves `slots`, if nobody wrote the scope since it was read. A rest that is over by `now` ends; one that is not goes
    /// on until the slot that was reserved behind it.
    pub async fn reserve(
        &self,
        seen: &Scope,
        slots: &Slots,
        now: Timestamp,
    ) -> Result<Written<Scope>, StoreError> {
        let next = Scope {
            state: state_at(seen.state, now),
            standing: slots.standing,
            usage: slots.usage.clone(),
            ..seen.clone()
        };
        let write = scope_as_seen(seen)
            .set(name::STATE, json(&next.state))
            .set(name::STANDING, json(&next.standing))
            .set(name::USAGE, json(&next.usage));
        self.write_scope("UpdateItem scope usage", next, write).await
    }

    /// Stores a scope's state, if it still has the one that was read. However it comes back from there, it is unproven.
    /// Calls that are reserved meanwhile do not matter to it.
    pub async fn set_scope_state(
        &self,
        seen: &Scope,
        state: ScopeState,
    ) -> Result<Written<Scope>, StoreError> {
        let next = Scope { state, standing: Standing::UNTRIED, ..seen.clone() };
        let write = Expression::default()
            .add(name::VERSION, 1)
            .require(name::STATE, "=", json(&seen.state))
            .set(name::STATE, json(&next.state))
            .set(name::STANDING, json(&next.standing));
        self.write_scope("UpdateItem scope state", next, write).await
    }

    /// Stores what the first call has shown: the scope grants calls, or, with [`Standing::UNTRIED`], nothing was learnt and
    /// somebody else may try. If it still is on the same trial.
    pub async fn end_scope_trial(
        &self,
        seen: &Scope,
        standing: Standing,
    ) -> Result<Written<Scope>, StoreError> {
        let next = Scope { standing, ..seen.clone() };
        let write = Expression::default()
            .add(name::VERSION, 1)
            .require(name::STATE, "=", json(&seen.state))
            .require(name::STANDING, "=", json(&seen.standing))
            .set(name::STANDING, json(&standing));
        self.write_scope("UpdateItem scope standing", next, write).await
    }

    /// Stores a scope's limits, if nobody wrote the scope since it was read.
    pub async fn set_scope_limits(
        &self,
        seen: &Scope,
        requests_per_minute: u32,
        requests_per_day: Option<u32>,
    ) -> Result<Written<Scope>, StoreError> {
        let next = Scope { requests_per_minute, requests_per_day, ..seen.clone() };
        let write = scope_as_seen(seen).set(name::RPM, number(requests_per_minute));
        let write = match requests_per_day {
            Some(limit) => write.set(name::RPD, number(limit)),
            None => write.remove(&[name::RPD]),
        };
        self.write_scope("UpdateItem scope limits", next, write).await
    }

    /// Stores a key's state, if nobody wrote the key since it was read. A key that comes back into use is unproven.
    pub async fn set_key_state(&self, seen: &ApiKey, state: KeyState) -> Result<Written<ApiKey>, StoreError> {
        let next = ApiKey { state, standing: Standing::UNTRIED, ..seen.clone() };
        self.write_key("UpdateItem key state", seen, next).await
    }

    /// Stores a key's standing, if nobody wrote the key since it was read.
    pub async fn set_key_standing(
        &self,
        seen: &ApiKey,
        standing: Standing,
    ) -> Result<Written<ApiKey>, StoreError> {
        let next = ApiKey { standing, ..seen.clone() };
        self.write_key("UpdateItem key standing", seen, next).await
    }

    /// Stores what a probe of the key came to, if nobody wrote the key since it was read.
    pub async fn set_key_probe(&self, seen: &ApiKey, probe: Probe) -> Result<Written<ApiKey>, StoreError> {
        let next = ApiKey { probe: Some(probe), ..seen.clone() };
        self.write_key("UpdateItem key probe", seen, next).await
    }

    /// A model's breaker; closed when none was ever written. Eventually consistent: a write says when it has moved on.
    pub async fn breaker(&self, provider: ProviderName, model: &ModelName) -> Result<Breaker, StoreError> {
        let item = self.get(Key::Breaker(provider, model)).await?;
        Ok(read(item, breaker)?.unwrap_or_default())
    }

    /// Every breaker that was ever written, as `provider#model` with its record.
    pub async fn breakers(&self) -> Result<Vec<(String, Breaker)>, StoreError> {
        self.partition(BREAKER_PARTITION, None, |item| {
            Ok((Reader(item).text(SK)?.to_owned(), breaker(item)?))
        })
        .await
    }

    /// Stores a breaker, if nobody wrote it since it was read.
    pub async fn set_breaker(
        &self,
        provider: ProviderName,
        model: &ModelName,
        seen: &Breaker,
        next: Breaker,
    ) -> Result<Written<Breaker>, StoreError> {
        let write = Expression::default()
            .set(name::EPOCH, number(next.epoch))
            .set(name::VERSION, number(next.version))
            .set(name::STATE, json(&next.state));
        let write = if seen.version == 0 {
            write.require_absent(name::VERSION)
        } else {
            write.require(name::VERSION, "=", number(seen.version))
        };
        Ok(match self.stamped("UpdateItem breaker", Key::Breaker(provider, model), write).await? {
            Stamped::Applied => Written::Applied(next),
            Stamped::Refused(item) => Written::Refused(read(item, breaker)?),
        })
    }

    async fn write_scope(
        &self,
        operation: &'static str,
        next: Scope,
        write: Expression,
    ) -> Result<Written<Scope>, StoreError> {
        let key = Key::Scope(next.provider, &next.model, &next.project);
        Ok(match self.stamped(operation, key, write).await? {
            Stamped::Applied => Written::Applied(Scope { version: next.version + 1, ..next }),
            Stamped::Refused(item) => Written::Refused(read(item, scope)?),
        })
    }

    async fn write_key(
        &self,
        operation: &'static str,
        seen: &ApiKey,
        next: ApiKey,
    ) -> Result<Written<ApiKey>, StoreError> {
        let write = Expression::default()
            .add(name::VERSION, 1)
            .require(name::VERSION, "=", number(seen.version))
            .set(name::STATE, json(&next.state))
            .set(name::STANDING, json(&next.standing));
        let write = match &next.probe {
            Some(probe) => write.set(name::PROBE, json(probe)),
            None => write,
        };
        let key = Key::ApiKey(next.provider, &next.project, &next.id);
        Ok(match self.stamped(operation, key, write).await? {
            Stamped::Applied => Written::Applied(ApiKey { version: next.version + 1, ..next.clone() }),
            Stamped::Refused(item) => Written::Refused(read(item, api_key)?),
        })
    }
}

fn scope_as_seen(seen: &Scope) -> Expression {
    Expression::default().add(name::VERSION, 1).require(name::VERSION, "=", number(seen.version))
}

fn read<T>(
    item: Option<Item>,
    read: impl Fn(&Item) -> Result<T, ItemError>,
) -> Result<Option<T>, StoreError> {
    item.map(|item| read(&item).map_err(|problem| StoreError::unreadable(&item, &problem))).transpose()
}
