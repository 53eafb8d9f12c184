//! The only place where a job's state changes: (state, command, now) → next state or a rejection.
//!
//! (attempt, status) only moves forward: `pending@n → processing@n+1 → pending@n+1 → … → settled`. So every
//! command on a live job names both. The store compiles each command into one conditional write that accepts
//! exactly what [`apply`] accepts; a test holds the two against each other. What its owner does with a settled job is in
//! [`settled`](crate::settled).

use thiserror::Error;

use crate::id::Stamp;
use crate::image::StoredImage;
use crate::job::{Job, Outcome, Pending, Processing, Settled, Stage, WaitReason};
use crate::job_error::{JobErrorCode, JobFailure};
use crate::ledger::Settlement;
use crate::limits;
use crate::time::{Timestamp, readable};

/// One change of a job's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A worker takes the job and counts its first call.
    Claim {
        /// Now, by the worker's clock.
        now: Timestamp,
        /// The worker may act until then.
        lease_until: Timestamp,
        /// Bounds of attempts and calls.
        bounds: Bounds,
    },
    /// The holder counts one more call in the same attempt.
    CountCall {
        /// The holder's attempt.
        attempt: u32,
        /// Calls allowed in all.
        calls_max: u32,
    },
    /// The holder gives it back for a later attempt.
    Retry {
        /// The holder's attempt.
        attempt: u32,
        /// Waits since now.
        now: Timestamp,
        /// Not claimed before then.
        not_before: Timestamp,
        /// Why this attempt failed.
        code: JobErrorCode,
    },
    /// Nothing is free for it yet; costs no attempt.
    Defer {
        /// The attempt as seen.
        attempt: u32,
        /// Its turn.
        not_before: Timestamp,
        /// What it waits for.
        reason: WaitReason,
    },
    /// The holder shows that it lives.
    Progress {
        /// The holder's attempt.
        attempt: u32,
        /// Now.
        now: Timestamp,
        /// 0 to 99; never falls.
        progress: u8,
    },
    /// The holder gives its attempt back: nothing failed, it has to wait. Costs no try.
    Release {
        /// The holder's attempt.
        attempt: u32,
        /// Waits since now.
        now: Timestamp,
        /// Its turn.
        not_before: Timestamp,
        /// What it waits for.
        reason: WaitReason,
        /// Calls that were counted and not made: given back, too.
        uncalled: u32,
    },
    /// A picture came: also that of an older attempt, as long as the job is not settled.
    Capture {
        /// The picture.
        image: StoredImage,
        /// The provider's model that drew it.
        drawn_by: String,
        /// Now and how long the record is kept.
        end: End,
    },
    /// The holder ends it without a picture.
    EndHeld {
        /// The holder's attempt.
        attempt: u32,
        /// How.
        ending: Ending,
        /// Now and how long the record is kept.
        end: End,
    },
    /// Whoever read it ends it, if it still is as it was read.
    EndAsSeen {
        /// As it was read.
        seen: Seen,
        /// How.
        ending: Ending,
        /// Now and how long the record is kept.
        end: End,
    },
    /// The owner ends it while it waits.
    CancelPending {
        /// Now and how long the record is kept.
        end: End,
    },
    /// The owner asks to end it while it is drawn.
    RequestCancel,
    /// The sweeper is about to send its message again.
    Mark {
        /// The due time as it was read.
        due_at_seen: Timestamp,
        /// When to look again.
        due_at: Timestamp,
    },
    /// The sweeper puts it back after its worker died.
    Requeue {
        /// As it was read.
        seen: SeenProcessing,
        /// Waits since now.
        now: Timestamp,
        /// When to look again.
        due_at: Timestamp,
    },
}

/// How many attempts and calls a job may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Attempts that count ([`Job::tries`]).
    pub attempts_max: u32,
    /// Provider calls.
    pub calls_max: u32,
}

/// The end of a job in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Now.
    pub now: Timestamp,
    /// The record may be deleted then.
    pub expires_at: Timestamp,
}

