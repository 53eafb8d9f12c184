//! A state of the model: jobs of one user, the balance that pays for them, who is doing what, and a write that is
//! still on its way.

use std::hash::{Hash, Hasher};

use darkroom_core::job::Stage;
use darkroom_core::ledger::{Balance, Settlement, Tokens};
use darkroom_core::lifecycle::{Bounds, Command};
use darkroom_core::time::Timestamp;

use crate::common::{Shown, at};
use crate::known::Known;

/// Who acts: two workers, two sweepers, the owner, two submissions.
pub(crate) const WORKERS: [usize; 2] = [0, 1];
pub(crate) const SWEEPERS: [usize; 2] = [2, 3];
pub(crate) const OWNER: usize = 4;
pub(crate) const SUBMITTERS: [usize; 2] = [5, 6];
const ACTORS: usize = 7;
/// Jobs of one user, at most.
pub(crate) const JOBS: usize = 2;
/// Lives of one job, at most: its key can be used again when its record has expired.
pub(crate) const LIVES: usize = 2;
/// Attempts that are told apart, at most.
pub(crate) const ATTEMPTS: usize = 6;

/// A minute: far more than the allowances for clocks and slots, far less than the longest waits of the rules.
pub(crate) fn tick(ticks: u64) -> Timestamp {
    at(60 * ticks)
}

/// How large the world is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) jobs: usize,
    pub(crate) workers: usize,
    pub(crate) sweepers: usize,
    pub(crate) owner: bool,
    /// Submissions in all. More than jobs means that a client asks again with the same key.
    pub(crate) submissions: u8,
    /// In ticks, from the claim and from the submission.
    pub(crate) lease: u64,
    pub(crate) deadline: u64,
    pub(crate) bounds: Bounds,
    /// How often anybody dies.
    pub(crate) crashes: u8,
    /// How many writes have a first copy that is done late or never.
    pub(crate) copies: u8,
    /// How often a worker gives a job back before it has made the call.
    pub(crate) uncalled: u8,
    /// Whether workers show signs of life, and whether a send can be known to have failed.
    pub(crate) signs_of_life: bool,
    pub(crate) send_fails: bool,
    pub(crate) granted: Tokens,
    pub(crate) inflight_max: u64,
    /// Whether settled records expire, so that their keys make new jobs.
    pub(crate) expires: bool,
    /// How often the owner publishes a job, takes that back or deletes it, whatever its state: the store decides.
    pub(crate) wishes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) jobs: [Entry; JOBS],
    pub(crate) account: Account,
    pub(crate) actors: [Doing; ACTORS],
    pub(crate) owner_asked: bool,
    /// What the owner may still wish for.
    pub(crate) wishes: u8,
    /// Submissions that were begun; deaths, copies and calls given back that are left.
    pub(crate) submissions: u8,
    pub(crate) crashes: u8,
    pub(crate) copies: u8,
    pub(crate) uncalled: u8,
    pub(crate) copy: Option<Copied>,
    pub(crate) faults: Faults,
}

/// One job in the stores, and what has been done for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) record: Option<Known<Shown>>,
    /// What is left of a deleted one.
    pub(crate) tombstone: Option<Settlement>,
    /// Whose write that is still going on has left its stamp on the record.
    pub(crate) op: Option<usize>,
    /// How often it was submitted.
    pub(crate) lives: u8,
    /// Lives that have expired.
    pub(crate) expired: u8,
    /// Calls that a provider has seen in this life.
    pub(crate) calls: u32,
    /// The ledger's entries, by ticket.
    pub(crate) settled: [Option<Settlement>; LIVES],
    pub(crate) settlements: u8,
    /// Of which attempt the picture is that lies under a key.
    pub(crate) objects: [u8; ATTEMPTS],
}

/// A balance that can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account(pub(crate) Balance);

impl Hash for Account {
    fn hash<H: Hasher>(&self, hash: &mut H) {
        let Balance { available, held, spent, granted, inflight } = self.0;
        (available, held, spent, granted, inflight).hash(hash);
    }
}

/// Who is doing what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Doing {
    Nothing,
    /// A call is counted and not made yet. Whoever has not looked at the record just now looks once more.
    Counted {
        held: Held,
        is_fresh: bool,
    },
    /// A call is under way.
    Calling(Held),
    Writing {
        job: usize,
        command: Known<Command>,
    },
    /// The submission's transaction.
    Submitting(usize),
    /// Its message.
    Sending(usize),
    /// The owner's wish.
    Wishing(usize, Wish),
    /// A deleted job's picture, by its attempt.
    Burying(usize, u32),
}

/// What an owner does with a job that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wish {
    Publish,
    Unpublish,
    Delete,
}

