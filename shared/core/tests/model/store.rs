//! What the stores do with a write: the condition is [`apply`](darkroom_core::lifecycle::apply)'s, the money is
//! [`Balance`](darkroom_core::ledger::Balance)'s, and a transaction is all or nothing.

use std::cell::RefCell;
use std::collections::HashMap;

use darkroom_core::job::{Job, Outcome, Settled, Stage, Submission};
use darkroom_core::ledger::Settlement;
use darkroom_core::lifecycle::{Command, Rejection};
use darkroom_core::settled::{Publication, tombstone};
use darkroom_core::time::Timestamp;

use crate::common::{COST, Shown, image, seconds, stamp, submitted};
use crate::guards::{Guard, Off, Write, has_status};
use crate::known::Known;
use crate::world::{Config, Fault, Wish, World, holds, named_attempt, tick};

/// What a submission came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    Existing,
    Refused,
}

type Applied = Result<Known<Shown>, Rejection>;
/// What was asked: without which guards, of which record, by which command.
type Asked = (usize, Known<Shown>, Known<Command>);

thread_local! {
    static APPLIED: RefCell<HashMap<Asked, Applied>> = RefCell::default();
}

impl Off {
    /// A command on a record: what it makes of it, or why it is refused.
    pub(crate) fn applied(self, record: Known<Shown>, command: Known<Command>) -> Applied {
        let asked = (self.0.as_ptr().addr(), record, command);
        APPLIED.with_borrow_mut(|applied| {
            *applied.entry(asked).or_insert_with(|| self.apply(&record, &command).map(Known::job))
        })
    }

    /// The write of a command, with its settlement: whether it was done.
    pub(crate) fn write(
        self,
        world: &mut World,
        job: usize,
        command: Known<Command>,
        by: Option<usize>,
    ) -> bool {
        let Some(record) = world.record(job) else { return false };
        let Ok(next) = self.applied(record, command) else { return false };
        if let Some(settlement) = command.settlement() {
            let entry = &mut world.jobs[job];
            let ticket = if self.has(Guard::TicketInTheEntrysKey) { 0 } else { usize::from(entry.lives) - 1 };
            if entry.settled[ticket].is_some() && !self.has(Guard::EntryAbsent) {
                return false;
            }
            let Ok(balance) = world.account.0.settle(COST, settlement) else { return false };
            world.account.0 = balance;
            entry.settled[ticket] = Some(settlement);
            entry.settlements += 1;
        }
        note(world, record, next, &command);
        (world.jobs[job].record, world.jobs[job].op) = (Some(next), by);
        true
    }

    /// The submission's transaction.
    pub(crate) fn create(self, world: &mut World, job: usize, by: Option<usize>, config: Config) -> Created {
        let existing = world.record(job);
        if world.jobs[job].tombstone.is_some() && !self.has(Guard::TombstoneHoldsTheKey) {
            return Created::Existing;
        }
        if existing.is_some() && !self.has(Guard::JobAbsent) {
            let is_own = by.is_some() && world.jobs[job].op == by;
            return if is_own { Created::New } else { Created::Existing };
        }
        let mut balance = world.account.0;
        let overdrawn = self.has(Guard::Available) && balance.available < COST;
        let inflight = balance.inflight;
        if self.has(Guard::InflightBound) {
            balance.inflight = 0;
        }
        if overdrawn {
            balance.available = COST;
        }
        let Ok(held) = balance.hold(COST, config.inflight_max) else { return Created::Refused };
        world.account.0 = darkroom_core::ledger::Balance { inflight: inflight + 1, ..held };
        world.faults.add(Fault::Overdrawn, overdrawn);
        world.faults.add(Fault::SecondJob, existing.is_some());
        let entry = &mut world.jobs[job];
        entry.lives += 1;
        (entry.record, entry.op) = (Some(new_job(world.now, config.deadline)), by);
        entry.tombstone = None;
        Created::New
    }

    /// The write of an owner's wish: whether it was done.
    pub(crate) fn wish(self, world: &mut World, job: usize, wish: Wish, by: Option<usize>) -> bool {
        let Some(record) = world.record(job) else { return false };
        let next = match wish {
            Wish::Delete => {
                let left = match tombstone(&record) {
                    Ok(left) => left.settlement,
                    Err(_) if self.has(Guard::DeletedIsSettled) => Settlement::Refunded,
                    Err(_) => return false,
                };
                world.jobs[job].tombstone = Some(left);
                None
            }
            Wish::Publish | Wish::Unpublish => {
                let published = wish == Wish::Publish;
                // What is known of a record here has neither a version nor a time of its own.
                let (now, expires_at) = (Timestamp::EPOCH, tick(0));
                let publication = Publication { published, version_seen: record.version, now, expires_at };
                match publication.apply(&record, stamp(0)) {
                    Ok(next) => Some(Known::job(next)),
                    Err(_) if self.has(Guard::PublishedIsDrawn) => {
                        Some(Known::job(forced(&record, published)))
                    }
                    Err(_) => return false,
                }
            }
        };
        let is_other = next.is_some_and(|next| next.settlement() != record.settlement());
        world.faults.add(Fault::SettledJobWritten, is_other && record.settlement().is_some());
        world.faults.add(Fault::NoJobAnyMore, is_other && record.settlement().is_none());
        (world.jobs[job].record, world.jobs[job].op) = (next, by);
        true
    }