/// An end without a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It failed.
    Failed(JobFailure),
    /// Its owner wanted it.
    Cancelled,
}

/// A live job as somebody read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Waiting.
    Pending {
        /// Its attempt.
        attempt: u32,
    },
    /// Being drawn.
    Processing(SeenProcessing),
}

/// A job in a worker's hands, as somebody read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenProcessing {
    /// Its attempt.
    pub attempt: u32,
    /// Its lease.
    pub lease_until: Timestamp,
    /// The worker's last sign of life.
    pub heartbeat_at: Option<Timestamp>,
}

/// Why a command does not fit the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// It is settled: nothing changes how it ended.
    #[error("the job is settled")]
    Settled,
    /// It is pending where it should be processing, or the other way round.
    #[error("the job is in another state")]
    OtherState,
    /// Another attempt has begun.
    #[error("the job is in another attempt")]
    OtherAttempt,
    /// Its worker may still act.
    #[error("the job is leased")]
    Leased,
    /// It may not be claimed yet.
    #[error("the job may not be claimed yet")]
    TooEarly,
    /// Its owner asked to end it.
    #[error("the job's owner asked to end it")]
    CancelRequested,
    /// No attempt or call is left.
    #[error("the job has no attempt or call left")]
    Exhausted,
    /// Its deadline is over.
    #[error("the job's deadline is over")]
    DeadlineOver,
    /// It has changed since it was read.
    #[error("the job has changed since it was read")]
    Changed,
}

impl Command {
    /// [`Command::Retry`] of the job that its holder has. The wait ends with the deadline at the latest: the
    /// sweeper looks at a waiting job when its wait is over, and would otherwise settle it late.
    pub fn retry(job: &Job, now: Timestamp, not_before: Timestamp, code: JobErrorCode) -> Self {
        let not_before = not_before.min(job.order.deadline_at);
        Self::Retry { attempt: job.attempt, now, not_before, code }
    }

    /// [`Command::Release`] of the job that its holder has. The wait ends with the deadline at the latest.
    pub fn release(
        job: &Job,
        now: Timestamp,
        not_before: Timestamp,
        reason: WaitReason,
        uncalled: u32,
    ) -> Self {
        let not_before = reason.wakes_at(not_before).min(job.order.deadline_at);
        Self::Release { attempt: job.attempt, now, not_before, reason, uncalled }
    }

    /// [`Command::Defer`] of the job as it was read. The wait ends with the deadline at the latest.
    pub fn defer(job: &Job, not_before: Timestamp, reason: WaitReason) -> Self {
        let not_before = reason.wakes_at(not_before).min(job.order.deadline_at);
        Self::Defer { attempt: job.attempt, not_before, reason }
    }

    /// What the command does to the tokens; `None` leaves them held.
    pub const fn settlement(&self) -> Option<Settlement> {
        match self {
            Self::Capture { .. } => Some(Settlement::Captured),
            Self::EndHeld { .. } | Self::EndAsSeen { .. } | Self::CancelPending { .. } => {
                Some(Settlement::Refunded)
            }
            Self::Claim { .. }
            | Self::CountCall { .. }
            | Self::Retry { .. }
            | Self::Release { .. }
            | Self::Defer { .. }
            | Self::Progress { .. }
            | Self::RequestCancel
            | Self::Mark { .. }
            | Self::Requeue { .. } => None,
        }
    }

    /// Whether `job` still is in the state that this command makes. A refused write that finds its own
    /// stamp succeeded before only if this holds too: a stamp alone can be older than the state.
    pub fn has_made(&self, job: &Job) -> bool {
        match (self, &job.stage) {
            (Self::Claim { lease_until, .. }, Stage::Processing(p)) => p.lease_until == *lease_until,
            (Self::CountCall { attempt, .. } | Self::Progress { attempt, .. }, Stage::Processing(_))
            | (
                Self::Retry { attempt, .. } | Self::Release { attempt, .. } | Self::Defer { attempt, .. },
                Stage::Pending(_),
            ) => job.attempt == *attempt,
            (Self::RequestCancel, Stage::Processing(p)) => p.cancel_requested,
            (Self::Requeue { seen, .. }, Stage::Pending(_)) => job.attempt == seen.attempt,
            (Self::Mark { due_at, .. }, Stage::Pending(p)) => p.due_at == *due_at,
            (_, Stage::Settled(settled)) => Some(settled.outcome.settlement()) == self.settlement(),
            _ => false,
        }
    }
}

