//! One submission, of a new request or of one that is tried again: parse, decide, one transaction, send, 202.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use darkroom_aws::config::SubmitRules;
use darkroom_aws::{
    BatchMaker, Beside, BulkQueue, Catalogue, Created, ExportTable, JobQueue, JobTable, KeyTable, Pacer,
    StoreError, UploadStore, now, random_stamp, read_clock,
};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::id::{IdempotencyKey, JobId, UserId};
use darkroom_core::job::{Job, Order, Record, Submission, Tombstone, WaitReason};
use darkroom_core::job_view::JobView;
use darkroom_core::ledger::{LedgerError, Settlement};
use darkroom_core::lifecycle::Command;
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::metadata::Metadata;
use darkroom_core::model::{Choice, Model, choose};
use darkroom_core::outlook::Outlook;
use darkroom_core::pace::Turn;
use darkroom_core::request::{JobRequest, Prompt};
use darkroom_core::settled::beside_expires_at;
use darkroom_core::time::Timestamp;
use darkroom_core::upload::Reference;
use darkroom_edge::{
    AcceptLanguage, Caller, JsonBody, Problem, VARY_LANGUAGE, method_not_allowed, not_found,
};

use crate::batch::post_batch;
use crate::breakers::Breakers;
use crate::exports::post_export;

/// What a submission needs.
pub struct Submit {
    pub(crate) jobs: JobTable,
    pub(crate) queue: JobQueue,
    pub(crate) bulk_queue: BulkQueue,
    pub(crate) exports: ExportTable,
    pub(crate) maker: BatchMaker,
    pub(crate) pacer: Pacer,
    pub(crate) catalogue: Catalogue,
    pub(crate) keys: KeyTable,
    pub(crate) breakers: Breakers,
    pub(crate) uploads: UploadStore,
    pub(crate) rules: SubmitRules,
}

impl Submit {
    /// The same, with fewer writes in a transaction that makes jobs of a batch: so a test's small batch takes several. No setting does
    /// this.
    #[must_use]
    pub fn with_batch_writes(self, writes: usize) -> Self {
        Self { maker: self.maker.with_writes(writes), ..self }
    }

    /// Opens the connection to DynamoDB, reads the catalogue and sees to it that the clock is right during initialisation: a job
    /// that was made by a fast clock would stand behind later ones.
    pub async fn warm(&self) -> Result<(), StoreError> {
        self.catalogue.models(now()).await?;
        read_clock(&self.keys).await
    }
}

/// The function's routes.
pub fn router(submit: Submit) -> Router {
    Router::new()
        .route("/v1/jobs", post(post_job))
        .route("/v1/jobs/{id}/retry", post(post_retry))
        .route("/v1/exports", post(post_export))
        .route("/v1/batches", post(post_batch))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(submit))
}

pub(crate) const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

async fn post_job(
    State(submit): State<Arc<Submit>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let key =
        idempotency_key(&headers).ok_or_else(|| Problem::new(ErrorCode::MissingIdempotencyKey, language))?;
    let request = JobRequest::parse(&body, submit.rules.deadline)
        .map_err(|violations| Problem::violations(violations, language))?;
    let (id, hash) = (JobId::derive(&user, &key), request.hash());
    submit.answer(Asked { id, user, request, hash, retry_of: None }, now(), language).await
}

/// A job for which another one that gave its tokens back is tried again: the same request, with its metadata as they are now, at
/// today's price. There is one for each; asked again, it is the answer.
async fn post_retry(
    State(submit): State<Arc<Submit>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let at = now();
    let ended = submit.owned(&user, &id, at, language).await?;
    if ended.settlement() != Some(Settlement::Refunded) {
        let words = [
            "only a job that failed or was cancelled can be tried again",
            "yalnızca başarısız ya da iptal edilmiş bir iş yeniden denenebilir",
        ];
        return Err(Problem::wrong_state(&ended, words, language));
    }
    let failed = |error: StoreError| unavailable(&error, language);
    let prompt = match &ended.order.prompt {
        Some(prompt) => Some(prompt.clone()),
        None => submit.jobs.long_prompt(&ended.id).await.map_err(failed)?,
    };
    let metadata = submit.jobs.metadata(&ended).await.map_err(failed)?.value;
    let Some(prompt) = prompt else {
        tracing::error!(job.id = %ended.id, "the prompt that was kept beside the record is missing");
        return Err(Problem::new(ErrorCode::Internal, language));
    };
    let asked = Asked {
        id: JobId::derive_retry(&ended.ticket()),
        user,
        request: JobRequest::again(&ended.order, prompt, metadata, submit.rules.deadline),
        hash: ended.order.request_hash,
        retry_of: Some(ended.id),
    };
    submit.answer(asked, at, language).await
}

/// What is asked for, by whom, and as which job.
pub(crate) struct Asked {
    id: JobId,
    pub(crate) user: UserId,
    pub(crate) request: JobRequest,
    /// The request's, as it came.
    hash: String,
    pub(crate) retry_of: Option<JobId>,
}

