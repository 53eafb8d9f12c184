//! Started by the schedule each minute: sends what is due, puts back what was lost, ends what is over.

mod sweeper;

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment, SweepRules, Tables, queue_url};
use darkroom_aws::{Heartbeat, JobQueue, JobTable, KeyTable, LedgerTable, Sweep};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};

use crate::sweeper::Sweeper;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let sweeper = start(&Environment::process()).inspect_err(|error| {
        tracing::error!(error = %error, "the sweeper does not start: correct the setting and deploy again");
    })?;
    let sweeper = &sweeper;
    run(service_fn(move |event: LambdaEvent<serde_json::Value>| async move {
        sweeper.sweep(event.context.deadline).await.map_err(Error::from)
    }))
    .await
}

fn start(environment: &Environment<'_>) -> Result<Sweeper, ConfigError> {
    let tables = Tables::read(environment)?;
    let queue_url = queue_url(environment)?;
    let SweepRules { rules, every, quota_minute } = SweepRules::read(environment)?;
    let clients = Clients::new(&Access::from_environment(environment)?);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs, ledger);
    let keys = KeyTable::new(clients.dynamodb, tables.keys);
    let sweep = Sweep::new(jobs, keys.clone(), JobQueue::new(clients.sqs, queue_url), quota_minute, rules);
    Ok(Sweeper { sweep, beat: Heartbeat::new(keys.clone(), "sweeper"), keys, every })
}
