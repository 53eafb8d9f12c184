//! POST /v1/jobs: takes a valid request and its price, queues the job.

mod breakers;
mod submit;

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment, SubmitRules, Tables, queue_url};
use darkroom_aws::{Catalogue, JobQueue, JobTable, KeyTable, LedgerTable};
use lambda_http::{Error, run, tracing};

use crate::breakers::Breakers;
use crate::submit::{Submit, router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let submit = start(&Environment::process()).inspect_err(|error| {
        tracing::error!(error = %error, "submit does not start: correct the setting and deploy again");
    })?;
    if let Err(error) = submit.warm().await {
        tracing::warn!(error = %error, "the connections could not be opened ahead of the first request");
    }
    run(router(submit)).await
}

fn start(environment: &Environment<'_>) -> Result<Submit, ConfigError> {
    let tables = Tables::read(environment)?;
    let queue_url = queue_url(environment)?;
    let rules = SubmitRules::read(environment)?;
    let clients = Clients::new(&Access::from_environment(environment)?);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    Ok(Submit {
        jobs: JobTable::new(clients.dynamodb, tables.jobs, ledger),
        queue: JobQueue::new(clients.sqs, queue_url),
        breakers: Breakers::new(keys.clone()),
        catalogue: Catalogue::new(keys.clone()),
        keys,
        rules,
    })
}
