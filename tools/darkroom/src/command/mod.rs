//! The commands.

mod breaker;
mod demo;
mod keys;
mod local;
mod models;
mod sweep;
mod tokens;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::connect::{Stores, default_data};

/// Darkroom: the back end behind a "generate an image" button.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a local system in a temporary folder, draws one picture, shows the books, and stops.
    Demo(demo::Demo),
    /// The whole system on this machine, until Ctrl-C.
    Local(local::Local),
    /// Users' tokens.
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// The pool of API keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// The catalogue of models.
    #[command(subcommand)]
    Models(models::Models),
    /// The circuit breakers.
    #[command(subcommand)]
    Breaker(breaker::Breakers),
    /// Sends what is due, requeues what lost its worker, ends and refunds what is over: the scheduled sweep's own code.
    Sweep(sweep::SweepCommand),
}

/// Which system a command speaks to, and how it prints.
#[derive(Args, Clone)]
pub struct Target {
    /// The local system (the default).
    #[arg(long, conflicts_with = "stack")]
    local: bool,
    /// A deployed stack of this name, with the AWS credentials and region of the environment
    /// (`eval "$(aws configure export-credentials --format env)"`).
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// The local system's data folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Target {
    async fn stores(&self) -> anyhow::Result<Stores> {
        match &self.stack {
            Some(name) => Stores::deployed(name).await,
            None => Stores::local(&self.data.clone().unwrap_or_else(default_data)).await,
        }
    }
}

/// Runs a command.
///
/// # Errors
/// What went wrong and what to do, in words; the program then ends with 1.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Demo(demo) => demo.run().await,
        Command::Local(local) => local.run().await,
        Command::Tokens(tokens) => tokens.run().await,
        Command::Keys(keys) => keys.run().await,
        Command::Models(models) => models.run().await,
        Command::Breaker(breakers) => breakers.run().await,
        Command::Sweep(sweep) => sweep.run().await,
    }
}
