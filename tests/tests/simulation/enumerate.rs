//! A scenario is run once without the fault, and its calls are its points. Each point then meets each fault in a run of its
//! own: in one of the SDK's tries, and in all of them. Of calls that repeat (an idle sweep's) the first is a point, and in a
//! whole proof the first three.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use darkroom_core::job::Status;
use darkroom_tests::sim::{Fault, Plan, Planned, Step};

use crate::{Run, Scenario, is_proof, settings, simulate};

/// The run's calls by number, from this one on, the first few of each name.
fn points(steps: &[Step], from: usize) -> Vec<usize> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    let repeats = if is_proof() { 3 } else { 1 };
    for (at, step) in steps.iter().enumerate().skip(from) {
        let times = seen.entry(&step.name).or_insert(0);
        *times += 1;
        if *times <= repeats {
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

/// Tries that meet it at least, where all do. What is done ahead of the messages does not wait for one that hangs.
fn tries(fault: Fault) -> usize {
    if fault == Fault::Late { 1 } else { 2 }
}

/// Runs the scenario with each fault at each of its calls, after those that `base` names always meet theirs.
pub(crate) fn enumerate(
    name: &str,
    base: impl Fn(&[Step]) -> Vec<Planned>,
    scenario: impl Scenario,
    expected: &[Status],
) -> anyhow::Result<()> {
    let run = |plan| simulate(settings(1, plan), scenario);
    let without = run(Plan::NONE)?;
    let base = base(&without.steps);
    let from = base.iter().map(|planned| planned.at + 1).max().unwrap_or(0);
    let recorded = run(Plan::At(base.clone())).context("without a further fault")?;
    ensure!(recorded.statuses.iter().all(|status| expected.contains(status)), "{:?}", recorded.statuses);
    let (mut runs, mut failures) = (0, Vec::new());
    let points = points(&recorded.steps, from);
    for at in &points {
        let point = &recorded.steps[*at];
        for planned in faults(*at, point) {
            runs += 1;
            let met = run(Plan::At(base.iter().copied().chain([planned]).collect()));
            let found = found(met, planned, point, expected).err();
            failures.extend(found.map(|found| format!("{}, {planned:?}: {found:#}", point.name)));
        }
    }
    let names: BTreeSet<_> = points.iter().map(|at| &recorded.steps[*at].name).collect();
    println!(
        "PROOF crash points | {name} | points={} labels={} runs={runs} | violations={}",
        points.len(),
        names.len(),
        failures.len()
    );
    ensure!(failures.is_empty(), "{} of {runs} runs failed:\n{}", failures.len(), failures.join("\n"));
    ensure!(runs > 40, "only {runs} runs: the scenario does not do what it is for");
    Ok(())
}

/// What is wrong with a run that was to meet a fault at this point.
fn found(
    met: anyhow::Result<Run>,
    Planned { at, fault, in_all_tries }: Planned,
    point: &Step,
    expected: &[Status],
) -> anyhow::Result<()> {
    let Run { steps, statuses, .. } = met?;
    let is_hit = steps[at].name == point.name && steps[at].fault == Some(fault);
    ensure!(is_hit, "the point was not hit");
    let times = steps.iter().filter(|step| step.fault == Some(fault)).count();
    ensure!(!in_all_tries || times >= tries(fault), "no further try met it");
    // One key, one job (I12).
    ensure!(statuses.len() == 1 && expected.contains(&statuses[0]), "{statuses:?}");
    Ok(())
}

/// This fault at the first call of this name.
pub(crate) fn at_first(steps: &[Step], name: &str, fault: Fault) -> Vec<Planned> {
    let at = steps.iter().position(|step| step.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    vec![Planned { at, fault, in_all_tries: false }]
}
