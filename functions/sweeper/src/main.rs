//! The sweeper's process.

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use sweeper::Sweeper;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let sweeper = start().inspect_err(|error| {
        tracing::error!(error = %error, "the sweeper does not start: correct the setting and deploy again");
    })?;
    let sweeper = &sweeper;
    run(service_fn(move |event: LambdaEvent<serde_json::Value>| async move {
        sweeper.sweep(event.context.deadline).await.map_err(Error::from)
    }))
    .await
}

fn start() -> Result<Sweeper, ConfigError> {
    let environment = Environment::process();
    let clients = Clients::new(&Access::from_environment(&environment)?);
    sweeper::start(&environment, clients)
}
