//! `POST /v1/batches`: many requests at once, on one hold. Judges every line, keeps those that can be drawn, holds their prices, and makes
//! jobs of them as far as its time allows; bulk makes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use darkroom_aws::{BatchCreated, StoreError, now, random_stamp};
use darkroom_core::batch_record::{BatchOrder, BatchRecord, batch_deadline};
use darkroom_core::batch_request::{
    BatchRequest, InvalidLine, Judged, Line, ReadLine, judge, read_list, read_upload, spacing, write_lines,
};
use darkroom_core::batch_view::BatchView;
use darkroom_core::bulk_message::{BulkId, BulkMessage};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::id::{BatchId, ModelName, UploadId, UserId};
use darkroom_core::limits::{
    BATCH_INVALID_MAX, BATCH_REFERENCES_MAX, BATCH_SUBMIT_PATIENCE, BATCH_UPLOAD_BYTES_MAX,
};
use darkroom_core::model::Model;
use darkroom_core::outlook::Outlook;
use darkroom_core::request::Violation;
use darkroom_core::time::Timestamp;
use darkroom_core::upload::Reference;
use darkroom_edge::{AcceptLanguage, BatchBody, Caller, Problem, VARY_LANGUAGE};
use tokio::task::JoinSet;

use crate::submit::{IDEMPOTENT_REPLAYED, Submit, idempotency_key, refused, unavailable};

/// Of a batch none of whose lines can be drawn, or too few, so many are told.
const REFUSED_SHOWN: usize = 100;

pub(crate) async fn post_batch(
    State(submit): State<Arc<Submit>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    headers: HeaderMap,
    BatchBody(body): BatchBody,
) -> Result<Response, Problem> {
    let key =
        idempotency_key(&headers).ok_or_else(|| Problem::new(ErrorCode::MissingIdempotencyKey, language))?;
    let request =
        BatchRequest::parse(&body).map_err(|violations| Problem::violations(violations, language))?;
    let asked = AskedBatch { id: BatchId::derive(&user, &key), user, hash: request.hash(), request };
    Box::pin(submit.answer_batch(asked, now(), language)).await
}

/// What is asked for, by whom, and as which batch.
struct AskedBatch {
    id: BatchId,
    user: UserId,
    request: BatchRequest,
    hash: String,
}

impl Submit {
    /// Takes the batch, or tells what became of it before. An upload is read once: whoever asks again need not have it any more.
    async fn answer_batch(
        &self,
        asked: AskedBatch,
        at: Timestamp,
        language: Language,
    ) -> Result<Response, Problem> {
        let failed = |error: StoreError| unavailable(&error, language);
        let known = self.jobs.batch(&asked.id).await.map_err(failed)?;
        if let Some(known) = known.filter(|known| known.belongs_to(&asked.user, at)) {
            return self.replay_batch(&known, &asked.hash, language).await;
        }
        let models = self.catalogue.models(at).await.map_err(failed)?;
        let judged = self.judge(&asked, &models, at, language).await?;
        self.refuse_when_open(&models, &judged, at, language).await?;
        let (hash, user) = (asked.hash.clone(), asked.user.clone());
        let is_inline = matches!(asked.request, BatchRequest::Inline(_));
        let (batch, Judged { lines, invalid }) = self.batch(asked, judged, &models, at, language).await?;
        match self.jobs.create_batch(batch, &invalid, self.rules.ttl_days).await.map_err(failed)? {
            BatchCreated::New(batch) => {
                tracing::info!(batch.id = %batch.id, batch.lines = batch.state.lines, batch.invalid = batch.order.invalid, batch.cost = batch.order.cost, "batch submitted");
                let batch = Box::pin(self.make_jobs(batch, &lines, is_inline, at)).await;
                Ok(accepted(&batch, invalid, false))
            }
            BatchCreated::Existing(batch) if batch.belongs_to(&user, at) => {
                self.replay_batch(&batch, &hash, language).await
            }
            BatchCreated::Existing(_) => Err(Problem::new(ErrorCode::StoreThrottled, language)),
            BatchCreated::Refused(refusal) => Err(refused(&refusal, language)),
        }
    }