/// A worker's copy of the job that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Held {
    pub(crate) job: usize,
    pub(crate) attempt: u32,
    pub(crate) tries: u32,
    pub(crate) calls: u32,
}

/// The first copy of a write whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copied {
    pub(crate) job: usize,
    /// A submission when it is none.
    pub(crate) command: Option<Known<Command>>,
    /// Whose, if that write is still going on.
    pub(crate) by: Option<usize>,
}

/// What no state shows and a write has broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults(u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// I7.
    SettledJobWritten,
    /// I8: somebody else's lease was alive.
    LiveLeaseTaken,
    /// I5: a call was counted, or is about to be made, by a worker that does not hold the job.
    CallNotByTheHolder,
    /// A waiting job with a cancel request: nobody may claim it, and its tokens wait for the deadline.
    CancelForgotten,
    CallAfterCancel,
    /// Attributes of a waiting job on one that is held, or the other way round.
    NoJobAnyMore,
    /// I12: a job was written over another.
    SecondJob,
    /// I1: more was set aside than there was.
    Overdrawn,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault, is_broken: bool) {
        self.0 |= u8::from(is_broken) << fault as u8;
    }

    pub(crate) fn has(self, fault: Fault) -> bool {
        self.0 >> fault as u8 & 1 == 1
    }
}

impl World {
    pub(crate) fn start(config: Config) -> Self {
        Self {
            now: 0,
            jobs: [Entry::default(); JOBS],
            account: Account(Balance::default().grant(config.granted).unwrap()),
            actors: [Doing::Nothing; ACTORS],
            owner_asked: false,
            wishes: config.wishes,
            submissions: 0,
            crashes: config.crashes,
            copies: config.copies,
            uncalled: config.uncalled,
            copy: None,
            faults: Faults::default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        tick(self.now)
    }

    pub(crate) fn record(&self, job: usize) -> Option<Known<Shown>> {
        self.jobs[job].record
    }

    /// The job's record, as long as the job is not settled.
    pub(crate) fn live(&self, job: usize) -> Option<Known<Shown>> {
        self.record(job).filter(|record| record.settlement().is_none())
    }

    /// The same state, whichever of two workers, sweepers or submissions of one job is which.
    pub(crate) fn canonical(mut self, config: Config) -> Self {
        if config.workers == 2 {
            self.order(WORKERS);
        }
        if config.sweepers == 2 {
            self.order(SWEEPERS);
        }
        if config.jobs == 1 {
            self.order(SUBMITTERS);
        }
        self
    }

    fn order(&mut self, [one, other]: [usize; 2]) {
        if self.name(one) <= self.name(other) {
            return;
        }
        self.actors.swap(one, other);
        let renamed = |actor| match actor {
            actor if actor == one => other,
            actor if actor == other => one,
            actor => actor,
        };
        for entry in &mut self.jobs {
            entry.op = entry.op.map(renamed);
        }
        if let Some(copy) = &mut self.copy {
            copy.by = copy.by.map(renamed);
        }
    }

    /// Whether another of its kind is just like it: then what it does next is what the other one does.
    pub(crate) fn is_twin(&self, actor: usize) -> bool {
        [WORKERS, SWEEPERS].iter().any(|[one, other]| actor == *other && self.name(*one) == self.name(*other))
    }

    /// All that tells two actors of a kind apart.
    fn name(&self, actor: usize) -> (Doing, [bool; JOBS], bool) {
        let stamps = self.jobs.map(|entry| entry.op == Some(actor));
        (self.actors[actor], stamps, self.copy.is_some_and(|copy| copy.by == Some(actor)))
    }
}

/// The attempt that a worker believes to hold.
pub(crate) fn held(worker: &Doing) -> Option<(usize, u32)> {
    match worker {
        Doing::Nothing
        | Doing::Submitting(_)
        | Doing::Sending(_)
        | Doing::Wishing(..)
        | Doing::Burying(..) => None,
        Doing::Counted { held, .. } | Doing::Calling(held) => Some((held.job, held.attempt)),
        Doing::Writing { job, command } => named_attempt(command).map(|attempt| (*job, attempt)),
    }
}

/// The attempt that the holder's commands name.
pub(crate) fn named_attempt(command: &Command) -> Option<u32> {
    match command {
        Command::CountCall { attempt, .. }
        | Command::Retry { attempt, .. }
        | Command::Release { attempt, .. }
        | Command::EndHeld { attempt, .. } => Some(*attempt),
        Command::Capture { image, .. } => Some(image.attempt),
        _ => None,
    }
}

/// Whether the holder's attempt is the job's, and the job in its hands.
pub(crate) fn holds(record: &Shown, attempt: u32) -> bool {
    matches!(record.stage, Stage::Processing(_)) && record.attempt == attempt
}
