//! The breakers as submissions see them: read at most once a second per process, never written.

use std::collections::HashMap;
use std::time::Duration;

use darkroom_aws::KeyTable;
use darkroom_core::breaker::{Breaker, all_open_until};
use darkroom_core::id::ModelName;
use darkroom_core::limits::BREAKER_READ;
use darkroom_core::model::{Model, ProviderName, routes};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

/// A submission waits no longer for a look.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

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
    /// read, or not soon, stops no submission: the breaker counts as it was last seen, or as closed.
    pub(crate) async fn open_until(
        &self,
        models: &[Model],
        model: &Model,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let look = async {
            let mut gates = Vec::new();
            for route in routes(models, model, &now.utc_day()) {
                if !route.provider.has_breaker() {
                    return None;
                }
                gates.push(self.breaker(route, now).await.gate(now));
            }
            all_open_until(gates)
        };
        tokio::time::timeout(LOOK_TIMEOUT, look).await.unwrap_or_else(|_| {
            tracing::warn!(model.name = %model.name, "the breaker could not be read in time");
            None
        })
    }

    async fn breaker(&self, model: &Model, now: Timestamp) -> Breaker {
        let mut seen = self.seen.lock().await;
        let name = (model.provider, model.provider_model.clone());
        let last = seen.get(&name).cloned().unwrap_or_default();
        if now.finds_fresh(last.0, BREAKER_READ) {
            return last.1;
        }
        let breaker =
            self.keys.breaker(model.provider, &model.provider_model).await.unwrap_or_else(|error| {
                tracing::warn!(model.name = %model.name, error = %error, "the breaker could not be read");
                last.1
            });
        seen.insert(name, (now, breaker.clone()));
        breaker
    }
}
