//! A job's place in the queue: unique, and never further back than it was.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{at, cases};
use darkroom_core::id::{IdempotencyKey, JobId, UserId};
use darkroom_core::limits::{POSITION_SETTLE, POSITIONS_TOLD_MAX};
use darkroom_core::position::{Position, Told, Waiting, position};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

fn id(number: usize) -> JobId {
    let key = IdempotencyKey::parse(&number.to_string()).unwrap();
    JobId::derive(&UserId::parse("alice").unwrap(), &key)
}

fn entry(wait_at: u64, number: usize) -> Waiting {
    Waiting { wait_at: at(wait_at), job_id: id(number) }
}

fn place(waiting: &[Waiting], complete: bool, job: &Waiting, read_at: u64) -> (u64, bool) {
    let Position { place, exact } = position(waiting, complete, job, at(read_at));
    (place, exact)
}

#[test]
fn the_place_is_one_more_than_those_who_waited_longer() {
    let queue = [entry(10, 1), entry(20, 2), entry(30, 3)];
    assert_eq!(place(&queue, true, &queue[0], 600), (1, true));
    assert_eq!(place(&queue, true, &queue[1], 600), (2, true));
    assert_eq!(place(&queue, true, &queue[2], 600), (3, true));
    assert_eq!(place(&[], true, &queue[0], 600), (1, true));
}

#[test]
fn the_order_of_the_list_does_not_matter_and_equals_are_told_apart() {
    let mut queue = [entry(10, 1), entry(10, 2), entry(10, 3)];
    let places: BTreeSet<u64> = queue.iter().map(|job| place(&queue, true, job, 600).0).collect();
    assert_eq!(places, BTreeSet::from([1, 2, 3]));
    let before = place(&queue, true, &queue[0], 600);
    let first = queue[0].clone();
    queue.reverse();
    assert_eq!(place(&queue, true, &first, 600), before);
}

#[test]
fn a_young_entry_is_an_estimate() {
    let queue = [entry(10, 1)];
    let settle = POSITION_SETTLE.as_secs();
    assert_eq!(place(&queue, true, &queue[0], 10 + settle), (1, false));
    assert_eq!(place(&queue, true, &queue[0], 10 + settle + 1), (1, true));
    assert_eq!(place(&queue, true, &queue[0], 5), (1, false));
}

#[test]
fn beyond_what_was_read_it_is_an_estimate() {
    let read = [entry(10, 1), entry(20, 2)];
    assert_eq!(place(&read, false, &entry(15, 9), 600), (2, true));
    assert_eq!(place(&read, false, &entry(30, 9), 600), (3, false));
    // The last one that was read: whether all before it were read is not known from the list.
    assert_eq!(place(&read, false, &read[1], 600), (2, false));
    assert_eq!(place(&read, true, &entry(30, 9), 600), (3, true));
}

#[test]
fn a_place_that_rose_is_told_as_it_was_and_no_longer_exact() {
    let (wait, exact) = (entry(10, 1), |place| Position { place, exact: true });
    let mut told = Told::default();
    assert_eq!(told.tell(&wait, exact(4)), exact(4));
    assert_eq!(told.tell(&wait, exact(5)), Position { place: 4, exact: false });
    assert_eq!(told.tell(&wait, Position { place: 3, exact: false }), Position { place: 3, exact: false });
    assert_eq!(told.tell(&wait, exact(3)), exact(3));
    // Another wait of the same job begins at its own place.
    assert_eq!(told.tell(&entry(90, 1), exact(9)), exact(9));
}

#[test]
fn as_many_waits_are_remembered_as_the_limit_says() {
    let exact = |place| Position { place, exact: true };
    let first = entry(10, 0);
    for (others, remembered) in [(POSITIONS_TOLD_MAX, true), (2 * POSITIONS_TOLD_MAX, false)] {
        let mut told = Told::default();
        told.tell(&first, exact(2));
        for number in 1..=others {
            told.tell(&entry(10, number), exact(1));
        }
        assert_eq!(told.tell(&first, exact(3)).exact, !remembered, "after {others} others");
    }
}

