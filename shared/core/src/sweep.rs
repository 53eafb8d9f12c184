//! What the sweeper does with a job that it read: dispatcher of what is due, undertaker of what is lost.

use std::time::Duration;

use crate::job::{Job, Pending, Processing, Stage, WaitReason};
use crate::job_error::{JobErrorCode, JobFailure};
use crate::lifecycle::{
    Bounds, Command, End, Ending, Seen, SeenProcessing, deadline_over, expires_at, next_wake,
};
use crate::limits::{WAIT_LOOK, WAKES_MAX};
use crate::pace::Pace;
use crate::time::{Timestamp, readable};

/// The operator's settings that a sweep goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bounds of attempts and calls.
    pub bounds: Bounds,
    /// A job that was never claimed may wait this long.
    pub pending_max: Duration,
    /// A job that was claimed before may wait this long.
    pub retry_max: Duration,
    /// A job may be in processing this long, from its first claim.
    pub processing_max: Duration,
    /// A lost message is made up for after this.
    pub wake: Duration,
    /// A due job is sent this much ahead of its second.
    pub ahead: Duration,
    /// Days a settled record is kept.
    pub ttl_days: u64,
}

/// What to do with a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// Nothing: it is not due, or settled.
    Leave,
    /// It waits for its model's quota or breaker: nothing is sent before then.
    Wait {
        /// [`Command::Defer`].
        command: Command,
    },
    /// Write the mark, then send its message with this delay.
    Send {
        /// [`Command::Mark`].
        command: Command,
        /// Until its second.
        delay: Duration,
    },
    /// Put it back after its worker died, then send its message.
    Requeue {
        /// [`Command::Requeue`].
        command: Command,
    },
    /// End it and give the tokens back.
    End {
        /// [`Command::EndAsSeen`].
        command: Command,
        /// Why, for the table and the log.
        failure: Option<JobFailure>,
    },
}

impl SweepAction {
    /// A stable word for counts, tables and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Wait { .. } => "wait",
            Self::Send { .. } => "send",
            Self::Requeue { .. } => "requeue",
            Self::End { failure: Some(_), .. } => "fail",
            Self::End { failure: None, .. } => "cancel",
        }
    }
}

/// Decides what a sweep at `now` does with `job`.
pub fn sweep_action(job: &Job, now: Timestamp, rules: &Rules) -> SweepAction {
    match &job.stage {
        Stage::Settled(_) => SweepAction::Leave,
        Stage::Pending(pending) => sweep_pending(job, pending, now, rules),
        Stage::Processing(processing) => sweep_processing(job, processing, now, rules),
    }
}

/// What the owner's list of drafts does with a job of theirs: it ends what a sweep would end, so that its tokens are back, and
/// leaves to the sweeper whatever needs a message.
pub fn sweep_own(job: &Job, now: Timestamp, rules: &Rules) -> SweepAction {
    match sweep_action(job, now, rules) {
        end @ SweepAction::End { .. } => end,
        SweepAction::Leave
        | SweepAction::Wait { .. }
        | SweepAction::Send { .. }
        | SweepAction::Requeue { .. } => SweepAction::Leave,
    }
}

/// What `darkroom sweep --max-age` does with a job older than `max_age`: waiting jobs and dead workers' jobs
/// end, a live lease is only asked to end.
pub fn sweep_by_age(job: &Job, now: Timestamp, rules: &Rules, max_age: Duration) -> Option<AgeAction> {
    let age = now.since(job.order.created_at);
    if age <= max_age {
        return None;
    }
    let seen = Seen::of(job)?;
    match &job.stage {
        Stage::Processing(p) if p.lease_until > now => {
            (!p.cancel_requested).then_some(AgeAction::RequestCancel(Command::RequestCancel))
        }
        Stage::Processing(p) if p.cancel_requested => Some(AgeAction::End(cancel(seen, now, rules))),
        stage => {
            let held = matches!(stage, Stage::Processing(_));
            let code = if held { JobErrorCode::Timeout } else { JobErrorCode::Stuck };
            let detail = format!("stuck in {} for {}", job.status().as_str(), readable(age));
            Some(AgeAction::End(end(seen, JobFailure::new(code, detail), now, rules)))
        }
    }
}

/// What a sweep by age does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgeAction {
    /// The worker is asked to end it.
    RequestCancel(Command),
    /// It ends and is refunded.
    End(SweepAction),
}

