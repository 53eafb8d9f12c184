//! The real handlers in a simulation: every call meets every fault, and seeds mix everything; the invariants hold after each
//! write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout, reason = "figures, for docs/proof.md")]

mod conditions;
mod enumerate;
mod queue;
mod random;
mod scenarios;

use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_tests::sim::{Plan, Seen, Settings, Step, World};
use darkroom_tests::stand_in_gemini::{Latency, Settings as GeminiSettings};
use mimalloc::MiMalloc;
use tokio::runtime::Runtime;

/// A run asks for memory all the time: a third of its time goes to the C library's own allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A job's deadline.
const DEADLINE: Duration = Duration::from_secs(600);
/// The deadline, a lease and two sweeps, after the last fault: also one that is late by 250 s.
const PATIENCE: Duration = Duration::from_secs(DEADLINE.as_secs() + 240 + 120 + 250);

/// Whether everything is asked for that a whole proof has (`just proof`), and not what a usual run has time for.
fn is_proof() -> bool {
    std::env::var_os("DARKROOM_PROOF").is_some()
}

/// A sweep that looks once, of the eleven times that it has time for.
const SHORT_SWEEP: Duration = Duration::from_secs(5);

/// What came of a run.
struct Run {
    steps: Vec<Step>,
    statuses: Vec<Status>,
    /// What was written.
    seen: Seen,
    /// Calls that probed a breaker.
    probes: u32,
}

fn settings(seed: u64, plan: Plan) -> Settings {
    Settings {
        seed,
        plan,
        index_lag: Duration::ZERO,
        workers: 2,
        sweepers: 1,
        sweep_time: SHORT_SWEEP,
        skew: Duration::ZERO,
        gemini: GeminiSettings {
            // Long enough for one sign of life.
            latency: Latency::Fixed(Duration::from_secs(7)),
            image_bytes: 1_024,
            seed,
            ..GeminiSettings::default()
        },
    }
}

/// One thread whose clock stands still while anything runs.
fn runtime() -> Runtime {
    // One picture is painted at a time: which of two is done first would be the machine's choice.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).max_blocking_threads(1).build().unwrap()
}

/// A run in which users do this.
fn simulate(
    settings: Settings,
    users: impl AsyncFnOnce(&World) -> anyhow::Result<()>,
) -> anyhow::Result<Run> {
    runtime().block_on(async {
        let world = World::start(settings).await?;
        users(&world).await?;
        let settled = world.settle(PATIENCE).await;
        // What broke comes first: that nothing was settled may be what came of it.
        let broken = world.broken();
        ensure!(broken.is_empty(), "{}", broken.join("; "));
        let jobs = settled?;
        let statuses = jobs.iter().map(darkroom_core::job::Job::status).collect();
        Ok(Run { steps: world.steps(), statuses, seen: world.seen(), probes: world.probes() })
    })
}
