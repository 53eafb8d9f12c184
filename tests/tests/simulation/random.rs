//! Users, workers and sweeps in an order that a seed determines, with faults at random; then the faults stop.

use std::time::Duration;

use darkroom_aws::random_fraction;
use darkroom_tests::sim::{Plan, World};
use serde_json::json;

use crate::{DEADLINE, Run, simulate};

/// Seeds of a usual run; `DARKROOM_SEEDS=from..to` asks for others.
const SEEDS: std::ops::Range<u64> = 0..50;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("DARKROOM_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("DARKROOM_SEEDS is like 0..2000");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Three users, each with a few jobs of which some are cancelled.
async fn a_few_minutes(world: &World) -> anyhow::Result<()> {
    let mut users = Vec::new();
    for user in ["alice", "bob", "carol"] {
        world.grant(user, 20).await?;
        let world = world.clone();
        users.push(async move {
            for number in 0..3 {
                world.pass(Duration::from_secs(60).mul_f64(random_fraction())).await;
                let body = json!({
                    "prompt": format!("{user} {number}"),
                    "model": "darkroom-local",
                    "deadline_seconds": DEADLINE.as_secs(),
                });
                let Ok(id) = world.client(user).submit(&format!("k{number}"), &body).await else { continue };
                if random_fraction() < 0.3 {
                    world.pass(Duration::from_secs(3).mul_f64(random_fraction())).await;
                    // It may have ended.
                    drop(world.client(user).cancel(&id).await);
                }
            }
        });
    }
    futures::future::join_all(users).await;
    Ok(())
}

fn run(seed: u64) -> anyhow::Result<Run> {
    let plan = Plan::Random { probability: 0.05, until: Duration::from_secs(300) };
    simulate(seed, plan, a_few_minutes)
}

#[test]
fn nothing_is_lost_or_paid_twice_whatever_the_seed() {
    let failures: Vec<_> =
        seeds().filter_map(|seed| Some(format!("seed {seed}: {:#}", run(seed).err()?))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 4] {
        let [one, other] = [run(seed).unwrap(), run(seed).unwrap()];
        assert!(one.steps == other.steps, "seed {seed} gave two runs");
        assert!(one.steps.iter().any(|step| step.fault.is_some()));
    }
}
