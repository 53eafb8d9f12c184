//! Everything a client calls apart from submitting.

mod account;
mod batches;
mod drafts;
mod exports;
mod health;
mod jobs;
mod metadata;
mod overview;
mod query;
mod routes;
mod tickets;
mod uploads;
mod webhooks;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, Tables, image_bucket, kms_key, push_table, queue_url, quota_minute,
    record_days, sweep_rules, webhook_reach, websocket_url,
};
use darkroom_aws::{
    ExportStore, ExportTable, ImageProbe, ImageStore, JobQueue, JobTable, JobViews, KeyTable, LedgerTable,
    PushTable, SecretBox, StoreError, Sweep, UploadStore, WebhookSecrets, WebhookTable, read_clock,
};

use crate::health::HealthCache;
use crate::overview::OverviewCache;

pub use crate::routes::{Api, router};

/// Api with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Api, ConfigError> {
    let tables = Tables::read(environment)?;
    let (queue_url, bucket) = (queue_url(environment)?, image_bucket(environment)?);
    let (days, quota_minute) = (record_days(environment)?, quota_minute(environment)?);
    let (push, websocket) = (push_table(environment)?, websocket_url(environment)?);
    let (webhook_reach, kms_key) = (webhook_reach(environment)?, kms_key(environment)?);
    let rules = sweep_rules(environment)?;
    let secrets = SecretBox::new(clients.kms(), kms_key);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs.clone(), ledger.clone());
    let queue = JobQueue::new(clients.sqs, queue_url);
    let images = ImageStore::new(clients.s3.clone(), bucket.clone());
    let exports = ExportTable::new(clients.dynamodb.clone(), tables.jobs.clone());
    let export_files = ExportStore::new(clients.s3.clone(), bucket.clone());
    Ok(Api {
        exports,
        export_files,
        views: JobViews::new(jobs.clone(), &keys, images.clone(), quota_minute),
        health: HealthCache::default(),
        overview: OverviewCache::default(),
        sweep: Sweep::new(jobs.clone(), keys.clone(), queue.clone(), None, quota_minute, rules),
        jobs,
        ledger,
        keys,
        queue,
        images,
        uploads: UploadStore::new(clients.s3.clone(), bucket.clone()),
        image_probe: ImageProbe::new(clients.s3, bucket),
        webhooks: WebhookTable::new(clients.dynamodb.clone(), push.clone()),
        webhook_secrets: WebhookSecrets::new(secrets, push.clone()),
        webhook_reach,
        push: PushTable::new(clients.dynamodb, push),
        websocket,
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
