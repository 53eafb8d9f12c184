//! What makes a write conditional, each part of it to be taken away alone.
//!
//! A guard of a job's record is taken away by showing [`apply`] a job that it accepts: one in which what the guard looks
//! at is as the command wants it. What the command does not write is given back afterwards, so that the rest is done
//! by the code that is tested.

use darkroom_core::job::{Job, Pending, Processing, Stage, WaitReason};
use darkroom_core::lifecycle::{Command, Rejection, Seen, SeenProcessing, apply};
use darkroom_core::time::Timestamp;

use crate::common::stamp;
use crate::world::{named_attempt, tick};

/// The writes of a job's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Claim,
    CountCall,
    Retry,
    Release,
    Defer,
    Progress,
    Capture,
    EndHeld,
    EndAsSeen,
    CancelPending,
    RequestCancel,
    Mark,
    Requeue,
}

/// What can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A condition of a write of the job's record.
    Of(Write, Condition),
    /// The submission's transaction.
    JobAbsent,
    Available,
    InflightBound,
    /// The settlement's transaction.
    EntryAbsent,
    TicketInTheEntrysKey,
    /// A stamp is drawn anew for each write.
    FreshStamp,
    /// A stamp is one worker's, not its message's.
    OwnStamp,
    /// Our stamp means success only in the state that we made.
    StateBesideTheStamp,
    /// A refused claim looks at a live lease before it finds that nothing is left.
    LeaseBeforeTheEnd,
    /// The call is counted before it is made.
    CountBeforeTheCall,
    AttemptInTheObjectsKey,
    HashInTheObjectsKey,
    /// What is published has a picture.
    PublishedIsDrawn,
    /// What is deleted is settled.
    DeletedIsSettled,
    /// A deleted job's key makes no other.
    TombstoneHoldsTheKey,
    /// A job is deleted before its picture.
    RecordBeforeThePicture,
}

/// The conditions of the writes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    NotSettled,
    Status,
    Attempt,
    NoCancelRequest,
    LeaseOver,
    PauseOver,
    DeadlineAhead,
    TriesLeft,
    CallsLeft,
    LeaseAsSeen,
    HeartbeatAsSeen,
    DueAsSeen,
}

use Condition::{
    Attempt, CallsLeft, DeadlineAhead, DueAsSeen, HeartbeatAsSeen, LeaseAsSeen, LeaseOver, NoCancelRequest,
    NotSettled, PauseOver, Status, TriesLeft,
};

/// The guards that are taken away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Off(pub(crate) &'static [Guard]);

impl Off {
    pub(crate) const NONE: Self = Self(&[]);

    pub(crate) fn has(self, guard: Guard) -> bool {
        self.0.contains(&guard)
    }

    /// [`apply`] without these guards.
    pub(crate) fn apply(self, job: &Job, command: &Command) -> Result<Job, Rejection> {
        let write = Write::of(command);
        let off = |condition| self.has(Guard::Of(write, condition));
        let fitted = fitted(job, command, write, off);
        let next = apply(&fitted, command, stamp(0))?;
        let counts = !(self.has(Guard::CountBeforeTheCall) && write.counts());
        Ok(given_back(job, &fitted, next, write, counts))
    }
}

impl Write {
    pub(crate) const fn of(command: &Command) -> Self {
        match command {
            Command::Claim { .. } => Self::Claim,
            Command::CountCall { .. } => Self::CountCall,
            Command::Retry { .. } => Self::Retry,
            Command::Release { .. } => Self::Release,
            Command::Defer { .. } => Self::Defer,
            Command::Progress { .. } => Self::Progress,
            Command::Capture { .. } => Self::Capture,
            Command::EndHeld { .. } => Self::EndHeld,
            Command::EndAsSeen { .. } => Self::EndAsSeen,
            Command::CancelPending { .. } => Self::CancelPending,
            Command::RequestCancel => Self::RequestCancel,
            Command::Mark { .. } => Self::Mark,
            Command::Requeue { .. } => Self::Requeue,
        }
    }

    /// Whether it counts a call.
    pub(crate) const fn counts(self) -> bool {
        matches!(self, Self::Claim | Self::CountCall)
    }

    /// Whether it says what becomes of the job. The others write a few attributes beside its status.
    const fn moves(self) -> bool {
        !matches!(self, Self::CountCall | Self::Defer | Self::Progress | Self::RequestCancel | Self::Mark)
    }
}

