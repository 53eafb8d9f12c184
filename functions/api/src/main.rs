//! Everything a client calls apart from submitting.

mod account;
mod forecast;
mod health;
mod jobs;
mod query;
mod queue;
mod routes;

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{
    ConfigError, Environment, Tables, image_bucket, queue_url, quota_minute, ttl_days,
};
use darkroom_aws::{
    Catalogue, ImageProbe, ImageStore, JobQueue, JobTable, KeyTable, LedgerTable, Pacer, read_clock,
};
use lambda_http::{Error, run, tracing};

use crate::forecast::Forecast;
use crate::health::HealthCache;
use crate::queue::WaitingCache;
use crate::routes::{Api, router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let api = start(&Environment::process()).inspect_err(|error| {
        tracing::error!(error = %error, "api does not start: correct the setting and deploy again");
    })?;
    if let Err(error) = read_clock(&api.keys).await {
        tracing::warn!(error = %error, "the connections could not be opened ahead of the first request");
    }
    run(router(api)).await
}

fn start(environment: &Environment<'_>) -> Result<Api, ConfigError> {
    let tables = Tables::read(environment)?;
    let (queue_url, bucket) = (queue_url(environment)?, image_bucket(environment)?);
    let (ttl_days, quota_minute) = (ttl_days(environment)?, quota_minute(environment)?);
    let clients = Clients::new(&Access::from_environment(environment)?);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let jobs = JobTable::new(clients.dynamodb, tables.jobs, ledger.clone());
    Ok(Api {
        waiting: WaitingCache::new(jobs.clone()),
        catalogue: Catalogue::new(keys.clone()),
        forecast: Forecast::new(Pacer::new(keys.clone(), quota_minute)),
        health: HealthCache::default(),
        jobs,
        ledger,
        keys,
        queue: JobQueue::new(clients.sqs, queue_url),
        images: ImageStore::new(clients.s3.clone(), bucket.clone()),
        image_probe: ImageProbe::new(clients.s3, bucket),
        ttl_days,
    })
}