/// Applies a command: the next record, or why the state does not allow it.
pub fn apply(job: &Job, command: &Command, op: Stamp) -> Result<Job, Rejection> {
    let mut next = match (command, &job.stage) {
        (_, Stage::Settled(_)) => return Err(Rejection::Settled),
        (Command::Claim { now, lease_until, bounds }, _) => claim(job, *now, *lease_until, *bounds)?,
        (Command::CountCall { attempt, calls_max }, Stage::Processing(p)) => {
            same_attempt(job, *attempt)?;
            not_cancelled(p)?;
            if job.calls >= *calls_max {
                return Err(Rejection::Exhausted);
            }
            Job { calls: job.calls + 1, ..job.clone() }
        }
        (Command::Retry { attempt, now, not_before, code }, Stage::Processing(p)) => {
            same_attempt(job, *attempt)?;
            not_cancelled(p)?;
            let pending = waiting(*now, *not_before, WaitReason::Retry);
            Job { last_failure: Some(*code), stage: Stage::Pending(pending), ..job.clone() }
        }
        (Command::Release { attempt, now, not_before, reason, uncalled }, Stage::Processing(p)) => {
            same_attempt(job, *attempt)?;
            not_cancelled(p)?;
            // A claim has counted the try, so there is one to give back.
            let tries = job.tries.checked_sub(1).ok_or(Rejection::Changed)?;
            let calls = job.calls.checked_sub(*uncalled).ok_or(Rejection::Changed)?;
            Job { tries, calls, stage: Stage::Pending(waiting(*now, *not_before, *reason)), ..job.clone() }
        }
        (Command::Defer { attempt, not_before, reason }, Stage::Pending(p)) => {
            same_attempt(job, *attempt)?;
            let stage = Stage::Pending(waiting(p.wait_at, *not_before, *reason));
            Job { stage, ..job.clone() }
        }
        (Command::Progress { attempt, now, progress }, Stage::Processing(p)) => {
            same_attempt(job, *attempt)?;
            if p.progress > *progress {
                return Err(Rejection::Changed);
            }
            let stage = Processing { heartbeat_at: Some(*now), progress: *progress, ..p.clone() };
            Job { stage: Stage::Processing(stage), ..job.clone() }
        }
        (Command::Capture { image, drawn_by, end }, _) => {
            let (image, drawn_by) = (image.clone(), drawn_by.clone());
            settled(job, Outcome::Drawn { image, drawn_by, published: false }, *end)
        }
        (Command::EndHeld { attempt, ending, end }, Stage::Processing(_)) => {
            same_attempt(job, *attempt)?;
            settled(job, ending.outcome(), *end)
        }
        (Command::EndAsSeen { seen, ending, end }, _) => {
            as_seen(job, *seen)?;
            settled(job, ending.outcome(), *end)
        }
        (Command::CancelPending { end }, Stage::Pending(_)) => settled(job, Outcome::Cancelled, *end),
        (Command::RequestCancel, Stage::Processing(p)) => {
            let stage = Processing { cancel_requested: true, ..p.clone() };
            Job { stage: Stage::Processing(stage), ..job.clone() }
        }
        (Command::Mark { due_at_seen, due_at }, Stage::Pending(p)) => {
            if p.due_at != *due_at_seen {
                return Err(Rejection::Changed);
            }
            let stage = Pending { due_at: *due_at, wakes: p.wakes + 1, ..p.clone() };
            Job { stage: Stage::Pending(stage), ..job.clone() }
        }
        (Command::Requeue { seen, now, due_at }, Stage::Processing(p)) => {
            as_seen(job, Seen::Processing(*seen))?;
            not_cancelled(p)?;
            let pending = Pending { due_at: *due_at, ..waiting(*now, *now, WaitReason::Capacity) };
            Job { last_failure: Some(JobErrorCode::Timeout), stage: Stage::Pending(pending), ..job.clone() }
        }
        (
            Command::CountCall { .. }
            | Command::Retry { .. }
            | Command::Release { .. }
            | Command::Progress { .. }
            | Command::EndHeld { .. }
            | Command::RequestCancel
            | Command::Requeue { .. },
            Stage::Pending(_),
        )
        | (
            Command::Defer { .. } | Command::CancelPending { .. } | Command::Mark { .. },
            Stage::Processing(_),
        ) => return Err(Rejection::OtherState),
    };
    next.version = job.version + 1;
    next.op = op;
    Ok(next)
}

