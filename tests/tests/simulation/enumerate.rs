//! A scenario is run once without the fault, and its calls are its points. Each point then meets each fault in a run of its
//! own: in one of the SDK's tries, and in all of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use darkroom_tests::sim::{Fault, Plan, Planned, Step};

use crate::random::seeds_or;
use crate::scenarios::{
    ALL, BATCH, BATCH_CANCELLED, BATCH_UPLOADED, BLOCKED, CANCELLED_CALLING, CANCELLED_WAITING,
    CANCELLED_WORKER_DIED, DEAD_KEY, DELETED, DELETED_WITHOUT_A_PICTURE, DRAFTS_LISTED, DRAWN, FAILED_ONCE,
    FIRST_METADATA, FIRST_REFUSED, LONG_PROMPT, METADATA, NETWORK, NETWORK_CANCELLED_WORKER_DIED,
    NETWORK_WATCHED, NETWORK_WORKER_DIED, NETWORK_WORKERS_DIE, NEVER_SENT, NO_KEY, NO_QUOTA, NOBODY_DRAWS,
    PROVIDER_DOWN, PUBLISHED, REFERENCE, REFERENCE_GONE, REFUSED_ONCE, RETRIED, SEND_FAILED, Scenario,
    WORKER_DIED, WORKERS_DIE,
};
use crate::{Run, is_proof, random, settings, simulate};

/// Points of one name: of calls that repeat (an idle sweep's) the first few.
const REPEATS: usize = 2;

/// The run's calls by number, from this one on, the first few of each name. A further try of a call is none.
fn points(steps: &[Step], from: usize) -> Vec<usize> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    let (before, after) = steps.split_at(from);
    let is_further = |step: &Step| before.iter().any(|earlier| earlier.is_of_the_call_of(step));
    for (at, step) in (from..).zip(after).filter(|(_, step)| !is_further(step)) {
        let times = seen.entry(&step.name).or_insert(0);
        *times += 1;
        if *times <= REPEATS {
            points.push(at);
        }
    }
    points
}

/// Every fault that this call can meet: in one try, and where the SDK tries again in all.
fn faults(at: usize, step: &Step) -> impl Iterator<Item = Planned> {
    step.faults().iter().flat_map(move |fault| {
        let extents = if step.is_tried_again(*fault) { &[false, true][..] } else { &[false] };
        extents.iter().map(move |in_all_tries| Planned { at, fault: *fault, in_all_tries: *in_all_tries })
    })
}

/// Tries that meet it at least, where all do. What is done ahead of the messages does not wait for one that hangs, and submit
/// does not wait for the breaker until it would be asked again.
fn tries(point: &Step, fault: Fault) -> usize {
    if fault == Fault::Late || point.name == "submit: GetItem simulated-keys" { 1 } else { 2 }
}

/// The faults that a scenario always meets, and its run with them.
pub(crate) fn recorded(scenario: &Scenario) -> anyhow::Result<(Vec<Planned>, Run)> {
    let base = (scenario.base)(&run(scenario, Vec::new())?.steps);
    let recorded = run(scenario, base.clone()).context("without a further fault")?;
    fits(scenario, &recorded)?;
    let jobs = recorded.statuses.len();
    // What is to be ended in the middle is, where nothing else goes wrong.
    ensure!(!scenario.or_fewer || (1..scenario.jobs).contains(&jobs), "{jobs} jobs");
    Ok((base, recorded))
}

fn run(scenario: &Scenario, planned: Vec<Planned>) -> anyhow::Result<Run> {
    simulate(settings(1, Plan::At(planned)), async |world| (scenario.run)(world).await)
}

fn fits(scenario: &Scenario, Run { statuses, .. }: &Run) -> anyhow::Result<()> {
    let are_expected = statuses.iter().all(|status| scenario.expected.contains(status));
    ensure!(are_expected && are_as_many(scenario, statuses.len()), "{statuses:?}");
    Ok(())
}

const fn are_as_many(scenario: &Scenario, jobs: usize) -> bool {
    jobs == scenario.jobs || scenario.or_fewer && jobs < scenario.jobs
}

