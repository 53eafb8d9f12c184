//! From which states something can still be reached: the graph of all states, walked backwards.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use stateright::Model;

/// What a walk came to.
#[derive(Debug)]
pub(crate) struct Reach<A> {
    pub(crate) states: usize,
    /// States from which no way leads there.
    pub(crate) stranded: usize,
    /// A shortest way to one of them.
    pub(crate) way: Option<Vec<A>>,
}

/// Explores everything; then from how many of the states that are `meant` no way along steps that `may` be taken leads to
/// one that is `done`.
pub(crate) fn reach<M>(
    model: &M,
    meant: impl Fn(&M::State) -> bool,
    done: impl Fn(&M::State) -> bool,
    may: impl Fn(&M::State, &M::Action) -> bool,
) -> Reach<M::Action>
where
    M: Model,
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let mut numbers: HashMap<M::State, usize> = HashMap::new();
    let mut states = Vec::new();
    // How a state was first come to, and every way into it that may be taken.
    let mut from: Vec<Option<(usize, M::Action)>> = Vec::new();
    let mut into: Vec<Vec<u32>> = Vec::new();
    for start in model.init_states() {
        numbers.insert(start.clone(), states.len());
        states.push(start);
        from.push(None);
        into.push(Vec::new());
    }
    let (mut at, mut steps) = (0, Vec::new());
    while at < states.len() {
        let state = states[at].clone();
        model.actions(&state, &mut steps);
        for step in steps.drain(..) {
            let may_be_taken = may(&state, &step);
            let Some(next) = model.next_state(&state, step.clone()) else { continue };
            if !model.within_boundary(&next) {
                continue;
            }
            let number = match numbers.entry(next.clone()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    new.insert(states.len());
                    states.push(next);
                    from.push(Some((at, step)));
                    into.push(Vec::new());
                    states.len() - 1
                }
            };
            if may_be_taken {
                into[number].push(u32::try_from(at).unwrap());
            }
        }
        at += 1;
    }
    let mut reaches: Vec<bool> = states.iter().map(done).collect();
    let mut open: Vec<usize> = (0..states.len()).filter(|state| reaches[*state]).collect();
    while let Some(state) = open.pop() {
        for before in &into[state] {
            let before = *before as usize;
            if !std::mem::replace(&mut reaches[before], true) {
                open.push(before);
            }
        }
    }
    let stranded: Vec<usize> =
        (0..states.len()).filter(|state| !reaches[*state] && meant(&states[*state])).collect();
    let way = stranded.first().map(|first| way_to(*first, &from));
    Reach { states: states.len(), stranded: stranded.len(), way }
}

fn way_to<A: Clone>(mut state: usize, from: &[Option<(usize, A)>]) -> Vec<A> {
    let mut way = Vec::new();
    while let Some((before, step)) = &from[state] {
        way.push(step.clone());
        state = *before;
    }
    way.reverse();
    way
}
