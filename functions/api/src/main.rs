//! Api's process.

use api::{Api, router};
use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment};
use lambda_http::{Error, run, tracing};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let api = start().inspect_err(|error| {
        tracing::error!(error = %error, "api does not start: correct the setting and deploy again");
    })?;
    if let Err(error) = api.warm().await {
        tracing::warn!(error = %error, "the connections could not be opened ahead of the first request");
    }
    run(router(api)).await
}

fn start() -> Result<Api, ConfigError> {
    let environment = Environment::process();
    let clients = Clients::new(&Access::from_environment(&environment)?);
    api::start(&environment, clients)
}
