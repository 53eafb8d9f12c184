//! Runs a search and tells what it came to: a line for people, and one that `just proof` gathers.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::reach::Reach;

/// What a whole search came to.
pub(crate) struct Searched<M> {
    pub(crate) checker: M,
    pub(crate) unique: usize,
    /// How many of the things that a search must come by it has.
    pub(crate) found: usize,
}

/// Larger worlds, for a machine that has the time: `DARKROOM_MODEL=deep`.
#[allow(clippy::disallowed_methods)] // It is this program's own setting.
pub(crate) fn is_deep() -> bool {
    std::env::var("DARKROOM_MODEL").is_ok_and(|size| size == "deep")
}

/// Searches every state; fails with a way to the first one in which something that always holds does not.
#[allow(clippy::disallowed_methods)] // How long the search took is told, and decides nothing.
pub(crate) fn holds<M>(name: &str, model: M) -> Searched<impl Checker<M>>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let started = Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (unique, seconds) = (checker.unique_state_count(), started.elapsed().as_secs_f64());
    println!(
        "{name}: states {}, unique {unique}, depth {}, {seconds:.1} s",
        checker.state_count(),
        checker.max_depth()
    );
    let discoveries = checker.discoveries();
    let is_broken = |name: &&'static str| checker.model().property(name).expectation == Expectation::Always;
    if let Some((property, path)) = discoveries.iter().find(|(name, _)| is_broken(name)) {
        let last = path.last_state().clone();
        println!("PROOF model | {name} | states={unique} | FAILED {property}");
        panic!("{name}: {property}: after {:#?}\n{last:#?}", path.clone().into_actions());
    }
    println!("PROOF model | {name} | states={unique} | holds");
    let found = discoveries.len();
    Searched { checker, unique, found }
}

/// Searches for a shortest way to something that does not hold: what, and after how many steps. `None` when all holds.
pub(crate) fn breaks<M>(name: &str, model: impl Fn() -> M) -> Option<(&'static str, usize)>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let (mut shortest, mut states) = (None, 0);
    loop {
        let mut search = model().checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
        if let Some((_, steps)) = &shortest {
            // A state is as deep as its way is long, and the first one is at depth 1.
            let steps: &Vec<M::Action> = steps;
            search = search.target_max_depth(steps.len() + 1);
        }
        let checker = search.spawn_bfs().join();
        states = states.max(checker.unique_state_count());
        let is_broken =
            |name: &&'static str| checker.model().property(name).expectation == Expectation::Always;
        let found = checker.discoveries().into_iter().filter(|(name, _)| is_broken(name));
        let found = found.map(|(property, path)| (property, path.into_actions()));
        match found.min_by_key(|(property, steps)| (steps.len(), *property)) {
            Some(shorter) => shortest = Some(shorter),
            None => break,
        }
    }
    if let Some((property, steps)) = &shortest {
        let length = steps.len();
        println!("guard {name}: counter-example of length {length}: {property}: {steps:?}");
        println!(
            "PROOF model | guard {name} | states={states} | counter-example of length {length} ({property})"
        );
    } else {
        println!("guard {name}: redundant: nothing breaks in {states} states");
        println!("PROOF model | guard {name} | states={states} | redundant");
    }
    shortest.map(|(property, steps)| (property, steps.len()))
}

/// Tells what a walk came to: the number of stranded states.
pub(crate) fn tells<A: Debug>(name: &str, reach: &Reach<A>) -> usize {
    let Reach { states, stranded, way } = reach;
    println!("{name}: states {states}, stranded {stranded}, the first after {way:?}");
    println!("PROOF model | {name} | states={states} | stranded={stranded}");
    *stranded
}
