//! A batch's record: what was asked for, how far it has come, and the jobs that its lines become.

use std::time::Duration;

use crate::batch::{Batch, BatchCommand, BatchEnding, BatchStage};
use crate::batch_request::Line;
use crate::id::{BatchId, JobId, ModelName, Stamp, Ticket, UserId};
use crate::job::{BatchLine, Job, Order, Submission};
use crate::ledger::Tokens;
use crate::lifecycle::expires_at;
use crate::limits::{BATCH_DEADLINE_MIN, DEADLINE_MAX};
use crate::metadata::Metadata;
use crate::request::Prompt;
use crate::time::Timestamp;

/// A batch's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// Derived from owner and idempotency key.
    pub id: BatchId,
    /// Who pays and owns.
    pub user: UserId,
    /// What was asked for and when. Never changes.
    pub order: BatchOrder,
    /// Rises with every write. 1 is the submission.
    pub version: u64,
    /// The last write's stamp.
    pub op: Stamp,
    /// How far it has come.
    pub state: Batch,
    /// When its lines were all jobs, or no more became any.
    pub finished_at: Option<Timestamp>,
    /// The record may be deleted then; none while lines are left that become jobs.
    pub expires_at: Option<Timestamp>,
}

/// The part of a batch that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOrder {
    /// Hash of the request as it came.
    pub request_hash: String,
    /// The prices of all lines that can be drawn.
    pub cost: Tokens,
    /// Lines that cannot, which are kept beside the record.
    pub invalid: u32,
    /// How many lines each model draws.
    pub models: Vec<(ModelName, u32)>,
    /// SHA-256 of the object that holds the lines, 64 hexadecimal digits in lower case.
    pub lines_sha256: String,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it and its jobs must be done.
    pub deadline_at: Timestamp,
    /// How far apart its lines stand in the queue: as far as they can be drawn, so that others need not wait for all of them.
    pub spacing: Duration,
}

/// What a job's maker gives: the job, and what is kept beside its record.
pub struct MadeJob {
    /// The job.
    pub job: Job,
    /// A prompt too long for its record.
    pub long_prompt: Option<Prompt>,
    /// What the app keeps with it.
    pub metadata: Metadata,
}

/// What the sweeper does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSweep {
    /// Nothing: it is not due, or over.
    Leave,
    /// Write the mark, then tell a maker: lines are left that nobody makes jobs of.
    Send(BatchCommand),
    /// Give back what is left: its time is over.
    End(BatchCommand),
}

impl BatchSweep {
    /// A stable word for counts, tables and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Send(_) => "send_batch",
            Self::End(_) => "expire_batch",
        }
    }
}

/// How long a batch may take of which the last picture can be expected after `eta`, or not be foreseen: twice as long, an hour at
/// least and a day at most.
pub fn batch_deadline(eta: Option<Duration>) -> Duration {
    eta.map_or(DEADLINE_MAX, |eta| eta.saturating_mul(2).clamp(BATCH_DEADLINE_MIN, DEADLINE_MAX))
}

impl BatchRecord {
    /// A batch as it is submitted, of these lines, at least one.
    pub fn submitted(id: BatchId, user: UserId, order: BatchOrder, op: Stamp, wake: Duration) -> Self {
        let lines = order.models.iter().map(|(_, lines)| lines).sum();
        let due_at = order.created_at.plus(wake).min(order.deadline_at);
        let state = Batch::submitted(lines, order.cost, due_at);
        Self { id, user, order, version: 1, op, state, finished_at: None, expires_at: None }
    }

