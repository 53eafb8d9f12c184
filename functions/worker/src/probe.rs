//! Asks a provider about one key: on an operator's word, since only a worker may open its secret.

use std::time::Duration;

use darkroom_aws::{StoreError, Written, now};
use darkroom_core::answer::{Answer, KeyEffect};
use darkroom_core::id::KeyId;
use darkroom_core::key::{ApiKey, KeyState, Probe, Standing};
use darkroom_core::retry::CONFLICT_TRIES_MAX;

use crate::pool::pause;
use crate::worker::{Done, Worker};

/// A probe draws nothing: its answer takes no longer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

impl Worker {
    /// One cheap call with the key, where the provider has one that draws nothing; what it is answered is noted on the key.
    pub(crate) async fn probe(&self, id: &KeyId) -> Done {
        match self.try_probe(id).await {
            Ok(()) => Done::Acknowledge,
            Err(error) => {
                tracing::error!(key.id = %id, error = %error, "the probe's message goes back: a store failed");
                Done::Return
            }
        }
    }

    async fn try_probe(&self, id: &KeyId) -> Result<(), StoreError> {
        let Some(key) = self.keys.key(id).await? else { return Ok(()) };
        let Some(secret) = self.pool.opened(&key).await? else { return Ok(()) };
        let answer = self.providers.get(key.provider).probe(Some(&secret), PROBE_TIMEOUT).await;
        let (outcome, effect) = match &answer {
            Ok(()) => ("ok", KeyEffect::Proven),
            Err(refusal) => (refusal.as_str(), Answer::Refused(refusal).effect(now()).key),
        };
        tracing::info!(key.id = %id, probe.outcome = outcome, "probed");
        self.note(key, outcome, effect).await
    }

    /// What the probe has shown, on the key as it is now.
    async fn note(&self, key: ApiKey, outcome: &str, effect: KeyEffect) -> Result<(), StoreError> {
        let mut seen = key;
        for tries in 1..=CONFLICT_TRIES_MAX {
            let probe = Probe { at: now(), outcome: outcome.to_owned() };
            match self.keys.set_key_probe(&probed(&seen, effect), probe).await? {
                Written::Applied(_) | Written::Refused(None) => return Ok(()),
                Written::Refused(Some(current)) => seen = current,
            }
            pause(tries).await;
        }
        Err(StoreError::Throttled { store: "DynamoDB", operation: "UpdateItem key probe" })
    }
}

/// The key after its probe. One that an operator has switched off stays so.
fn probed(key: &ApiKey, effect: KeyEffect) -> ApiKey {
    match (effect, key.state) {
        (KeyEffect::Disabled(reason, _), KeyState::Active) => {
            let state = KeyState::Disabled { reason, at: now() };
            ApiKey { state, standing: Standing::UNTRIED, ..key.clone() }
        }
        (KeyEffect::Proven, KeyState::Active) => ApiKey { standing: Standing::Proven, ..key.clone() },
        _ => key.clone(),
    }
}
