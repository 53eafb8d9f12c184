//! The small world of the exhaustive search: one job, one balance, who is doing what, what the store does with a
//! write and what must be true at every moment.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::LazyLock;

use darkroom_core::id::Stamp;
use darkroom_core::job::{Job, Stage};
use darkroom_core::ledger::{Balance, Settlement};
use darkroom_core::lifecycle::{Bounds, Command, Seen, SeenProcessing, apply};
use darkroom_core::time::Timestamp;

use crate::common::{COST, at, stamp, submitted};

pub(crate) const SWEEPER: usize = 2;
pub(crate) const OWNER: usize = 3;

/// A stamp for each actor's current write; any other write's is [`OTHER`].
pub(crate) static OWN: LazyLock<[Stamp; 4]> = LazyLock::new(|| [1, 2, 3, 4].map(stamp));
pub(crate) static OTHER: LazyLock<Stamp> = LazyLock::new(|| stamp(0));

#[derive(Clone, Copy)]
pub(crate) struct Config {
    /// Times are in ticks. A sweep comes with each.
    pub(crate) lease: u64,
    pub(crate) deadline: u64,
    pub(crate) bounds: Bounds,
    /// How often a worker or the sweeper dies.
    pub(crate) crashes: u8,
    /// How many writes have a first copy that is done late or never.
    pub(crate) doubles: u8,
}

/// Who is doing what.
#[derive(Clone)]
pub(crate) enum Doing {
    Nothing,
    Writing(Rc<Command>),
    /// A paid call is under way.
    Calling {
        attempt: u32,
    },
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) job: Rc<Job>,
    pub(crate) balance: Balance,
    pub(crate) settlements: u8,
    /// Calls that a provider has seen.
    pub(crate) calls: u32,
    /// Two workers, a sweeper, the owner.
    pub(crate) actors: [Doing; 4],
    pub(crate) owner_asked: bool,
    pub(crate) crashes: u8,
    pub(crate) doubles: u8,
    /// The first copy of a write, and its stamp.
    pub(crate) copy: Option<(Rc<Command>, Stamp)>,
}

