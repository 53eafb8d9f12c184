//! Every call of every function meets every fault: the invariants hold after each write, and the job ends as it would have.
//!
//! A scenario is run once without the fault, and its calls are its points. Each point then meets each fault in a run of its own:
//! in one of the SDK's tries, and in all of them. Of calls that repeat (an idle sweep's) the first two are points.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod random;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use darkroom_core::job::Status;
use darkroom_tests::sim::{Fault, Plan, Planned, Step, World};
use serde_json::json;

/// A job's deadline.
const DEADLINE: Duration = Duration::from_secs(600);
/// The deadline, a lease and two sweeps, after the last fault: also one that is late by 250 s.
const PATIENCE: Duration = Duration::from_secs(DEADLINE.as_secs() + 240 + 120 + 250);
/// Points of one name.
const REPEATS: usize = 2;

/// What came of a run.
struct Run {
    steps: Vec<Step>,
    statuses: Vec<Status>,
}

impl Run {
    /// How many calls met this fault.
    fn times(&self, fault: Fault) -> usize {
        self.steps.iter().filter(|step| step.fault == Some(fault)).count()
    }
}

/// What a user does.
trait Scenario: AsyncFn(&World) -> anyhow::Result<()> + Copy {}
impl<T: AsyncFn(&World) -> anyhow::Result<()> + Copy> Scenario for T {}

fn simulate(seed: u64, plan: Plan, scenario: impl Scenario) -> anyhow::Result<Run> {
    // One picture is painted at a time: which of two is done first would be the machine's choice.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::start(seed, plan).await?;
        scenario(&world).await?;
        let jobs = world.settle(PATIENCE).await?;
        let broken = world.broken();
        ensure!(broken.is_empty(), "{}", broken[0]);
        let statuses = jobs.iter().map(darkroom_core::job::Job::status).collect();
        Ok(Run { steps: world.steps(), statuses })
    })
}

async fn submit(world: &World) -> anyhow::Result<String> {
    submit_for(world, DEADLINE).await
}

async fn submit_for(world: &World, deadline: Duration) -> anyhow::Result<String> {
    world.grant("alice", 10).await?;
    let body = json!({
        "prompt": "a lighthouse",
        "model": "darkroom-local",
        "deadline_seconds": deadline.as_secs(),
    });
    world.client("alice").submit("k", &body).await
}

/// The run's calls by number, from this one on, the first few of each name.
fn points(steps: &[Step], from: usize) -> Vec<usize> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for (at, step) in steps.iter().enumerate().skip(from) {
        let times = seen.entry(&step.name).or_insert(0);
        *times += 1;
        if *times <= REPEATS {
            points.push(at);
        }
    }
    points
}

/// Every fault that this call can meet: in one try, and where the SDK tries again in all.
fn faults(at: usize, step: &Step) -> Vec<Planned> {
    let met = Fault::ALL.into_iter().filter(|fault| step.can_meet(*fault));
    let extents = |fault: Fault| if fault.is_tried_again() { &[false, true][..] } else { &[false] };
    met.flat_map(|fault| {
        extents(fault).iter().map(move |in_all_tries| Planned { at, fault, in_all_tries: *in_all_tries })
    })
    .collect()
}

/// Tries that meet it at least, where all do. What is done ahead of the messages does not wait for one that hangs.
fn tries(fault: Fault) -> usize {
    if fault == Fault::Late { 1 } else { 2 }
}

