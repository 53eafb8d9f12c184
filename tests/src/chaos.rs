//! Users at work while processes die and the provider fails: the real binaries, `kill -9` at random, and a judge of
//! everything that was asked, answered, called, stored and booked.
//!
//! [`run`] makes the trouble and [`verdict::faults`] judges it. All decisions (who asks for what and when, who cancels, which
//! process dies when) come from the seed and depend on nothing else, so the same seed draws the same decisions; what the
//! machine's timing makes of them differs from run to run.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

mod client;
mod decide;
mod found;
pub mod history;
mod killer;
mod report;
pub mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use self::client::Client;
use self::history::History;
use self::killer::Killer;
pub use self::report::Report;
use self::verdict::Rules;
use crate::keys;
use crate::stack::TestStack;
use crate::stand_in_gemini::{Faults, Latency, Settings as Provider, StandIn};
use crate::stores::stack;

/// How much trouble.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every decision follows from it.
    pub seed: u64,
    /// How long users ask and processes die; what is under way then is waited for.
    pub lasts: Duration,
    /// Users. The first has too few tokens.
    pub users: u32,
    /// Whether processes are killed.
    pub kills: bool,
}

/// What the users have, in tokens; the first has no more than [`POOR`].
const RICH: u64 = 1_000_000;
const POOR: u64 = 20;
/// What the provider does to its callers. What it blocks is refunded.
const FAULTS: Faults =
    Faults { rate_limited: 0.10, server_error: 0.05, hang: 0.01, reset: 0.0, no_image: 0.0, blocked: 0.02 };
/// Projects of the pool. A 429 lays one up for a minute, so there have to be many.
const PROJECTS: u32 = 60;
const CALLS_MAX: u32 = 8;
const ATTEMPTS_MAX: u32 = 4;
/// The provider's answer is waited for so long: far longer than a picture takes, and not long for a call that hangs.
const CALL_TIMEOUT_SECONDS: u64 = 5;
/// The lease is the invocation's end and ten seconds. A call starts when it and twenty seconds are left, so this is about as
/// short as it can be on a busy machine: the sweeper finds the dead soon.
const WORKER_TIMEOUT: Duration = Duration::from_secs(31);
/// After the last kill every job ends in so long: some of its attempts may each last a lease.
const PATIENCE: Duration = Duration::from_secs(200);

/// Runs it and judges it; `tell` is given a line each minute.
///
/// # Errors
/// When the system does not start or its stores do not answer. What does not hold is in the report.
pub async fn run(settings: &Settings, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let history = History::begin();
    let gemini = StandIn::start(Provider {
        latency: Latency::LogNormal { median: Duration::from_millis(250), sigma: 0.3 },
        image_bytes: 8 * 1024,
        faults: FAULTS,
        seed: settings.seed,
        accept_unknown_keys: true,
        ..Provider::default()
    })?;
    let stack = start(gemini.base_url()).await?;
    let granted = furnish(&stack, settings.users).await?;
    let until = Instant::now() + settings.lasts;
    let users = ask(&stack, settings, &history, until);
    let killer = Killer { system: &stack.system, gemini: &gemini, history: &history };
    let killer = killer.rampage(settings.kills.then_some(settings.seed), until);
    let (users, killer, ()) = tokio::join!(users, killer, report::minutes(&history, until, tell));
    users.and(killer)?;
    let quiet = Instant::now();
    let left = settled(&stack, quiet + PATIENCE).await?;
    let settling = quiet.elapsed();
    let found = found::collect(&stack, &gemini, granted).await?;
    let (operations, kills) = history.end();
    let mut faults = verdict::faults(&operations, &kills, &found, &rules()?);
    faults.extend(left);
    let report = Report::new(settings, settling, &operations, &kills, &found, faults);
    stack.system.shutdown().await;
    Ok(report)
}

async fn start(provider_url: String) -> anyhow::Result<TestStack> {
    TestStack::start_with(|settings| {
        settings.visibility_timeout = Some(Duration::from_secs(12));
        settings.timeouts.insert("worker".to_owned(), WORKER_TIMEOUT);
        for (name, value) in [
            ("DARKROOM_GEMINI_BASE_URL", provider_url),
            ("DARKROOM_CALL_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_string()),
            ("DARKROOM_SWEEP_SECONDS", "1".to_owned()),
            ("DARKROOM_WAKE_SECONDS", "3".to_owned()),
            ("DARKROOM_ATTEMPTS_MAX", ATTEMPTS_MAX.to_string()),
            ("DARKROOM_CALLS_MAX", CALLS_MAX.to_string()),
        ] {
            settings.variables.insert(name.to_owned(), value);
        }
    })
    .await
}

/// Keys for the pool and tokens for the users; who was granted how many.
async fn furnish(stack: &TestStack, users: u32) -> anyhow::Result<BTreeMap<String, u64>> {
    let stores = stack.stores()?;
    for project in 0..PROJECTS {
        keys::add(&stores, &format!("AIza-{project}"), &format!("project-{project}"), 10_000).await?;
    }
    let mut granted = BTreeMap::new();
    for user in 0..users {
        let (name, tokens) = (format!("user{user}"), if user == 0 { POOR } else { RICH });
        stack.grant(&name, tokens).await?;
        granted.insert(name, tokens);
    }
    Ok(granted)
}

/// The users, until no more is asked and each has what it waits for.
async fn ask(
    stack: &TestStack,
    settings: &Settings,
    history: &History,
    until: Instant,
) -> anyhow::Result<()> {
    let mut users = JoinSet::new();
    for user in 0..settings.users {
        let client = Client::new(stack.app.clone(), format!("user{user}"), history.clone());
        users.spawn(client.live(settings.seed, until));
    }
    while let Some(user) = users.join_next().await {
        user.context("a user's own program failed")??;
    }
    Ok(())
}

/// Waits until no job is live; what still is by then, in words.
async fn settled(stack: &TestStack, until: Instant) -> anyhow::Result<Vec<String>> {
    let jobs = stack.stores()?.jobs;
    loop {
        let live = jobs.all_live().await?;
        if live.is_empty() || Instant::now() >= until {
            let words = |job: &darkroom_core::job::Job| {
                format!(
                    "{} is {} {} s after the last kill",
                    job.id,
                    job.status().as_str(),
                    PATIENCE.as_secs()
                )
            };
            return Ok(live.iter().map(words).collect());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What holds, from the settings and the template.
fn rules() -> anyhow::Result<Rules> {
    let stack = stack("chaos", "http://127.0.0.1")?;
    let source = stack.functions.iter().find_map(|function| function.queue_source.as_ref());
    let source = source.context("the template has no consumer")?;
    let queue = stack.queue(&source.queue_logical_id).context("the consumer has no queue")?;
    Ok(Rules {
        calls_max: CALLS_MAX,
        batch: source.batch_size,
        receives_max: queue.redrive.as_ref().context("the queue has no dead-letter queue")?.receives_max,
    })
}
