//! `POST /v1/exports`: records an export once and has it taken up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use darkroom_aws::{Exported, now, random_stamp};
use darkroom_core::bulk_message::{BulkId, BulkMessage};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::export::{Export, ExportRequest, ExportSubmission};
use darkroom_core::id::ExportId;
use darkroom_core::time::Timestamp;
use darkroom_edge::{AcceptLanguage, Caller, JsonBody, Problem, VARY_LANGUAGE};

use crate::submit::{IDEMPOTENT_REPLAYED, Submit, idempotency_key, unavailable};

/// Takes an export, or tells what became of it before. It costs nothing.
pub(crate) async fn post_export(
    State(submit): State<Arc<Submit>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let key =
        idempotency_key(&headers).ok_or_else(|| Problem::new(ErrorCode::MissingIdempotencyKey, language))?;
    let request =
        ExportRequest::parse(&body).map_err(|violations| Problem::violations(violations, language))?;
    let (id, hash, at) = (ExportId::derive(&user, &key), request.hash(), now());
    let export = Export::submitted(ExportSubmission { id, user, request, asked_at: at, op: random_stamp() });
    match submit.exports.create(export).await.map_err(|error| unavailable(&error, language))? {
        Exported::New(export) => {
            submit.send_export(&export).await;
            Ok(accepted(&export, at, language))
        }
        Exported::Existing(export) if export.request.hash() == hash => {
            Ok(([(IDEMPOTENT_REPLAYED, "true")], accepted(&export, at, language)).into_response())
        }
        Exported::Existing(_) => Err(Problem::new(ErrorCode::IdempotencyMismatch, language)),
        Exported::TooMany => Err(Problem::new(ErrorCode::TooManyExports, language)),
    }
}

/// One that is ready is shown without a link to its file: this function may not read files.
fn accepted(export: &Export, at: Timestamp, language: Language) -> Response {
    let headers = [(LOCATION, format!("/v1/exports/{}", export.id))];
    (StatusCode::ACCEPTED, [VARY_LANGUAGE], headers, Json(export.render(None, at, language))).into_response()
}

impl Submit {
    /// The 202 stands whether this works or not: the sweeper sends what is due.
    async fn send_export(&self, export: &Export) {
        let message = BulkMessage::new(BulkId::Export(export.id.clone()));
        match self.bulk_queue.send(&message, &export.user).await {
            Ok(()) => {
                tracing::info!(export.id = %export.id, export.kind = export.request.kind.as_str(), "export asked for");
            }
            Err(error) => {
                tracing::warn!(export.id = %export.id, error = %error, "the message was not sent; the sweeper sends it");
            }
        }
    }
}
