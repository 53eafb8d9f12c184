//! `POST /v1/jobs`, `POST /v1/jobs/{id}/retry` and `POST /v1/batches`: takes valid requests and their prices, queues the jobs.
//! `POST /v1/exports`.

mod batch;
mod breakers;
mod exports;
mod reference;
mod submit;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, SubmitRules, Tables, bulk_queue_url, image_bucket, queue_url, quota_minute,
};
use darkroom_aws::{
    BatchLines, BatchMaker, BulkQueue, Catalogue, ExportTable, JobQueue, JobTable, KeyTable, LedgerTable,
    Pacer, UploadStore,
};

use crate::breakers::Breakers;

pub use crate::submit::{Submit, router};

/// Submit with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Submit, ConfigError> {
    let tables = Tables::read(environment)?;
    let (queue_url, bucket) = (queue_url(environment)?, image_bucket(environment)?);
    let bulk_queue_url = bulk_queue_url(environment)?;
    let rules = SubmitRules::read(environment)?;
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let bulk_queue = BulkQueue::new(clients.sqs.clone(), bulk_queue_url);
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs.clone(), ledger);
    let exports = ExportTable::new(clients.dynamodb, tables.jobs);
    let queue = JobQueue::new(clients.sqs, queue_url);
    let uploads = UploadStore::new(clients.s3.clone(), bucket.clone());
    let lines = BatchLines::new(clients.s3, bucket);
    Ok(Submit {
        maker: BatchMaker::new(
            jobs.clone(),
            queue.clone(),
            uploads.clone(),
            lines,
            rules.wake,
            rules.ttl_days,
        ),
        pacer: Pacer::new(keys.clone(), quota_minute(environment)?),
        exports,
        breakers: Breakers::new(keys.clone()),
        catalogue: Catalogue::new(keys.clone()),
        jobs,
        queue,
        bulk_queue,
        uploads,
        keys,
        rules,
    })
}
