//! `POST /v1/jobs` and `POST /v1/jobs/{id}/retry`: takes a valid request and its price, queues the job. `POST /v1/exports`.

mod breakers;
mod exports;
mod reference;
mod submit;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, SubmitRules, Tables, bulk_queue_url, image_bucket, queue_url,
};
use darkroom_aws::{
    BulkQueue, Catalogue, ExportTable, JobQueue, JobTable, KeyTable, LedgerTable, UploadStore,
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
    Ok(Submit {
        jobs: JobTable::new(clients.dynamodb.clone(), tables.jobs.clone(), ledger),
        exports: ExportTable::new(clients.dynamodb, tables.jobs),
        queue: JobQueue::new(clients.sqs.clone(), queue_url),
        bulk_queue: BulkQueue::new(clients.sqs, bulk_queue_url),
        breakers: Breakers::new(keys.clone()),
        catalogue: Catalogue::new(keys.clone()),
        uploads: UploadStore::new(clients.s3, bucket),
        keys,
        rules,
    })
}
