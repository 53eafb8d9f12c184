//! Jobs per minute, and the CPU of the functions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use darkroom_tests::keys;
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_gemini::{Latency, Outcome, Settings, StandIn};

use crate::load;
use crate::process::{self, Usage};

/// Jobs of the headline run.
pub(crate) const HEADLINE_JOBS: usize = 360;
/// Who submit them.
const USERS: usize = 8;
/// Jobs of each CPU run.
pub(crate) const CPU_JOBS: usize = 500;

/// One run.
pub(crate) struct Run {
    name: &'static str,
    jobs: usize,
    environments: usize,
    batch: usize,
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

/// 36 calls in flight at a real model's latency.
pub(crate) fn headline(jobs: usize) -> Vec<Run> {
    vec![Run {
        name: "headline",
        jobs,
        environments: 4,
        batch: 9,
        latency: Duration::from_millis(2_570),
        image_bytes: 64 * 1024,
    }]
}

/// Short calls, at two sizes of pictures.
pub(crate) fn cpu(jobs: usize) -> Vec<Run> {
    let run = |name, image_bytes| Run {
        name,
        jobs,
        environments: 4,
        batch: 10,
        latency: Duration::from_millis(200),
        image_bytes,
    };
    vec![run("CPU, 64 KiB images", 64 * 1024), run("CPU, 1 MiB images", 1024 * 1024)]
}

/// Measures each run and prints the tables.
pub(crate) async fn measure(runs: Vec<Run>) -> anyhow::Result<()> {
    println!("| run | jobs | in flight | span s | jobs/min | ideal | of ideal |");
    println!("|---|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for run in runs {
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
        let gemini = StandIn::start(settings)?;
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
        load::submit(&stack, "prompt", self.jobs, USERS).await?;
        load::settled(&stack, Duration::from_secs(600)).await?;
        let usage = usage(&stack);
        let requests = requests(&stack);
        let calls = gemini.calls();
        let drawn = calls.iter().filter(|call| call.outcome == Outcome::Drawn).count();
        ensure!(drawn == self.jobs && calls.len() == self.jobs, "{drawn} drawn by {} calls", calls.len());
        let first = calls.iter().map(|call| call.at).min().unwrap_or_default();
        let last = calls.iter().map(|call| call.at + call.took).max().unwrap_or_default();
        let in_flight = gemini.in_flight_max();
        stack.finish().await?;
        Ok(Measured { span: last.saturating_sub(first), in_flight, usage, requests })
    }

    fn throughput(&self, measured: &Measured) -> String {
        let in_flight = (self.environments * self.batch) as f64;
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
