//! Reads what a model's next jobs wait for: the quotas and breakers of its routes.

use std::time::Duration;

use darkroom_core::breaker::Gate;
use darkroom_core::model::{Model, routes};
use darkroom_core::pace::Pace;
use darkroom_core::time::Timestamp;

use crate::KeyTable;
use crate::error::StoreError;

/// The pool, as far as the pace of its models goes.
#[derive(Clone, Debug)]
pub struct Pacer {
    keys: KeyTable,
    /// The provider's minute.
    quota_minute: Duration,
}

impl Pacer {
    /// The pacer of this pool.
    pub const fn new(keys: KeyTable, quota_minute: Duration) -> Self {
        Self { keys, quota_minute }
    }

    /// The pace of all of the model's routes whose breakers are closed, or else of the model itself; without the calls that
    /// were `promised` for those moments. `None` where nothing is limited.
    pub async fn pace(
        &self,
        models: &[Model],
        model: &Model,
        now: Timestamp,
        promised: &[Timestamp],
    ) -> Result<Option<Pace>, StoreError> {
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for route in routes(models, model, &now.utc_day()) {
            if !route.provider.has_breaker() {
                return Ok(None);
            }
            let breaker = self.keys.breaker(route.provider, &route.provider_model).await?;
            let is_closed = breaker.gate(now) == Gate::Closed;
            if is_closed { &mut closed } else { &mut open }.push((route, breaker));
        }
        open.truncate(1);
        let usable = if closed.is_empty() { open } else { closed };
        let Some((_, breaker)) = usable.first() else { return Ok(None) };
        if usable.iter().any(|(route, _)| !route.provider.needs_key()) {
            return Ok(Some(Pace::keyless(breaker, now)));
        }
        let keys = self.keys.keys().await?;
        let mut scopes = Vec::new();
        for (route, _) in &usable {
            scopes.extend(self.keys.scopes(route.provider, &route.provider_model).await?);
        }
        Ok(Some(Pace::new(&scopes, &keys, breaker, now, self.quota_minute, promised)))
    }
}
