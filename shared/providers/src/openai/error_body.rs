//! What an answer other than 200 means. The rows are tests in `tests/wire/openai.rs`.

use std::time::Duration;

use darkroom_core::answer::Refusal;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::wire::{named_pause, retry_after, unavailable, word};

/// The meaning of an answer other than 2xx; the body is `{"error": {"message", "type", "param", "code"}}`.
///
/// Bodies and codes as reported with the API's answers in public issues and tests of its clients, 2023 to 2026:
/// - `moderation_blocked` (type `image_generation_user_error`) or `content_policy_violation`, or "our safety system" where a server between
///   has lost the code: the content is refused.
/// - `insufficient_quota`, `project_spend_limit_exceeded`, `billing_hard_limit_reached` (the last also as 400): the account must pay first.
/// - `account_deactivated`: suspended.
/// - "must be verified to use the model", and 403 `model_not_found` ("Project … does not have access to model"): this project is granted
///   none of this model until a person changes that; `ZeroQuota`, so that the key still serves other models.
/// - 429 with a limit of 0 ("Limit: 0/1min"): the same. Any other 429 rests for as long as the headers, else the message, ask:
///   daily limits here are buckets that fill steadily, and say a true pause. No pause is no answer: "retry after 0.0 seconds" says nothing.
/// - 404 `model_not_found`, and 400 that names `model` as the wrong parameter: the model is gone.
///
/// Where the reason cannot be the key's:
/// - 403 `unsupported_country_region_territory`: it is about the worker's address, and every key would be answered alike; `Unavailable`.
/// - 403 without a body of this form (a firewall, a filter), 404 without a word of the model (a wrong base URL), 3xx (never followed,
///   since the key would travel to an address nobody configured), 408, 409, 421, 425, 499: `Unavailable`.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let error = ApiError::parse(body);
    let http_status = || unavailable(&format!("HTTP_{}", status.as_u16()));
    match status.as_u16() {
        400..=499 if error.must_pay() => Refusal::AccountParked,
        400..=499 if error.code == "account_deactivated" => Refusal::Suspended,
        400 | 403 if error.is_moderation() => Refusal::ContentBlocked { detail: error.detail(status) },
        400 | 403 if error.says("must be verified to use the model") => Refusal::ZeroQuota,
        400 if error.param == "model" || error.code == "model_not_found" => Refusal::ModelRetired,
        400 if error.code == "invalid_api_key" => Refusal::InvalidKey,
        401 => Refusal::InvalidKey,
        402 => Refusal::AccountParked,
        403 => forbidden(&error).unwrap_or_else(http_status),
        404 if error.names_no_model() => Refusal::ModelRetired,
        404 | 408 | 409 | 421 | 425 | 499 => http_status(),
        429 if names_zero_limit(&error.message) => Refusal::ZeroQuota,
        429 => Refusal::RateLimited { retry_after: pause(headers, &error.message) },
        400..=498 => Refusal::InvalidRequest { detail: error.detail(status) },
        _ => http_status(),
    }
}

fn forbidden(error: &ApiError) -> Option<Refusal> {
    match error.code.as_str() {
        "model_not_found" => Some(Refusal::ZeroQuota),
        "unsupported_country_region_territory" => None,
        _ if error.says("does not have access to model") => Some(Refusal::ZeroQuota),
        _ => error.found.then_some(Refusal::InvalidKey),
    }
}

fn pause(headers: &HeaderMap, message: &str) -> Option<Duration> {
    let named = |pause: &Duration| !pause.is_zero();
    retry_after(headers).filter(named).or_else(|| named_pause(message).filter(named))
}

/// The error's body, reduced to what decides. A member of an unexpected type counts as absent, each for itself.
#[derive(Debug, Default)]
struct ApiError {
    /// There is a body of this form.
    found: bool,
    message: String,
    kind: String,
    param: String,
    code: String,
}

impl ApiError {
    /// Whatever can be read of it.
    fn parse(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(error) = body.get("error") else { return Self::default() };
        let text = |name| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            found: error.is_object(),
            message: text("message"),
            kind: text("type"),
            param: text("param"),
            code: text("code"),
        }
    }

    fn says(&self, words: &str) -> bool {
        self.message.to_ascii_lowercase().contains(words)
    }

    fn must_pay(&self) -> bool {
        let unpaid = ["insufficient_quota", "billing_hard_limit_reached"];
        unpaid.contains(&self.code.as_str())
            || unpaid.contains(&self.kind.as_str())
            || self.code.ends_with("_spend_limit_exceeded")
    }

    fn is_moderation(&self) -> bool {
        ["moderation_blocked", "content_policy_violation"].contains(&self.code.as_str())
            || self.says("our safety system")
            || self.says("by the safety system")
    }

    /// OpenAI's code, or the words of other servers: "The model `x` does not exist", "model \"x\" not found".
    fn names_no_model(&self) -> bool {
        self.code == "model_not_found"
            || self.param == "model"
            || (self.says("model") && (self.says("does not exist") || self.says("not found")))
    }

    /// The provider's code, else its type, else the HTTP status.
    fn detail(&self, status: StatusCode) -> String {
        match (self.code.as_str(), self.kind.as_str()) {
            ("", "") => format!("HTTP_{}", status.as_u16()),
            ("", kind) => word(kind),
            (code, _) => word(code),
        }
    }
}

/// `Limit: 0/1min` and `Limit 0, Used 0`; `Limit 05` and `Limit 0.5` are not zero.
fn names_zero_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["limit: 0", "limit 0"].iter().any(|words| {
        message.match_indices(words).any(|(at, words)| {
            let after = message.get(at + words.len()..).unwrap_or_default();
            !after.starts_with(|next: char| next.is_ascii_digit() || next == '.')
        })
    })
}