/// The same, for a job whose model has a pace: a message goes out when its turn comes within the look, and otherwise the job
/// waits for its turn on its record, also where only a later look can tell when that is.
pub fn paced(job: &Job, action: SweepAction, pace: &mut Pace, now: Timestamp, rules: &Rules) -> SweepAction {
    let (SweepAction::Send { delay, .. }, Stage::Pending(pending)) = (&action, &job.stage) else {
        return action;
    };
    // Nothing that time alone frees: a worker looks at it and tells its owner.
    let Some(turn) = pace.take() else { return action };
    if !turn.is_firm && pending.not_before > now {
        // It waits for a later look already.
        return SweepAction::Leave;
    }
    let starts_at = turn.reason.wakes_at(turn.at).max(now.plus(*delay));
    if !turn.is_firm || starts_at > now.plus(rules.ahead) {
        if pending.reason == WaitReason::Retry && pending.not_before > now {
            // The pause after its failure binds whoever comes with a slot, as its turn would not.
            return SweepAction::Leave;
        }
        let over_at = over_at(job, pending, rules);
        let not_before = starts_at.min(over_at).min(now.plus(WAIT_LOOK));
        let command = Command::Defer { attempt: job.attempt, not_before, reason: turn.reason };
        return SweepAction::Wait { command };
    }
    send(job, pending, starts_at, now, rules)
}

fn sweep_pending(job: &Job, pending: &Pending, now: Timestamp, rules: &Rules) -> SweepAction {
    let seen = Seen::Pending { attempt: job.attempt };
    if job.order.deadline_at <= now {
        let (code, detail) = deadline_over(job, now);
        return end(seen, JobFailure::new(code, detail), now, rules);
    }
    let (limit, since) = wait_limit(job, pending, rules);
    let waited = now.since(since);
    if waited >= limit {
        let detail = format!("stuck in pending for {}", readable(waited));
        return end(seen, JobFailure::new(JobErrorCode::Stuck, detail), now, rules);
    }
    // After the last wake the job is due again only when its time is over, which is looked at above.
    if pending.due_at > now.plus(rules.ahead) || pending.wakes >= WAKES_MAX {
        return SweepAction::Leave;
    }
    send(job, pending, pending.not_before.max(now), now, rules)
}

/// Sends the job's message to be received at `starts_at`.
fn send(job: &Job, pending: &Pending, starts_at: Timestamp, now: Timestamp, rules: &Rules) -> SweepAction {
    let due_at = next_wake(pending.wakes + 1, starts_at, rules.wake, over_at(job, pending, rules));
    // It is due for its end alone. A mark that does not move the due time on would let every read until then
    // send a message, and each of two sweeps at once.
    if due_at <= pending.due_at {
        return SweepAction::Leave;
    }
    let command = Command::Mark { due_at_seen: pending.due_at, due_at };
    SweepAction::Send { command, delay: starts_at.since(now) }
}

/// When a waiting job's time is over.
fn over_at(job: &Job, pending: &Pending, rules: &Rules) -> Timestamp {
    let (limit, since) = wait_limit(job, pending, rules);
    job.order.deadline_at.min(since.plus(limit))
}

/// How long the job may wait, and since when it has.
fn wait_limit(job: &Job, pending: &Pending, rules: &Rules) -> (Duration, Timestamp) {
    if job.order.batch.is_some() {
        // As long as its batch may take: most of it waits for the rest.
        return (job.order.deadline_at.since(job.order.created_at), job.order.created_at);
    }
    if job.attempt == 0 {
        (rules.pending_max, job.order.created_at)
    } else {
        (rules.retry_max, pending.wait_at)
    }
}

fn sweep_processing(job: &Job, processing: &Processing, now: Timestamp, rules: &Rules) -> SweepAction {
    if processing.lease_until > now {
        return SweepAction::Leave;
    }
    let seen = SeenProcessing {
        attempt: job.attempt,
        lease_until: processing.lease_until,
        heartbeat_at: processing.heartbeat_at,
    };
    if processing.cancel_requested {
        return cancel(Seen::Processing(seen), now, rules);
    }
    if job.order.deadline_at <= now {
        let (code, detail) = deadline_over(job, now);
        return end(Seen::Processing(seen), JobFailure::new(code, detail), now, rules);
    }
    let held = now.since(processing.claimed_at);
    let in_all = now.since(job.started_at.unwrap_or(processing.claimed_at));
    let nothing_left = job.tries >= rules.bounds.attempts_max || job.calls >= rules.bounds.calls_max;
    if nothing_left || in_all > rules.processing_max {
        let detail = format!("stuck in processing for {}, attempt {}", readable(held), job.attempt);
        return end(Seen::Processing(seen), JobFailure::new(JobErrorCode::Timeout, detail), now, rules);
    }
    let due_at = next_wake(1, now, rules.wake, job.order.deadline_at);
    SweepAction::Requeue { command: Command::Requeue { seen, now, due_at } }
}

fn cancel(seen: Seen, now: Timestamp, rules: &Rules) -> SweepAction {
    let end = End { now, expires_at: expires_at(now, rules.ttl_days) };
    SweepAction::End { command: Command::EndAsSeen { seen, ending: Ending::Cancelled, end }, failure: None }
}

fn end(seen: Seen, failure: JobFailure, now: Timestamp, rules: &Rules) -> SweepAction {
    let end = End { now, expires_at: expires_at(now, rules.ttl_days) };
    let command = Command::EndAsSeen { seen, ending: Ending::Failed(failure.clone()), end };
    SweepAction::End { command, failure: Some(failure) }
}