/// What happens in a queue, in twentieths of the time that an entry takes to settle.
#[derive(Clone, Debug)]
enum Happens {
    Submit,
    Claim(usize),
    Requeue(usize),
    Read,
}

fn history() -> impl Strategy<Value = Vec<(u64, u64, Happens)>> {
    let happens = prop_oneof![
        4 => Just(Happens::Submit),
        2 => any::<usize>().prop_map(Happens::Claim),
        1 => any::<usize>().prop_map(Happens::Requeue),
        4 => Just(Happens::Read),
    ];
    // A pause before it, and how late a reader of the index hears of it, within the bound.
    proptest::collection::vec((0..12_u64, 0..=20_u64, happens), 1..60)
}

fn moment(twentieths: u64) -> Timestamp {
    at(0).plus(POSITION_SETTLE / 20 * u32::try_from(twentieths).unwrap())
}

/// The waiting index: entries with the time from which a reader sees them, and the one from which no more.
#[derive(Default)]
struct Index(Vec<(Waiting, u64, Option<u64>)>);

impl Index {
    fn waiting(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|entry| self.0[*entry].2.is_none()).collect()
    }

    fn read(&self, now: u64, bound: usize) -> (Vec<Waiting>, bool) {
        let mut seen: Vec<Waiting> = self
            .0
            .iter()
            .filter(|(_, from, until)| *from <= now && until.is_none_or(|until| until > now))
            .map(|(waiting, ..)| waiting.clone())
            .collect();
        seen.sort();
        let complete = seen.len() <= bound;
        seen.truncate(bound);
        (seen, complete)
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn exact_places_are_unique_and_never_rise(history in history(), bound in 1..20_usize) {
        let mut index = Index::default();
        let mut held = Vec::new();
        let mut now = 0;
        let mut jobs = 0;
        let mut last: BTreeMap<Waiting, u64> = BTreeMap::new();
        let (mut process, mut told) = (Told::default(), BTreeMap::new());
        for (pause, lag, happens) in history {
            now += pause;
            match happens {
                Happens::Submit => {
                    jobs += 1;
                    index.0.push((Waiting { wait_at: moment(now), job_id: id(jobs) }, now + lag, None));
                }
                Happens::Claim(choice) => {
                    let waiting = index.waiting();
                    if let Some(entry) = waiting.get(choice % waiting.len().max(1)) {
                        index.0[*entry].2 = Some(now + lag);
                        held.push(index.0[*entry].0.job_id.clone());
                    }
                }
                Happens::Requeue(choice) if !held.is_empty() => {
                    let job_id = held.swap_remove(choice % held.len());
                    index.0.push((Waiting { wait_at: moment(now), job_id }, now + lag, None));
                }
                Happens::Requeue(_) => {}
                Happens::Read => {
                    let (seen, complete) = index.read(now, bound);
                    let mut taken = BTreeSet::new();
                    for entry in index.waiting() {
                        let job = &index.0[entry].0;
                        let Position { place, exact } = position(&seen, complete, job, moment(now));
                        prop_assert!(place >= 1 && place <= seen.len() as u64 + 1);
                        let shown = process.tell(job, Position { place, exact });
                        let before = told.insert(job.clone(), shown.place).unwrap_or(u64::MAX);
                        prop_assert!(shown.place <= before, "told {} after {}", shown.place, before);
                        prop_assert_eq!(shown.exact, exact && shown.place == place);
                        if exact {
                            prop_assert!(taken.insert(place), "{} twice", place);
                            let before = last.insert(job.clone(), place).unwrap_or(u64::MAX);
                            prop_assert!(place <= before, "rose from {} to {}", before, place);
                        }
                    }
                }
            }
        }
    }
}