    /// Every line, judged. Nothing is held yet, and nothing is written.
    async fn judge(
        &self,
        asked: &AskedBatch,
        models: &[Model],
        at: Timestamp,
        language: Language,
    ) -> Result<Judged, Problem> {
        let read = self.read_lines(asked, at, language).await?;
        let references = self.references(&asked.user, &read, at).await;
        let references = references.map_err(|error| unavailable(&error, language))?;
        let judged = judge(read, models, &at.utc_day(), &references);
        if judged.lines.is_empty() || judged.invalid.len() > BATCH_INVALID_MAX {
            return Err(cannot_be_drawn(&asked.request, judged.invalid, language));
        }
        Ok(judged)
    }

    async fn read_lines(
        &self,
        asked: &AskedBatch,
        at: Timestamp,
        language: Language,
    ) -> Result<Vec<ReadLine>, Problem> {
        let upload = match &asked.request {
            BatchRequest::Inline(jobs) => return Ok(read_list(jobs)),
            BatchRequest::Upload(upload) => upload,
        };
        let refuse = |reason: &str| Problem::value(ErrorCode::InvalidValue, "/upload_id", reason, language);
        if !upload.is_usable(at) {
            return Err(refuse(UNUSABLE));
        }
        let bytes = self.uploads.read_batch(&asked.user, upload).await;
        let bytes = bytes.map_err(|error| unavailable(&error, language))?.ok_or_else(|| refuse(UNUSABLE))?;
        if bytes.len() as u64 > BATCH_UPLOAD_BYTES_MAX {
            return Err(refuse("is too long"));
        }
        read_upload(&bytes).map_err(|reason| refuse(&reason))
    }

    /// The uploads of pictures that the lines name and that are there, of the first hundred that they name.
    async fn references(
        &self,
        user: &UserId,
        lines: &[ReadLine],
        at: Timestamp,
    ) -> Result<BTreeMap<UploadId, Reference>, StoreError> {
        let mut named: Vec<&UploadId> = Vec::new();
        let mut seen = BTreeSet::new();
        for upload in lines.iter().filter_map(ReadLine::reference).filter(|upload| upload.is_usable(at)) {
            if seen.insert(upload) {
                named.push(upload);
            }
        }
        let mut looks = JoinSet::new();
        for upload in named.into_iter().take(BATCH_REFERENCES_MAX).cloned() {
            let (uploads, user) = (self.uploads.clone(), user.clone());
            looks.spawn(async move { (uploads.find_reference(&user, &upload).await, upload) });
        }
        let mut found = BTreeMap::new();
        for (reference, upload) in looks.join_all().await {
            found.extend(reference?.map(|reference| (upload, reference)));
        }
        Ok(found)
    }

    async fn refuse_when_open(
        &self,
        models: &[Model],
        judged: &Judged,
        at: Timestamp,
        language: Language,
    ) -> Result<(), Problem> {
        if !self.rules.refuse_when_open {
            return Ok(());
        }
        for (name, _) in judged.models() {
            let Some(model) = models.iter().find(|model| model.name == name) else { continue };
            if let Some(until) = self.breakers.open_until(models, model, at).await {
                return Err(Problem::new(ErrorCode::CircuitOpen, language).with_retry_after(until.since(at)));
            }
        }
        Ok(())
    }

    /// The batch as it is submitted. Its lines are kept before it is made: whoever reads the record finds them.
    async fn batch(
        &self,
        asked: AskedBatch,
        judged: Judged,
        models: &[Model],
        at: Timestamp,
        language: Language,
    ) -> Result<(BatchRecord, Judged), Problem> {
        let failed = |error: StoreError| unavailable(&error, language);
        let Some(cost) = judged.cost() else {
            return Err(Problem::new(ErrorCode::InsufficientTokens, language));
        };
        let lines_sha256 =
            self.maker.lines.put(&asked.id, write_lines(&judged.lines)).await.map_err(failed)?;
        let shares = judged.models();
        let eta = self.batch_eta(models, &shares, at).await.map_err(failed)?;
        let count = u32::try_from(judged.lines.len()).unwrap_or(u32::MAX);
        let order = BatchOrder {
            request_hash: asked.hash,
            cost,
            invalid: u32::try_from(judged.invalid.len()).unwrap_or(u32::MAX),
            models: shares,
            lines_sha256,
            created_at: at,
            deadline_at: at.plus(batch_deadline(eta)),
            spacing: spacing(eta, count),
        };
        let batch = BatchRecord::submitted(asked.id, asked.user, order, random_stamp(), self.rules.wake);
        Ok((batch, judged))
    }

