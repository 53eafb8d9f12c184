//! Batches: their records, and the writes that make jobs of their lines or give back what is left.

use std::time::Duration;

use aws_sdk_dynamodb::types::TransactWriteItem;
use darkroom_core::batch::{BatchCommand, BatchEnding, BatchStage};
use darkroom_core::batch_record::{BatchRecord, MadeJob};
use darkroom_core::batch_request::InvalidLine;
use darkroom_core::batch_view::BatchCounts;
use darkroom_core::id::{BatchId, Stamp};
use darkroom_core::job::{Job, Status};
use darkroom_core::ledger::{LedgerError, Settlement, Tokens};
use darkroom_core::lifecycle::{Command, End};
use darkroom_core::retry::Patience;
use darkroom_core::settled::beside_expires_at;
use darkroom_core::time::Timestamp;

use crate::attributes::{Reader, millis, number, text};
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::batch::{OPEN, invalid_item, invalid_lines, name, stage_word, to_item};
use crate::items::job::{self, name as job_name};
use crate::job_indexes::Listed;
use crate::job_table::{JobTable, read, read_batch, readable};
use crate::job_write::job_write;
use crate::keys::Key;
use crate::metadata_table::Beside;
use crate::transaction::{self, Outcome, Refusal};

/// What a batch's submission came to.
#[derive(Clone, Debug)]
pub enum BatchCreated {
    /// The batch was made by this submission.
    New(BatchRecord),
    /// This user and key have a batch already. Whether the requests agree is the caller's question.
    Existing(BatchRecord),
    /// The balance refuses; nothing was written.
    Refused(LedgerError),
}

/// What a conditional write of a batch came to.
#[derive(Clone, Debug)]
pub enum BatchCommit {
    /// It was written, now or by an earlier try of the same write; the record as it is now.
    Applied(BatchRecord),
    /// The condition did not hold; the record as it was.
    Refused(BatchRecord),
    /// There is no such batch.
    Absent,
}

/// When a batch's record is written, and for how long one is kept that is over.
#[derive(Clone, Copy, Debug)]
pub struct BatchTime {
    /// Now.
    pub now: Timestamp,
    /// Days a settled record is kept.
    pub ttl_days: u64,
}

/// Jobs that are cancelled in one transaction: each takes a write of its record and an entry, and DynamoDB takes 100.
const CANCELLED_AT_ONCE: usize = 49;

impl JobTable {
    /// Makes the batch once and sets the prices of its lines aside, in one transaction, with what is told of its invalid lines
    /// beside its record. Idempotent: the same batch again is [`BatchCreated::Existing`], as long as its record has not expired.
    pub async fn create_batch(
        &self,
        batch: BatchRecord,
        invalid: &[InvalidLine],
        ttl_days: u64,
    ) -> Result<BatchCreated, StoreError> {
        let cost: Tokens = batch.order.cost;
        let created_at = batch.order.created_at;
        let mut actions = vec![
            transaction::put_if_absent_or_expired(&self.table, to_item(&batch), created_at)?,
            self.ledger.hold_batch(&batch.user, cost)?,
        ];
        // It is over by its deadline, and its record is kept from then on.
        let expires_at = batch.kept_until(batch.order.deadline_at, ttl_days);
        if let Some(beside) = invalid_item(&batch, invalid, expires_at) {
            actions.push(transaction::put(&self.table, beside)?);
        }
        let operation = "TransactWriteItems batch";
        let Outcome::Refused(refusals) =
            transaction::write(&self.client, operation, actions, Patience::Tries).await?
        else {
            return Ok(BatchCreated::New(batch));
        };
        if let Some(item) = refusals.first().and_then(|refusal| refusal.item.as_ref()) {
            let existing = read_batch(item)?;
            // Our own stamp: the answer to our first try was lost. Nobody else can have moved it on without another.
            return Ok(if existing.op == batch.op {
                BatchCreated::New(existing)
            } else {
                BatchCreated::Existing(existing)
            });
        }
        let balance = refusals.get(1).and_then(|refusal| refusal.item.as_ref());
        crate::LedgerTable::batch_refusal(balance, cost).map(BatchCreated::Refused)
    }

    /// The batch, strongly consistent.
    pub async fn batch(&self, id: &BatchId) -> Result<Option<BatchRecord>, StoreError> {
        self.get_item(Key::Batch(id)).await?.as_ref().map(read_batch).transpose()
    }

    /// Batches, strongly consistent; absent ones are left out, and so is one that cannot be read, which is logged.
    pub async fn batches(&self, ids: &[BatchId]) -> Result<Vec<BatchRecord>, StoreError> {
        let keys = ids.iter().map(|id| Key::Batch(id).attributes()).collect();
        let items = self.batch_get(keys).await?;
        Ok(items.iter().filter_map(|item| readable(read_batch(item))).collect())
    }

