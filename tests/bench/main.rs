//! What the system does, measured through its real binaries and printed as a table. `just bench` runs all of it.
//!
//! Everything shares this machine's cores: the functions, the local stores, the stand-in provider and this program. So
//! throughput is what this machine does, CPU is of the function processes alone, and nothing here asserts a time.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench reads clocks and prints")]

mod process;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_gemini::{Latency, Outcome, Settings, StandIn};
use serde_json::json;

use crate::process::Usage;

/// Which runs.
#[derive(Parser)]
#[command(about = "Measures the system through its real binaries, with a stand-in provider on loopback")]
struct Arguments {
    /// Jobs of the headline run.
    #[arg(long, default_value_t = 360)]
    jobs: usize,
    /// Jobs of each CPU run.
    #[arg(long, default_value_t = 500)]
    cpu_jobs: usize,
}

/// One run.
struct Run {
    name: &'static str,
    jobs: usize,
    environments: usize,
    batch: u32,
    latency: Duration,
    image_bytes: usize,
}

/// What it came to.
struct Measured {
    span: Duration,
    in_flight: usize,
    usage: BTreeMap<&'static str, Usage>,
    requests: BTreeMap<String, u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let headline = Run {
        name: "headline",
        jobs: arguments.jobs,
        environments: 4,
        batch: 9,
        latency: Duration::from_millis(2_570),
        image_bytes: 64 * 1024,
    };
    let cpu = |name, image_bytes| Run {
        name,
        jobs: arguments.cpu_jobs,
        environments: 4,
        batch: 10,
        latency: Duration::from_millis(200),
        image_bytes,
    };
    println!("| run | jobs | in flight | span s | jobs/min | ideal | of ideal |");
    println!("|---|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for run in [headline, cpu("CPU, 64 KiB images", 64 * 1024), cpu("CPU, 1 MiB images", 1024 * 1024)] {
        let measured = run.measure().await.with_context(|| format!("the run {}", run.name))?;
        println!("{}", run.throughput(&measured));
        all.push((run, measured));
    }
    println!(
        "\n| run | CPU s per 1,000 jobs: worker | submit | api | sweeper | all functions | worker peak MB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (run, measured) in &all {
        println!("{}", run.cpu(measured));
    }
    println!("\nRequests to AWS per job, polling by the bench and by the event source mapping included:");
    for (run, measured) in &all {
        let each: Vec<_> = measured
            .requests
            .iter()
            .map(|(operation, count)| format!("{operation} {:.2}", *count as f64 / run.jobs as f64))
            .collect();
        println!("  {}: {}", run.name, each.join(", "));
    }
    Ok(())
}

impl Run {
    /// Submits all jobs, waits until each is drawn and settled, and looks at what that took.
    async fn measure(&self) -> anyhow::Result<Measured> {
        let latency = Latency::Fixed(self.latency);
        let settings = Settings {
            latency,
            image_bytes: self.image_bytes,
            accept_unknown_keys: true,
            ..Settings::default()
        };
        let gemini = StandIn::start(settings).await?;
        let url = gemini.base_url();
        let stack = TestStack::start_with(|settings| {
            settings.workers = self.environments;
            settings.batch_size = Some(self.batch);
            settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), url);
            settings.variables.insert("DARKROOM_INFLIGHT_MAX".to_owned(), "100000".to_owned());
        })
        .await?;
        for number in 0..36 {
            keys::add(&stack.stores()?, &format!("AIza-{number}"), &format!("project-{number}"), 10_000)
                .await?;
        }
        self.submit(&stack).await?;
        settled(&stack).await?;
        let usage = usage(&stack);
        let requests = requests(&stack);
        let calls = gemini.calls();
        let drawn = calls.iter().filter(|call| call.outcome == Outcome::Drawn).count();
        ensure!(drawn == self.jobs && calls.len() == self.jobs, "{drawn} drawn by {} calls", calls.len());
        let first = calls.iter().map(|call| call.at).min().unwrap_or_default();
        let last = calls.iter().map(|call| call.at + call.took).max().unwrap_or_default();
        let in_flight = gemini.in_flight_max();
        stack.finish().await?;
        gemini.shutdown().await;
        Ok(Measured { span: last.saturating_sub(first), in_flight, usage, requests })
    }

    /// Eight users submit side by side.
    async fn submit(&self, stack: &TestStack) -> anyhow::Result<()> {
        const USERS: usize = 8;
        let mut users = Vec::new();
        for user in 0..USERS {
            let (app, name) = (stack.app.clone(), format!("user{user}"));
            stack.grant(&name, 1_000_000).await?;
            let jobs = self.jobs;
            users.push(tokio::spawn(async move {
                for number in (user..jobs).step_by(USERS) {
                    let body = json!({"prompt": format!("prompt {number}"), "model": MODEL});
                    let answer = app.submit(&name, &format!("k{number}"), &body).await?;
                    ensure!(answer.status == 202, "{} {}", answer.status, answer.body);
                }
                Ok(())
            }));
        }
        for user in users {
            user.await??;
        }
        Ok(())
    }

    fn throughput(&self, measured: &Measured) -> String {
        let in_flight = self.environments as f64 * f64::from(self.batch);
        let ideal = in_flight / self.latency.as_secs_f64() * 60.0;
        let rate = self.jobs as f64 / measured.span.as_secs_f64() * 60.0;
        format!(
            "| {} | {} | {} | {:.1} | {rate:.0} | {ideal:.0} | {:.1} % |",
            self.name,
            self.jobs,
            measured.in_flight,
            measured.span.as_secs_f64(),
            rate / ideal * 100.0
        )
    }

    fn cpu(&self, measured: &Measured) -> String {
        let per_thousand = |usage: &Usage| usage.cpu_seconds / self.jobs as f64 * 1_000.0;
        let of = |function| measured.usage.get(function).map_or(0.0, per_thousand);
        let all: f64 = measured.usage.values().map(per_thousand).sum();
        let peak = measured.usage.get("worker").map_or(0, |usage| usage.peak_bytes);
        format!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {all:.2} | {:.1} |",
            self.name,
            of("worker"),
            of("submit"),
            of("api"),
            of("sweeper"),
            peak as f64 / 1e6
        )
    }
}

/// Waits until no job is live.
async fn settled(stack: &TestStack) -> anyhow::Result<()> {
    let jobs = stack.stores()?.jobs;
    let started = Instant::now();
    while !jobs.all_live().await?.is_empty() {
        ensure!(started.elapsed() < Duration::from_secs(600), "the jobs do not end");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

fn usage(stack: &TestStack) -> BTreeMap<&'static str, Usage> {
    ["worker", "submit", "api", "sweeper"]
        .into_iter()
        .map(|name| {
            let processes =
                stack.system.function(name).map(|function| function.process_ids()).unwrap_or_default();
            (name, processes.into_iter().filter_map(process::usage).fold(Usage::default(), Usage::with))
        })
        .collect()
}

fn requests(stack: &TestStack) -> BTreeMap<String, u64> {
    let requests = stack.system.aws().requests();
    requests
        .into_iter()
        .map(|((service, operation), count)| (format!("{service} {operation}"), count))
        .collect()
}
