//! What takes longer than a request: the jobs of large batches, and exports.

mod batch;
mod event;
mod export;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{ConfigError, Environment, Tables, image_bucket, queue_url, ttl_days, wake};
use darkroom_aws::{
    BatchLines, BatchMaker, ExportStore, ExportTable, JobQueue, JobTable, KeyTable, LedgerTable, UploadStore,
};

pub use crate::event::handle;

/// What the work needs.
pub struct Bulk {
    pub(crate) keys: KeyTable,
    pub(crate) maker: BatchMaker,
    pub(crate) jobs: JobTable,
    pub(crate) ledger: LedgerTable,
    pub(crate) exports: ExportTable,
    pub(crate) files: ExportStore,
}

/// Bulk with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Bulk, ConfigError> {
    let (tables, bucket) = (Tables::read(environment)?, image_bucket(environment)?);
    let (queue_url, wake, ttl_days) = (queue_url(environment)?, wake(environment)?, ttl_days(environment)?);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs.clone(), ledger.clone());
    let queue = JobQueue::new(clients.sqs, queue_url);
    let uploads = UploadStore::new(clients.s3.clone(), bucket.clone());
    let lines = BatchLines::new(clients.s3.clone(), bucket.clone());
    Ok(Bulk {
        keys: KeyTable::new(clients.dynamodb.clone(), tables.keys),
        maker: BatchMaker::new(jobs.clone(), queue, uploads, lines, wake, ttl_days),
        jobs,
        ledger,
        exports: ExportTable::new(clients.dynamodb, tables.jobs),
        files: ExportStore::new(clients.s3, bucket),
    })
}

impl Bulk {
    /// The same, with fewer writes in a transaction that makes jobs of a batch: so a test's small batch takes several. No setting does
    /// this.
    #[must_use]
    pub fn with_batch_writes(self, writes: usize) -> Self {
        Self { maker: self.maker.with_writes(writes), ..self }
    }
}
