//! What the system does, measured through its real binaries and printed as tables. `just bench` runs the headline and
//! the CPU runs, `just bench quota` how much of the keys' quota is used.
//!
//! Everything shares this machine's cores: the functions, the local stores, the stand-in provider and this program. So
//! throughput is what this machine does, CPU is of the function processes alone, and nothing here asserts a time.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench reads clocks and prints")]

mod load;
mod process;
mod quota;
mod throughput;

use clap::{Parser, Subcommand};

/// Which runs.
#[derive(Parser)]
#[command(about = "Measures the system through its real binaries, with a stand-in provider on loopback")]
struct Arguments {
    /// Headline and CPU when none is named.
    #[command(subcommand)]
    bench: Option<Bench>,
}

#[derive(Subcommand)]
enum Bench {
    /// Jobs per minute with 36 calls in flight at a real model's latency.
    Headline {
        /// Jobs.
        #[arg(long, default_value_t = throughput::HEADLINE_JOBS)]
        jobs: usize,
    },
    /// CPU per 1,000 jobs, at two sizes of pictures.
    Cpu {
        /// Jobs of each run.
        #[arg(long, default_value_t = throughput::CPU_JOBS)]
        jobs: usize,
    },
    /// How much of the keys' quota is used, and what calls are wasted.
    Quota(quota::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Some(Bench::Headline { jobs }) => throughput::measure(throughput::headline(jobs)).await,
        Some(Bench::Cpu { jobs }) => throughput::measure(throughput::cpu(jobs)).await,
        Some(Bench::Quota(arguments)) => quota::measure(&arguments).await,
        None => {
            let mut runs = throughput::headline(throughput::HEADLINE_JOBS);
            runs.extend(throughput::cpu(throughput::CPU_JOBS));
            throughput::measure(runs).await
        }
    }
}
