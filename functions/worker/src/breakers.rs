//! The breakers as one process sees them: read at most once a second per model, written only when they change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use darkroom_aws::config::WorkerRules;
use darkroom_aws::{KeyTable, StoreError, Written, now, random_fraction, random_stamp};
use darkroom_core::breaker::{Breaker, Event, Gate, Pass};
use darkroom_core::id::ModelName;
use darkroom_core::limits::{BREAKER_READ, SWEEP_READ};
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::retry::CONFLICT_TRIES_MAX;
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex as AsyncMutex;

/// Whether a call may be made.
pub(crate) enum Entry {
    /// It may; what it learns is told with this pass.
    Go(Pass),
    /// Not before then.
    Wait(Timestamp),
}

/// Every breaker that this process has looked at.
pub(crate) struct Breakers {
    keys: KeyTable,
    rules: WorkerRules,
    models: Mutex<HashMap<(ProviderName, ModelName), SharedSeen>>,
}

/// Held while a breaker is read or written: one process's messages do not race each other.
type SharedSeen = Arc<AsyncMutex<Seen>>;

#[derive(Default)]
struct Seen {
    read_at: Timestamp,
    breaker: Breaker,
    /// This process's last call that was answered.
    answered_at: Timestamp,
}

impl Breakers {
    pub(crate) fn new(keys: KeyTable, rules: WorkerRules) -> Self {
        Self { keys, rules, models: Mutex::default() }
    }

    /// Asks for one call. When the breaker's time is over, one caller of the whole fleet gets it, as the probe.
    pub(crate) async fn enter(&self, model: &Model) -> Result<Entry, StoreError> {
        let seen = self.seen(model);
        let mut seen = seen.lock().await;
        if !now().finds_fresh(seen.read_at, BREAKER_READ) {
            seen.breaker = self.keys.breaker(model.provider, &model.provider_model).await?;
            seen.read_at = now();
        }
        if let Gate::MayProbe = seen.breaker.gate(now()) {
            let probe = random_stamp();
            if self.change(model, &mut seen, &Event::Probe(probe.clone())).await? {
                tracing::info!(model.name = %model.name, breaker.epoch = seen.breaker.epoch, "probing");
                return Ok(Entry::Go(Pass { epoch: seen.breaker.epoch, probe: Some(probe) }));
            }
        }
        Ok(match seen.breaker.gate(now()) {
            Gate::Closed => Entry::Go(Pass { epoch: seen.breaker.epoch, probe: None }),
            Gate::OpenUntil(until) => Entry::Wait(until),
            // Somebody else's probe is under way, or has just ended: look again soon.
            Gate::Probing(_) | Gate::MayProbe => Entry::Wait(now().plus(SWEEP_READ)),
        })
    }

    /// Tells what a call has shown. What cannot be stored is logged: the next call shows it again.
    pub(crate) async fn tell(&self, model: &Model, told: Told) {
        let seen = self.seen(model);
        let mut seen = seen.lock().await;
        let event = match told {
            Told::Answered(pass) => {
                seen.answered_at = now();
                Event::Answered(pass)
            }
            Told::Failed(pass) => Event::Failed { pass, answered_at: seen.answered_at },
            Told::NotReached(pass, until) => Event::NotReached { pass, until },
            Told::Exhausted(pass, free_at) => Event::Exhausted { pass, free_at },
        };
        if let Err(error) = self.change(model, &mut seen, &event).await {
            tracing::warn!(model.name = %model.name, error = %error, "the breaker could not be written");
        }
    }

    /// Until when no call is made, as far as this process knows.
    pub(crate) async fn open_until(&self, model: &Model) -> Option<Timestamp> {
        let seen = self.seen(model);
        let seen = seen.lock().await;
        match seen.breaker.gate(now()) {
            Gate::OpenUntil(until) => Some(until),
            Gate::Closed | Gate::Probing(_) | Gate::MayProbe => None,
        }
    }

    /// Whether the event changed the record. A record that somebody else has changed is decided on anew.
    async fn change(&self, model: &Model, seen: &mut Seen, event: &Event) -> Result<bool, StoreError> {
        let rules = self.rules.breaker(model.provider);
        for _ in 0..CONFLICT_TRIES_MAX {
            let Some(next) = seen.breaker.after(event, now(), &rules, random_fraction()) else {
                return Ok(false);
            };
            let written =
                self.keys.set_breaker(model.provider, &model.provider_model, &seen.breaker, next).await?;
            seen.read_at = now();
            match written {
                Written::Applied(breaker) => {
                    if breaker.epoch != seen.breaker.epoch {
                        tracing::warn!(model.name = %model.name, breaker.epoch = breaker.epoch,
                            breaker.state = breaker.state.as_str(), "the breaker has changed");
                    }
                    seen.breaker = breaker;
                    return Ok(true);
                }
                Written::Refused(breaker) => seen.breaker = breaker.unwrap_or_default(),
            }
        }
        Ok(false)
    }

    fn seen(&self, model: &Model) -> SharedSeen {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.entry((model.provider, model.provider_model.clone())).or_default().clone()
    }
}

/// What a call has shown.
pub(crate) enum Told {
    /// The provider answers.
    Answered(Pass),
    /// It fails.
    Failed(Pass),
    /// The probe did not get to it; somebody may try again then.
    NotReached(Pass, Timestamp),
    /// No scope is left until then.
    Exhausted(Pass, Timestamp),
}