/// The job as the command wants it, in what these guards look at.
fn fitted(job: &Job, command: &Command, write: Write, off: impl Fn(Condition) -> bool) -> Job {
    let mut fitted = job.clone();
    let is_settled = job.settlement().is_some();
    // A picture has no other condition; whatever names a status does not find it on a settled job.
    if is_settled && !(off(NotSettled) && (off(Status) || write == Write::Capture)) {
        return fitted;
    }
    if is_settled || (off(Status) && !has_status(&job.stage, command)) {
        fitted.stage = wanted(command, job.due_at());
    }
    if off(Attempt) {
        fitted.attempt = names(command).unwrap_or(job.attempt);
    }
    match (command, &mut fitted.stage) {
        (Command::Claim { now, .. }, Stage::Processing(held)) if off(LeaseOver) => held.lease_until = *now,
        (Command::Claim { now, .. }, Stage::Pending(wait)) if off(PauseOver) => wait.not_before = *now,
        (Command::Mark { due_at_seen, .. }, Stage::Pending(wait)) if off(DueAsSeen) => {
            wait.due_at = *due_at_seen;
        }
        (
            Command::Requeue { seen, .. } | Command::EndAsSeen { seen: Seen::Processing(seen), .. },
            Stage::Processing(held),
        ) => {
            let SeenProcessing { lease_until, heartbeat_at, .. } = *seen;
            if off(LeaseAsSeen) {
                held.lease_until = lease_until;
            }
            if off(HeartbeatAsSeen) {
                held.heartbeat_at = heartbeat_at;
            }
        }
        _ => {}
    }
    if let Stage::Processing(held) = &mut fitted.stage
        && off(NoCancelRequest)
    {
        held.cancel_requested = false;
    }
    match command {
        Command::Claim { now, bounds, .. } => {
            if off(DeadlineAhead) {
                fitted.order.deadline_at = now.plus(crate::common::seconds(1));
            }
            if off(TriesLeft) {
                fitted.tries = 0;
            }
            if off(CallsLeft) {
                fitted.calls = fitted.calls.min(bounds.calls_max - 1);
            }
        }
        Command::CountCall { calls_max, .. } if off(CallsLeft) => {
            fitted.calls = fitted.calls.min(calls_max - 1);
        }
        _ => {}
    }
    fitted
}

/// What was made to fit, as it was; and what the command has written.
fn given_back(job: &Job, fitted: &Job, next: Job, write: Write, counts: bool) -> Job {
    let attempt = if write == Write::Claim { job.attempt + 1 } else { job.attempt };
    let tries = (job.tries + next.tries).saturating_sub(fitted.tries);
    let calls = if counts { (job.calls + next.calls).saturating_sub(fitted.calls) } else { job.calls };
    let stage = match (write, &job.stage, next.stage) {
        (write, _, stage) if write.moves() => stage,
        (Write::Progress, Stage::Processing(was), Stage::Processing(shown)) => {
            let Processing { heartbeat_at, progress, .. } = shown;
            Stage::Processing(Processing { heartbeat_at, progress, ..was.clone() })
        }
        (Write::RequestCancel, Stage::Processing(_), stage @ Stage::Processing(_))
        | (Write::Defer | Write::Mark, Stage::Pending(_), stage @ Stage::Pending(_)) => stage,
        (_, was, _) => was.clone(),
    };
    Job { attempt, tries, calls, stage, order: job.order.clone(), ..next }
}

/// The attempt that a command names.
fn names(command: &Command) -> Option<u32> {
    match command {
        Command::Capture { .. } => None,
        Command::Defer { attempt, .. }
        | Command::Progress { attempt, .. }
        | Command::EndAsSeen { seen: Seen::Pending { attempt }, .. } => Some(*attempt),
        Command::Requeue { seen, .. } | Command::EndAsSeen { seen: Seen::Processing(seen), .. } => {
            Some(seen.attempt)
        }
        command => named_attempt(command),
    }
}

/// Whether the job has the status that a command names.
pub(crate) fn has_status(stage: &Stage, command: &Command) -> bool {
    match command {
        Command::Claim { .. } | Command::Capture { .. } => !matches!(stage, Stage::Settled(_)),
        command if is_for_waiting(command) => matches!(stage, Stage::Pending(_)),
        _ => matches!(stage, Stage::Processing(_)),
    }
}

fn is_for_waiting(command: &Command) -> bool {
    matches!(
        command,
        Command::Defer { .. }
            | Command::CancelPending { .. }
            | Command::Mark { .. }
            | Command::EndAsSeen { seen: Seen::Pending { .. }, .. }
    )
}

/// A stage that a command accepts; what the record lacks for it stands at a time that nobody has seen. The due time is
/// there in both live stages.
fn wanted(command: &Command, due_at: Option<Timestamp>) -> Stage {
    let never = Timestamp::EPOCH;
    if is_for_waiting(command) || matches!(command, Command::Claim { .. }) {
        let due_at = due_at.unwrap_or(never);
        let (wait_at, not_before, reason) = (tick(0), never, WaitReason::Capacity);
        return Stage::Pending(Pending { wait_at, not_before, due_at, wakes: 0, reason });
    }
    Stage::Processing(Processing {
        lease_until: never,
        claimed_at: tick(0),
        heartbeat_at: None,
        progress: 0,
        cancel_requested: false,
    })
}
