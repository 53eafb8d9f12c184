//! What becomes of a picture: published, a draft again, or deleted with its job.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use darkroom_aws::{Commit, Deleted, StoreError, now, random_stamp};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::id::UserId;
use darkroom_core::job::{Job, Record, Stage, Tombstone};
use darkroom_core::settled::Publication;
use darkroom_edge::{AcceptLanguage, Caller, Problem};

use crate::jobs::TRIES;
use crate::routes::{Api, unavailable};

/// `POST /v1/jobs/{id}/publish`: the draft is published, and kept longer. Idempotent; 409 without a picture.
pub(crate) async fn publish(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    api.set_published(&user, &id, true, language).await
}

/// `POST /v1/jobs/{id}/unpublish`: it is a draft again. Idempotent; 409 without a picture.
pub(crate) async fn unpublish(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    api.set_published(&user, &id, false, language).await
}

/// `DELETE /v1/jobs/{id}`: prompt, metadata and picture are gone when this is answered; a tombstone stays until the record
/// expires. Idempotent, so that a client whose answer was lost can have the rest deleted; 409 while the job is under way.
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    for _ in 0..TRIES {
        let tombstone = match api.owned_record(&user, &id, language).await? {
            Record::Tombstone(tombstone) => tombstone,
            Record::Job(job) if matches!(job.stage, Stage::Settled(_)) => {
                let deleted = api.jobs.delete(&job, &random_stamp()).await;
                match deleted.map_err(|error| unavailable(&error, language))? {
                    Deleted::Done(tombstone) => tombstone,
                    Deleted::Refused | Deleted::Absent => continue,
                }
            }
            Record::Job(job) => return Err(cannot_be_deleted(&job, language)),
        };
        api.delete_image(&tombstone).await.map_err(|error| unavailable(&error, language))?;
        tracing::info!(job.id = %tombstone.id, "deleted by its owner");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(ErrorCode::StoreThrottled, language))
}

impl Api {
    async fn set_published(
        &self,
        user: &UserId,
        id: &str,
        published: bool,
        language: Language,
    ) -> Result<Response, Problem> {
        let failed = |error: StoreError| unavailable(&error, language);
        for _ in 0..TRIES {
            let job = self.owned(user, id, language).await?;
            let publication = Publication::of(&job, published, now(), self.days)
                .map_err(|_| cannot_be_published(&job, language))?;
            let Some(publication) = publication else { return self.answer(&job, language).await };
            let kept = self.jobs.beside(std::slice::from_ref(&job)).await.map_err(failed)?.remove(&job.id);
            let kept = kept.unwrap_or_default();
            let written = self.jobs.publish(&job, &publication, &kept, &random_stamp()).await;
            if let Commit::Applied(job) = written.map_err(failed)? {
                tracing::info!(job.id = %job.id, job.status = job.status().as_str(), "published or unpublished by its owner");
                return self.answer(&job, language).await;
            }
        }
        Err(Problem::new(ErrorCode::StoreThrottled, language))
    }

    /// The record is a tombstone before its picture goes, so no job is ever shown without one; it names the picture until that
    /// is gone, so whoever asks again finishes what broke off.
    async fn delete_image(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        let Some(key) = &tombstone.image_key else { return Ok(()) };
        self.images.delete(key).await?;
        self.jobs.image_is_gone(tombstone, &random_stamp()).await
    }
}

fn cannot_be_published(job: &Job, language: Language) -> Problem {
    let words = [
        "only a job with a picture can be published or become a draft again",
        "yalnızca görseli olan bir iş yayımlanabilir ya da yeniden taslak olabilir",
    ];
    Problem::wrong_state(job, words, language)
}

fn cannot_be_deleted(job: &Job, language: Language) -> Problem {
    let words = ["cancel it first, and delete it once it has ended", "önce iptal edin, bitince silin"];
    Problem::wrong_state(job, words, language)
}
