//! Every interleaving of two workers, a sweeper and an owner who cancels, over the real `apply`, `refused_claim`
//! and `sweep_action`: a small world searched to its end.
//!
//! A write is decided at one moment and done at a later one. It may be done twice: a first copy, whose answer was
//! lost, at any later time or never, beside its repetition under the same stamp. Messages need no model: a
//! worker may look at the job at any time, for whatever reason. Workers go on when their lease is over.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#[path = "../decisions/common/mod.rs"]
mod common;
mod world;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use common::{Shown, at, end, failure, image, rules, seconds, stamp};
use darkroom_core::job::{Job, Stage, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::lifecycle::{Bounds, Command, Ending, RefusedClaim, apply, refused_claim};
use darkroom_core::sweep::{Rules, SweepAction, sweep_action};
use world::{Config, Doing, OTHER, OWN, OWNER, SWEEPER, World, hash_job, held};

#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // Shown when the search finds a fault.
enum Step {
    Start,
    Tick,
    Claim(usize),
    Defer(usize),
    Drawn(usize),
    Failed(usize),
    Retry(usize),
    Release(usize),
    OtherKey(usize),
    Progress(usize),
    Write(usize),
    Double(usize),
    Crash(usize),
    Sweep,
    Cancel,
    LateCopy,
}

/// What a search must have come by, or it has not searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Seen {
    Captured,
    CapturedFromAnOlderAttempt,
    CapturedAlthoughCancelWasAsked,
    Failed,
    Cancelled,
    Requeued,
    TwoCallsInOneAttempt,
    ClaimWonThoughItsAnswerWasLost,
    RefusedClaimEnded,
    LatePictureRefused,
    EveryCallUsed,
}

impl Seen {
    const ALL: [Self; 11] = [
        Self::Captured,
        Self::CapturedFromAnOlderAttempt,
        Self::CapturedAlthoughCancelWasAsked,
        Self::Failed,
        Self::Cancelled,
        Self::Requeued,
        Self::TwoCallsInOneAttempt,
        Self::ClaimWonThoughItsAnswerWasLost,
        Self::RefusedClaimEnded,
        Self::LatePictureRefused,
        Self::EveryCallUsed,
    ];
}

fn sweep_rules(bounds: Bounds) -> Rules {
    Rules { bounds, wake: seconds(1), ahead: seconds(0), ..rules() }
}

fn end_held(attempt: u32, ending: Ending) -> Command {
    Command::EndHeld { attempt, ending, end: end(at(0)) }
}

/// Everything that may happen next.
fn steps(world: &World, config: Config) -> Vec<Step> {
    let mut steps = Vec::new();
    let live = world.job.settlement().is_none();
    if live && world.now < config.deadline + config.lease {
        steps.push(Step::Tick);
    }
    for (actor, doing) in world.actors.iter().enumerate() {
        match doing {
            Doing::Nothing if actor == SWEEPER => {
                if world.job.due_at().is_some_and(|due_at| due_at <= world.now()) {
                    steps.push(Step::Sweep);
                }
            }
            Doing::Nothing if actor == OWNER => {
                if live && !world.owner_asked {
                    steps.push(Step::Cancel);
                }
            }
            // Two that do nothing are as good as one.
            Doing::Nothing if actor == 1 && matches!(world.actors[0], Doing::Nothing) => {}
            Doing::Nothing if live => {
                steps.push(Step::Claim(actor));
                if matches!(world.job.stage, Stage::Pending(_)) {
                    steps.push(Step::Defer(actor));
                }
            }
            Doing::Nothing => {}
            // Once it is settled, a late picture is all that is left to come.
            Doing::Calling { .. } if !live => steps.push(Step::Drawn(actor)),
            Doing::Calling { .. } => {
                steps.extend([
                    Step::Drawn(actor),
                    Step::Failed(actor),
                    Step::Retry(actor),
                    Step::Release(actor),
                    Step::Progress(actor),
                ]);
                // The worker counts its own calls, so it does not ask for one that cannot be allowed twice.
                if world.calls <= config.bounds.calls_max {
                    steps.push(Step::OtherKey(actor));
                }
            }
            Doing::Writing(_) => {
                steps.push(Step::Write(actor));
                if live && world.doubles > 0 {
                    steps.push(Step::Double(actor));
                }
            }
        }
        if live && actor != OWNER && world.crashes > 0 && !matches!(doing, Doing::Nothing) {
            steps.push(Step::Crash(actor));
        }
    }
    if world.copy.is_some() {
        steps.push(Step::LateCopy);
    }
    steps
}

