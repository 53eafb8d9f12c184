//! The catalogue of models, read at most once a minute per process.

use std::sync::Arc;
use std::time::Duration;

use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::model::Model;
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::attributes::json;
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::key::name;
use crate::keys::Key;
use crate::transaction::{self, Outcome};
use crate::{KeyTable, KeyWrite};

/// A change of the catalogue is seen by every function within this time.
const FRESH: Duration = Duration::from_secs(60);
/// An empty catalogue (a stack that is being set up) is read again sooner.
const EMPTY_FRESH: Duration = Duration::from_secs(2);

impl KeyTable {
    /// Stores each changed model, all or none, if all are as they were read. [`KeyWrite::Refused`] when one is not.
    pub async fn change_models(&self, changes: &[(Model, Model)]) -> Result<KeyWrite, StoreError> {
        let actions = changes
            .iter()
            .map(|(seen, next)| {
                let write =
                    Expression::default().set(name::MODEL, json(next)).require(name::MODEL, "=", json(seen));
                transaction::update(self.name(), Key::Model(&seen.name).attributes(), write)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let operation = "TransactWriteItems models";
        let patience = Patience::For(SETTLE_PATIENCE);
        Ok(match transaction::write(self.client(), operation, actions, patience).await? {
            Outcome::Applied => KeyWrite::Applied,
            Outcome::Refused(_) => KeyWrite::Refused,
        })
    }
}

/// The catalogue as one process sees it.
#[derive(Debug)]
pub struct Catalogue {
    keys: KeyTable,
    read: Mutex<Option<(Timestamp, Arc<[Model]>)>>,
}

impl Catalogue {
    /// The catalogue of this table.
    pub fn new(keys: KeyTable) -> Self {
        Self { keys, read: Mutex::new(None) }
    }

    /// The models, as of at most a minute ago.
    pub async fn models(&self, now: Timestamp) -> Result<Arc<[Model]>, StoreError> {
        let mut read = self.read.lock().await;
        if let Some((at, models)) = read.as_ref() {
            let fresh = if models.is_empty() { EMPTY_FRESH } else { FRESH };
            if now.finds_fresh(*at, fresh) {
                return Ok(models.clone());
            }
        }
        self.read_into(&mut read, now).await
    }

    /// The models as they are now.
    pub async fn read(&self, now: Timestamp) -> Result<Arc<[Model]>, StoreError> {
        self.read_into(&mut *self.read.lock().await, now).await
    }

    async fn read_into(
        &self,
        read: &mut Option<(Timestamp, Arc<[Model]>)>,
        now: Timestamp,
    ) -> Result<Arc<[Model]>, StoreError> {
        let models: Arc<[Model]> = self.keys.models().await?.into();
        *read = Some((now, models.clone()));
        Ok(models)
    }
}
