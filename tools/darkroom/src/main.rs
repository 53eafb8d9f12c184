//! `darkroom`: see `darkroom help`.
#![allow(clippy::print_stderr, reason = "a command prints")]

use std::process::ExitCode;

use clap::Parser;
use darkroom::command::Arguments;

/// The local stores call each refused condition a warning or an error; here it is an outcome.
const QUIET: &str = "warn,dynoxide=error,s3s=off";

fn main() -> ExitCode {
    // Before anything else: a function of the local system starts through this program and dies with it.
    darkroom_local_lambda::become_function_if_asked();
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| QUIET.into()),
        )
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("darkroom: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(darkroom::command::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("darkroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}