/// The world after a step.
fn step(world: &World, step: Step, config: Config, seen: &mut HashSet<Seen>) -> World {
    let mut next = world.clone();
    let now = world.now();
    match step {
        Step::Start => {}
        Step::Tick => next.now += 1,
        Step::Claim(worker) => {
            let lease_until = now.plus(seconds(config.lease));
            next.begin(worker, Command::Claim { now, lease_until, bounds: config.bounds });
        }
        Step::Defer(worker) => {
            let command = Command::defer(&world.job, now.plus(seconds(1)), WaitReason::Quota);
            next.begin(worker, command);
        }
        Step::Drawn(worker)
        | Step::Failed(worker)
        | Step::Retry(worker)
        | Step::Release(worker)
        | Step::OtherKey(worker) => {
            let attempt = held(&world.actors[worker]).unwrap();
            next.begin(worker, answer(world, step, attempt, config));
        }
        Step::Progress(worker) => {
            let attempt = held(&world.actors[worker]).unwrap();
            next.commit(&Command::Progress { attempt, now: at(0), progress: 50 }, &OTHER, config);
        }
        Step::Write(actor) => {
            let Doing::Writing(command) = &world.actors[actor] else { unreachable!() };
            let applied = next.commit(command, &OWN[actor], config).is_some();
            next.answered(actor, command, applied, config, seen);
        }
        Step::Double(actor) => {
            let Doing::Writing(command) = &world.actors[actor] else { unreachable!() };
            next.doubles -= 1;
            next.copy = Some((command.clone(), OWN[actor].clone()));
        }
        Step::LateCopy => {
            let (command, op) = next.copy.take().unwrap();
            next.commit(&command, &op, config);
        }
        Step::Crash(actor) => {
            next.crashes -= 1;
            next.actors[actor] = Doing::Nothing;
        }
        Step::Sweep => match sweep_action(&world.job, now, &sweep_rules(config.bounds)) {
            SweepAction::Leave => {}
            SweepAction::Send { command, .. }
            | SweepAction::Wait { command }
            | SweepAction::Requeue { command }
            | SweepAction::End { command, .. } => next.begin(SWEEPER, command),
        },
        Step::Cancel => {
            next.owner_asked = true;
            next.ask();
        }
    }
    next
}

/// What a worker writes after a provider's answer.
fn answer(world: &World, step: Step, attempt: u32, config: Config) -> Command {
    match step {
        Step::Drawn(_) => {
            Command::Capture { image: image(attempt), drawn_by: "m".to_owned(), end: end(at(0)) }
        }
        Step::Retry(_) => {
            let mine = Job { attempt, ..Job::clone(&world.job) };
            Command::retry(
                &mine,
                world.now(),
                world.now().plus(seconds(1)),
                JobErrorCode::ProviderUnavailable,
            )
        }
        Step::Release(_) => {
            let mine = Job { attempt, ..Job::clone(&world.job) };
            Command::release(&mine, world.now(), world.now().plus(seconds(1)), WaitReason::Quota, 0)
        }
        Step::OtherKey(_) => Command::CountCall { attempt, calls_max: config.bounds.calls_max },
        _ => end_held(attempt, Ending::Failed(failure())),
    }
}

impl World {
    /// The owner cancels the job as it is.
    fn ask(&mut self) {
        match &self.job.stage {
            Stage::Pending(_) => self.begin(OWNER, Command::CancelPending { end: end(at(0)) }),
            Stage::Processing(_) => self.begin(OWNER, Command::RequestCancel),
            Stage::Settled(_) => self.actors[OWNER] = Doing::Nothing,
        }
    }

    /// What an actor does with the answer to its write. A refusal brings the record as it is.
    fn answered(
        &mut self,
        actor: usize,
        command: &Command,
        applied: bool,
        config: Config,
        seen: &mut HashSet<Seen>,
    ) {
        let done = applied || (self.job.op == OWN[actor] && command.has_made(&self.job));
        let holds =
            |attempt: u32| matches!(self.job.stage, Stage::Processing(_)) && self.job.attempt == attempt;
        self.actors[actor] = Doing::Nothing;
        match command {
            Command::Claim { .. } if applied => self.call(actor, self.job.attempt),
            Command::Claim { .. } => self.refused(actor, command, config, seen),
            Command::CountCall { attempt, .. } if done => {
                seen.insert(Seen::TwoCallsInOneAttempt);
                self.call(actor, *attempt);
            }
            Command::CountCall { attempt, .. }
            | Command::Retry { attempt, .. }
            | Command::Release { attempt, .. }
                if !done && holds(*attempt) =>
            {
                let cancelled = self.job.is_cancel_requested();
                let ending = if cancelled { Ending::Cancelled } else { Ending::Failed(failure()) };
                self.begin(actor, end_held(*attempt, ending));
            }
            Command::Capture { image, .. } if done => {
                seen.insert(Seen::Captured);
                if image.attempt < self.job.attempt {
                    seen.insert(Seen::CapturedFromAnOlderAttempt);
                }
                if self.owner_asked {
                    seen.insert(Seen::CapturedAlthoughCancelWasAsked);
                }
            }
            Command::Capture { .. } => _ = seen.insert(Seen::LatePictureRefused),
            Command::EndHeld { ending, .. } if done => _ = seen.insert(ended(ending)),
            Command::EndAsSeen { ending, .. } if done && actor == SWEEPER => _ = seen.insert(ended(ending)),
            Command::EndAsSeen { .. } if done => _ = seen.insert(Seen::RefusedClaimEnded),
            Command::Requeue { .. } if done => _ = seen.insert(Seen::Requeued),
            Command::CancelPending { .. } | Command::RequestCancel if !done => self.ask(),
            _ => {}
        }
        if self.calls == config.bounds.calls_max {
            seen.insert(Seen::EveryCallUsed);
        }
    }

