//! A breaker and a fleet that holds old copies of its record and dies while it probes.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::common::breaker::{EPOCH, NOW, RULES, breaker, closed, closed_at, open};
use crate::common::pool::Draws;
use crate::common::{at, cases, seconds, stamp};
use darkroom_core::breaker::OpenReason::Failures;
use darkroom_core::breaker::{Breaker, Event, Gate, Pass, State};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

/// A worker of a fleet: an old copy of the record, and the calls that it makes.
#[derive(Clone, Default)]
struct Worker {
    copy: Breaker,
    calls: Vec<Pass>,
    answered_at: Timestamp,
}

/// What one worker does, or how long nobody does anything.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read(usize),
    Enter(usize),
    Answered(usize),
    Failed(usize),
    NotReached(usize),
    Exhausted(usize),
    Dies(usize),
    Wait(u64),
}

/// The store's record and everybody who writes it, each conditionally on the version that it saw.
#[derive(Clone)]
struct Fleet {
    record: Breaker,
    now: Timestamp,
    workers: Vec<Worker>,
    stamps: u8,
    /// Epochs that had a probe.
    probed: BTreeSet<u64>,
}

impl Fleet {
    fn new(workers: usize, state: State) -> Self {
        let record = breaker(state);
        let worker = Worker { copy: record.clone(), ..Worker::default() };
        Self { record, now: at(NOW), workers: vec![worker; workers], stamps: 0, probed: BTreeSet::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(time) => self.now = self.now.plus(seconds(time)),
            Step::Read(worker) => self.workers[worker].copy = self.record.clone(),
            Step::Dies(worker) => {
                self.workers[worker] = Worker { copy: self.record.clone(), ..Worker::default() };
            }
            Step::Enter(worker) => self.enter(worker),
            Step::Answered(worker) => {
                self.workers[worker].answered_at = self.now;
                self.tell(worker, Event::Answered);
            }
            Step::Failed(worker) => {
                let answered_at = self.workers[worker].answered_at;
                self.tell(worker, |pass| Event::Failed { pass, answered_at });
            }
            Step::NotReached(worker) => {
                let until = self.now.plus(seconds(30));
                self.tell(worker, |pass| Event::NotReached { pass, until });
            }
            Step::Exhausted(worker) => {
                let free_at = self.now.plus(seconds(40));
                self.tell(worker, |pass| Event::Exhausted { pass, free_at });
            }
        }
    }

    /// One call, if this worker's copy lets it through or it wins the probe.
    fn enter(&mut self, worker: usize) {
        let epoch = |fleet: &Self| fleet.workers[worker].copy.epoch;
        match self.workers[worker].copy.gate(self.now) {
            Gate::Closed => {
                let pass = Pass { epoch: epoch(self), probe: None };
                self.workers[worker].calls.push(pass);
            }
            Gate::MayProbe => {
                self.stamps += 1;
                let probe = stamp(self.stamps);
                if self.change(worker, &Event::Probe(probe.clone())) {
                    let pass = Pass { epoch: epoch(self), probe: Some(probe) };
                    self.workers[worker].calls.push(pass);
                }
            }
            Gate::OpenUntil(_) | Gate::Probing(_) => {}
        }
    }

    /// The worker's oldest call comes back.
    fn tell(&mut self, worker: usize, event: impl Fn(Pass) -> Event) {
        if self.workers[worker].calls.is_empty() {
            return;
        }
        let pass = self.workers[worker].calls.remove(0);
        let before = self.record.clone();
        self.change(worker, &event(pass.clone()));
        if pass.epoch != before.epoch {
            assert_eq!(self.record, before, "{pass:?} changed a later epoch");
        }
        if let State::HalfOpen { probe, .. } = &before.state
            && pass.probe.as_ref() != Some(probe)
        {
            assert_eq!(self.record, before, "{pass:?} decided about another's probe");
        }
    }

    fn change(&mut self, worker: usize, event: &Event) -> bool {
        loop {
            let Some(next) = self.workers[worker].copy.after(event, self.now, &RULES, 0.5) else {
                return false;
            };
            if self.record.version == self.workers[worker].copy.version {
                self.check(&next);
                self.record = next.clone();
                self.workers[worker].copy = next;
                return true;
            }
            self.workers[worker].copy = self.record.clone();
        }
    }

    /// What holds for each write.
    fn check(&mut self, next: &Breaker) {
        let seen = &self.record;
        assert_eq!(next.version, seen.version + 1);
        let stays = matches!((&seen.state, &next.state), (State::Closed { .. }, State::Closed { .. }));
        assert_eq!(next.epoch, seen.epoch + u64::from(!stays), "{seen:?} to {next:?}");
        if let State::HalfOpen { until, .. } = &next.state {
            assert_eq!(*until, self.now.plus(RULES.probe));
            assert_eq!(seen.gate(self.now), Gate::MayProbe, "a probe beside another, or too early");
            assert!(self.probed.insert(next.epoch), "two probes in epoch {}", next.epoch);
        }
    }