    /// What is told of a batch's invalid lines.
    pub async fn invalid_lines(&self, batch: &BatchRecord) -> Result<Vec<InvalidLine>, StoreError> {
        if batch.order.invalid == 0 {
            return Ok(Vec::new());
        }
        let Some(item) = self.get_item(Key::InvalidLines(&batch.id)).await? else { return Ok(Vec::new()) };
        invalid_lines(&item).map_err(|problem| StoreError::unreadable(&item, &problem))
    }

    /// How many of the batch's jobs have each status, as the index shows them: up to a moment ago. One read for about 7,000 jobs.
    pub async fn batch_counts(&self, id: &BatchId) -> Result<BatchCounts, StoreError> {
        let (mut counts, mut start) = (BatchCounts::default(), None);
        loop {
            let answer = self
                .list_query(Listed::OfBatch(id))
                .projection_expression("#status")
                .expression_attribute_names("#status", job_name::STATUS)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("DynamoDB", "Query by_batch", error))?;
            for item in answer.items() {
                let status = Reader(item).parsed(job_name::STATUS, Status::parse);
                if let Some(status) =
                    readable(status.map_err(|problem| StoreError::unreadable(item, &problem)))
                {
                    counts.count(status);
                }
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(counts);
            }
        }
    }

    /// Makes jobs of the batch's next lines and moves the batch on, in one transaction: each line once. `command` is
    /// [`BatchCommand::Make`] of the batch as it was read. Idempotent by `op`, which must be fresh.
    pub async fn make_jobs(
        &self,
        batch: &BatchRecord,
        command: &BatchCommand,
        jobs: &[MadeJob],
        time: BatchTime,
        op: &Stamp,
    ) -> Result<BatchCommit, StoreError> {
        let mut beside = Vec::with_capacity(jobs.len());
        for MadeJob { job, long_prompt, metadata } in jobs {
            beside.push(transaction::put_if_absent_or_expired(&self.table, job::to_item(job), time.now)?);
            let kept = Beside {
                long_prompt: long_prompt.as_ref(),
                metadata: (!metadata.is_empty()).then_some(metadata),
                expires_at: beside_expires_at(job, time.ttl_days),
            };
            beside.extend(kept.puts(&self.table, job)?);
        }
        self.commit_batch(batch, command, beside, time, op, Patience::Tries).await
    }

    /// Ends the batch: no more of its lines become jobs, and what is left of its hold is given back, in one transaction. Idempotent
    /// by `op`.
    pub async fn end_batch(
        &self,
        batch: &BatchRecord,
        ending: BatchEnding,
        time: BatchTime,
        op: &Stamp,
        patience: Duration,
    ) -> Result<BatchCommit, StoreError> {
        let refund = self.ledger.refund_batch(batch, time.now, op)?;
        let patience = Patience::For(patience);
        self.commit_batch(batch, &batch.end(ending), refund.into(), time, op, patience).await
    }

    /// Has the batch looked at again later: somebody is about to be told of it. `command` is [`BatchCommand::Mark`]. Idempotent by
    /// `op`.
    pub async fn mark_batch(
        &self,
        batch: &BatchRecord,
        command: &BatchCommand,
        time: BatchTime,
        op: &Stamp,
        patience: Duration,
    ) -> Result<BatchCommit, StoreError> {
        self.commit_batch(batch, command, Vec::new(), time, op, Patience::For(patience)).await
    }

    /// The batch's own write with those that belong to it. What the batch as it was read does not allow is not asked for.
    async fn commit_batch(
        &self,
        batch: &BatchRecord,
        command: &BatchCommand,
        beside: Vec<TransactWriteItem>,
        time: BatchTime,
        op: &Stamp,
        patience: Patience,
    ) -> Result<BatchCommit, StoreError> {
        let Ok(next) = batch.after(command, op.clone(), time.now, time.ttl_days) else {
            return Ok(BatchCommit::Refused(batch.clone()));
        };
        let write = batch_write(&next, command, op);
        let mut actions = vec![transaction::update(&self.table, Key::Batch(&batch.id).attributes(), write)?];
        actions.extend(beside);
        match transaction::write(&self.client, "TransactWriteItems of a batch", actions, patience).await? {
            Outcome::Applied => Ok(BatchCommit::Applied(next)),
            Outcome::Refused(refusals) => match refusals.first() {
                Some(Refusal { failed: true, item: Some(item) }) => {
                    let found = read_batch(item)?;
                    let is_own = found.op == *op && found.was_made_by(command);
                    Ok(if is_own { BatchCommit::Applied(found) } else { BatchCommit::Refused(found) })
                }
                Some(Refusal { failed: true, item: None }) => Ok(BatchCommit::Absent),
                _ => Err(StoreError::Books {
                    job: batch.id.to_string(),
                    problem:
                        "it is open, but a line is a job already, too little is held, or an entry is there"
                            .to_owned(),
                }),
            },
        }
    }

    /// Cancels jobs of one batch that were read as waiting, and gives their prices back, as many as possible in one transaction;
    /// how many were. One that has changed since is left as it is, to be read again.
    pub async fn cancel_waiting(
        &self,
        jobs: &[Job],
        end: End,
        mut stamp: impl FnMut() -> Stamp,
        patience: Duration,
    ) -> Result<usize, StoreError> {
        let mut cancelled = 0;
        for group in jobs.chunks(CANCELLED_AT_ONCE) {
            let mut left: Vec<_> = group.iter().collect();
            while !left.is_empty() {
                let stamps: Vec<_> = left.iter().map(|_| stamp()).collect();
                let actions = self.cancel_actions(&left, &stamps, end)?;
                let patience = Patience::For(patience);
                let operation = "TransactWriteItems cancel";
                let Outcome::Refused(refusals) =
                    transaction::write(&self.client, operation, actions, patience).await?
                else {
                    cancelled += left.len();
                    break;
                };
                if is_own(&refusals, &stamps)? {
                    cancelled += left.len();
                    break;
                }
                // Two writes a job: its record's is the first.
                let mut records =
                    refusals.chunks(2).map(|of_job| of_job.first().is_none_or(|own| own.failed));
                let before = left.len();
                left.retain(|_| !records.next().unwrap_or(true));
                if left.len() == before {
                    return Err(StoreError::Books {
                        job: left.first().map(|job| job.id.to_string()).unwrap_or_default(),
                        problem:
                            "it is unsettled, but the balance holds too little or a settle entry is there"
                                .to_owned(),
                    });
                }
            }
        }
        Ok(cancelled)
    }

    fn cancel_actions(
        &self,
        jobs: &[&Job],
        stamps: &[Stamp],
        end: End,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let (mut actions, mut tokens): (Vec<_>, Tokens) = (Vec::new(), 0);
        for (job, op) in jobs.iter().zip(stamps) {
            let record = job_write(&Command::CancelPending { end }, op).require(
                job_name::CREATED_AT,
                "=",
                millis(job.order.created_at),
            );
            actions.push(transaction::update(&self.table, Key::Job(&job.id).attributes(), record)?);
            actions.push(self.ledger.settle_entry(job, Settlement::Refunded, end.now, op)?);
            tokens = tokens.saturating_add(job.order.cost);
        }
        if let Some(job) = jobs.first() {
            let inflight = jobs.iter().filter(|job| job.order.batch.is_none()).count() as u64;
            actions.push(self.ledger.release(&job.user, tokens, Settlement::Refunded, inflight)?);
        }
        Ok(actions)
    }
}

