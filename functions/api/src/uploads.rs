//! `POST /v1/uploads`: a place in the bucket for a caller's own bytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use darkroom_aws::now;
use darkroom_core::upload::UploadRequest;
use darkroom_edge::{AcceptLanguage, Caller, JsonBody, Problem};
use serde_json::json;

use crate::routes::{Api, unavailable};

/// A link where nothing but the promised bytes can be put, for 15 minutes. Nothing is stored by this: what is never put never was.
pub(crate) async fn begin(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let promised =
        UploadRequest::parse(&body).map_err(|violations| Problem::violations(violations, language))?;
    let upload =
        api.uploads.begin(&user, &promised, now()).await.map_err(|error| unavailable(&error, language))?;
    let view = json!({
        "upload_id": upload.id,
        "url": upload.url,
        "headers": upload.headers,
        "expires_at": upload.expires_at.rfc3339(),
    });
    Ok((StatusCode::CREATED, Json(view)).into_response())
}