/// Runs the scenario with each fault at each of its calls, after those that `base` names always meet theirs.
fn enumerate(
    base: impl Fn(&[Step]) -> Vec<Planned>,
    scenario: impl Scenario,
    expected: &[Status],
) -> anyhow::Result<()> {
    let without = simulate(1, Plan::NONE, scenario)?;
    let base = base(&without.steps);
    let from = base.iter().map(|planned| planned.at + 1).max().unwrap_or(0);
    let recorded = simulate(1, Plan::At(base.clone()), scenario).context("without a further fault")?;
    ensure!(recorded.statuses.iter().all(|status| expected.contains(status)), "{:?}", recorded.statuses);
    let (mut runs, mut failures) = (0, Vec::new());
    for at in points(&recorded.steps, from) {
        let point = &recorded.steps[at];
        for planned in faults(at, point) {
            let plan = base.iter().copied().chain([planned]).collect();
            runs += 1;
            let found = match simulate(1, Plan::At(plan), scenario) {
                Ok(run) if run.steps[at].name != point.name || run.steps[at].fault != Some(planned.fault) => {
                    Some("the point was not hit".to_owned())
                }
                Ok(run) if planned.in_all_tries && run.times(planned.fault) < tries(planned.fault) => {
                    Some("no further try met it".to_owned())
                }
                // One key, one job (I12).
                Ok(run) if run.statuses.len() == 1 && expected.contains(&run.statuses[0]) => None,
                Ok(run) => Some(format!("{:?}", run.statuses)),
                Err(error) => Some(format!("{error:#}")),
            };
            failures.extend(found.map(|found| format!("{}, {planned:?}: {found}", point.name)));
        }
    }
    ensure!(failures.is_empty(), "{} of {runs} runs failed:\n{}", failures.len(), failures.join("\n"));
    ensure!(runs > 40, "only {runs} runs: the scenario does not do what it is for");
    Ok(())
}

/// This fault at the first call of this name.
fn at_first(steps: &[Step], name: &str, fault: Fault) -> Vec<Planned> {
    let at = steps.iter().position(|step| step.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    vec![Planned { at, fault, in_all_tries: false }]
}

#[test]
fn a_job_is_drawn() -> anyhow::Result<()> {
    enumerate(|_| Vec::new(), async |world| submit(world).await.map(drop), &[Status::Draft])
}

/// Submit dies between the transaction and its message: the sweeper sends it.
#[test]
fn a_job_whose_message_was_never_sent_is_drawn() -> anyhow::Result<()> {
    let base = |steps: &[Step]| at_first(steps, "submit: TransactWriteItems", Fault::KilledAfter);
    enumerate(base, async |world| submit(world).await.map(drop), &[Status::Draft])
}

/// The worker dies with the picture in its hands: the sweeper puts the job back when its lease is over.
#[test]
fn a_job_whose_worker_died_is_drawn() -> anyhow::Result<()> {
    let base = |steps: &[Step]| at_first(steps, "worker: PutObject", Fault::KilledBefore);
    enumerate(base, async |world| submit(world).await.map(drop), &[Status::Draft])
}

#[test]
fn a_waiting_job_is_cancelled() -> anyhow::Result<()> {
    let scenario = async |world: &World| {
        world.consume(false);
        let id = submit(world).await?;
        let status = world.client("alice").cancel(&id).await?;
        ensure!(status == 200, "{status}");
        world.consume(true);
        Ok(())
    };
    enumerate(|_| Vec::new(), scenario, &[Status::Cancelled])
}

/// The worker has died: nobody will draw it, and the sweeper ends it when its lease is over.
#[test]
fn a_job_whose_worker_died_is_cancelled() -> anyhow::Result<()> {
    let scenario = async |world: &World| {
        let id = submit(world).await?;
        world.pass(Duration::from_secs(10)).await;
        world.client("alice").cancel(&id).await?;
        Ok(())
    };
    let base = |steps: &[Step]| at_first(steps, "worker: PutObject", Fault::KilledBefore);
    enumerate(base, scenario, &[Status::Cancelled])
}

#[test]
fn a_job_that_nobody_draws_is_refunded() -> anyhow::Result<()> {
    let scenario = async |world: &World| {
        world.consume(false);
        submit_for(world, Duration::from_secs(60)).await.map(drop)
    };
    enumerate(|_| Vec::new(), scenario, &[Status::Failed])
}
