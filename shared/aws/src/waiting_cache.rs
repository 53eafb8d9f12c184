//! Places in the queue, from the waiting index, read at most once a second per process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use darkroom_core::id::ModelName;
use darkroom_core::job::{Job, Stage};
use darkroom_core::position::{Position, Told, Waiting, position};
use darkroom_core::queue::{Line, lines};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::clock::now;
use crate::error::StoreError;
use crate::job_table::JobTable;

/// The index is read again when the last look is older.
const FRESH: Duration = Duration::from_secs(1);

/// The oldest waiting jobs as one process last saw them.
pub(crate) struct WaitingCache {
    jobs: JobTable,
    seen: Mutex<Option<Arc<LookAtQueue>>>,
    told: StdMutex<Told>,
}

/// One look at the waiting index.
pub struct LookAtQueue {
    read_at: Timestamp,
    /// The oldest waiting jobs, in order.
    pub waiting: Vec<Waiting>,
    /// The same by model.
    pub lines: BTreeMap<ModelName, Line>,
    /// Whether these are all.
    pub complete: bool,
}

impl WaitingCache {
    pub(crate) fn new(jobs: JobTable) -> Self {
        Self { jobs, seen: Mutex::new(None), told: StdMutex::default() }
    }

    /// The waiting jobs as of at most a second ago. The cost grows neither with the queue nor with the askers.
    pub(crate) async fn look(&self) -> Result<Arc<LookAtQueue>, StoreError> {
        let mut seen = self.seen.lock().await;
        if let Some(seen) = seen.as_ref().filter(|seen| now().finds_fresh(seen.read_at, FRESH)) {
            return Ok(seen.clone());
        }
        let read_at = now();
        let (entries, complete) = self.jobs.waiting().await?;
        let lines = lines(entries.iter().map(|(wait, model)| (model, wait.wait_at)));
        let waiting = entries.into_iter().map(|(wait, _)| wait).collect();
        let look = Arc::new(LookAtQueue { read_at, waiting, lines, complete });
        *seen = Some(look.clone());
        Ok(look)
    }

    /// A job's place; `None` unless it waits. Never higher than this process told before of the same wait.
    pub(crate) async fn position(&self, job: &Job) -> Result<Option<Position>, StoreError> {
        let Stage::Pending(pending) = &job.stage else { return Ok(None) };
        let seen = self.look().await?;
        let entry = Waiting { wait_at: pending.wait_at, job_id: job.id.clone() };
        let counted = position(&seen.waiting, seen.complete, &entry, seen.read_at);
        Ok(Some(self.told.lock().unwrap_or_else(PoisonError::into_inner).tell(&entry, counted)))
    }
}
