//! The process of what takes long.

use bulk::{Bulk, handle};
use darkroom_aws::QueueEvent;
use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let bulk = start().inspect_err(|error| {
        tracing::error!(error = %error, "bulk does not start: correct the setting and deploy again");
    })?;
    let bulk = &bulk;
    run(service_fn(move |event: LambdaEvent<QueueEvent>| handle(bulk, event))).await
}

fn start() -> Result<Bulk, ConfigError> {
    let environment = Environment::process();
    let clients = Clients::new(&Access::from_environment(&environment)?);
    bulk::start(&environment, clients)
}
