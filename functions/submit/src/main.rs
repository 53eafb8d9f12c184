//! Submit's process.

use darkroom_aws::clients::{Access, Clients};
use darkroom_aws::config::{ConfigError, Environment};
use lambda_http::{Error, run, tracing};
use submit::{Submit, router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let submit = start().inspect_err(|error| {
        tracing::error!(error = %error, "submit does not start: correct the setting and deploy again");
    })?;
    if let Err(error) = submit.warm().await {
        tracing::warn!(error = %error, "the connections could not be opened ahead of the first request");
    }
    run(router(submit)).await
}

fn start() -> Result<Submit, ConfigError> {
    let environment = Environment::process();
    let clients = Clients::new(&Access::from_environment(&environment)?);
    submit::start(&environment, clients)
}
