//! AWS Lambda's part on one machine, for real function binaries built on `lambda_runtime` and `lambda_http`.
pub mod placeholder {}
mod environment;
mod error;
mod function;
mod ids;
mod lambda;
mod launch;
mod log;
mod pool;
mod process;
mod runtime_api;
mod stats;
mod variables;

pub use error::{InvokeError, SettingsError};
pub use function::{Function, FunctionSettings};
pub use lambda::{Credentials, Lambda, LambdaSettings};
pub use launch::{Launcher, become_function_if_asked};
pub use log::{LogLine, LogListener, LogSource};
pub use stats::Stats;
