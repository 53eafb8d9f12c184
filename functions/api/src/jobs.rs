//! Reading, listing and cancelling jobs. Somebody else's job is no job: 404.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use darkroom_aws::{Commit, Listed, StoreError, now, random_stamp};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::id::{BatchId, ConversationId, JobId, UserId};
use darkroom_core::job::{Job, Outcome, Record, Stage, Status};
use darkroom_core::ledger::Balance;
use darkroom_core::lifecycle::{Command, End, expires_at};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::metadata::JobMetadata;
use darkroom_core::position::Position;
use darkroom_core::time::Timestamp;
use darkroom_edge::{AcceptLanguage, Caller, Problem, VARY_LANGUAGE};
use serde_json::json;

use crate::query::{Query, job_cursor, limit, parse_job_cursor};
use crate::routes::{Api, unavailable};

/// The longest that a caller may wait for a change.
const WAIT_SECONDS_MAX: u64 = 20;
/// A waiting caller's record is read this often.
const WAIT_READ: Duration = Duration::from_millis(500);
/// A link to a picture is good for 15 minutes; the tag of a job with one changes every ten.
const LINK_CLOCK_SECONDS: u64 = 600;
/// A page of jobs unless asked otherwise.
const LIST_DEFAULT: u16 = 20;
/// What a job's owner asks for looks again when another write of the job came first. A cancel finds a later state each time.
pub(crate) const TRIES: u32 = 8;
/// A list of drafts waits no longer for what is over.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /v1/jobs/{id}`: the job, or 304. With `?wait=N` it answers when the job changes, at the latest after N seconds.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["wait"]);
    let wait = query.value("wait", "a whole number of seconds from 0 to 20", |text| {
        text.parse().ok().filter(|seconds| *seconds <= WAIT_SECONDS_MAX)
    });
    query.finish(language)?;
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let wait_until = now().plus(Duration::from_secs(wait.unwrap_or(0)));
    let mut first = None;
    loop {
        let (job, metadata) = api.owned_with_metadata(&user, &id, language).await?;
        let position = api.views.position(&job).await.map_err(|error| unavailable(&error, language))?;
        let tag = etag(&job, &metadata, position, language, now());
        let changed = match (known, &first) {
            (Some(known), _) => !matches(known, &tag),
            (None, Some(first)) => tag != *first,
            (None, None) => false,
        };
        let settled = matches!(job.stage, Stage::Settled(_));
        let over = now() >= wait_until;
        if known.is_some_and(|known| matches(known, &tag)) && (over || settled) {
            return Ok((StatusCode::NOT_MODIFIED, cache_headers(tag)).into_response());
        }
        if changed || settled || over {
            let body = api.view(&job, metadata, position, language).await;
            let body = body.map_err(|error| unavailable(&error, language))?;
            return Ok((cache_headers(tag), Json(body)).into_response());
        }
        first.get_or_insert(tag);
        #[expect(clippy::disallowed_methods, reason = "a caller waits for a change")]
        tokio::time::sleep(WAIT_READ.min(wait_until.since(now()))).await;
    }
}

/// `GET /v1/jobs`: the caller's jobs, newest first; those of a batch by their lines. The first page of drafts ends what is over among the caller's newest.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["status", "conversation_id", "batch_id", "limit", "cursor"]);
    let statuses = Status::ALL.map(Status::as_str).join(", ");
    let status = query.value("status", &format!("one of {statuses}"), Status::parse);
    let conversation =
        query.value("conversation_id", "a conversation's id", |text| ConversationId::parse(text).ok());
    let batch = query.value("batch_id", "a batch's id", |text| BatchId::parse(text).ok());
    let size = query.value("limit", "a whole number from 1 to 50", limit).unwrap_or(LIST_DEFAULT);
    let cursor = query.value("cursor", "a next_cursor that this list gave", parse_job_cursor);
    query.finish(language)?;
    let at = now();
    if status == Some(Status::Draft) && cursor.is_none() {
        api.sweep_own(&user, at).await;
    }
    let wanted = |job: &Job| {
        job.belongs_to(&user, at)
            && status.is_none_or(|status| job.status() == status)
            && conversation.as_ref().is_none_or(|wanted| job.order.conversation_id.as_ref() == Some(wanted))
    };
    // Somebody else's batch has no job that belongs to the caller.
    let listed = batch.as_ref().map_or(Listed::OfUser(&user), Listed::OfBatch);
    let page = api
        .jobs
        .list(listed, cursor, usize::from(size), wanted)
        .await
        .map_err(|error| unavailable(&error, language))?;
    let views = api.views.views(&page.jobs).await.map_err(|error| unavailable(&error, language))?;
    let shown: Vec<_> = page.jobs.iter().zip(views).map(|(job, view)| view.render(job, language)).collect();
    let next = page.next.map(|(place, id)| job_cursor(place, &id));
    Ok(([VARY_LANGUAGE], Json(json!({"jobs": shown, "next_cursor": next}))).into_response())
}

/// `POST /v1/jobs/{id}/cancel`: a waiting job ends and is refunded; one that is being drawn is asked to end, and is
/// paid if its picture still comes. Idempotent; 409 when the job has ended another way.
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let mut job = api.owned(&user, &id, language).await?;
    for _ in 0..TRIES {
        let at = now();
        let command = match &job.stage {
            Stage::Pending(_) => {
                Command::CancelPending { end: End { now: at, expires_at: expires_at(at, api.days.settled) } }
            }
            Stage::Processing(processing) if !processing.cancel_requested => Command::RequestCancel,
            Stage::Processing(_) => return api.answer(&job, language).await,
            Stage::Settled(settled) if settled.outcome == Outcome::Cancelled => {
                return api.answer(&job, language).await;
            }
            Stage::Settled(_) => return Err(cannot_be_cancelled(&job, language)),
        };
        let commit = api
            .jobs
            .commit(&job, &command, &random_stamp(), at, SETTLE_PATIENCE)
            .await
            .map_err(|error| unavailable(&error, language))?;
        match commit {
            Commit::Applied(job) => {
                tracing::info!(job.id = %job.id, job.status = job.status().as_str(), "cancelled by its owner");
                return api.answer(&job, language).await;
            }
            Commit::Refused(_) | Commit::Absent => job = api.owned(&user, &id, language).await?,
        }
    }
    Err(Problem::new(ErrorCode::StoreThrottled, language))
}

