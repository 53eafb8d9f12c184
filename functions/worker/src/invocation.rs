//! What the messages of one invocation share: its end, and slots of the block that was reserved for all of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use darkroom_aws::now;
use darkroom_core::id::ModelName;
use darkroom_core::key::{ApiKey, Scope, Secret};
use darkroom_core::model::Model;
use darkroom_core::time::Timestamp;

/// One call that may be made.
#[derive(Clone)]
pub(crate) struct Slot {
    /// Not before then.
    pub(crate) at: Timestamp,
    /// Not sent later than then: the provider could count it in another minute.
    pub(crate) until: Timestamp,
    /// With this key, as it was when the slot was reserved.
    pub(crate) key: ApiKey,
    /// Whose quota it uses, as it was reserved.
    pub(crate) scope: Scope,
    /// The key's secret.
    pub(crate) secret: Secret,
}

impl Slot {
    /// Whether it is the first call of its key or scope.
    pub(crate) fn is_trial(&self) -> bool {
        !(self.key.standing.is_proven() && self.scope.standing.is_proven())
    }

    fn fits(&self, model: &Model) -> bool {
        self.scope.provider == model.provider && self.scope.model == model.provider_model
    }
}

/// One invocation.
pub(crate) struct Invocation {
    /// It ends then.
    pub(crate) ends_at: Timestamp,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    spare: Vec<Slot>,
    /// Messages per model that have not had a slot yet.
    wanting: HashMap<ModelName, u32>,
}

impl Invocation {
    /// An invocation with these messages' models.
    pub(crate) fn new(ends_at: Timestamp, models: impl Iterator<Item = ModelName>) -> Self {
        let mut shared = Shared::default();
        for model in models {
            *shared.wanting.entry(model).or_insert(0) += 1;
        }
        Self { ends_at, shared: Mutex::new(shared) }
    }

    /// How many slots its messages still want of this model; one at least, for who asks.
    pub(crate) fn wanted(&self, model: &ModelName) -> u32 {
        self.shared().wanting.get(model).copied().unwrap_or(0).max(1)
    }

    /// One of its messages wants one again.
    pub(crate) fn wants(&self, model: &ModelName) {
        *self.shared().wanting.entry(model.clone()).or_insert(0) += 1;
    }

    /// One of its messages wants none any more.
    pub(crate) fn is_served(&self, model: &ModelName) {
        if let Some(wanting) = self.shared().wanting.get_mut(model) {
            *wanting = wanting.saturating_sub(1);
        }
    }

    /// Leaves slots for other messages.
    pub(crate) fn leave(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut shared = self.shared();
        shared.spare.extend(slots);
        shared.spare.sort_by_key(|slot| slot.at);
    }

    /// The earliest spare slot of this model that is not over yet.
    pub(crate) fn take(&self, model: &Model) -> Option<Slot> {
        let at = now();
        let mut shared = self.shared();
        let index = shared.spare.iter().position(|slot| slot.fits(model) && slot.until >= at)?;
        Some(shared.spare.remove(index))
    }

    /// Takes slots out that nobody may use any more.
    pub(crate) fn take_out(&self, unusable: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let mut shared = self.shared();
        let (gone, kept) = std::mem::take(&mut shared.spare).into_iter().partition(unusable);
        shared.spare = kept;
        gone
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
