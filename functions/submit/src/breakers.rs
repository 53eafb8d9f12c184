//! The breakers as submissions see them: read at most once a second per process, never written.

use std::collections::HashMap;

use darkroom_aws::{KeyTable, StoreError};
use darkroom_core::breaker::{Breaker, all_open_until};
use darkroom_core::id::ModelName;
use darkroom_core::limits::BREAKER_READ;
use darkroom_core::model::{Model, ProviderName, routes};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

/// Every breaker that was looked at.
pub(crate) struct Breakers {
    keys: KeyTable,
    seen: Mutex<HashMap<(ProviderName, ModelName), (Timestamp, Breaker)>>,
}

impl Breakers {
    pub(crate) fn new(keys: KeyTable) -> Self {
        Self { keys, seen: Mutex::default() }
    }

    /// Until when the model cannot be drawn with, by itself or by its fallback; `None` while it can. A table that cannot be
    /// read stops no submission.
    pub(crate) async fn open_until(
        &self,
        models: &[Model],
        model: &Model,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut gates = Vec::new();
        for route in routes(models, model, &now.utc_day()) {
            if !route.provider.has_breaker() {
                return None;
            }
            match self.breaker(route, now).await {
                Ok(breaker) => gates.push(breaker.gate(now)),
                Err(error) => {
                    tracing::warn!(model.name = %route.name, error = %error, "the breaker could not be read");
                    return None;
                }
            }
        }
        all_open_until(gates)
    }

    async fn breaker(&self, model: &Model, now: Timestamp) -> Result<Breaker, StoreError> {
        let mut seen = self.seen.lock().await;
        let name = (model.provider, model.provider_model.clone());
        if let Some((read_at, breaker)) = seen.get(&name)
            && now.since(*read_at) < BREAKER_READ
        {
            return Ok(breaker.clone());
        }
        let breaker = self.keys.breaker(model.provider, &model.provider_model).await?;
        seen.insert(name, (now, breaker.clone()));
        Ok(breaker)
    }
}