/// Runs the scenario with each fault at each of its calls, after those that it always meets.
fn enumerate(scenario: &Scenario) -> anyhow::Result<()> {
    let (base, recorded) = recorded(scenario)?;
    let (mut runs, mut failures) = (0, Vec::new());
    let points = points(&recorded.steps, after(&base));
    for at in &points {
        let point = &recorded.steps[*at];
        for planned in faults(*at, point) {
            runs += 1;
            let found = met(scenario, &base, planned, point).err();
            failures.extend(found.map(|found| format!("{}, {planned:?}: {found:#}", point.name)));
        }
    }
    let names: BTreeSet<_> = points.iter().map(|at| &recorded.steps[*at].name).collect();
    println!(
        "PROOF crash points | {} | points={} labels={} runs={runs} | violations={}",
        scenario.name,
        points.len(),
        names.len(),
        failures.len()
    );
    ensure!(failures.is_empty(), "{} of {runs} runs failed:\n{}", failures.len(), failures.join("\n"));
    ensure!(runs > 40, "only {runs} runs: the scenario does not do what it is for");
    Ok(())
}

/// The number of the first call after these faults.
fn after(base: &[Planned]) -> usize {
    base.iter().map(|planned| planned.at + 1).max().unwrap_or(0)
}

/// A run that meets this fault at this point.
fn met(scenario: &Scenario, base: &[Planned], planned: Planned, point: &Step) -> anyhow::Result<()> {
    let Planned { at, fault, in_all_tries } = planned;
    let run = run(scenario, base.iter().copied().chain([planned]).collect())?;
    let hit = run.steps.get(at).filter(|step| step.name == point.name && step.fault == Some(fault));
    let hit = hit.context("the point was not hit")?;
    let met = run.steps.iter().filter(|step| step.fault == Some(fault));
    let times = met.filter(|step| step.is_of_the_call_of(hit)).count();
    ensure!(!in_all_tries || times >= tries(point, fault), "no further try met it");
    fits(scenario, &run)
}

/// What one run used up of the SDK's tries, others do not miss.
#[test]
fn a_run_does_not_hang_on_those_before() -> anyhow::Result<()> {
    // Two further tries a run, of the hundred that a client has while few calls succeed. DynamoDB's calls succeed too often.
    const RUNS: u32 = 80;
    let (_, recorded) = recorded(&NETWORK)?;
    for name in ["submit: SendMessage", "worker: Decrypt", "worker: PutObject"] {
        let stubborn = at_first(&recorded.steps, name, Fault::Failed)
            .into_iter()
            .map(|planned| Planned { in_all_tries: true, ..planned });
        let stubborn: Vec<_> = stubborn.collect();
        let first = run(&NETWORK, stubborn.clone())?.steps;
        for number in 0..RUNS {
            ensure!(run(&NETWORK, stubborn.clone())?.steps == first, "{name}: run {number} was another");
        }
    }
    Ok(())
}

/// No fault.
pub(crate) fn nothing(_: &[Step]) -> Vec<Planned> {
    Vec::new()
}

