//! Makes jobs of batches' lines: submit as far as its time allows, bulk for the rest. Whoever does it, however many do, and wherever it
//! breaks off, each line becomes one job.

use std::collections::BTreeMap;
use std::time::Duration;

use darkroom_core::batch_record::{BatchRecord, MadeJob};
use darkroom_core::batch_request::Line;
use darkroom_core::id::BatchId;
use darkroom_core::limits::BATCH_WRITES_MAX;
use darkroom_core::time::Timestamp;
use futures::future::join_all;

use crate::batch_lines::BatchLines;
use crate::batch_table::{BatchCommit, BatchTime};
use crate::clock::{now, random_stamp};
use crate::error::StoreError;
use crate::{JobQueue, JobTable, UploadStore};

/// What makes jobs of lines.
#[derive(Clone, Debug)]
pub struct BatchMaker {
    jobs: JobTable,
    queue: JobQueue,
    uploads: UploadStore,
    /// Where the lines are.
    pub lines: BatchLines,
    /// A lost message is made up for after this.
    wake: Duration,
    ttl_days: u64,
    /// Writes of one transaction beside the batch's own.
    writes: usize,
}

impl BatchMaker {
    /// A maker of these jobs.
    pub const fn new(
        jobs: JobTable,
        queue: JobQueue,
        uploads: UploadStore,
        lines: BatchLines,
        wake: Duration,
        ttl_days: u64,
    ) -> Self {
        Self { jobs, queue, uploads, lines, wake, ttl_days, writes: BATCH_WRITES_MAX }
    }

    /// The same with fewer writes in a transaction: so a test's small batch takes several. No setting does this.
    #[must_use]
    pub fn with_writes(self, writes: usize) -> Self {
        Self { writes, ..self }
    }

    /// Makes jobs of what is left of this batch, until then; the batch as it is afterwards, `None` when there is none. Not an error when
    /// lines are left: the batch stays due.
    pub async fn resume(&self, id: &BatchId, until: Timestamp) -> Result<Option<BatchRecord>, StoreError> {
        let Some(batch) = self.jobs.batch(id).await? else { return Ok(None) };
        if !batch.is_open(now()) {
            return Ok(Some(batch));
        }
        let lines = self.lines.read(&batch).await?;
        self.make(batch, &lines, until).await.map(Some)
    }

    /// The same of a batch whose lines are known.
    pub async fn make(
        &self,
        mut batch: BatchRecord,
        lines: &[Line],
        until: Timestamp,
    ) -> Result<BatchRecord, StoreError> {
        loop {
            let at = now();
            if !batch.is_open(at) || at >= until {
                return Ok(batch);
            }
            let next = batch.next_lines(lines, self.writes);
            let Some(command) = batch.make(next, at, self.wake) else { return Ok(batch) };
            let made = batch.jobs(next, at, self.wake, random_stamp);
            let time = BatchTime { now: at, ttl_days: self.ttl_days };
            batch = match self.jobs.make_jobs(&batch, &command, &made, time, &random_stamp()).await? {
                BatchCommit::Applied(next) => {
                    self.wake_workers(&made).await;
                    tracing::info!(batch.id = %next.id, batch.made = next.state.made, batch.lines = next.state.lines, "jobs made");
                    next
                }
                BatchCommit::Refused(next) if next.state == batch.state => {
                    return Err(StoreError::Books {
                        job: batch.id.to_string(),
                        problem: "its lines are not what it holds".to_owned(),
                    });
                }
                // Somebody else makes jobs of it, has looked at it, or has ended it.
                BatchCommit::Refused(next) => next,
                BatchCommit::Absent => return Ok(batch),
            };
        }
    }

    /// The records are the outbox: what cannot be sent is found by the sweeper. And the bucket keeps what the jobs are drawn from, now
    /// that their prices are held.
    async fn wake_workers(&self, made: &[MadeJob]) {
        let messages: Vec<_> = made.iter().map(|made| made.job.message()).collect();
        let references: BTreeMap<_, _> = made
            .iter()
            .filter_map(|made| Some((&made.job.order.reference.as_ref()?.upload, &made.job)))
            .collect();
        let kept = join_all(references.into_values().map(|job| Box::pin(self.uploads.keep_reference(job))));
        let (sent, _) = tokio::join!(Box::pin(self.queue.send_all(&messages)), kept);
        if let Err(error) = sent {
            tracing::warn!(error = %error, "messages of a batch's jobs were not sent; the sweeper sends them");
        }
    }
}
