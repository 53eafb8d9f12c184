//! Refusals as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::job::Job;
use darkroom_core::request::Violation;
use serde_json::{Value, json};

use crate::{AcceptLanguage, VARY_LANGUAGE};

/// A refused request.
#[derive(Debug)]
pub struct Problem {
    code: ErrorCode,
    language: Language,
    detail: Option<String>,
    retry_after: Option<Duration>,
    violations: Vec<Violation>,
}

impl Problem {
    /// A refusal with the code's own words.
    pub const fn new(code: ErrorCode, language: Language) -> Self {
        Self { code, language, detail: None, retry_after: None, violations: Vec::new() }
    }

    /// Says something more particular than the code's own words.
    #[must_use]
    pub fn with_detail(self, detail: String) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// Says when it is worth trying again; rounded up to whole seconds.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// What the job's state does not allow, and why not, in English and in Turkish.
    pub fn wrong_state(job: &Job, [english, turkish]: [&str; 2], language: Language) -> Self {
        let status = job.status().as_str();
        let words = match language {
            Language::En => format!("The job is {status}: {english}."),
            Language::Tr => format!("İşin durumu {status}: {turkish}."),
        };
        Self::new(ErrorCode::WrongState, language).with_detail(words)
    }

    /// A body or query with these faults: 400 when it has unknown fields, 422 otherwise.
    pub fn violations(violations: Vec<Violation>, language: Language) -> Self {
        let unknown = violations.iter().any(|violation| violation.unknown_field);
        let code = if unknown { ErrorCode::UnknownField } else { ErrorCode::InvalidValue };
        Self { violations, ..Self::new(code, language) }
    }

    /// One wrong value.
    pub fn value(code: ErrorCode, pointer: &str, reason: &str, language: Language) -> Self {
        let violation =
            Violation { pointer: pointer.to_owned(), reason: reason.to_owned(), unknown_field: false };
        Self { violations: vec![violation], ..Self::new(code, language) }
    }

    fn body(&self) -> Value {
        let errors: Vec<_> = self
            .violations
            .iter()
            .map(|violation| json!({"pointer": violation.pointer, "reason": violation.reason}))
            .collect();
        let mut body = json!({
            "type": format!("urn:darkroom:error:{}", self.code.as_str()),
            "title": self.code.title(self.language),
            "status": self.code.status(),
            "detail": self.detail.as_deref().unwrap_or(self.code.detail(self.language)),
            "code": self.code.as_str(),
            "retryable": self.code.is_retryable(),
        });
        if let (Some(object), false) = (body.as_object_mut(), errors.is_empty()) {
            object.insert("errors".to_owned(), Value::Array(errors));
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [VARY_LANGUAGE], Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(self.language.tag()));
        let told = self.retry_after.map(|wait| wait.as_millis().div_ceil(1_000));
        let told = told.and_then(|seconds| u64::try_from(seconds).ok());
        if let Some(seconds) = told.or(self.code.retry_after_seconds()) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// For paths that no route has.
pub async fn not_found(AcceptLanguage(language): AcceptLanguage) -> Problem {
    Problem::new(ErrorCode::NotFound, language)
}

/// For methods that the path has not; the router adds `Allow`.
pub async fn method_not_allowed(AcceptLanguage(language): AcceptLanguage) -> Problem {
    Problem::new(ErrorCode::MethodNotAllowed, language)
}