fn claim(job: &Job, now: Timestamp, lease_until: Timestamp, bounds: Bounds) -> Result<Job, Rejection> {
    match &job.stage {
        Stage::Processing(p) if p.lease_until > now => return Err(Rejection::Leased),
        Stage::Processing(p) if p.cancel_requested => return Err(Rejection::CancelRequested),
        // Who comes with a slot or a pass has what the others wait for, whenever their turn would be.
        Stage::Pending(p) if p.reason == WaitReason::Retry && p.not_before > now => {
            return Err(Rejection::TooEarly);
        }
        Stage::Settled(_) => return Err(Rejection::Settled),
        Stage::Processing(_) | Stage::Pending(_) => {}
    }
    if job.order.deadline_at <= now {
        return Err(Rejection::DeadlineOver);
    }
    if job.tries >= bounds.attempts_max || job.calls >= bounds.calls_max {
        return Err(Rejection::Exhausted);
    }
    let stage =
        Processing { lease_until, claimed_at: now, heartbeat_at: None, progress: 0, cancel_requested: false };
    Ok(Job {
        attempt: job.attempt + 1,
        tries: job.tries + 1,
        calls: job.calls + 1,
        started_at: job.started_at.or(Some(now)),
        stage: Stage::Processing(stage),
        ..job.clone()
    })
}

/// A new wait: due at its second, with a fresh count of wakes.
const fn waiting(wait_at: Timestamp, not_before: Timestamp, reason: WaitReason) -> Pending {
    Pending { wait_at, not_before, due_at: not_before, wakes: 0, reason }
}

fn settled(job: &Job, outcome: Outcome, end: End) -> Job {
    let stage = Stage::Settled(Settled { finished_at: end.now, expires_at: end.expires_at, outcome });
    Job { stage, ..job.clone() }
}

const fn same_attempt(job: &Job, attempt: u32) -> Result<(), Rejection> {
    if job.attempt == attempt { Ok(()) } else { Err(Rejection::OtherAttempt) }
}

const fn not_cancelled(processing: &Processing) -> Result<(), Rejection> {
    if processing.cancel_requested { Err(Rejection::CancelRequested) } else { Ok(()) }
}

fn as_seen(job: &Job, seen: Seen) -> Result<(), Rejection> {
    match (Seen::of(job), seen) {
        (Some(Seen::Pending { .. }), Seen::Processing(_))
        | (Some(Seen::Processing(_)), Seen::Pending { .. }) => Err(Rejection::OtherState),
        (Some(Seen::Pending { attempt }), Seen::Pending { attempt: seen }) if attempt != seen => {
            Err(Rejection::OtherAttempt)
        }
        (Some(Seen::Processing(now)), Seen::Processing(then)) if now.attempt != then.attempt => {
            Err(Rejection::OtherAttempt)
        }
        (now, then) if now == Some(then) => Ok(()),
        _ => Err(Rejection::Changed),
    }
}

impl Seen {
    /// What is to be seen of a live job; `None` once it is settled.
    pub const fn of(job: &Job) -> Option<Self> {
        match &job.stage {
            Stage::Pending(_) => Some(Self::Pending { attempt: job.attempt }),
            Stage::Processing(p) => Some(Self::Processing(SeenProcessing {
                attempt: job.attempt,
                lease_until: p.lease_until,
                heartbeat_at: p.heartbeat_at,
            })),
            Stage::Settled(_) => None,
        }
    }
}

