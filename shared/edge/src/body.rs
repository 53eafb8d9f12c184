//! Request bodies.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::limits::{BATCH_BODY_BYTES_MAX, BODY_BYTES_MAX};
use serde_json::Value;

use crate::{AcceptLanguage, Problem};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A body of at most 16 KB that is one JSON value, sent as `application/json`.
#[derive(Debug)]
pub struct JsonBody(pub Value);

/// A body of at most 1 MB that is one JSON value, sent as `application/json`: a batch.
#[derive(Debug)]
pub struct BatchBody(pub Value);

/// The same as a merge patch (RFC 7396): sent as `application/merge-patch+json`, or as `application/json`.
#[derive(Debug)]
pub struct MergePatchBody(pub Value);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        json(request, state, &[JSON], BODY_BYTES_MAX).await.map(Self)
    }
}

impl<S: Sync> FromRequest<S> for BatchBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        json(request, state, &[JSON], BATCH_BODY_BYTES_MAX).await.map(Self)
    }
}

impl<S: Sync> FromRequest<S> for MergePatchBody {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        json(request, state, &[MERGE_PATCH, JSON], BODY_BYTES_MAX).await.map(Self).map_err(|problem| {
            let mut response = problem.into_response();
            // RFC 5789, section 2.2: a 415 says what is taken.
            if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                let taken = HeaderValue::from_static("application/merge-patch+json, application/json");
                response.headers_mut().insert(HeaderName::from_static("accept-patch"), taken);
            }
            response
        })
    }
}

async fn json<S: Sync>(
    request: Request,
    state: &S,
    media_types: &[&str],
    bytes_max: usize,
) -> Result<Value, Problem> {
    let (mut parts, body) = request.into_parts();
    let Ok(AcceptLanguage(language)) = AcceptLanguage::from_request_parts(&mut parts, state).await;
    if !is_one_of(&parts.headers, media_types) {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, language));
    }
    let bytes = to_bytes(body, bytes_max).await.map_err(|_| too_large(bytes_max, language))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // Line and column are enough to find it; the message may repeat what was sent.
        let place = format!("line {}, column {}", error.line(), error.column());
        let detail = format!("{} ({place})", ErrorCode::MalformedJson.detail(language));
        Problem::new(ErrorCode::MalformedJson, language).with_detail(detail)
    })
}

fn too_large(bytes_max: usize, language: Language) -> Problem {
    let kilobytes = bytes_max / 1024;
    let words = match language {
        Language::En => format!("Send at most {kilobytes} KB."),
        Language::Tr => format!("En çok {kilobytes} KB gönderin."),
    };
    Problem::new(ErrorCode::BodyTooLarge, language).with_detail(words)
}

fn is_one_of(headers: &HeaderMap, media_types: &[&str]) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    media_types.iter().any(|known| essence.eq_ignore_ascii_case(known))
}
