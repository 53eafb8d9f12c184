//! Bodies as the Gemini API writes them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};

use super::Behaviour;

/// An answer before it is written to a connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) header: Option<(HeaderName, String)>,
    /// For the log.
    pub(super) word: String,
}

impl Answer {
    fn error(status: u16, word: &str, body: &Value) -> Self {
        // Google writes its errors indented.
        let body = serde_json::to_vec_pretty(body).unwrap_or_default();
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body: Bytes::from(body),
            header: None,
            word: word.to_owned(),
        }
    }

    pub(super) fn ok(word: &str, body: Bytes) -> Self {
        Self { status: StatusCode::OK, body, header: None, word: word.to_owned() }
    }
}

/// The answer of a behaviour that is a fixed answer; `None` for those that draw or break the connection.
pub(super) fn answer(behaviour: &Behaviour, key: &str, project: &str, model: &str) -> Option<Answer> {
    let error_info = |reason: &str, metadata: Value| {
        json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": metadata,
        }])
    };
    let service = json!({"service": "generativelanguage.googleapis.com"});
    let denied = "PERMISSION_DENIED";
    Some(match behaviour {
        Behaviour::Finish(reason) => Answer::ok(reason, finished(model, reason)),
        Behaviour::PromptBlocked(reason) => Answer::ok(reason, prompt_blocked(model, reason)),
        Behaviour::Body(body) => Answer::ok("BODY", body.clone()),
        Behaviour::InvalidArgument => {
            error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", None)
        }
        Behaviour::InvalidKey => {
            let details = error_info("API_KEY_INVALID", service);
            let message = "API key not valid. Please pass a valid API key.";
            named(error(400, "INVALID_ARGUMENT", message, Some(details)), "API_KEY_INVALID")
        }
        Behaviour::NoBilling => {
            let message = "User location is not supported for the API use.";
            error(400, "FAILED_PRECONDITION", message, None)
        }
        Behaviour::Unauthenticated => {
            let details = error_info("CREDENTIALS_MISSING", service);
            error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", Some(details))
        }
        Behaviour::PaymentRequired => error(402, "PAYMENT_REQUIRED", "Payment is required.", None),
        Behaviour::Suspended => {
            let consumer =
                json!({"consumer": format!("projects/{project}"), "containerInfo": format!("api_key:{key}")});
            let message = format!("Permission denied: Consumer 'api_key:{key}' has been suspended.");
            let details = error_info("CONSUMER_SUSPENDED", consumer);
            named(error(403, denied, &message, Some(details)), "CONSUMER_SUSPENDED")
        }
        Behaviour::Leaked => {
            let message = "Your API key was reported as leaked. Please use another API key.";
            named(error(403, denied, message, None), "LEAKED")
        }
        Behaviour::DeniedAccess => {
            let message = "Your project has been denied access. Please contact support.";
            named(error(403, denied, message, None), "DENIED_ACCESS")
        }
        Behaviour::Forbidden => error(403, denied, "The caller does not have permission", None),
        Behaviour::NotFound => {
            let message = format!(
                "models/{model} is not found for API version v1beta, or is not supported for generateContent."
            );
            error(404, "NOT_FOUND", &message, None)
        }
        Behaviour::CreditsDepleted => {
            let message = "Your prepayment credits are depleted. Please manage your project and billing.";
            named(error(429, "RESOURCE_EXHAUSTED", message, None), "CREDITS_DEPLETED")
        }
        Behaviour::ZeroQuota => named(quota(model, "PerMinute", 0, Duration::from_secs(21)), "ZERO_QUOTA"),
        Behaviour::PerDay => named(quota(model, "PerDay", 100, Duration::from_millis(58_821)), "PER_DAY"),
        Behaviour::PerMinute(delay) => named(quota(model, "PerMinute", 10, *delay), "PER_MINUTE"),
        Behaviour::BareRateLimit => named(
            error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", None),
            "BARE",
        ),
        Behaviour::Status(status) => {
            error(*status, status_word(*status), "The service is currently unavailable.", None)
        }
        Behaviour::Redirect(to) => {
            let mut answer = Answer::error(302, "REDIRECT", &Value::Null);
            answer.header = Some((header::LOCATION, to.clone()));
            answer
        }
        Behaviour::Draw
        | Behaviour::DrawAfterDrafts
        | Behaviour::DrawOnlyThought
        | Behaviour::Hang
        | Behaviour::Reset
        | Behaviour::ResetInBody => return None,
    })
}