    /// Unique, and ordered by submission.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.order.created_at, &self.id)
    }

    /// Whether this user sees it at this time: to anybody else, and to its owner once it has expired, there is none.
    pub fn belongs_to(&self, user: &UserId, now: Timestamp) -> bool {
        self.user == *user && !self.is_expired(now)
    }

    /// Whether it is gone for its owner. The store deletes an expired record some time later, so readers compare.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether lines are left that become jobs at this time.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.state.due_at().is_some() && now < self.order.deadline_at
    }

    /// The record after a command that the state allows.
    ///
    /// # Errors
    /// Why it does not.
    pub fn after(
        &self,
        command: &BatchCommand,
        op: Stamp,
        now: Timestamp,
        ttl_days: u64,
    ) -> Result<Self, crate::batch::BatchRejection> {
        let state = crate::batch::apply(&self.state, command)?;
        let is_over = state.due_at().is_none();
        Ok(Self {
            state,
            op,
            version: self.version + 1,
            finished_at: is_over.then_some(now),
            expires_at: is_over.then(|| self.kept_until(now, ttl_days)),
            ..self.clone()
        })
    }

    /// When the record may be deleted of a batch that is over `now`: not before its jobs are, of which the last ends by the deadline.
    pub fn kept_until(&self, now: Timestamp, ttl_days: u64) -> Timestamp {
        expires_at(now.max(self.order.deadline_at), ttl_days)
    }

    /// The ids of the jobs that are made of its lines, in their order.
    pub fn job_ids(&self) -> impl Iterator<Item = JobId> {
        let ticket = self.ticket();
        (0..self.state.made).map(move |line| JobId::derive_line(&ticket, line))
    }

    /// The lines that become jobs next, of all its lines: as many as fit in `writes` writes with what is kept beside their records,
    /// and at least one.
    pub fn next_lines<'a>(&self, lines: &'a [Line], writes: usize) -> &'a [Line] {
        let left = lines.get(self.state.made as usize..).unwrap_or_default();
        let mut used = 0;
        let fit = left.iter().take_while(|line| {
            used += line.writes();
            used <= writes
        });
        let count = fit.count().max(1).min(left.len());
        left.get(..count).unwrap_or_default()
    }

    /// The jobs of the next lines, as they are made now. `op` gives a fresh stamp for each.
    pub fn jobs(
        &self,
        next: &[Line],
        now: Timestamp,
        wake: Duration,
        mut op: impl FnMut() -> Stamp,
    ) -> Vec<MadeJob> {
        let ticket = self.ticket();
        let numbered = (self.state.made..).zip(next);
        numbered.map(|(at, line)| self.job(&ticket, at, line, now, wake, op())).collect()
    }

    fn job(
        &self,
        ticket: &Ticket,
        at: u32,
        line: &Line,
        now: Timestamp,
        wake: Duration,
        op: Stamp,
    ) -> MadeJob {
        let (prompt, long_prompt) = line.prompt.clone().in_record_or_beside();
        let order = Order {
            prompt,
            model: line.model.clone(),
            shape: line.shape,
            reference: line.reference.clone(),
            conversation_id: line.conversation_id.clone(),
            retry_of: None,
            batch: Some(BatchLine { batch: self.id.clone(), number: line.number }),
            request_hash: line.hash.clone(),
            cost: line.cost,
            created_at: now,
            deadline_at: self.order.deadline_at,
        };
        let submission =
            Submission { id: JobId::derive_line(ticket, at), user: self.user.clone(), order, op };
        let wait_at = self.order.created_at.plus(self.order.spacing.saturating_mul(at)).max(now);
        MadeJob { job: Job::queued(submission, wait_at, wake), long_prompt, metadata: line.metadata.clone() }
    }

    /// [`BatchCommand::Make`] of the next lines; `None` when there are none, or their prices are more than can be counted.
    pub fn make(&self, next: &[Line], now: Timestamp, wake: Duration) -> Option<BatchCommand> {
        let tokens = next.iter().try_fold(0, |sum: Tokens, line| sum.checked_add(line.cost))?;
        let jobs = u32::try_from(next.len()).ok().filter(|jobs| *jobs > 0)?;
        let due_at = now.plus(wake).min(self.order.deadline_at);
        Some(BatchCommand::Make { made_seen: self.state.made, jobs, tokens, due_at })
    }

    /// [`BatchCommand::End`] of the batch as it was read.
    pub const fn end(&self, ending: BatchEnding) -> BatchCommand {
        BatchCommand::End { made_seen: self.state.made, tokens: self.state.remaining, ending }
    }

    /// What a sweep at `now` does with it.
    pub fn sweep(&self, now: Timestamp, wake: Duration) -> BatchSweep {
        let Some(due_at_seen) = self.state.due_at() else { return BatchSweep::Leave };
        if self.order.deadline_at <= now {
            return BatchSweep::End(self.end(BatchEnding::Expired));
        }
        if due_at_seen > now {
            return BatchSweep::Leave;
        }
        let due_at = now.plus(wake).min(self.order.deadline_at);
        BatchSweep::Send(BatchCommand::Mark { due_at_seen, due_at })
    }

    /// Whether it is as this command makes it. A refused write that finds its own stamp succeeded before only if this holds too.
    pub fn was_made_by(&self, command: &BatchCommand) -> bool {
        match (*command, self.state.stage) {
            (BatchCommand::Make { made_seen, jobs, .. }, BatchStage::Open { .. } | BatchStage::Made) => {
                made_seen.checked_add(jobs) == Some(self.state.made)
            }
            (BatchCommand::End { ending, .. }, BatchStage::Ended(ended)) => ended == ending,
            (BatchCommand::Mark { due_at, .. }, BatchStage::Open { due_at: is }) => is == due_at,
            _ => false,
        }
    }
}
