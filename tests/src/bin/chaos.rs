//! Users, kills and a failing provider against the whole system: `just chaos 5`. Ends with an error when anything does not
//! hold.
#![allow(clippy::print_stdout, reason = "it prints what it finds")]

use std::time::Duration;

use clap::Parser;
use darkroom_tests::chaos::{Settings, run};

/// Runs the system under fire and judges what came of it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Minutes of trouble; what is under way then is waited for.
    #[arg(default_value_t = 2)]
    minutes: u64,
    /// Draws the same decisions again; any by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Users; the first is poor.
    #[arg(long, default_value_t = 6)]
    users: u32,
    /// Kills nothing: what is found then is not the kills' doing.
    #[arg(long)]
    no_kills: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings {
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        lasts: Duration::from_secs(60 * arguments.minutes),
        users: arguments.users,
        kills: !arguments.no_kills,
    };
    println!("seed {}: the same decisions come with --seed {0}", settings.seed);
    let report = run(&settings, |line| println!("{line}")).await?;
    println!("\n{report}");
    anyhow::ensure!(report.faults.is_empty(), "{} things do not hold", report.faults.len());
    Ok(())
}