    fn refused(&mut self, worker: usize, claim: &Command, config: Config, seen: &mut HashSet<Seen>) {
        match refused_claim(&self.job, claim, &OWN[worker], self.now(), config.bounds) {
            RefusedClaim::Won => {
                seen.insert(Seen::ClaimWonThoughItsAnswerWasLost);
                self.call(worker, self.job.attempt);
            }
            RefusedClaim::WonButCancelled => {
                self.begin(worker, end_held(self.job.attempt, Ending::Cancelled));
            }
            RefusedClaim::Early(_) | RefusedClaim::Leave(_) => {}
            RefusedClaim::End(seen, failure) => {
                let ending = Ending::Failed(failure);
                self.begin(worker, Command::EndAsSeen { seen, ending, end: end(at(0)) });
            }
        }
    }
}

fn ended(ending: &Ending) -> Seen {
    match ending {
        Ending::Cancelled => Seen::Cancelled,
        Ending::Failed(_) => Seen::Failed,
    }
}

/// Settled in time when everybody is gone but a sweep at each tick.
fn check_settles(world: &World, config: Config) {
    let mut job = Job::clone(&world.job);
    let latest = world.now.max(config.deadline) + config.lease + 2;
    for now in world.now + 1..=latest {
        if job.due_at().is_some_and(|due_at| due_at <= at(now)) {
            match sweep_action(&job, at(now), &sweep_rules(config.bounds)) {
                SweepAction::Leave => {}
                SweepAction::Send { command, .. }
                | SweepAction::Wait { command }
                | SweepAction::Requeue { command }
                | SweepAction::End { command, .. } => job = apply(&job, &command, stamp(0)).unwrap(),
            }
        }
    }
    assert!(job.settlement().is_some(), "not settled at {latest}: {:?}", Shown(job));
}

/// Searches every state that can be reached. The number of states, and what was come by.
fn search(config: Config) -> (usize, HashSet<Seen>) {
    let start = World::start(config);
    let mut known: HashMap<u64, (u64, Step)> = HashMap::from([(start.fingerprint(), (0, Step::Start))]);
    let mut settling: HashSet<u64> = HashSet::new();
    let mut seen = HashSet::new();
    let mut open = vec![(start.fingerprint(), start)];
    while let Some((from, world)) = open.pop() {
        for taken in steps(&world, config) {
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let next = step(&world, taken, config, &mut seen);
                next.check();
                let mut hash = DefaultHasher::new();
                hash_job(&next.job, &mut hash);
                next.now.hash(&mut hash);
                if settling.insert(hash.finish()) {
                    check_settles(&next, config);
                }
                next
            }));
            let Ok(next) = checked else {
                panic!("after {:?}, {taken:?}", way_to(from, &known));
            };
            let fingerprint = next.fingerprint();
            if let std::collections::hash_map::Entry::Vacant(vacant) = known.entry(fingerprint) {
                vacant.insert((from, taken));
                open.push((fingerprint, next));
            }
        }
    }
    (known.len(), seen)
}

/// The steps that led to a state.
fn way_to(state: u64, known: &HashMap<u64, (u64, Step)>) -> Vec<Step> {
    let mut way = Vec::new();
    let mut state = state;
    while let Some((from, step)) = known.get(&state) {
        way.push(*step);
        state = *from;
    }
    way.reverse();
    way
}

const SMALL: Config = Config {
    lease: 1,
    deadline: 2,
    bounds: Bounds { attempts_max: 2, calls_max: 2 },
    crashes: 0,
    doubles: 0,
};

#[test]
fn nothing_goes_wrong_in_any_order_with_a_crash() {
    let bounds = Bounds { attempts_max: 2, calls_max: 3 };
    let (states, seen) = search(Config { bounds, crashes: 1, ..SMALL });
    assert!(states > 100_000, "{states} states");
    let missing: Vec<_> = Seen::ALL.iter().filter(|way| !seen.contains(way)).collect();
    assert_eq!(missing, [&Seen::ClaimWonThoughItsAnswerWasLost]);
}

#[test]
fn nothing_goes_wrong_in_any_order_with_a_write_done_twice() {
    let (states, seen) = search(Config { doubles: 1, ..SMALL });
    assert!(states > 1_000_000, "{states} states");
    assert_eq!(seen.len(), Seen::ALL.len());
}

/// `cargo test --release -p darkroom-core --test model -- --ignored`
#[test]
#[ignore = "takes two minutes: seven million states"]
fn nothing_goes_wrong_in_a_larger_world() {
    let bounds = Bounds { attempts_max: 2, calls_max: 3 };
    let (states, seen) = search(Config { lease: 1, deadline: 2, bounds, crashes: 1, doubles: 1 });
    assert!(states > 5_000_000, "{states} states");
    assert_eq!(seen.len(), Seen::ALL.len());
}