    /// Calls that are let through while it is half open, as the record has it: of the probe that counts.
    fn live_probes(&self) -> usize {
        let State::HalfOpen { probe, until, .. } = &self.record.state else { return 0 };
        let calls = self.workers.iter().flat_map(|worker| &worker.calls);
        calls.filter(|pass| pass.probe.as_ref() == Some(probe) && *until > self.now).count()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0..4_usize;
    let step = prop_oneof![
        3 => worker().prop_map(Step::Read),
        6 => worker().prop_map(Step::Enter),
        2 => worker().prop_map(Step::Answered),
        6 => worker().prop_map(Step::Failed),
        1 => worker().prop_map(Step::NotReached),
        1 => worker().prop_map(Step::Exhausted),
        1 => worker().prop_map(Step::Dies),
        2 => prop_oneof![Just(1_u64), Just(30), Just(60), Just(110), Just(300)].prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn each_epoch_has_one_probe_whoever_dies_and_however_old_the_copies_are(
        steps in steps(),
        state in prop_oneof![Just(closed(4, 2)), Just(open(40, NOW, Failures, 1))],
    ) {
        let mut fleet = Fleet::new(4, state);
        for step in steps {
            fleet.step(step);
            prop_assert!(fleet.live_probes() <= 1);
        }
        // Whatever has happened, somebody may call again soon.
        fleet.now = fleet.now.plus(RULES.open_max.max(RULES.probe));
        prop_assert!(matches!(fleet.record.gate(fleet.now), Gate::Closed | Gate::MayProbe));
    }
}

#[test]
fn no_order_of_two_probers_and_a_death_gives_an_epoch_two_probes() {
    let mut steps = vec![Step::Wait(30), Step::Wait(110)];
    for worker in 0..2 {
        steps.extend([Step::Read(worker), Step::Enter(worker), Step::Answered(worker)]);
        steps.extend([Step::Failed(worker), Step::Dies(worker)]);
    }
    // Every history of up to six steps; those that lead to what was seen before are not followed again.
    let mut seen = HashSet::new();
    let mut fleets = vec![Fleet::new(2, open(40, NOW, Failures, 1))];
    let mut takeovers = 0;
    for _ in 0..6 {
        let mut next = Vec::new();
        for (fleet, step) in fleets.iter().flat_map(|fleet| steps.iter().map(move |step| (fleet, *step))) {
            let mut fleet = fleet.clone();
            fleet.step(step);
            takeovers = takeovers.max(fleet.probed.len());
            let copies: Vec<_> = fleet.workers.iter().map(|w| (&w.copy, &w.calls, w.answered_at)).collect();
            if seen.insert(format!("{:?} {:?} {copies:?}", fleet.now, fleet.record)) {
                next.push(fleet);
            }
        }
        fleets = next;
    }
    assert!(takeovers >= 3, "the search goes as deep as take-overs: {takeovers}");
}

/// A fleet whose workers read the record again each second, after so many calls; its writes and its failures.
fn serve(workers: usize, calls: u64, failing: f64, seed: u64) -> (Fleet, u64, u64) {
    let mut draws = Draws(seed);
    let mut fleet = Fleet::new(workers, closed_at(0));
    let mut read_at = vec![fleet.now; workers];
    let (mut writes, mut failures) = (0, 0);
    for _ in 0..calls {
        fleet.now = fleet.now.plus(Duration::from_millis(draws.below(250)));
        let worker = usize::try_from(draws.below(workers as u64)).unwrap();
        if fleet.now.since(read_at[worker]) >= seconds(1) {
            fleet.step(Step::Read(worker));
            read_at[worker] = fleet.now;
        }
        let version = fleet.record.version;
        fleet.step(Step::Enter(worker));
        let fails = draws.next() < failing;
        failures += u64::from(fails);
        fleet.step(if fails { Step::Failed(worker) } else { Step::Answered(worker) });
        writes += fleet.record.version - version;
    }
    (fleet, writes, failures)
}

#[test]
fn one_failure_in_twenty_never_opens_it() {
    for seed in 0..400 {
        for workers in [1, 10, 50] {
            let (fleet, writes, failures) = serve(workers, 1_000, 0.05, seed);
            assert_eq!(fleet.record.epoch, EPOCH, "{workers} workers, seed {seed}");
            assert!(writes <= failures * 2, "{writes} writes for {failures} failures");
        }
    }
}

#[test]
fn no_failure_means_no_write() {
    assert_eq!(serve(50, 1_000, 0.0, 1).1, 0);
}
