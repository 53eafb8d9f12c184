//! Users, workers and sweeps in an order that a seed determines, with faults at random; then the faults stop.

use std::collections::BTreeMap;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use darkroom_aws::random_fraction;
use darkroom_core::limits::SWEEPER_TIMEOUT;
use darkroom_tests::keys::MODEL;
use darkroom_tests::sim::{Fault, Plan, Settings, World};
use darkroom_tests::stand_in_gemini::{Behaviour, Latency};
use serde_json::json;

use crate::scenarios::answer_all;
use crate::{Run, is_proof, settings, simulate};

/// Seeds of a usual run, and of a whole proof; `DARKROOM_SEEDS=from..to` asks for others.
const SEEDS: Range<u64> = 0..300;
const SEEDS_OF_A_PROOF: Range<u64> = 0..2_000;
/// Runs side by side.
const SIDE_BY_SIDE: u64 = 2;
/// Faults happen for so long.
const FAULTS: Duration = Duration::from_secs(120);
/// A job's deadline.
const DEADLINE: Duration = Duration::from_secs(300);

/// The seeds that are asked for, or these.
pub(crate) fn seeds_or(usual: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("DARKROOM_SEEDS") else { return usual };
    let (from, to) = text.split_once("..").expect("DARKROOM_SEEDS is like 0..2000");
    from.parse().unwrap()..to.parse().unwrap()
}

fn seeds() -> Range<u64> {
    seeds_or(if is_proof() { SEEDS_OF_A_PROOF } else { SEEDS })
}

/// The deadline of a job that is soon over.
const SHORT_DEADLINE: Duration = Duration::from_secs(45);

/// Some time below this, by the run's seed.
fn some(time: Duration) -> Duration {
    time.mul_f64(random_fraction())
}

/// Two users, each with a few jobs of which some are cancelled, and an image API that may be down for a while.
async fn a_few_minutes(world: &World) -> anyhow::Result<()> {
    for name in ["one", "two"] {
        world.add_key(name, 6).await?;
    }
    let outage = async {
        if random_fraction() < 0.4 {
            world.pass(some(Duration::from_secs(30))).await;
            answer_all(world, &Behaviour::Status(503));
            world.pass(some(FAULTS)).await;
            answer_all(world, &Behaviour::Draw);
        }
    };
    let users = ["alice", "bob"].map(|user| uses(world, user));
    let ((), used) = futures::future::join(outage, futures::future::join_all(users)).await;
    used.into_iter().collect()
}

async fn uses(world: &World, user: &str) -> anyhow::Result<()> {
    world.grant(user, 20).await?;
    let mut ids = Vec::new();
    for number in 0..3 {
        world.pass(some(Duration::from_secs(30))).await;
        let model = if random_fraction() < 0.95 { MODEL } else { "darkroom-local" };
        // Some have to be drawn while faults last, or not at all.
        let deadline = if random_fraction() < 0.8 { DEADLINE } else { SHORT_DEADLINE };
        let mut body = json!({
            "prompt": format!("{user} {number}"),
            "model": model,
            "deadline_seconds": deadline.as_secs(),
        });
        if random_fraction() < 0.3 {
            body["metadata"] = json!({"number": number});
        }
        let id = match world.client(user).submit(&format!("k{number}"), &body).await {
            Ok(id) => id,
            // It may be there all the same.
            Err(error) if error.to_string().contains("gave no answer") => continue,
            Err(error) => return Err(error),
        };
        if random_fraction() < 0.3 {
            patches(world, user, &id).await?;
        }
        if random_fraction() < 0.3 {
            world.pass(some(Duration::from_secs(10))).await;
            // It may have ended.
            drop(world.client(user).cancel(&id).await);
        }
        ids.push(id);
    }
    for id in &ids {
        world.pass(some(Duration::from_secs(60))).await;
        after(world, user, id).await?;
    }
    Ok(())
}

/// What a user does with a job that may have ended: it is refused while it has not, or ended otherwise.
async fn after(world: &World, user: &str, id: &str) -> anyhow::Result<()> {
    let (client, chance) = (world.client(user), random_fraction());
    // There may be no answer.
    let is_taken = |answer: anyhow::Result<u16>| {
        let status = answer.unwrap_or(200);
        ensure!([200, 204, 404, 409].contains(&status), "{status}");
        Ok(())
    };
    if chance < 0.2 {
        is_taken(client.publish(id, true).await)?;
        is_taken(client.publish(id, random_fraction() < 0.5).await)?;
    } else if chance < 0.4 {
        is_taken(client.delete(id).await)?;
    } else if chance < 0.6 {
        // Most have a picture, or are under way.
        drop(client.retry(id).await);
    } else if chance < 0.7 {
        drop(client.drafts().await);
    }
    Ok(())
}