impl Ending {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(failure) => Outcome::Failed(failure.clone()),
            Self::Cancelled => Outcome::Cancelled,
        }
    }
}

/// What a worker does when its claim was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedClaim {
    /// The claim had succeeded before, and its answer was lost.
    Won,
    /// It had, and the owner has asked to end the job since: settle it as cancelled.
    WonButCancelled,
    /// It came too early, by no more than two machines' clocks may differ: claim it again then.
    Early(Timestamp),
    /// Leave it; the message is done.
    Leave(Rejection),
    /// Nothing is left for it: end it as it was seen.
    End(Seen, JobFailure),
}

/// Looks at a job whose claim was refused, in this order: settled, own stamp, live lease, too early,
/// cancel asked, nothing left. `claim` and `op` are the refused write's.
pub fn refused_claim(job: &Job, claim: &Command, op: &Stamp, now: Timestamp, bounds: Bounds) -> RefusedClaim {
    if job.op == *op && claim.has_made(job) {
        return if job.is_cancel_requested() { RefusedClaim::WonButCancelled } else { RefusedClaim::Won };
    }
    unclaimable(job, now, bounds).unwrap_or(RefusedClaim::Leave(Rejection::Changed))
}

/// What a worker does with a job that cannot be claimed as it is; `None` for one that can. Asked before a slot is: a message
/// that comes late or twice uses none up.
pub fn unclaimable(job: &Job, now: Timestamp, bounds: Bounds) -> Option<RefusedClaim> {
    let rejection = claim(job, now, now, bounds).err()?;
    let failure = match rejection {
        Rejection::DeadlineOver => {
            let (code, detail) = deadline_over(job, now);
            JobFailure::new(code, detail)
        }
        Rejection::Exhausted => JobFailure::new(JobErrorCode::AttemptsExhausted, exhausted(job)),
        _ => {
            return Some(match &job.stage {
                Stage::Pending(wait) if wait.not_before <= now.plus(limits::CLOCKS_DIFFER_MAX) => {
                    RefusedClaim::Early(wait.not_before)
                }
                _ => RefusedClaim::Leave(rejection),
            });
        }
    };
    Seen::of(job).map(|seen| RefusedClaim::End(seen, failure))
}

/// The code and the words for a job that was not done by its deadline.
pub fn deadline_over(job: &Job, now: Timestamp) -> (JobErrorCode, String) {
    let age = readable(now.since(job.order.created_at));
    match job.stage {
        Stage::Processing(_) => {
            (JobErrorCode::DeadlineExceeded, format!("stuck in processing, {age} old, past its deadline"))
        }
        _ => (JobErrorCode::Stuck, format!("stuck in pending for {age}")),
    }
}

/// The words for a job that has used every attempt or call.
pub fn exhausted(job: &Job) -> String {
    format!("{} attempts and {} calls used", job.attempt, job.calls)
}

/// When a settled record may be deleted: whole seconds, as DynamoDB's `ttl` counts.
pub fn expires_at(now: Timestamp, ttl_days: u64) -> Timestamp {
    let exact = now.plus(std::time::Duration::from_secs(ttl_days.saturating_mul(86_400)));
    Timestamp::from_millis(exact.as_seconds() * 1000)
}

/// When the sweeper looks again at a job whose message was sent again `wakes` times (from 1) at `sent_at`: four
/// times later each, so that a backlog is not multiplied, and after the last only when the job's time is over.
pub fn next_wake(wakes: u32, sent_at: Timestamp, wake: std::time::Duration, over_at: Timestamp) -> Timestamp {
    if wakes >= limits::WAKES_MAX {
        return over_at;
    }
    sent_at.plus(wake.saturating_mul(4_u32.saturating_pow(wakes.saturating_sub(1)))).min(over_at)
}
