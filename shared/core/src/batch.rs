//! A batch: many jobs on one hold. Its lines become jobs in their order, some at a time, and take their prices out of the batch's hold
//! with them; what never becomes a job is given back in one piece.
//!
//! As in [`lifecycle`](crate::lifecycle), the store compiles a [`BatchCommand`] into one conditional write that accepts exactly what
//! [`apply`] accepts, in one transaction with the jobs that it makes, or with the balance that it pays back to.

use thiserror::Error;

use crate::ledger::Tokens;
use crate::time::Timestamp;

/// How far a batch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Its lines that can be drawn, each at the price that its hold was made with.
    pub lines: u32,
    /// Lines that are jobs: the first of them, because they become jobs in their order. It only rises.
    pub made: u32,
    /// What the batch itself holds: the prices of the lines that are no jobs, while they can become some.
    pub remaining: Tokens,
    /// Where it stands.
    pub stage: BatchStage,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchStage {
    /// Lines are left that become jobs.
    Open {
        /// The sweeper looks at it then.
        due_at: Timestamp,
    },
    /// Every line is a job.
    Made,
    /// No more lines become jobs; those that were left were given back.
    Ended(BatchEnding),
}

/// Why lines of a batch never became jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchEnding {
    /// Its owner ended it.
    Cancelled,
    /// Its deadline has passed.
    Expired,
}

/// A change of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchCommand {
    /// The next lines become jobs.
    Make {
        /// Lines that are jobs, as seen.
        made_seen: u32,
        /// So many more, at least one.
        jobs: u32,
        /// Their prices.
        tokens: Tokens,
        /// The sweeper looks at what is left then.
        due_at: Timestamp,
    },
    /// The lines that are no jobs never become any.
    End {
        /// Lines that are jobs, as seen.
        made_seen: u32,
        /// What is given back: what the batch was seen to hold.
        tokens: Tokens,
        /// Why.
        ending: BatchEnding,
    },
    /// It is looked at again later: somebody has been told of it.
    Mark {
        /// As seen.
        due_at_seen: Timestamp,
        /// From now on.
        due_at: Timestamp,
    },
}

/// Why a batch cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchRejection {
    /// Every line is a job, or never will be one.
    #[error("the batch is over")]
    NotOpen,
    /// Others have made jobs of it, or looked at it, since it was read.
    #[error("the batch has changed since it was read")]
    Overtaken,
    /// It has not so many lines, or holds not so much, or something else.
    #[error("the batch has not as much left")]
    NotSoMuch,
}

impl Batch {
    /// A batch as it is submitted, of at least one line.
    pub const fn submitted(lines: u32, tokens: Tokens, due_at: Timestamp) -> Self {
        Self { lines, made: 0, remaining: tokens, stage: BatchStage::Open { due_at } }
    }

    /// When the sweeper must look at it; `None` once it is over.
    pub const fn due_at(&self) -> Option<Timestamp> {
        match self.stage {
            BatchStage::Open { due_at } => Some(due_at),
            BatchStage::Made | BatchStage::Ended(_) => None,
        }
    }
}

/// The batch after the command.
///
/// # Errors
/// Why its state does not allow it.
pub fn apply(batch: &Batch, command: &BatchCommand) -> Result<Batch, BatchRejection> {
    let BatchStage::Open { due_at } = batch.stage else { return Err(BatchRejection::NotOpen) };
    match *command {
        BatchCommand::Make { made_seen, jobs, tokens, due_at } => {
            if batch.made != made_seen {
                return Err(BatchRejection::Overtaken);
            }
            let made = batch.made.checked_add(jobs).filter(|made| jobs > 0 && *made <= batch.lines);
            let made = made.ok_or(BatchRejection::NotSoMuch)?;
            let remaining = batch.remaining.checked_sub(tokens).ok_or(BatchRejection::NotSoMuch)?;
            if made < batch.lines {
                return Ok(Batch { made, remaining, stage: BatchStage::Open { due_at }, ..*batch });
            }
            // The last line takes with it all that is held.
            if remaining > 0 {
                return Err(BatchRejection::NotSoMuch);
            }
            Ok(Batch { made, remaining, stage: BatchStage::Made, ..*batch })
        }
        BatchCommand::End { made_seen, tokens, ending } => {
            if batch.made != made_seen {
                return Err(BatchRejection::Overtaken);
            }
            if batch.remaining != tokens {
                return Err(BatchRejection::NotSoMuch);
            }
            Ok(Batch { remaining: 0, stage: BatchStage::Ended(ending), ..*batch })
        }
        BatchCommand::Mark { due_at_seen, due_at: next } => {
            if due_at != due_at_seen {
                return Err(BatchRejection::Overtaken);
            }
            Ok(Batch { stage: BatchStage::Open { due_at: next }, ..*batch })
        }
    }
}
