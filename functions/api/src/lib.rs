//! Everything a client calls apart from submitting.

mod account;
mod drafts;
mod forecast;
mod health;
mod jobs;
mod metadata;
mod overview;
mod query;
mod queue;
mod routes;
mod uploads;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, Tables, image_bucket, queue_url, quota_minute, record_days, sweep_rules,
};
use darkroom_aws::{
    Catalogue, ImageProbe, ImageStore, JobQueue, JobTable, KeyTable, LedgerTable, Pacer, StoreError, Sweep,
    UploadStore, read_clock,
};

use crate::forecast::Forecast;
use crate::health::HealthCache;
use crate::overview::OverviewCache;
use crate::queue::WaitingCache;

pub use crate::routes::{Api, router};

/// Api with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Api, ConfigError> {
    let tables = Tables::read(environment)?;
    let (queue_url, bucket) = (queue_url(environment)?, image_bucket(environment)?);
    let (days, quota_minute) = (record_days(environment)?, quota_minute(environment)?);
    let rules = sweep_rules(environment)?;
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let jobs = JobTable::new(clients.dynamodb, tables.jobs, ledger.clone());
    let queue = JobQueue::new(clients.sqs, queue_url);
    Ok(Api {
        waiting: WaitingCache::new(jobs.clone()),
        catalogue: Catalogue::new(keys.clone()),
        forecast: Forecast::new(Pacer::new(keys.clone(), quota_minute)),
        health: HealthCache::default(),
        overview: OverviewCache::default(),
        sweep: Sweep::new(jobs.clone(), keys.clone(), queue.clone(), quota_minute, rules),
        jobs,
        ledger,
        keys,
        queue,
        images: ImageStore::new(clients.s3.clone(), bucket.clone()),
        uploads: UploadStore::new(clients.s3.clone(), bucket.clone()),
        image_probe: ImageProbe::new(clients.s3, bucket),
        days,
    })
}

impl Api {
    /// Opens the connection to DynamoDB and sees to it that the clock is right during initialisation.
    ///
    /// # Errors
    /// When DynamoDB does not answer.
    pub async fn warm(&self) -> Result<(), StoreError> {
        read_clock(&self.keys).await
    }
}
