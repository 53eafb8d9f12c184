//! Reading and cancelling batches. Somebody else's batch is none: 404.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use darkroom_aws::{BatchCommit, BatchTime, StoreError, now, random_stamp};
use darkroom_core::batch::BatchEnding;
use darkroom_core::batch_record::BatchRecord;
use darkroom_core::batch_view::{BatchCounts, BatchView};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::id::{BatchId, JobId, UserId};
use darkroom_core::job::Stage;
use darkroom_core::lifecycle::{Command, End, expires_at};
use darkroom_core::limits::{BATCH_CANCEL_PATIENCE, SETTLE_PATIENCE};
use darkroom_core::outlook::Outlook;
use darkroom_core::time::Timestamp;
use darkroom_edge::{AcceptLanguage, Caller, Problem, VARY_LANGUAGE};

use crate::jobs::TRIES;
use crate::routes::{Api, unavailable};

/// Jobs that are read at once to be cancelled.
const READ_AT_ONCE: usize = 100;

/// `GET /v1/batches/{id}`: how far it has come.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let batch = api.owned_batch(&user, &id, language).await?;
    api.answer_batch(&batch, language).await
}

/// `POST /v1/batches/{id}/cancel`: no more of its lines become jobs, what is left of its hold is given back, and its jobs are cancelled
/// as each would be by its own cancel. Idempotent; when its jobs are too many for one request it is to be asked again.
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let until = now().plus(BATCH_CANCEL_PATIENCE);
    let batch = api.end(api.owned_batch(&user, &id, language).await?, language).await?;
    let is_over = api.cancel_jobs(&batch, until).await.map_err(|error| unavailable(&error, language))?;
    tracing::info!(batch.id = %batch.id, batch.made = batch.state.made, is_over, "cancelled by its owner");
    if !is_over {
        return Err(Problem::new(ErrorCode::StoreThrottled, language));
    }
    api.answer_batch(&batch, language).await
}

impl Api {
    /// The batch of this id if it is the caller's and its record has not expired.
    async fn owned_batch(&self, user: &UserId, id: &str, language: Language) -> Result<BatchRecord, Problem> {
        let not_found = || Problem::new(ErrorCode::NotFound, language);
        let id = BatchId::parse(id).map_err(|_| not_found())?;
        let batch = self.jobs.batch(&id).await.map_err(|error| unavailable(&error, language))?;
        batch.filter(|batch| batch.belongs_to(user, now())).ok_or_else(not_found)
    }

    /// The batch when no more of its lines become jobs.
    async fn end(&self, mut batch: BatchRecord, language: Language) -> Result<BatchRecord, Problem> {
        for _ in 0..TRIES {
            if batch.state.due_at().is_none() {
                return Ok(batch);
            }
            let time = BatchTime { now: now(), ttl_days: self.days.settled };
            let ended = self
                .jobs
                .end_batch(&batch, BatchEnding::Cancelled, time, &random_stamp(), SETTLE_PATIENCE)
                .await
                .map_err(|error| unavailable(&error, language))?;
            // Each refusal is a step of its makers'.
            batch = match ended {
                BatchCommit::Applied(batch) | BatchCommit::Refused(batch) => batch,
                BatchCommit::Absent => return Err(Problem::new(ErrorCode::NotFound, language)),
            };
        }
        match batch.state.due_at() {
            None => Ok(batch),
            Some(_) => Err(Problem::new(ErrorCode::StoreThrottled, language)),
        }
    }

    /// Cancels its jobs: those that wait end, those that are being drawn are asked to. `false` when time was over before all were.
    async fn cancel_jobs(&self, batch: &BatchRecord, until: Timestamp) -> Result<bool, StoreError> {
        let ids: Vec<_> = batch.job_ids().collect();
        for some in ids.chunks(READ_AT_ONCE) {
            if !self.cancel_some(some, until).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks again until each has ended or was asked to: a worker may take one that was read as waiting.
    async fn cancel_some(&self, ids: &[JobId], until: Timestamp) -> Result<bool, StoreError> {
        loop {
            let at = now();
            if at >= until {
                return Ok(false);
            }
            let jobs = self.jobs.read_many(ids).await?;
            let (waiting, drawn): (Vec<_>, Vec<_>) = jobs
                .into_iter()
                .filter(|job| !matches!(job.stage, Stage::Settled(_)) && !job.is_cancel_requested())
                .partition(|job| matches!(job.stage, Stage::Pending(_)));
            if waiting.is_empty() && drawn.is_empty() {
                return Ok(true);
            }
            let end = End { now: at, expires_at: expires_at(at, self.days.settled) };
            self.jobs.cancel_waiting(&waiting, end, random_stamp, SETTLE_PATIENCE).await?;
            for job in &drawn {
                self.jobs.commit(job, &Command::RequestCancel, &random_stamp(), at, SETTLE_PATIENCE).await?;
            }
        }
    }

    async fn answer_batch(&self, batch: &BatchRecord, language: Language) -> Result<Response, Problem> {
        let view = self.batch_view(batch).await.map_err(|error| unavailable(&error, language))?;
        Ok(([VARY_LANGUAGE], Json(view.render(batch, now()))).into_response())
    }

    async fn batch_view(&self, batch: &BatchRecord) -> Result<BatchView, StoreError> {
        let (invalid, counts) =
            tokio::try_join!(self.jobs.invalid_lines(batch), self.jobs.batch_counts(&batch.id))?;
        let eta = self.batch_eta(batch, &counts, now()).await?;
        Ok(BatchView { invalid, counts: Some(counts), eta })
    }

    /// When the last of its pictures may be expected: as if what is left were spread over its models as its lines are, behind
    /// whatever else waits.
    async fn batch_eta(
        &self,
        batch: &BatchRecord,
        counts: &BatchCounts,
        at: Timestamp,
    ) -> Result<Option<Duration>, StoreError> {
        let unmade = if batch.is_open(at) { batch.state.lines - batch.state.made } else { 0 };
        let left = u64::from(counts.live() + unmade);
        if left == 0 {
            return Ok(None);
        }
        let (models, queue) = tokio::try_join!(self.views.models(at), self.views.queue())?;
        let others = (queue.waiting.len() as u64).saturating_sub(u64::from(counts.live()));
        let mut eta = Duration::ZERO;
        for (name, lines) in &batch.order.models {
            let Some(model) = models.iter().find(|model| model.name == *name) else { continue };
            let share = (left * u64::from(*lines)).div_ceil(u64::from(batch.state.lines.max(1)));
            let place = others + share;
            let turn = self.views.turn(&models, model, place, at).await;
            eta = eta.max(Outlook::of_next(place, turn, model.typical(), at).eta);
        }
        Ok(Some(eta))
    }
}
