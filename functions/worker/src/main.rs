//! Draws what the queue's messages name: slot, claim, provider, store, settle.

mod attempt;
mod batch;
mod pool;
mod worker;

use std::sync::Arc;

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment, Tables, WorkerRules, image_bucket};
use darkroom_aws::{Catalogue, ImageStore, JobTable, KeyTable, LedgerTable};
use darkroom_providers::{BaseUrl, Providers, Settings};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};

use crate::pool::Pool;
use crate::worker::Worker;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let worker = Arc::new(start(&Environment::process()).inspect_err(|error| {
        tracing::error!(error = %error, "the worker does not start: correct the setting and deploy again");
    })?);
    worker.warm().await;
    run(service_fn(|event: LambdaEvent<batch::Batch>| batch::handle(worker.clone(), event))).await
}

fn start(environment: &Environment<'_>) -> Result<Worker, ConfigError> {
    let (tables, bucket) = (Tables::read(environment)?, image_bucket(environment)?);
    let rules = WorkerRules::read(environment)?;
    let url = rules.gemini_base_url.as_deref().unwrap_or(BaseUrl::GEMINI);
    let gemini_base_url = BaseUrl::parse(url)
        .map_err(|error| ConfigError { variable: "DARKROOM_GEMINI_BASE_URL", problem: error.to_string() })?;
    let clients = Clients::new(&Access::from_environment(environment)?);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    Ok(Worker {
        jobs: JobTable::new(clients.dynamodb, tables.jobs, ledger),
        images: ImageStore::new(clients.s3, bucket),
        pool: Pool::new(keys.clone(), rules.quota_minute),
        catalogue: Catalogue::new(keys.clone()),
        providers: Providers::new(Settings { gemini_base_url }),
        keys,
        rules,
    })
}