/// An error as Google writes it.
pub(super) fn error(code: u16, status: &str, message: &str, details: Option<Value>) -> Answer {
    let mut error = json!({"code": code, "message": message, "status": status});
    if let (Some(details), Some(error)) = (details, error.as_object_mut()) {
        error.insert("details".to_owned(), details);
    }
    Answer::error(code, status, &json!({"error": error}))
}

fn named(mut answer: Answer, word: &str) -> Answer {
    word.clone_into(&mut answer.word);
    answer
}

const fn status_word(status: u16) -> &'static str {
    match status {
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNKNOWN",
    }
}

/// 429 with everything that the real one says, the retry delay misleading for daily quotas included.
fn quota(model: &str, period: &str, limit: u32, delay: Duration) -> Answer {
    let metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests";
    let seconds = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
    let message = format!(
        "You exceeded your current quota, please check your plan and billing details. \n* Quota exceeded for metric: \
         {metric}, limit: {limit}, model: {model}\nPlease retry in {seconds}."
    );
    let mut violation = json!({
        "quotaMetric": metric,
        "quotaId": format!("GenerateRequests{period}PerProjectPerModel-FreeTier"),
        "quotaDimensions": {"location": "global", "model": model},
    });
    // The real API leaves the value out when it is zero.
    if let (1.., Some(violation)) = (limit, violation.as_object_mut()) {
        violation.insert("quotaValue".to_owned(), json!(limit.to_string()));
    }
    let details = json!([
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Learn more about Gemini API quotas", "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}],
        },
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": seconds},
    ]);
    error(429, "RESOURCE_EXHAUSTED", &message, Some(details))
}

fn finished(model: &str, reason: &str) -> Bytes {
    let body = json!({
        "candidates": [{"finishReason": reason, "finishMessage": "Unable to show the generated image.", "index": 0}],
        "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
        "modelVersion": model,
        "responseId": "stand-in",
    });
    Bytes::from(body.to_string())
}

fn prompt_blocked(model: &str, reason: &str) -> Bytes {
    let body = json!({
        "promptFeedback": {"blockReason": reason},
        "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
        "modelVersion": model,
        "responseId": "stand-in",
    });
    Bytes::from(body.to_string())
}

/// The body of a picture: a sentence, the drafts asked for, the picture, and fields that nobody needs to know.
pub(super) fn drawn(model: &str, picture: &[u8], behaviour: &Behaviour) -> Bytes {
    let (drafts, thought) = match behaviour {
        Behaviour::DrawAfterDrafts => (2, false),
        Behaviour::DrawOnlyThought => (0, true),
        _ => (0, false),
    };
    let mut body = Vec::with_capacity(picture.len() + 1024);
    body.extend_from_slice(
        b"{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Here is your picture: \"}",
    );
    for _ in 0..drafts {
        // A draft is a picture too, but not this one: its base64 decodes to something that is none.
        body.extend_from_slice(
            b",{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"ZHJhZnQ=\"},\"thought\":true}",
        );
    }
    body.extend_from_slice(b",{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"");
    body.extend_from_slice(picture);
    body.extend_from_slice(b"\"}");
    if thought {
        body.extend_from_slice(b",\"thought\":true");
    }
    body.extend_from_slice(b",\"thoughtSignature\":\"c3RhbmQtaW4=\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],");
    let rest = json!({
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 1120, "totalTokenCount": 1132},
        "modelVersion": model,
        "responseId": "stand-in",
    });
    body.extend_from_slice(rest.to_string().trim_start_matches('{').as_bytes());
    Bytes::from(body)
}