    /// Deletes an attempt's picture, there or not.
    pub(crate) fn delete_object(self, world: &mut World, job: usize, attempt: u32) {
        world.jobs[job].objects[self.object_of(attempt)] = 0;
    }

    /// Puts an attempt's picture unless one lies under its key.
    pub(crate) fn put_object(self, world: &mut World, job: usize, attempt: u32) {
        let object = &mut world.jobs[job].objects[self.object_of(attempt)];
        if *object == 0 {
            *object = u8::try_from(attempt).unwrap();
        }
    }

    /// Each attempt's picture has a hash of its own, so either part of the key tells them apart.
    pub(crate) fn object_of(self, attempt: u32) -> usize {
        let is_one = self.has(Guard::AttemptInTheObjectsKey) && self.has(Guard::HashInTheObjectsKey);
        if is_one { 0 } else { attempt as usize - 1 }
    }
}

fn new_job(now: u64, deadline: u64) -> Known<Shown> {
    let Job { id, user, order, .. } = submitted(0);
    let order =
        darkroom_core::job::Order { created_at: tick(now), deadline_at: tick(now + deadline), ..order };
    Known::job(Job::submitted(Submission { id, user, order, op: stamp(0) }, seconds(60)))
}

/// A record that was published, whatever it was.
fn forced(record: &Shown, published: bool) -> Job {
    let outcome = Outcome::Drawn { image: image(1), drawn_by: "m".to_owned(), published };
    let (finished_at, expires_at) = (tick(0), tick(0));
    Job { stage: Stage::Settled(Settled { finished_at, expires_at, outcome }), ..Job::clone(record) }
}

/// What a write may not do, whatever condition let it pass.
fn note(world: &mut World, record: Known<Shown>, next: Known<Shown>, command: &Command) {
    let (write, now) = (Write::of(command), world.now());
    let is_held = matches!(&record.stage, Stage::Processing(held) if held.lease_until > now);
    let keeps = matches!(next.stage, Stage::Processing(_)) && next.attempt == record.attempt;
    let waits = matches!(next.stage, Stage::Pending(_));
    let asked = record.is_cancel_requested();
    let moves_nothing = matches!(write, Write::Defer | Write::Mark | Write::RequestCancel);
    let is_strange = !has_status(&record.stage, command) && record.settlement().is_none();
    let counts_for_another =
        write == Write::CountCall && !named_attempt(command).is_some_and(|attempt| holds(&record, attempt));
    let faults = &mut world.faults;
    faults.add(Fault::SettledJobWritten, record.settlement().is_some());
    faults.add(Fault::LiveLeaseTaken, is_held && !keeps && !gives_back(command, &record));
    faults.add(Fault::CancelForgotten, waits && asked);
    faults.add(Fault::CallAfterCancel, write.counts() && asked);
    faults.add(Fault::NoJobAnyMore, moves_nothing && is_strange);
    faults.add(Fault::CallNotByTheHolder, counts_for_another || next.attempt < record.attempt);
}

/// The holder ends its own attempt, or a picture came.
fn gives_back(command: &Command, record: &Shown) -> bool {
    match command {
        Command::Retry { attempt, .. }
        | Command::Release { attempt, .. }
        | Command::EndHeld { attempt, .. } => *attempt == record.attempt,
        Command::Capture { .. } => true,
        _ => false,
    }
}

/// The lease of a record, as a refused claim looks at it.
pub(crate) fn looked_at(off: Off, record: &Shown, now: Timestamp) -> Job {
    let mut job = Job::clone(record);
    if let Stage::Processing(held) = &mut job.stage
        && off.has(Guard::LeaseBeforeTheEnd)
    {
        held.lease_until = held.lease_until.min(now);
    }
    job
}

/// A picture's settlement.
pub(crate) fn capture(attempt: u32) -> Command {
    let end = crate::common::end(tick(0));
    Command::Capture { image: image(attempt), drawn_by: "m".to_owned(), end }
}