impl Submit {
    /// Takes the job, or tells what became of it before.
    async fn answer(&self, asked: Asked, at: Timestamp, language: Language) -> Result<Response, Problem> {
        let models = self.catalogue.models(at).await.map_err(|error| unavailable(&error, language))?;
        let shown = Shown {
            prompt: asked.request.prompt.clone(),
            metadata: asked.request.metadata.clone(),
            model: None,
            open_until: None,
            at,
            language,
        };
        let model = match choose(&models, asked.request.model.as_ref(), &at.utc_day()) {
            Choice::Offered(model) => model,
            Choice::Retired(_) => {
                return self
                    .replay_or(&asked, shown, without_model(ErrorCode::ModelRetired, &asked, language))
                    .await;
            }
            Choice::Unknown => {
                return self
                    .replay_or(&asked, shown, without_model(ErrorCode::UnknownModel, &asked, language))
                    .await;
            }
        };
        let reference = match Box::pin(self.reference(&asked, model, at, language)).await {
            Ok(reference) => reference,
            Err(refusal) => {
                return self.replay_or(&asked, Shown { model: Some(model), ..shown }, refusal).await;
            }
        };
        let look = || self.breakers.open_until(&models, model, at);
        if self.rules.refuse_when_open
            && let Some(until) = look().await
        {
            let refusal = Problem::new(ErrorCode::CircuitOpen, language).with_retry_after(until.since(at));
            let shown = Shown { model: Some(model), open_until: Some(until), ..shown };
            return self.replay_or(&asked, shown, refusal).await;
        }
        let hash = asked.hash.clone();
        let (created, open_until) = tokio::join!(self.take(asked, model, reference, at), look());
        let shown = Shown { model: Some(model), open_until, ..shown };
        match created.map_err(|error| unavailable(&error, language))? {
            Created::New(job) => Ok(shown.accepted(&job)),
            Created::Existing(job) => self.replay(&job, &hash, shown).await,
            Created::Deleted(tombstone) => Err(deleted(&tombstone, &hash, language)),
            Created::Refused(refusal) => Err(refused(&refusal, language)),
        }
    }

    /// The job of this id if it is the caller's and its record has not expired.
    async fn owned(
        &self,
        user: &UserId,
        id: &str,
        at: Timestamp,
        language: Language,
    ) -> Result<Job, Problem> {
        let not_found = || Problem::new(ErrorCode::NotFound, language);
        let id = JobId::parse(id).map_err(|_| not_found())?;
        let job = self.jobs.get(&id).await.map_err(|error| unavailable(&error, language))?;
        job.filter(|job| job.belongs_to(user, at)).ok_or_else(not_found)
    }

    /// Records the job, sends its message and has its reference kept.
    async fn take(
        &self,
        asked: Asked,
        model: &Model,
        reference: Option<Reference>,
        at: Timestamp,
    ) -> Result<Created, StoreError> {
        let (id, user) = (asked.id.clone(), asked.user.clone());
        let metadata = asked.request.metadata.clone();
        let (order, long) = self.order(asked, model, reference, at);
        let job = Job::submitted(Submission { id, user, order, op: random_stamp() }, self.rules.wake);
        let beside = Beside {
            long_prompt: long.as_ref(),
            metadata: (!metadata.is_empty()).then_some(&metadata),
            expires_at: beside_expires_at(&job, self.rules.ttl_days),
        };
        let created = self.jobs.create(job, Some(beside), self.rules.inflight_max).await?;
        match &created {
            Created::New(job) => {
                tokio::join!(self.send(job, at), Box::pin(self.uploads.keep_reference(job)));
                tracing::info!(job.id = %job.id, job.model = %job.order.model, job.cost = job.order.cost, "submitted");
            }
            // Who made it may have died before.
            Created::Existing(job) => Box::pin(self.uploads.keep_reference(job)).await,
            Created::Deleted(_) | Created::Refused(_) => {}
        }
        Ok(created)
    }

    /// What is asked for, and its prompt when that is too long to stand in it.
    fn order(
        &self,
        asked: Asked,
        model: &Model,
        reference: Option<Reference>,
        at: Timestamp,
    ) -> (Order, Option<Prompt>) {
        let Asked { request, hash, retry_of, .. } = asked;
        let (inline, long) = request.prompt.in_record_or_beside();
        let order = Order {
            prompt: inline,
            model: model.name.clone(),
            shape: request.shape,
            reference,
            conversation_id: request.conversation_id,
            retry_of,
            batch: None,
            request_hash: hash,
            cost: model.price,
            created_at: at,
            deadline_at: at.plus(request.deadline.unwrap_or(self.rules.deadline)),
        };
        (order, long)
    }

