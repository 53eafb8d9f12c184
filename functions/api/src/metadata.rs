//! Changing a job's metadata. Somebody else's job is no job: 404.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use darkroom_aws::{Patched, now};
use darkroom_core::error_code::ErrorCode;
use darkroom_core::metadata::MetadataPatch;
use darkroom_edge::{AcceptLanguage, Caller, MergePatchBody, Problem};

use crate::routes::{Api, unavailable};

/// `PATCH /v1/jobs/{id}/metadata`: merges a patch (RFC 7396) into the job's metadata, whatever its state; answers with the job.
/// Patches at once are all kept. Idempotent: a patch again changes nothing.
pub(crate) async fn merge(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
    MergePatchBody(body): MergePatchBody,
) -> Result<Response, Problem> {
    let refused = |violation| Problem::violations(vec![violation], language);
    let patch = MetadataPatch::parse(body).map_err(refused)?;
    let (job, seen) = api.owned_with_metadata(&user, &id, language).await?;
    let patched = api.jobs.patch_metadata(&job, seen, &patch, api.days.settled, now()).await;
    match patched.map_err(|error| unavailable(&error, language))? {
        Patched::Applied(metadata) => api.answer_with(&job, metadata, language).await,
        Patched::Refused(violation) => Err(refused(violation)),
        Patched::Absent => Err(Problem::new(ErrorCode::NotFound, language)),
    }
}