fn cannot_be_cancelled(job: &Job, language: Language) -> Problem {
    Problem::wrong_state(job, ["it can no longer be cancelled", "artık iptal edilemez"], language)
}

impl Api {
    /// The job of this id if it is the caller's and its record has not expired.
    pub(crate) async fn owned(&self, user: &UserId, id: &str, language: Language) -> Result<Job, Problem> {
        let job = self.owned_record(user, id, language).await?.job();
        job.ok_or_else(|| Problem::new(ErrorCode::NotFound, language))
    }

    /// The same, or what is left of it.
    pub(crate) async fn owned_record(
        &self,
        user: &UserId,
        id: &str,
        language: Language,
    ) -> Result<Record, Problem> {
        let not_found = || Problem::new(ErrorCode::NotFound, language);
        let id = JobId::parse(id).map_err(|_| not_found())?;
        let record = self.jobs.record(&id).await.map_err(|error| unavailable(&error, language))?;
        record.filter(|record| record.belongs_to(user, now())).ok_or_else(not_found)
    }

    /// The job with its metadata.
    pub(crate) async fn owned_with_metadata(
        &self,
        user: &UserId,
        id: &str,
        language: Language,
    ) -> Result<(Job, JobMetadata), Problem> {
        let not_found = || Problem::new(ErrorCode::NotFound, language);
        let id = JobId::parse(id).map_err(|_| not_found())?;
        let found = self.jobs.get_with_metadata(&id).await.map_err(|error| unavailable(&error, language))?;
        found.filter(|(job, _)| job.belongs_to(user, now())).ok_or_else(not_found)
    }

    /// Ends what is over among the caller's newest jobs, so that their tokens are back. Whoever has no job in flight and nothing
    /// held, as for the jobs of a batch, has none that is over. The list is shown whatever comes of it: the sweeper comes again.
    async fn sweep_own(&self, user: &UserId, at: Timestamp) {
        let sweep = async {
            match self.ledger.balance(user).await? {
                Balance { inflight: 0, held: 0, .. } => Ok(()),
                _ => self.sweep.of_user(user, at).await.map(drop),
            }
        };
        match tokio::time::timeout(SWEEP_TIMEOUT, sweep).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "drafts are listed without a sweep before"),
            Err(_) => tracing::warn!("drafts are listed before the sweep has ended"),
        }
    }

    pub(crate) async fn answer(&self, job: &Job, language: Language) -> Result<Response, Problem> {
        let metadata = self.jobs.metadata(job).await.map_err(|error| unavailable(&error, language))?;
        self.answer_with(job, metadata, language).await
    }

    /// The whole job as `GET` shows it, with these metadata.
    pub(crate) async fn answer_with(
        &self,
        job: &Job,
        metadata: JobMetadata,
        language: Language,
    ) -> Result<Response, Problem> {
        let answer = async {
            let position = self.views.position(job).await?;
            self.view(job, metadata, position, language).await
        };
        answer
            .await
            .map(|view| ([VARY_LANGUAGE], Json(view)).into_response())
            .map_err(|error| unavailable(&error, language))
    }

    async fn view(
        &self,
        job: &Job,
        metadata: JobMetadata,
        position: Option<Position>,
        language: Language,
    ) -> Result<serde_json::Value, StoreError> {
        Ok(self.views.view(job, metadata, position).await?.render(job, language))
    }
}

/// A 304 carries what its 200 would have (RFC 9110 §15.4.5).
fn cache_headers(tag: String) -> [(HeaderName, String); 3] {
    let (vary, language) = VARY_LANGUAGE;
    [(ETAG, tag), (CACHE_CONTROL, "private, no-cache".to_owned()), (vary, language.to_owned())]
}

/// Changes with the versions of record and metadata, the place in the queue, the language of the texts and, with a
/// picture, every ten minutes: so that a 304 never leaves a caller with a link that is about to end.
fn etag(
    job: &Job,
    metadata: &JobMetadata,
    position: Option<Position>,
    language: Language,
    at: Timestamp,
) -> String {
    let place = position
        .map_or_else(String::new, |position| format!("-p{}{}", position.place, u8::from(position.exact)));
    let clock =
        job.image().map_or_else(String::new, |_| format!("-t{}", at.as_seconds() / LINK_CLOCK_SECONDS));
    format!("\"v{}-m{}{place}{clock}-{}\"", job.version, metadata.version, language.tag())
}

/// `If-None-Match` (RFC 9110 §13.1.2): a list of tags, compared weakly, or `*`.
fn matches(header: &str, tag: &str) -> bool {
    header
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn if_none_match_is_a_list_of_tags() {
        for (header, fits) in [
            ("\"v1-en\"", true),
            ("W/\"v1-en\"", true),
            ("\"v0-en\", \"v1-en\"", true),
            ("*", true),
            ("\"v1-tr\"", false),
            ("v1-en", false),
            ("", false),
        ] {
            assert_eq!(matches(header, "\"v1-en\""), fits, "{header}");
        }
    }
}
