//! The worker's process.

use std::sync::Arc;

use darkroom_aws::QueueEvent;
use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use worker::{Worker, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let worker = Arc::new(start().inspect_err(|error| {
        tracing::error!(error = %error, "the worker does not start: correct the setting and deploy again");
    })?);
    Box::pin(worker.warm()).await;
    run(service_fn(|event: LambdaEvent<QueueEvent>| handle(worker.clone(), event))).await
}

fn start() -> Result<Worker, ConfigError> {
    let environment = Environment::process();
    let clients = Clients::new(&Access::from_environment(&environment)?);
    worker::start(&environment, clients)
}
