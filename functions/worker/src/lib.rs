//! Draws what the queue's messages name: slot, claim, provider, store, settle.

mod attempt;
mod batch;
mod breakers;
mod content;
mod invocation;
mod learn;
mod pool;
mod probe;
mod secret_cache;
mod seen;
mod worker;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{ConfigError, Environment, Tables, WorkerRules, image_bucket, kms_key};
use darkroom_aws::{
    Catalogue, Heartbeat, ImageStore, JobTable, KeyTable, LedgerTable, SecretBox, UploadStore,
};
use darkroom_providers::{BaseUrl, BaseUrlError, Providers, Settings};
use tokio::sync::Semaphore;

use crate::breakers::Breakers;
use crate::pool::Pool;
use crate::worker::CLAIMS;

pub use crate::batch::handle;
pub use crate::worker::Worker;

/// The worker with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Worker, ConfigError> {
    let (tables, bucket) = (Tables::read(environment)?, image_bucket(environment)?);
    let (kms_key, rules) = (kms_key(environment)?, WorkerRules::read(environment)?);
    let providers = Providers::new(provider_settings(&rules)?);
    let secrets = SecretBox::new(clients.kms(), kms_key);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    Ok(Worker {
        jobs: JobTable::new(clients.dynamodb, tables.jobs, ledger),
        images: ImageStore::new(clients.s3.clone(), bucket.clone()),
        uploads: UploadStore::new(clients.s3, bucket),
        pool: Pool::new(keys.clone(), secrets, rules.clone()),
        breakers: Breakers::new(keys.clone(), rules.clone()),
        catalogue: Catalogue::new(keys.clone()),
        providers,
        beat: Heartbeat::new(keys.clone(), "worker"),
        keys,
        rules,
        claims: Semaphore::new(CLAIMS),
    })
}

fn provider_settings(rules: &WorkerRules) -> Result<Settings, ConfigError> {
    let parse = |variable, given: &Option<String>| {
        let wrong = |error: BaseUrlError| ConfigError { variable, problem: error.to_string() };
        given.as_deref().map(|url| BaseUrl::parse(url).map_err(wrong)).transpose()
    };
    let vendors = Settings::default();
    Ok(Settings {
        gemini_base_url: parse("DARKROOM_GEMINI_BASE_URL", &rules.gemini_base_url)?
            .unwrap_or(vendors.gemini_base_url),
        openai_base_url: parse("DARKROOM_OPENAI_BASE_URL", &rules.openai_base_url)?
            .unwrap_or(vendors.openai_base_url),
        forge_base_url: parse("DARKROOM_FORGE_BASE_URL", &rules.forge_base_url)?,
    })
}
