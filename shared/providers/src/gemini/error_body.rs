//! What an answer other than 200 means. The table is in the design notes; its rows are tests in `tests/wire/answers.rs`.

use std::time::Duration;

use darkroom_core::answer::Refusal;
use http::StatusCode;
use serde_json::Value;

use crate::wire::{named_pause, seconds, word};

/// The meaning of an answer other than 2xx. `retry_after` is what its headers ask for, `body` what came of the body.
///
/// Beyond the table:
/// - 408, 409, 421, 425, 499: the request itself was not judged; `Unavailable`.
/// - 429 whose message says that prepaid credits are used up or a spending cap is reached: no minute and no day ends that, and
///   `details` is empty; `AccountParked`, as for 402.
/// - 3xx: never followed, since the key would travel to an address nobody configured; `Unavailable`, so that a wrong
///   base URL opens the breaker and refunds, and blames neither key nor caller.
/// - 403 with a status of Google's own and none of the known reasons (`SERVICE_DISABLED`, a key restricted to other
///   services, referrers or addresses, ...): the key cannot do this until a person changes it; `InvalidKey`.
/// - 403 without such a body: something between us and Google (a firewall, a filter) answered, and it would answer every
///   key alike; `Unavailable`, so that one wrong box does not disable the whole pool.
/// - any other 4xx: the same request would be refused again; `InvalidRequest`.
pub(crate) fn refusal(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Refusal {
    let error = ApiError::parse(body);
    let unavailable = || Refusal::Unavailable { detail: format!("HTTP_{}", status.as_u16()) };
    match status.as_u16() {
        400 => bad_request(&error),
        401 => Refusal::InvalidKey,
        402 => Refusal::AccountParked,
        403 => forbidden(&error).unwrap_or_else(unavailable),
        404 => Refusal::ModelRetired,
        429 => exhausted(&error, retry_after),
        408 | 409 | 421 | 425 | 499 => unavailable(),
        405..=498 => Refusal::InvalidRequest { detail: error.detail(status) },
        _ => unavailable(),
    }
}

fn bad_request(error: &ApiError) -> Refusal {
    if error.reasons().any(|reason| matches!(reason, "API_KEY_INVALID" | "API_KEY_EXPIRED")) {
        return Refusal::InvalidKey;
    }
    if error.reasons().any(|reason| reason == "CONSUMER_SUSPENDED") {
        return Refusal::Suspended;
    }
    if error.status == "FAILED_PRECONDITION" {
        return Refusal::Billing;
    }
    Refusal::InvalidRequest { detail: error.detail(StatusCode::BAD_REQUEST) }
}

fn forbidden(error: &ApiError) -> Option<Refusal> {
    let says = |words| contains(&error.message, words);
    if error.reasons().any(|reason| reason == "CONSUMER_SUSPENDED")
        || says("has been suspended")
        || says("reported as leaked")
        || says("denied access")
    {
        return Some(Refusal::Suspended);
    }
    if error.reasons().any(|reason| reason == "BILLING_DISABLED") {
        return Some(Refusal::Billing);
    }
    (error.status == "PERMISSION_DENIED" || error.reasons().next().is_some()).then_some(Refusal::InvalidKey)
}

/// 429. First what no waiting ends, then the day, then the minute: `retryDelay` says seconds even for a daily quota.
fn exhausted(error: &ApiError, retry_after: Option<Duration>) -> Refusal {
    if error.violations().any(|violation| violation.get("quotaValue").is_some_and(is_zero))
        || names_zero_limit(&error.message)
    {
        return Refusal::ZeroQuota;
    }
    if contains(&error.message, "credits are depleted") || contains(&error.message, "spending cap") {
        return Refusal::AccountParked;
    }
    if error.violations().any(is_daily) {
        return Refusal::DailyQuota;
    }
    let retry_after = error.retry_delay().or(retry_after).or_else(|| named_pause(&error.message));
    Refusal::RateLimited { retry_after }
}

/// The error's body, reduced to what decides. A member of an unexpected type counts as absent, each for itself.
#[derive(Debug, Default)]
struct ApiError {
    status: String,
    message: String,
    details: Vec<Value>,
}

impl ApiError {
    /// Whatever can be read of it.
    fn parse(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        // Streaming variants wrap it in an array of one.
        let body = body.get(0).unwrap_or(&body);
        let Some(error) = body.get("error") else { return Self::default() };
        let text = |name| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let details = error.get("details").and_then(Value::as_array).cloned().unwrap_or_default();
        Self { status: text("status"), message: text("message"), details }
    }

    fn reasons(&self) -> impl Iterator<Item = &str> {
        self.details.iter().filter_map(|detail| detail.get("reason")?.as_str())
    }

    fn violations(&self) -> impl Iterator<Item = &Value> {
        self.details.iter().filter_map(|detail| detail.get("violations")?.as_array()).flatten()
    }

    fn retry_delay(&self) -> Option<Duration> {
        self.details.iter().find_map(|detail| protobuf_duration(detail.get("retryDelay")?))
    }

    /// The provider's status word, or the HTTP status.
    fn detail(&self, status: StatusCode) -> String {
        if self.status.is_empty() { format!("HTTP_{}", status.as_u16()) } else { word(&self.status) }
    }
}

fn is_daily(violation: &Value) -> bool {
    violation.get("quotaId").and_then(Value::as_str).is_some_and(|quota| contains(quota, "PerDay"))
}

fn contains(text: &str, words: &str) -> bool {
    text.to_ascii_lowercase().contains(&words.to_ascii_lowercase())
}

fn is_zero(value: &Value) -> bool {
    value.as_str().map_or_else(|| value.as_u64() == Some(0), |text| text.trim() == "0")
}

/// `..., limit: 0, model: ...` or `..., limit: 0` at an end of line; `limit: 05` and `limit: 0.5` are not zero.
fn names_zero_limit(message: &str) -> bool {
    message.match_indices("limit: 0").any(|(at, words)| {
        let after = message.get(at + words.len()..).unwrap_or_default();
        let mut after = after.chars();
        match after.next() {
            Some('.') => !after.next().is_some_and(|next| next.is_ascii_digit()),
            Some(next) => !next.is_ascii_digit(),
            None => true,
        }
    })
}

/// `58.821668433s`, or `{"seconds": "58", "nanos": 821668433}`.
fn protobuf_duration(value: &Value) -> Option<Duration> {
    if let Some(text) = value.as_str() {
        return seconds(text.strip_suffix('s')?);
    }
    let number = |name| {
        let value = value.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let nanos =
        number("nanos").and_then(|nanos| u32::try_from(nanos).ok()).filter(|nanos| *nanos < 1_000_000_000);
    number("seconds").map(|seconds| Duration::new(seconds, nanos.unwrap_or(0)))
}
