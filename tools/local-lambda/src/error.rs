//! How an invocation, or the settings of one, can be wrong.

use std::path::PathBuf;
use std::time::Duration;

/// Why an invocation gave no answer.
///
/// On AWS a caller of a synchronous invocation sees the first five as `FunctionError` or as the service's own
/// error; here each is a variant, because each asks something else of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The handler returned an error or panicked; the environment lives on.
    #[error("the function answered with an error, {error_type}: {message}")]
    Unhandled {
        /// `errorType` as the runtime reported it.
        error_type: String,
        /// `errorMessage` as the runtime reported it.
        message: String,
    },
    /// The environment never came to ask for work: it could not be started, exited, reported an error, or took
    /// longer than ten seconds. The message ends with the process's last lines on stderr.
    #[error("the function did not start: {message}")]
    InitFailed {
        /// What happened, and the last lines on stderr.
        message: String,
    },
    /// The function's time-out passed; its environment was killed.
    #[error("no answer within the function's time-out of {} s, so its environment was killed", .after.as_secs_f32())]
    TimedOut {
        /// The time-out that was set.
        after: Duration,
    },
    /// The process ended during the invocation, by itself or killed from outside.
    #[error("the environment ended during the invocation: {message}")]
    Crashed {
        /// How it ended, and the last lines on stderr.
        message: String,
    },
    /// Every environment the reserved concurrency allows is in use. Nothing was started; try again later.
    #[error("throttled: all {reserved} environments of the reserved concurrency are in use")]
    Throttled {
        /// The reserved concurrency.
        reserved: usize,
    },
    /// The event is larger than Lambda takes (6 MB). Nothing was started.
    #[error("the event has {bytes} bytes; a synchronous invocation takes {limit}")]
    PayloadTooLarge {
        /// Size of the event.
        bytes: usize,
        /// Lambda's limit.
        limit: usize,
    },
    /// The [`Lambda`](crate::Lambda) was shut down.
    #[error("this Lambda has been shut down")]
    Stopped,
}

/// Settings that cannot work; each message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A function's name is also a file name and part of an ARN.
    #[error("`{0}` is no function name: use 1 to 64 of A-Z a-z 0-9 - _")]
    Name(String),
    /// A name can be given once.
    #[error("a function named `{0}` was added already")]
    Duplicate(String),
    /// There is no such binary.
    #[error("function `{name}` has no binary at {}: build it first (cargo build --release)", .binary.display())]
    Binary {
        /// The function.
        name: String,
        /// Where its binary was looked for.
        binary: PathBuf,
    },
    /// Lambda's own bounds.
    #[error("function `{name}` has a time-out of {} s: Lambda allows more than 0 and at most 900 s", .timeout.as_secs_f32())]
    Timeout {
        /// The function.
        name: String,
        /// What was asked for.
        timeout: Duration,
    },
    /// Lambda sets this variable itself and refuses it from a function's configuration.
    #[error("function `{name}` sets {variable}, which Lambda sets itself: leave it out")]
    ReservedVariable {
        /// The function.
        name: String,
        /// The variable.
        variable: String,
    },
    /// The log file could not be opened.
    #[error("cannot open the log file {}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A route key is `METHOD /path`, `ANY /path` or `$default`.
    #[error("`{key}` is no route: {reason}")]
    Route {
        /// The route key as given.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The gateway's port is taken, as a rule.
    #[error("cannot listen on 127.0.0.1:{port}: end what listens there, or take another port")]
    Listen {
        /// The port asked for.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A batch has 1 to 10,000 messages, more than ten only with a batching window.
    #[error(
        "a batch size of {0} cannot be: it is 1 to 10, or up to 10,000 with a batching window of 1 s or more"
    )]
    BatchSize(usize),
    /// A batch of a stream has 1 to 10,000 changes.
    #[error("a stream's batch size of {0} cannot be: it is 1 to 10,000")]
    StreamBatchSize(usize),
    /// A batching window has 0 to 300 whole seconds.
    #[error("a batching window of {0:?} cannot be: it is 0 to 300 whole seconds")]
    BatchingWindow(Duration),
    /// A mapping or a schedule needs a length above zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
}