/// Two at once, at some time: what both were told is kept.
async fn patches(world: &World, user: &str, id: &str) -> anyhow::Result<()> {
    world.pass(some(Duration::from_secs(20))).await;
    let client = world.client(user);
    let (one, two) = (json!({"of": {"one": 1}}), json!({"of": {"two": 2}}));
    let told = futures::future::join(client.patch(id, &one), client.patch(id, &two)).await;
    // One that was given no answer may be there or not.
    let (Ok(_), Ok(_)) = told else { return Ok(()) };
    let Ok(shown) = client.show(id).await else { return Ok(()) };
    ensure!(shown["metadata"]["of"] == json!({"one": 1, "two": 2}), "a patch was lost: {shown}");
    Ok(())
}

/// What is different from seed to seed.
fn of_seed(seed: u64) -> Settings {
    let plan = Plan::Random { probability: 0.08, until: FAULTS };
    let mut settings = settings(seed, plan);
    settings.workers = usize::try_from(1 + seed % 3).unwrap();
    if seed.is_multiple_of(4) {
        settings.sweep_time = SWEEPER_TIMEOUT;
    }
    settings.sweepers = if seed.is_multiple_of(5) { 2 } else { 1 };
    // Half of the runs have clocks that are wrong: by more than DynamoDB's answers would leave uncorrected.
    settings.skew = Duration::from_secs(5 * (seed % 2));
    // Now and then an index is little more than a rumour.
    settings.index_lag = Duration::from_secs([0, 1, 3, 90][usize::try_from(seed / 3 % 4).unwrap()]);
    settings.gemini.latency = Latency::LogNormal { median: Duration::from_secs(4), sigma: 0.8 };
    settings
}

pub(crate) fn run(seed: u64) -> anyhow::Result<Run> {
    let run = simulate(of_seed(seed), a_few_minutes)?;
    ensure!(run.statuses.len() <= 12, "I12: {} jobs of six keys and their retries", run.statuses.len());
    Ok(run)
}

/// What a number of seeds came to.
#[derive(Default)]
struct Total {
    calls: usize,
    faults: BTreeMap<Fault, usize>,
    statuses: BTreeMap<&'static str, usize>,
    probes: u32,
    failures: Vec<String>,
}

impl Total {
    fn of(seeds: impl Iterator<Item = u64>) -> Self {
        let mut total = Self::default();
        for seed in seeds {
            match run(seed) {
                Ok(run) => total.add(&run),
                Err(error) => total.failures.push(format!("seed {seed}: {error:#}")),
            }
        }
        total
    }

    fn add(&mut self, run: &Run) {
        self.calls += run.steps.len();
        self.probes += run.probes;
        for fault in run.steps.iter().filter_map(|step| step.fault) {
            *self.faults.entry(fault).or_default() += 1;
        }
        for status in &run.statuses {
            *self.statuses.entry(status.as_str()).or_default() += 1;
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.calls += other.calls;
        self.probes += other.probes;
        for (fault, times) in other.faults {
            *self.faults.entry(fault).or_default() += times;
        }
        for (status, times) in other.statuses {
            *self.statuses.entry(status).or_default() += times;
        }
        self.failures.extend(other.failures);
        self
    }
}

#[test]
fn nothing_is_lost_or_paid_twice_whatever_the_seed() {
    let share = |first| move || Total::of(seeds().filter(|seed| seed % SIDE_BY_SIDE == first));
    let shares: Vec<_> = (0..SIDE_BY_SIDE).map(|first| thread::spawn(share(first))).collect();
    let totals = shares.into_iter().map(|share| share.join().unwrap());
    let total = totals.fold(Total::default(), Total::and);
    println!("{:?}, {:?}, {} probes", total.statuses, total.faults, total.probes);
    println!(
        "PROOF simulation | seeds {:?} | seeds={} calls={} faults={} | violations={}",
        seeds(),
        seeds().count(),
        total.calls,
        total.faults.values().sum::<usize>(),
        total.failures.len()
    );
    assert!(total.failures.is_empty(), "{}", total.failures.join("\n"));
    // Of few seeds nothing can be asked.
    if seeds().count() >= 100 {
        for status in ["draft", "failed", "cancelled"] {
            assert!(total.statuses.get(status).is_some_and(|jobs| *jobs >= 20), "too few jobs were {status}");
        }
        assert_eq!(total.faults.len(), 11, "some fault did not happen: {:?}", total.faults);
    }
    // A probe is rarer: some twenty seeds have one.
    if seeds().count() >= 300 {
        let least = (seeds().count() / 50).max(10);
        assert!(total.probes as usize >= least, "{} probes are too few", total.probes);
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in if is_proof() { 0..50 } else { 0..6 } {
        let [one, other] = [run(seed).unwrap(), run(seed).unwrap()];
        assert!(one.steps == other.steps, "seed {seed} gave two runs");
    }
}