/// Whether the first record carries our own stamp and is settled: an earlier try of the same write had succeeded.
fn is_own(refusals: &[Refusal], stamps: &[Stamp]) -> Result<bool, StoreError> {
    let item = refusals.first().and_then(|refusal| refusal.item.as_ref());
    let job = item.map(read).transpose()?.and_then(darkroom_core::job::Record::job);
    Ok(job.is_some_and(|job| Some(&job.op) == stamps.first() && job.settlement().is_some()))
}

/// The update of a batch's record for this command, with its stamp, that makes it `next`. Of a batch that was read before, it accepts
/// exactly what core's `batch::apply` accepts.
pub(crate) fn batch_write(next: &BatchRecord, command: &BatchCommand, op: &Stamp) -> Expression {
    let state = &next.state;
    let write = Expression::default().set(job_name::OP, text(op.as_str())).add(job_name::VERSION, 1).require(
        name::STAGE,
        "=",
        text(OPEN),
    );
    let write = match *command {
        BatchCommand::Make { made_seen, tokens, .. } => {
            let write = write
                .require(name::MADE, "=", number(made_seen))
                .require(name::REMAINING, ">=", number(tokens))
                .set(name::MADE, number(state.made))
                .subtract(name::REMAINING, tokens);
            match state.stage {
                // The last line takes with it all that is held.
                BatchStage::Made => write.require(name::REMAINING, "<=", number(tokens)),
                BatchStage::Open { .. } | BatchStage::Ended(_) => write,
            }
        }
        BatchCommand::End { made_seen, tokens, .. } => write
            .require(name::MADE, "=", number(made_seen))
            .require(name::REMAINING, "=", number(tokens))
            .set(name::REMAINING, number(state.remaining)),
        BatchCommand::Mark { due_at_seen, .. } => write.require(job_name::DUE_AT, "=", millis(due_at_seen)),
    };
    match (state.due_at(), next.finished_at, next.expires_at) {
        (None, Some(finished_at), Some(expires_at)) => write
            .set(name::STAGE, text(stage_word(state.stage)))
            .set(job_name::FINISHED_AT, millis(finished_at))
            .set(job_name::TTL, number(expires_at.as_seconds()))
            .remove(&[job_name::DUE_AT]),
        (due_at, ..) => write.set(job_name::DUE_AT, millis(due_at.unwrap_or_default())),
    }
}
