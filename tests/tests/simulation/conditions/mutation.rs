//! Every clause of every condition is taken out, one at a time: a case must notice.

use std::collections::{BTreeMap, BTreeSet};

use darkroom_tests::sim::{Clause, Writes};

use super::{Case, cases};
use crate::enumerate::recorded;
use crate::is_proof;
use crate::random::run;
use crate::scenarios::ALL;

/// What a case comes to, on writes that lack this clause.
fn outcome(case: &Case, without: Option<&Clause>) -> anyhow::Result<BTreeSet<Clause>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let writes = Writes::new(without)?;
    let seen = writes.seen();
    let held = runtime.block_on((case.run)(writes));
    assert!(!seen.is_malformed(), "{}: without {without:?} a request is none", case.name);
    held.map(|()| seen.clauses())
}

/// The cases that make writes with each clause.
fn by_clause(cases: &[Case]) -> BTreeMap<Clause, Vec<&Case>> {
    let mut found: BTreeMap<Clause, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        let clauses = outcome(case, None).unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        for clause in clauses {
            found.entry(clause).or_default().push(case);
        }
    }
    found
}

#[test]
fn every_case_holds_and_every_clause_is_missed() {
    let cases = cases();
    let clauses = by_clause(&cases);
    let (mut rows, mut unmissed) = (Vec::new(), Vec::new());
    for (clause, cases) in &clauses {
        let missed_by = cases.iter().find(|case| outcome(case, Some(clause)).is_err());
        let by = missed_by.map_or("NOBODY", |case| case.name.as_str());
        rows.push(format!("{:60} {:50} {by}", clause.write, clause.text));
        if missed_by.is_none() {
            unmissed.push(format!("{}: {}", clause.write, clause.text));
        }
    }
    if is_proof() {
        println!("{}", rows.join("\n"));
    }
    println!(
        "PROOF conditions | every clause taken out | clauses={} missed={} | violations={}",
        clauses.len(),
        clauses.len() - unmissed.len(),
        unmissed.len()
    );
    assert!(unmissed.is_empty(), "nothing fails without these clauses:\n{}", unmissed.join("\n"));
}

/// What the handlers write is what the cases write: no write is without a condition, and no condition without a case.
#[test]
fn every_write_of_the_handlers_is_a_case() {
    let known: BTreeSet<_> =
        by_clause(&cases()).into_keys().map(|clause| (clause.write, clause.condition)).collect();
    let mut unknown = BTreeSet::new();
    let scenarios = ALL.into_iter().map(|scenario| recorded(scenario).map(|(_, run)| run));
    for seen in scenarios.chain((0..20).map(run)) {
        let seen = seen.unwrap().seen;
        // What is kept beside a record is put, and deleted, beside the condition of its record.
        let beside = ["simulated-jobs BODY", "simulated-jobs META", "simulated-jobs INVALID"];
        let unconditional: Vec<_> =
            seen.unconditional().into_iter().filter(|write| !beside.contains(&write.as_str())).collect();
        assert!(unconditional.is_empty(), "without a condition: {unconditional:?}");
        let written = seen.clauses().into_iter().map(|clause| (clause.write, clause.condition));
        unknown.extend(written.filter(|write| !known.contains(write)));
    }
    assert!(unknown.is_empty(), "no case makes these writes: {unknown:#?}");
}