impl World {
    pub(crate) fn start(config: Config) -> Self {
        let mut job = submitted(config.deadline);
        if let Stage::Pending(pending) = &mut job.stage {
            pending.due_at = at(1);
        }
        let balance = Balance::default().grant(COST).unwrap().hold(COST, 1).unwrap();
        let actors = [const { Doing::Nothing }; 4];
        Self {
            now: 0,
            job: Rc::new(job),
            balance,
            settlements: 0,
            calls: 0,
            actors,
            owner_asked: false,
            crashes: config.crashes,
            doubles: config.doubles,
            copy: None,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        at(self.now)
    }

    /// The actor's next write, under a fresh stamp: none that is on the record or on its way is its own any more.
    pub(crate) fn begin(&mut self, actor: usize, command: Command) {
        if self.job.op == OWN[actor] {
            Rc::make_mut(&mut self.job).op = OTHER.clone();
        }
        if let Some((_, op)) = &mut self.copy
            && *op == OWN[actor]
        {
            *op = OTHER.clone();
        }
        self.actors[actor] = Doing::Writing(Rc::new(command));
    }

    /// The socket opens.
    pub(crate) fn call(&mut self, actor: usize, attempt: u32) {
        self.calls += 1;
        let holds = matches!(self.job.stage, Stage::Processing(_)) && self.job.attempt == attempt;
        assert!(holds, "a paid call by a worker that does not hold the job");
        self.actors[actor] = Doing::Calling { attempt };
    }

    /// The store does a write. `None` is a refusal.
    pub(crate) fn commit(&mut self, command: &Command, op: &Stamp, config: Config) -> Option<()> {
        let next = apply(&self.job, command, op.clone()).ok()?;
        let live = matches!(&self.job.stage, Stage::Processing(p) if p.lease_until > self.now());
        let kept = matches!(next.stage, Stage::Processing(_)) && next.attempt == self.job.attempt;
        assert!(!live || kept || gives_back(command, &self.job), "a live lease was taken");
        let waits = matches!(next.stage, Stage::Pending(_));
        assert!(!(waits && self.job.is_cancel_requested()), "the owner's cancel was forgotten");
        let counts = matches!(command, Command::Claim { .. } | Command::CountCall { .. });
        assert!(!(counts && self.job.is_cancel_requested()), "a call after the owner's cancel");
        if let Some(settlement) = command.settlement() {
            self.balance = self.balance.settle(COST, settlement).unwrap();
            self.settlements += 1;
        }
        self.job = Rc::new(next);
        assert!(self.job.calls <= config.bounds.calls_max, "more calls counted than allowed");
        Some(())
    }

    /// What is true at every moment.
    pub(crate) fn check(&self) {
        let granted = Balance { granted: COST, ..Balance::default() };
        let (balance, settlements) = match self.job.settlement() {
            None => (Balance { held: COST, inflight: 1, ..granted }, 0),
            Some(Settlement::Captured) => (Balance { spent: COST, ..granted }, 1),
            Some(Settlement::Refunded) => (Balance { available: COST, ..granted }, 1),
        };
        assert_eq!((self.balance, self.settlements), (balance, settlements));
        assert!(self.calls <= self.job.calls, "a call that was not counted before it was made");
        let [first, second] = [0, 1].map(|worker| held(&self.actors[worker]));
        assert!(first.is_none() || first != second, "two workers hold attempt {first:?}");
    }

    /// A state that is new under this is new to the search. Which of the two workers is which is no matter.
    pub(crate) fn fingerprint(&self) -> u64 {
        let [one, other, sweeper, owner] = [0, 1, SWEEPER, OWNER].map(|actor| self.fingerprint_of(actor));
        let mut hash = DefaultHasher::new();
        (one.min(other), one.max(other), sweeper, owner).hash(&mut hash);
        (self.now, self.calls, self.owner_asked, self.crashes, self.doubles).hash(&mut hash);
        hash_job(&self.job, &mut hash);
        if let Some((command, _)) = &self.copy {
            hash_command(command, &mut hash);
        }
        hash.finish()
    }

    /// What an actor is doing, and which stamps are its own.
    fn fingerprint_of(&self, actor: usize) -> u64 {
        let mut hash = DefaultHasher::new();
        let on_its_way = self.copy.as_ref().is_some_and(|(_, op)| *op == OWN[actor]);
        (self.job.op == OWN[actor], on_its_way).hash(&mut hash);
        match &self.actors[actor] {
            Doing::Nothing => 0_u8.hash(&mut hash),
            Doing::Calling { attempt } => (1_u8, attempt).hash(&mut hash),
            Doing::Writing(command) => {
                2_u8.hash(&mut hash);
                hash_command(command, &mut hash);
            }
        }
        hash.finish()
    }
}

/// The holder ends its own attempt, or a picture came.
fn gives_back(command: &Command, job: &Job) -> bool {
    match command {
        Command::Retry { attempt, .. }
        | Command::Release { attempt, .. }
        | Command::EndHeld { attempt, .. } => *attempt == job.attempt,
        Command::Capture { .. } => true,
        _ => false,
    }
}

/// The attempt that a worker believes to hold.
pub(crate) fn held(worker: &Doing) -> Option<u32> {
    match worker {
        Doing::Nothing => None,
        Doing::Calling { attempt } => Some(*attempt),
        Doing::Writing(command) => match &**command {
            Command::CountCall { attempt, .. }
            | Command::Retry { attempt, .. }
            | Command::Release { attempt, .. }
            | Command::EndHeld { attempt, .. } => Some(*attempt),
            Command::Capture { image, .. } => Some(image.attempt),
            _ => None,
        },
    }
}

pub(crate) fn hash_job(job: &Job, hash: &mut DefaultHasher) {
    (job.attempt, job.tries, job.calls).hash(hash);
    match &job.stage {
        Stage::Pending(p) => (0_u8, p.not_before, p.due_at, p.wakes).hash(hash),
        Stage::Processing(p) => {
            (1_u8, p.lease_until, p.heartbeat_at, p.progress, p.cancel_requested).hash(hash);
        }
        Stage::Settled(settled) => (2_u8, settled.outcome.settlement()).hash(hash),
    }
}

/// Everything of a command that bears on what it does, apart from the time and the words of an end.
fn hash_command(command: &Command, hash: &mut DefaultHasher) {
    std::mem::discriminant(command).hash(hash);
    match command {
        Command::Claim { now, lease_until, .. } => (now, lease_until).hash(hash),
        Command::CountCall { attempt, .. }
        | Command::EndHeld { attempt, .. }
        | Command::EndAsSeen { seen: Seen::Pending { attempt }, .. } => attempt.hash(hash),
        Command::Retry { attempt, not_before, .. } | Command::Defer { attempt, not_before, .. } => {
            (attempt, not_before).hash(hash);
        }
        Command::Release { attempt, not_before, uncalled, .. } => {
            (attempt, not_before, uncalled).hash(hash);
        }
        Command::Progress { attempt, now, progress } => (attempt, now, progress).hash(hash),
        Command::Capture { image, .. } => image.attempt.hash(hash),
        Command::EndAsSeen { seen: Seen::Processing(seen), .. } => hash_seen(seen, hash),
        Command::CancelPending { .. } | Command::RequestCancel => {}
        Command::Mark { due_at_seen, due_at } => (due_at_seen, due_at).hash(hash),
        Command::Requeue { seen, now, due_at } => {
            hash_seen(seen, hash);
            (now, due_at).hash(hash);
        }
    }
}

fn hash_seen(seen: &SeenProcessing, hash: &mut DefaultHasher) {
    (seen.attempt, seen.lease_until, seen.heartbeat_at).hash(hash);
}
