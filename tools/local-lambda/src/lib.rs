//! AWS Lambda's part on one machine, for real function binaries built on `lambda_runtime` and `lambda_http`.
//!
//! - [`Lambda`] starts functions as processes and speaks the Runtime API with them: one process per execution
//!   environment, one invocation at a time each, as many as the reserved concurrency allows. Time-outs are enforced
//!   with SIGKILL; a process that is killed from outside is a crash of its invocation.
//! - [`Gateway`] is an HTTP API in front of functions (payload format 2.0, JWT authorizer), and a WebSocket API below a
//!   path of it, `@connections` included.
//! - [`EventSourceMapping`] carries messages from an SQS queue to a function.
//! - [`StreamMapping`] carries a table's changes to a function.
//! - [`Schedule`] sends EventBridge's scheduled event.
//!
//! Everything listens on 127.0.0.1 only. Nothing polls but a stream's mapping, as on AWS: processes, queues and clocks are waited for. What is not
//! played: memory limits, the frozen process between invocations, extensions, response streaming, Lambda's own HTTP
//! API.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use darkroom_local_lambda as local;
//!
//! // First thing in `main`: functions then cannot outlive this process, however it ends.
//! local::become_function_if_asked();
//!
//! let credentials = local::Credentials {
//!     access_key_id: "local".to_owned(),
//!     secret_access_key: "local".to_owned(),
//!     session_token: None,
//! };
//! let lambda = local::Lambda::new(local::LambdaSettings::new("eu-central-1", "000000000000", credentials))?;
//! let api = lambda.add(local::FunctionSettings::new("api", "target/release/darkroom-api"))?;
//! let routes = vec![local::Route::new("GET /v1/jobs/{id}", api)?.authorized()];
//! let gateway = local::Gateway::start(local::GatewaySettings::new("000000000000", routes)).await?;
//! // …
//! gateway.shutdown(Duration::from_secs(5)).await;
//! lambda.shutdown(Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```

mod environment;
mod error;
mod function;
mod gateway;
mod ids;
mod lambda;
mod launch;
mod log;
mod mapping;
mod pool;
mod process;
mod running;
mod runtime_api;
mod schedule;
mod stats;
mod stream;
mod variables;

pub use error::{InvokeError, SettingsError};
pub use function::{Function, FunctionSettings};
pub use gateway::{Gateway, GatewayListener, GatewaySettings, Route, WebSocketSettings};
pub use lambda::{Credentials, Lambda, LambdaSettings};
pub use launch::{Launcher, become_function_if_asked};
pub use log::{LogLine, LogListener, LogSource};
pub use mapping::{EventSourceMapping, MappingSettings};
pub use schedule::{Schedule, ScheduleSettings, scheduled_event};
pub use stats::Stats;
pub use stream::{ReadStream, StreamMapping, StreamMappingSettings, StreamReader, StreamRecord};
