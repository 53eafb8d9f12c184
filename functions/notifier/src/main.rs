//! The notifier's process.

use std::sync::Arc;

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use notifier::{Event, Notifier, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let notifier = Arc::new(start().inspect_err(|error| {
        tracing::error!(error = %error, "the notifier does not start: correct the setting and deploy again");
    })?);
    if let Err(error) = notifier.warm().await {
        tracing::warn!(error = %error, "the connections could not be opened ahead of the first event");
    }
    run(service_fn(|event: LambdaEvent<Event>| handle(notifier.clone(), event.payload))).await
}

fn start() -> Result<Notifier, ConfigError> {
    let environment = Environment::process();
    let clients = Clients::new(&Access::from_environment(&environment)?);
    notifier::start(&environment, clients)
}