    /// The 202 stands whether this works or not: the record is the outbox, and the sweeper sends what is due. A
    /// send that is known to have failed only makes it due at once.
    async fn send(&self, job: &Job, at: Timestamp) {
        let Err(error) = self.queue.send(&job.message(), Duration::ZERO).await else { return };
        tracing::warn!(job.id = %job.id, error = %error, "the message was not sent; the sweeper sends it");
        let due_now = Command::defer(job, at, WaitReason::Capacity);
        if let Err(error) = self.jobs.commit(job, &due_now, &random_stamp(), at, SETTLE_PATIENCE).await {
            tracing::warn!(job.id = %job.id, error = %error, "the job stays due later");
        }
    }

    /// What is refused now must not hide the job that this key made before.
    async fn replay_or(
        &self,
        asked: &Asked,
        shown: Shown<'_>,
        refusal: Problem,
    ) -> Result<Response, Problem> {
        let record = self.jobs.record(&asked.id).await;
        match record.map_err(|error| unavailable(&error, shown.language))? {
            Some(record) if !record.belongs_to(&asked.user, shown.at) => Err(refusal),
            Some(Record::Job(job)) => self.replay(&job, &asked.hash, shown).await,
            Some(Record::Tombstone(tombstone)) => Err(deleted(&tombstone, &asked.hash, shown.language)),
            None => Err(refusal),
        }
    }

    /// The job that this key made before, with its metadata as they are now.
    async fn replay(&self, job: &Job, hash: &str, shown: Shown<'_>) -> Result<Response, Problem> {
        if job.order.request_hash != hash {
            return Err(Problem::new(ErrorCode::IdempotencyMismatch, shown.language));
        }
        let kept = self.jobs.metadata(job).await.map_err(|error| unavailable(&error, shown.language))?;
        Ok(Shown { metadata: kept.value, ..shown }.replayed(job))
    }
}

fn without_model(code: ErrorCode, asked: &Asked, language: Language) -> Problem {
    match asked.retry_of {
        Some(_) => Problem::new(code, language),
        None => Problem::value(code, "/model", code.title(language), language),
    }
}

/// The key made a job that its owner has deleted: it makes no other until the record expires.
fn deleted(tombstone: &Tombstone, hash: &str, language: Language) -> Problem {
    let is_same = tombstone.request_hash == hash;
    Problem::new(if is_same { ErrorCode::JobDeleted } else { ErrorCode::IdempotencyMismatch }, language)
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Option<IdempotencyKey> {
    headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| IdempotencyKey::parse(text).ok())
}

/// What is shown beside a job's record.
struct Shown<'a> {
    /// The request's: the record has none of its own when it is long, and its hash says that it is the same.
    prompt: Prompt,
    metadata: Metadata,
    model: Option<&'a Model>,
    /// Until when no call is made for it.
    open_until: Option<Timestamp>,
    at: Timestamp,
    language: Language,
}

impl Shown<'_> {
    fn accepted(self, job: &Job) -> Response {
        let headers = [(LOCATION, format!("/v1/jobs/{}", job.id))];
        (StatusCode::ACCEPTED, [VARY_LANGUAGE], headers, self.body(job)).into_response()
    }

    /// A finished job is shown without a link to its picture: this function may not read pictures.
    fn replayed(self, job: &Job) -> Response {
        let headers = [(LOCATION, format!("/v1/jobs/{}", job.id)), (IDEMPOTENT_REPLAYED, "true".to_owned())];
        (StatusCode::ACCEPTED, [VARY_LANGUAGE], headers, self.body(job)).into_response()
    }

    fn body(self, job: &Job) -> Json<serde_json::Value> {
        let turn = self.open_until.map(|at| Turn { at, reason: WaitReason::BreakerOpen, is_firm: false });
        let outlook = self.model.and_then(|model| Outlook::of(job, None, turn, model.typical(), self.at));
        let view = JobView {
            long_prompt: Some(self.prompt),
            metadata: self.metadata,
            outlook,
            ..JobView::default()
        };
        Json(view.render(job, self.language))
    }
}

pub(crate) fn refused(refusal: &LedgerError, language: Language) -> Problem {
    match *refusal {
        LedgerError::Insufficient { price, available } => {
            let words = match language {
                Language::En => format!("The price is {price} tokens and your balance is {available}. "),
                Language::Tr => format!("Fiyat {price} jeton, bakiyeniz {available}. "),
            };
            let next = ErrorCode::InsufficientTokens.detail(language);
            Problem::new(ErrorCode::InsufficientTokens, language).with_detail(words + next)
        }
        LedgerError::TooManyInflight { .. } => Problem::new(ErrorCode::TooManyInflight, language),
        LedgerError::NotHeld { .. } | LedgerError::Overflow => Problem::new(ErrorCode::Internal, language),
    }
}

pub(crate) fn unavailable(error: &StoreError, language: Language) -> Problem {
    tracing::error!(error = %error, "the submission could not be stored");
    let code = if error.is_temporary() { ErrorCode::StoreThrottled } else { ErrorCode::Internal };
    Problem::new(code, language)
}
