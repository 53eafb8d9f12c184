//! A batch as its owner sees it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::batch::{BatchEnding, BatchStage};
use crate::batch_record::BatchRecord;
use crate::batch_request::InvalidLine;
use crate::job::Status;
use crate::limits::INDEX_LAG;
use crate::time::Timestamp;

/// How many of a batch's jobs have each status, as an index shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts([u32; Status::ALL.len()]);

impl BatchCounts {
    /// One more.
    pub fn count(&mut self, status: Status) {
        for (count, of) in self.0.iter_mut().zip(Status::ALL) {
            *count += u32::from(of == status);
        }
    }

    /// How many have this status.
    pub fn of(&self, status: Status) -> u32 {
        self.0.iter().zip(Status::ALL).find(|(_, of)| *of == status).map_or(0, |(count, _)| *count)
    }

    /// Those that are not settled.
    pub fn live(&self) -> u32 {
        self.of(Status::Pending) + self.of(Status::Processing)
    }
}

/// What is shown beside the record itself.
#[derive(Clone, Debug, Default)]
pub struct BatchView {
    /// The lines that cannot be drawn.
    pub invalid: Vec<InvalidLine>,
    /// Its jobs, where they were counted.
    pub counts: Option<BatchCounts>,
    /// When the last picture may be expected, while one is and it can be told.
    pub eta: Option<Duration>,
}

impl BatchView {
    /// The JSON of the batch.
    pub fn render(&self, batch: &BatchRecord, now: Timestamp) -> Value {
        let (order, state) = (&batch.order, &batch.state);
        let counts = self.counts.map(|counts| {
            let of = |status: Status| (status.as_str().to_owned(), json!(counts.of(status)));
            Status::ALL.map(of).into_iter().collect::<serde_json::Map<_, _>>()
        });
        json!({
            "id": batch.id,
            "status": self.status(batch, now),
            "lines": state.lines,
            "made": state.made,
            "invalid_lines": order.invalid,
            "invalid": self.invalid,
            "counts": counts,
            "eta_seconds": self.eta.map(|eta| eta.as_millis().div_ceil(1_000)),
            "cost": order.cost,
            "remaining": state.remaining,
            "created_at": order.created_at.rfc3339(),
            "deadline_at": order.deadline_at.rfc3339(),
        })
    }

    /// It is completed once every line is a job and all of these have ended: no sooner than the index shows the last one.
    fn status(&self, batch: &BatchRecord, now: Timestamp) -> &'static str {
        let is_shown = batch.finished_at.is_some_and(|at| now.since(at) > INDEX_LAG);
        let is_done = self.counts.is_some_and(|counts| counts.live() == 0);
        match batch.state.stage {
            BatchStage::Ended(BatchEnding::Cancelled) => "cancelled",
            BatchStage::Ended(BatchEnding::Expired) => "expired",
            BatchStage::Made if is_shown && is_done => "completed",
            BatchStage::Made | BatchStage::Open { .. } => "in_progress",
        }
    }
}
