//! The catalogue of models, read at most once a minute per process.

use std::sync::Arc;
use std::time::Duration;

use darkroom_core::model::Model;
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::KeyTable;
use crate::error::StoreError;

/// A change of the catalogue is seen by every function within this time.
const FRESH: Duration = Duration::from_secs(60);
/// An empty catalogue (a stack that is being set up) is read again sooner.
const EMPTY_FRESH: Duration = Duration::from_secs(2);

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
            if now.since(*at) < fresh {
                return Ok(models.clone());
            }
        }
        let models: Arc<[Model]> = self.keys.models().await?.into();
        *read = Some((now, models.clone()));
        Ok(models)
    }
}
