//! What the sweeper does with a job that it read: dispatcher of what is due, undertaker of what is lost.

use std::time::Duration;

use crate::job::{Job, Pending, Processing, Stage};
use crate::job_error::{JobErrorCode, JobFailure};
use crate::lifecycle::{
    Bounds, Command, End, Ending, Seen, SeenProcessing, deadline_over, expires_at, next_wake,
};
use crate::limits::WAKES_MAX;
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

fn sweep_pending(job: &Job, pending: &Pending, now: Timestamp, rules: &Rules) -> SweepAction {
    let seen = Seen::Pending { attempt: job.attempt };
    if job.order.deadline_at <= now {
        let (code, detail) = deadline_over(job, now);
        return end(seen, JobFailure::new(code, detail), now, rules);
    }
    let (limit, since) = if job.attempt == 0 {
        (rules.pending_max, job.order.created_at)
    } else {
        (rules.retry_max, pending.wait_at)
    };
    let waited = now.since(since);
    if waited >= limit {
        let detail = format!("stuck in pending for {}", readable(waited));
        return end(seen, JobFailure::new(JobErrorCode::Stuck, detail), now, rules);
    }
    // After the last wake the job is due again only when its time is over, which is looked at above.
    if pending.due_at > now.plus(rules.ahead) || pending.wakes >= WAKES_MAX {
        return SweepAction::Leave;
    }
    let delay = pending.not_before.since(now);
    let over_at = job.order.deadline_at.min(since.plus(limit));
    let due_at = next_wake(pending.wakes + 1, now.plus(delay), rules.wake, over_at);
    // It is due for its end alone. A mark that does not move the due time on would let every read until then
    // send a message, and each of two sweeps at once.
    if due_at <= pending.due_at {
        return SweepAction::Leave;
    }
    SweepAction::Send { command: Command::Mark { due_at_seen: pending.due_at, due_at }, delay }
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
    let nothing_left = job.attempt >= rules.bounds.attempts_max || job.calls >= rules.bounds.calls_max;
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