/// This fault at the first call of this name.
pub(crate) fn at_first(steps: &[Step], name: &str, fault: Fault) -> Vec<Planned> {
    let at = steps.iter().position(|step| step.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    vec![Planned { at, fault, in_all_tries: false }]
}

macro_rules! each {
    ($($test:ident: $scenario:ident,)*) => {$(
        #[test]
        fn $test() -> anyhow::Result<()> {
            enumerate(&$scenario)
        }
    )*};
}

each! {
    a_job_is_drawn: DRAWN,
    a_job_whose_message_was_never_sent_is_drawn: NEVER_SENT,
    a_job_whose_message_cannot_be_sent_is_drawn: SEND_FAILED,
    a_job_whose_worker_died_is_drawn: WORKER_DIED,
    a_waiting_job_is_cancelled: CANCELLED_WAITING,
    a_job_whose_worker_died_is_cancelled: CANCELLED_WORKER_DIED,
    a_job_that_nobody_draws_is_refunded: NOBODY_DRAWS,
    a_job_with_a_long_prompt_is_drawn: LONG_PROMPT,
    patches_of_a_jobs_metadata_are_all_kept: METADATA,
    first_patches_of_a_jobs_metadata_are_all_kept: FIRST_METADATA,
    a_job_is_drawn_over_the_network: NETWORK,
    a_job_whose_worker_died_after_a_sign_of_life_is_drawn: NETWORK_WORKER_DIED,
    a_job_whose_worker_died_after_a_sign_of_life_is_cancelled: NETWORK_CANCELLED_WORKER_DIED,
    a_job_whose_workers_all_die_after_a_sign_of_life_is_refunded: NETWORK_WORKERS_DIE,
    a_job_whose_first_call_was_refused_is_drawn_with_another_key: REFUSED_ONCE,
    a_job_whose_first_call_failed_is_drawn_after_a_pause: FAILED_ONCE,
    a_job_that_the_provider_refuses_is_refunded: BLOCKED,
    a_job_that_is_drawn_is_cancelled: CANCELLED_CALLING,
    jobs_wait_when_the_first_calls_are_refused: FIRST_REFUSED,
    a_job_without_a_key_is_refunded: NO_KEY,
    a_job_whose_workers_all_die_is_refunded: WORKERS_DIE,
    jobs_are_drawn_beside_a_dead_key: DEAD_KEY,
    jobs_wait_for_quota: NO_QUOTA,
    jobs_outlive_a_provider_that_is_down: PROVIDER_DOWN,
    drafts_are_published: PUBLISHED,
    drafts_are_deleted: DELETED,
    jobs_without_a_picture_are_deleted: DELETED_WITHOUT_A_PICTURE,
    jobs_without_a_picture_are_tried_again: RETRIED,
    a_job_that_its_owner_has_looked_for_is_cancelled: NETWORK_WATCHED,
    a_list_of_drafts_refunds_what_is_over: DRAFTS_LISTED,
    a_job_is_drawn_with_a_reference: REFERENCE,
    a_job_whose_reference_is_gone_is_refunded: REFERENCE_GONE,
    a_batch_is_drawn: BATCH,
    a_batch_of_an_upload_is_drawn: BATCH_UPLOADED,
    a_batch_is_cancelled_while_jobs_are_made_of_it: BATCH_CANCELLED,
}

/// Every call that any run makes is a point of some scenario.
#[test]
fn no_call_is_left_out() {
    let of = |scenario: &Scenario| {
        let (base, run) = recorded(scenario).unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
        points(&run.steps, after(&base))
            .into_iter()
            .map(move |at| run.steps[at].name.clone())
            .collect::<Vec<_>>()
    };
    let points: BTreeSet<_> = ALL.into_iter().flat_map(of).collect();
    let mut left_out = BTreeSet::new();
    for seed in 0..60 {
        let made = random::run(seed).unwrap().steps.into_iter().map(|step| step.name);
        left_out.extend(made.filter(|name| !points.contains(name)));
    }
    println!("PROOF crash points | labels | labels={} | violations={}", points.len(), left_out.len());
    assert!(left_out.is_empty(), "no scenario has these calls: {left_out:#?}");
}

/// Two faults after one another: a sample of the pairs, of which seeds choose which and where.
#[test]
fn two_faults_do_no_more_than_one() {
    let seeds = seeds_or(if is_proof() { 0..300 } else { 0..60 });
    let (mut runs, mut failures) = (0, Vec::new());
    for seed in seeds {
        let scenario = ALL[usize::try_from(seed).unwrap() % ALL.len()];
        if let Err(error) = two_faults(seed, scenario) {
            failures.push(format!("seed {seed}, {}: {error:#}", scenario.name));
        }
        runs += 1;
    }
    println!("PROOF crash points | two faults | runs={runs} | violations={}", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn two_faults(seed: u64, scenario: &Scenario) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (base, recorded) = recorded(scenario)?;
    // The first may leave nothing that could meet a second: then another is drawn.
    for _ in 0..20 {
        let Some(first) = one_of(&mut random, &recorded, after(&base)) else { break };
        let once: Vec<_> = base.iter().copied().chain([first]).collect();
        let met = run(scenario, once.clone()).with_context(|| format!("{once:?}"))?;
        let Some(second) = one_of(&mut random, &met, first.at + 1) else { continue };
        let twice: Vec<_> = once.into_iter().chain([second]).collect();
        let met = run(scenario, twice.clone()).with_context(|| format!("{twice:?}"))?;
        for Planned { at, fault, .. } in &twice {
            ensure!(met.steps[*at].fault == Some(*fault), "{fault:?} was not met at {at}");
        }
        // Two may be too many for a job's tries: then it has failed, and is refunded.
        ensure!(are_as_many(scenario, met.statuses.len()), "{:?}", met.statuses);
        return Ok(());
    }
    anyhow::bail!("no two faults after one another")
}

/// Some fault at some call of a run, from this one on.
fn one_of(random: &mut fastrand::Rng, run: &Run, from: usize) -> Option<Planned> {
    let at = random.choice(points(&run.steps, from))?;
    random.choice(faults(at, &run.steps[at]).collect::<Vec<_>>())
}