    /// How long it takes to draw so many with each model, all quotas theirs; `None` when time alone does not tell.
    async fn batch_eta(
        &self,
        models: &[Model],
        shares: &[(ModelName, u32)],
        at: Timestamp,
    ) -> Result<Option<Duration>, StoreError> {
        let mut longest = Duration::ZERO;
        for (name, lines) in shares {
            let Some(model) = models.iter().find(|model| model.name == *name) else { continue };
            let turn = match self.pacer.pace(models, model, at, &[]).await? {
                None => None,
                // The last one's turn. Without quota that time frees there is none, and nobody knows when.
                Some(mut pace) => match (0..*lines).map_while(|_| pace.take()).last() {
                    None => return Ok(None),
                    last => last,
                },
            };
            longest = longest.max(Outlook::of_next(u64::from(*lines), turn, model.typical(), at).eta);
        }
        Ok(Some(longest))
    }

    /// Makes jobs of an inline batch's lines; what is left, and an upload's, is bulk's. The 202 stands whether this works or not: the
    /// record is the outbox, and the sweeper tells bulk when it is due.
    async fn make_jobs(
        &self,
        batch: BatchRecord,
        lines: &[Line],
        is_inline: bool,
        at: Timestamp,
    ) -> BatchRecord {
        let mut known = batch.clone();
        if is_inline {
            match self.maker.make(batch, lines, at.plus(BATCH_SUBMIT_PATIENCE)).await {
                Ok(made) => known = made,
                Err(error) => {
                    tracing::warn!(batch.id = %known.id, error = %error, "jobs were not made; bulk makes them");
                }
            }
        }
        let message = BulkMessage::new(BulkId::Batch(known.id.clone()));
        if known.state.due_at().is_some()
            && let Err(error) = self.bulk_queue.send(&message, &known.user).await
        {
            tracing::warn!(batch.id = %known.id, error = %error, "bulk was not told; the sweeper tells it");
        }
        known
    }

    /// The batch that this key made before.
    async fn replay_batch(
        &self,
        batch: &BatchRecord,
        hash: &str,
        language: Language,
    ) -> Result<Response, Problem> {
        if batch.order.request_hash != hash {
            return Err(Problem::new(ErrorCode::IdempotencyMismatch, language));
        }
        let invalid = self.jobs.invalid_lines(batch).await.map_err(|error| unavailable(&error, language))?;
        Ok(accepted(batch, invalid, true))
    }
}

/// The same whether it never was, is somebody else's, holds nothing yet, or is too old: nobody learns of another's.
const UNUSABLE: &str = "no upload of yours for a batch has this id, nothing was put there, or it is older than a day; POST /v1/uploads makes a new one";

/// The batch as it is recorded. Its jobs are not counted here: the index shows them a moment later.
fn accepted(batch: &BatchRecord, invalid: Vec<InvalidLine>, is_replay: bool) -> Response {
    let view = BatchView { invalid, ..BatchView::default() };
    let location = [(LOCATION, format!("/v1/batches/{}", batch.id))];
    let body = Json(view.render(batch, batch.order.created_at));
    let mut response = (StatusCode::ACCEPTED, [VARY_LANGUAGE], location, body).into_response();
    if is_replay {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Nothing is taken of a batch of which nothing can be drawn, or of which so much cannot that another file must have been meant.
fn cannot_be_drawn(request: &BatchRequest, invalid: Vec<InvalidLine>, language: Language) -> Problem {
    let is_inline = matches!(request, BatchRequest::Inline(_));
    let violation = |InvalidLine { line, reason, .. }: InvalidLine| {
        let pointer = if is_inline { format!("/jobs/{}", line - 1) } else { "/upload_id".to_owned() };
        let reason = if is_inline { reason } else { format!("line {line}: {reason}") };
        Violation { pointer, reason, unknown_field: false }
    };
    let told: Vec<_> = invalid.into_iter().take(REFUSED_SHOWN).map(violation).collect();
    Problem::violations(told, language)
}
