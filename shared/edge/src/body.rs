//! Request bodies.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use darkroom_core::error_code::ErrorCode;
use darkroom_core::limits::BODY_BYTES_MAX;
use serde_json::Value;

use crate::{AcceptLanguage, Problem};

/// A body of at most 16 KB that is one JSON value, sent as `application/json`.
#[derive(Debug)]
pub struct JsonBody(pub Value);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Ok(AcceptLanguage(language)) = AcceptLanguage::from_request_parts(&mut parts, state).await;
        if !is_json(&parts.headers) {
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, language));
        }
        let bytes = to_bytes(body, BODY_BYTES_MAX)
            .await
            .map_err(|_| Problem::new(ErrorCode::BodyTooLarge, language))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            // Line and column are enough to find it; the message may repeat what was sent.
            let place = format!("line {}, column {}", error.line(), error.column());
            let detail = format!("{} ({place})", ErrorCode::MalformedJson.detail(language));
            Problem::new(ErrorCode::MalformedJson, language).with_detail(detail)
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
