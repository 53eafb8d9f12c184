//! The stand-in Gemini API by hand: `stand-in-gemini --key secret=project:10 --latency 2570`.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Error};
use clap::Parser;
use darkroom_tests::stand_in_gemini::{Faults, Latency, Limits, Settings, StandIn};

/// Answers as the Gemini API does, on 127.0.0.1. Point `darkroom` at it with its Gemini base URL.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Port; 0 takes any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// A key, its project and the project's limits: KEY=PROJECT[:PER_MINUTE[:PER_DAY]]. May be repeated; without any,
    /// every key draws without limits.
    #[arg(long = "key", value_name = "KEY=PROJECT[:PER_MINUTE[:PER_DAY]]")]
    keys: Vec<KeyArgument>,
    /// Median latency in milliseconds.
    #[arg(long, default_value_t = 0)]
    latency: u64,
    /// Spread of the latency: the standard deviation of its logarithm.
    #[arg(long, default_value_t = 0.0)]
    sigma: f64,
    /// Length of a picture's file in bytes.
    #[arg(long, default_value_t = 65_536)]
    image_bytes: usize,
    /// Length of the minute that limits are counted in, in milliseconds.
    #[arg(long, default_value_t = 60_000)]
    minute: u64,
    /// Probability of 429.
    #[arg(long, default_value_t = 0.0)]
    rate_limited: f64,
    /// Probability of 500, 503 or 504.
    #[arg(long, default_value_t = 0.0)]
    server_error: f64,
    /// Probability of no answer.
    #[arg(long, default_value_t = 0.0)]
    hang: f64,
    /// Seed of latencies and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone)]
struct KeyArgument {
    key: String,
    project: String,
    limits: Limits,
}

impl FromStr for KeyArgument {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (key, rest) = text.split_once('=').context("write KEY=PROJECT[:PER_MINUTE[:PER_DAY]]")?;
        let mut parts = rest.split(':');
        let project = parts.next().unwrap_or_default();
        let mut limit = || parts.next().map(str::parse).transpose().context("a limit is a whole number");
        let limits = Limits { per_minute: limit()?, per_day: limit()? };
        Ok(Self { key: key.to_owned(), project: project.to_owned(), limits })
    }
}

#[tokio::main]
// A command's output is for whoever typed it.
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let median = Duration::from_millis(arguments.latency);
    let stand_in = StandIn::start(Settings {
        port: arguments.port,
        minute: Duration::from_millis(arguments.minute),
        latency: Latency::LogNormal { median, sigma: arguments.sigma },
        image_bytes: arguments.image_bytes,
        faults: Faults {
            rate_limited: arguments.rate_limited,
            server_error: arguments.server_error,
            hang: arguments.hang,
            ..Faults::default()
        },
        seed: arguments.seed,
        accept_unknown_keys: arguments.keys.is_empty(),
    })
    .context("the stand-in could not listen; choose another --port")?;
    for KeyArgument { key, project, limits } in &arguments.keys {
        stand_in.add_key(key, project);
        stand_in.set_limits(project, *limits);
    }
    println!("{}", stand_in.base_url());
    tokio::signal::ctrl_c().await?;
    for (outcome, calls) in stand_in.calls_by_outcome() {
        println!("{calls:6} {outcome:?}");
    }
    println!("{:6} at once at most", stand_in.in_flight_max());
    Ok(())
}
