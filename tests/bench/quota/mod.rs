//! How much of the keys' quota is used: 17 live keys of 10 calls a minute, each in a project of its own, 600 jobs.
//!
//! **What starts the clock.** The jobs are submitted while the queue has no consumer, and the worker's environments are
//! started ahead, as provisioned concurrency does. Then the event source mapping is enabled; the clock starts with the
//! first call that arrives at the provider. *Proven beforehand* means that each key has drawn a picture and that a
//! whole minute has passed since.
//!
//! **Where it is measured.** At the provider: arrivals in the stand-in's log. The minute is 10 s unless `--minute` says
//! otherwise, and latencies are shortened as the minute is. DynamoDB's requests are counted in front of it, those of this program left out.
//!
//! **What disturbs it.** The guard shrinks with the minute, but not what a machine is late by. Of 25 ms a call may be late by
//! half, which is less than a busy host takes from a virtual machine at a time, and than sixty calls at once take on two
//! processors beside the stores. The last column says how much of the processors' time the host took; a longer minute
//! measures the pool rather than the machine.

mod clocks;
mod row;
mod run;
mod variant;

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum as _};

use self::run::{Outcome, Setup};
use self::variant::Variant;

/// Which runs.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Worker processes (Lambda environments); a row for each number.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,10,50")]
    processes: Vec<usize>,
    /// Variants; all of them when none is named.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    variant: Vec<Variant>,
    /// Runs of each; three are what the claims are made on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: usize,
    /// Seconds of the provider's minute.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minute: u64,
    /// Messages per invocation, instead of as many as put the run's jobs in hand, in tens and at least 10.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
}

/// Jobs in the workers' hands at a time, or as many as ten messages per process make: an invocation takes new ones only when
/// all of its own are done, and quota is measured, not concurrency.
const IN_HAND: usize = 600;
/// Messages per invocation at least: the template's.
const BATCH_MIN: usize = 10;

/// Measures each variant and prints the tables.
pub(crate) async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let variants = if arguments.variant.is_empty() { Variant::value_variants() } else { &arguments.variant };
    println!("{}", row::HEAD);
    let mut uses = Vec::new();
    for variant in variants {
        for &processes in &arguments.processes {
            let tens = IN_HAND / processes.max(1) / BATCH_MIN;
            let batch = arguments.batch.unwrap_or(tens.max(1) * BATCH_MIN);
            let plan = variant.plan(Duration::from_secs(arguments.minute));
            let setup = Setup { plan, processes, batch };
            for number in 1..=arguments.runs {
                let name = format!("{} {processes}×{batch} #{number}", variant.name());
                match setup.run().await.with_context(|| format!("the run {name}"))? {
                    Outcome::Measured(measured) => {
                        println!("{}", row::row(&name, &setup, &measured));
                        uses.push((name, measured));
                    }
                    Outcome::NotRun(why) => println!("| {name} | not run: {why} |"),
                }
            }
        }
    }
    println!("\nDynamoDB, requests per job (write units), from submission and from drawing:");
    for (name, measured) in &uses {
        println!("  {name}\n{}", row::operations(measured));
    }
    Ok(())
}
