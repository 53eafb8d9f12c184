//! Every row of the answer table, over the wire: what Gemini says and what it means. Those of the others are in `openai.rs` and `forge.rs`.

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_providers::DrawError;
use serde_json::{Value, json};

use crate::raw_server::{RawServer, Script, response};
use crate::{KEY, draw, providers};

async fn answer_to(bytes: Vec<u8>) -> Refusal {
    let server = RawServer::start(Script::Answer(bytes)).await;
    let error = draw(&providers(&server)).await.expect_err("a refusal");
    assert_eq!(server.requests().len(), 1, "one call");
    assert!(!format!("{error:?} {error}").contains("Canary"), "the key in {error:?}");
    match error {
        DrawError::Refused(refusal) => refusal,
        DrawError::NotSent { detail } => panic!("not sent: {detail}"),
    }
}

fn error(code: u16, status: &str, message: &str, details: &Value) -> Value {
    json!({"error": {"code": code, "message": message, "status": status, "details": details}})
}

async fn meaning(status: &str, body: &Value) -> Refusal {
    let plain = answer_to(response(status, "", body.to_string().as_bytes())).await;
    let indented = serde_json::to_vec_pretty(&json!([body])).unwrap();
    assert_eq!(plain, answer_to(response(status, "", &indented)).await, "wrapped in an array: {body}");
    plain
}

fn info(reason: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com", "containerInfo": format!("api_key:{KEY}")},
    })
}

fn invalid_request(detail: &str) -> Refusal {
    Refusal::InvalidRequest { detail: detail.to_owned() }
}

fn unavailable(detail: &str) -> Refusal {
    Refusal::Unavailable { detail: detail.to_owned() }
}

#[tokio::test]
async fn what_400_means() {
    let argument = "INVALID_ARGUMENT";
    let body = error(400, argument, "Request contains an invalid argument.", &json!([]));
    assert_eq!(meaning("400 Bad Request", &body).await, invalid_request(argument));
    let body = json!({"error": {"code": 400, "message": "No details at all.", "status": argument}});
    assert_eq!(meaning("400 Bad Request", &body).await, invalid_request(argument));

    let message = format!("API key not valid: {KEY}. Please pass a valid API key.");
    let localized = json!({"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message});
    for details in
        [json!([info("API_KEY_INVALID"), localized]), json!([localized, 7, info("API_KEY_INVALID")])]
    {
        let body = error(400, argument, &message, &details);
        assert_eq!(meaning("400 Bad Request", &body).await, Refusal::InvalidKey);
    }
    let body = error(400, argument, "API key expired.", &json!([info("API_KEY_EXPIRED")]));
    assert_eq!(meaning("400 Bad Request", &body).await, Refusal::InvalidKey);

    for message in
        ["User location is not supported for the API use.", "Please enable billing on your project."]
    {
        let body = error(400, "FAILED_PRECONDITION", message, &json!([]));
        assert_eq!(meaning("400 Bad Request", &body).await, Refusal::Billing);
    }
}

#[tokio::test]
async fn what_401_402_and_404_mean() {
    let body = error(401, "UNAUTHENTICATED", "Invalid credentials.", &json!([info("CREDENTIALS_MISSING")]));
    assert_eq!(meaning("401 Unauthorized", &body).await, Refusal::InvalidKey);
    let body = error(402, "PAYMENT_REQUIRED", "Pay first.", &json!([]));
    assert_eq!(meaning("402 Payment Required", &body).await, Refusal::AccountParked);
    let body = error(404, "NOT_FOUND", "models/x is not found for API version v1beta.", &json!([]));
    assert_eq!(meaning("404 Not Found", &body).await, Refusal::ModelRetired);
}

#[tokio::test]
async fn what_403_means() {
    let denied = "PERMISSION_DENIED";
    let suspended = format!("Permission denied: Consumer 'api_key:{KEY}' has been suspended.");
    for (message, details) in [
        (suspended.as_str(), json!([info("CONSUMER_SUSPENDED")])),
        (suspended.as_str(), json!([])),
        ("Permission denied.", json!([{"@type": "x"}, info("CONSUMER_SUSPENDED")])),
        ("Your API key was reported as leaked. Please use another API key.", json!([])),
        ("Your project has been denied access. Please contact support.", json!(null)),
    ] {
        let body = error(403, denied, message, &details);
        assert_eq!(meaning("403 Forbidden", &body).await, Refusal::Suspended, "{message}");
    }
    let body = error(403, denied, "Billing is disabled.", &json!([info("BILLING_DISABLED")]));
    assert_eq!(meaning("403 Forbidden", &body).await, Refusal::Billing);
    for details in [json!([info("SERVICE_DISABLED")]), json!([info("API_KEY_SERVICE_BLOCKED")]), json!([])] {
        let body = error(403, denied, "The caller does not have permission", &details);
        assert_eq!(meaning("403 Forbidden", &body).await, Refusal::InvalidKey);
    }
    // Not Google's: nothing is known of the key.
    let page = answer_to(response("403 Forbidden", "", b"<html>blocked by the firewall</html>")).await;
    assert_eq!(page, unavailable("HTTP_403"));
}

fn violation(quota_id: &str, quota_value: Option<Value>) -> Value {
    let mut violation = json!({
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": "gemini-2.5-flash-preview-image"},
    });
    if let Some(value) = quota_value {
        violation["quotaValue"] = value;
    }
    violation
}

fn quota_failure(violations: &[Value]) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations})
}

fn retry_info(delay: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
}

fn help() -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.Help", "links": [{"description": "x", "url": "https://x"}]})
}

const MINUTE: &str = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
const DAY: &str = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
const EXCEEDED: &str = "You exceeded your current quota, please check your plan and billing details.";

async fn exhausted(message: &str, details: &[Value]) -> Refusal {
    let body = error(429, "RESOURCE_EXHAUSTED", message, &json!(details));
    let forwards = meaning("429 Too Many Requests", &body).await;
    let reversed: Vec<_> = details.iter().rev().cloned().collect();
    let body = error(429, "RESOURCE_EXHAUSTED", message, &json!(reversed));
    assert_eq!(forwards, meaning("429 Too Many Requests", &body).await, "details in any order");
    forwards
}

fn limited(seconds: f64) -> Refusal {
    Refusal::RateLimited { retry_after: Some(Duration::from_secs_f64(seconds)) }
}

#[tokio::test]
async fn a_zero_quota_is_told_from_a_used_one() {
    let zero_text = format!(
        "{EXCEEDED}\n* Quota exceeded for metric: x_free_tier_requests, limit: 0, model: m\nPlease retry in 21.5s."
    );
    let used_text = zero_text.replace("limit: 0,", "limit: 10,");
    let used = [help(), quota_failure(&[violation(MINUTE, Some(json!("10")))]), retry_info("21.5s")];
    assert_eq!(exhausted(&used_text, &used).await, limited(21.5), "free_tier is a label, not a verdict");
    let without_value = [help(), quota_failure(&[violation(MINUTE, None)]), retry_info("21.5s")];
    assert_eq!(exhausted(&zero_text, &without_value).await, Refusal::ZeroQuota);
    for zero in [json!("0"), json!(0)] {
        let details = [
            quota_failure(&[violation(MINUTE, Some(json!("10"))), violation(DAY, Some(zero))]),
            retry_info("9s"),
        ];
        assert_eq!(exhausted(EXCEEDED, &details).await, Refusal::ZeroQuota);
    }
    for text in ["limit: 0", "limit: 0\n", "limit: 0.", "limit: 0; x"] {
        assert_eq!(exhausted(text, &[]).await, Refusal::ZeroQuota, "{text}");
    }
    for text in ["limit: 05", "limit: 0.5", "limit: 10", "limit: 100, model: m"] {
        assert_eq!(exhausted(text, &[]).await, Refusal::RateLimited { retry_after: None }, "{text}");
    }
}

#[tokio::test]
async fn a_daily_quota_is_told_before_its_misleading_delay() {
    let details = [
        help(),
        quota_failure(&[violation(MINUTE, Some(json!("10"))), violation(DAY, Some(json!("100")))]),
        retry_info("58.821668433s"),
    ];
    assert_eq!(
        exhausted(&format!("{EXCEEDED} Please retry in 58.821668433s."), &details).await,
        Refusal::DailyQuota
    );
    let apart = [quota_failure(&[violation(MINUTE, None)]), quota_failure(&[violation(DAY, None)])];
    assert_eq!(exhausted(EXCEEDED, &apart).await, Refusal::DailyQuota);
}

#[tokio::test]
async fn an_account_that_must_pay_first_is_told_from_a_quota() {
    for message in [
        "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.",
        "Your project has exceeded its monthly spending cap. Please go to AI Studio to raise it.",
    ] {
        assert_eq!(exhausted(message, &[]).await, Refusal::AccountParked);
        assert_eq!(exhausted(message, &[retry_info("5s")]).await, Refusal::AccountParked);
    }
}

#[tokio::test]
async fn how_long_a_minutes_quota_rests() {
    let minute = quota_failure(&[violation(MINUTE, Some(json!("10")))]);
    let exactly = Refusal::RateLimited { retry_after: Some(Duration::new(58, 821_668_433)) };
    let with_info = [minute.clone(), retry_info("58.821668433s")];
    assert_eq!(exhausted("Please retry in 3s.", &with_info).await, exactly, "RetryInfo goes first");
    let object = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": {"seconds": "58", "nanos": 821_668_433}});
    assert_eq!(exhausted("", &[minute.clone(), object]).await, exactly);
    for (text, seconds) in [
        ("Please retry in 58.5s.", 58.5),
        ("Please retry in 7s", 7.0),
        ("... Please retry in 850ms.", 0.85),
        ("Please retry in 1m2.5s.", 62.5),
        ("Please retry in 1h0m3s. More.", 3603.0),
    ] {
        assert_eq!(exhausted(text, std::slice::from_ref(&minute)).await, limited(seconds), "{text}");
    }
    for text in [
        "",
        "Please retry later.",
        "Please retry in a while.",
        "Please retry in 5 parsecs",
        "Please retry in 1.2.3s",
    ] {
        assert_eq!(
            exhausted(text, std::slice::from_ref(&minute)).await,
            Refusal::RateLimited { retry_after: None },
            "{text}"
        );
    }
    for delay in ["soon", "-5s", "5", "", "s", "99999999999999999999999s", "1e9s"] {
        let details = [minute.clone(), retry_info(delay)];
        assert_eq!(exhausted("", &details).await, Refusal::RateLimited { retry_after: None }, "{delay}");
    }
}

#[tokio::test]
async fn the_retry_after_header_is_read_when_there_is_one() {
    let bare =
        error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", &json!([]));
    let with_header = |body: &[u8], value: &str| {
        response("429 Too Many Requests", &format!("retry-after: {value}\r\n"), body)
    };
    assert_eq!(answer_to(with_header(bare.to_string().as_bytes(), "30")).await, limited(30.0));
    assert_eq!(answer_to(with_header(b"", "30")).await, limited(30.0));
    let date = answer_to(with_header(b"", "Wed, 21 Oct 2026 07:28:00 GMT")).await;
    assert_eq!(date, Refusal::RateLimited { retry_after: None });
    let both = error(429, "RESOURCE_EXHAUSTED", "", &json!([retry_info("4s")]));
    assert_eq!(answer_to(with_header(both.to_string().as_bytes(), "30")).await, limited(4.0));
}

#[tokio::test]
async fn a_429_that_cannot_be_read_is_a_minutes_quota() {
    let nothing = Refusal::RateLimited { retry_after: None };
    for body in [
        "",
        "<html>slow down</html>",
        "{}",
        "[]",
        "null",
        "{\"error\": \"x\"}",
        "{\"error\": {\"details\": {}}}",
    ] {
        assert_eq!(
            answer_to(response("429 Too Many Requests", "", body.as_bytes())).await,
            nothing,
            "{body}"
        );
    }
    // Members of unexpected types do not hide the others.
    let odd = json!({"error": {"code": "429", "status": 8, "message": ["x"], "details": [
        {"violations": "none"}, {"retryDelay": []}, {"reason": 5}, null, 7,
        {"reason": [], "retryDelay": 3, "violations": [null, {"quotaId": 1, "quotaValue": []}, violation(DAY, None)]},
    ]}});
    assert_eq!(meaning("429 Too Many Requests", &odd).await, Refusal::DailyQuota);
}

#[tokio::test]
async fn failures_of_the_provider_are_unavailable() {
    for (line, status, word) in [
        ("500 Internal Server Error", 500, "INTERNAL"),
        ("503 Service Unavailable", 503, "UNAVAILABLE"),
        ("504 Gateway Timeout", 504, "DEADLINE_EXCEEDED"),
    ] {
        let body = error(status, word, "The model is overloaded. Please try again later.", &json!([]));
        assert_eq!(meaning(line, &body).await, unavailable(&format!("HTTP_{status}")));
    }
    for line in [
        "502 Bad Gateway",
        "520 Unknown",
        "599 X",
        "408 Request Timeout",
        "409 Conflict",
        "499 Client Closed Request",
    ] {
        let expected = unavailable(&format!("HTTP_{}", &line[..3]));
        assert_eq!(answer_to(response(line, "", b"<html>")).await, expected, "{line}");
    }
}

#[tokio::test]
async fn other_refusals_of_the_request_fail_it() {
    for line in
        ["405 Method Not Allowed", "413 Payload Too Large", "415 Unsupported Media Type", "422 Unprocessable"]
    {
        let expected = invalid_request(&format!("HTTP_{}", &line[..3]));
        assert_eq!(answer_to(response(line, "", b"<html>")).await, expected, "{line}");
    }
    // A status that is no enumerated word is not kept: it could be anything.
    let body = error(413, &format!("too large for {KEY}"), "", &json!([]));
    assert_eq!(meaning("413 Payload Too Large", &body).await, invalid_request("UNRECOGNISED"));
}

#[tokio::test]
async fn a_200_that_is_no_answer_has_no_image() {
    let no_image = |detail: &str| Refusal::NoImage { detail: detail.to_owned() };
    assert_eq!(answer_to(response("200 OK", "", b"<html>")).await, no_image("the answer is not JSON"));
    assert_eq!(answer_to(response("200 OK", "", b"")).await, no_image("the answer is not JSON"));
    assert_eq!(answer_to(response("200 OK", "", b"{}")).await, no_image("the answer has no candidate"));
    assert_eq!(
        answer_to(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await,
        no_image("the answer is not JSON")
    );
    let body =
        json!({"candidates": [{"content": {"parts": [{"inlineData": {"data": "bm90IGEgcGljdHVyZQ=="}}]}}]});
    let answer = answer_to(response("200 OK", "", body.to_string().as_bytes())).await;
    assert_eq!(answer, no_image("the picture is no PNG, JPEG or WebP"));
    let body = json!({"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": KEY}]});
    let blocked = answer_to(response("200 OK", "", body.to_string().as_bytes())).await;
    assert_eq!(blocked, Refusal::ContentBlocked { detail: "IMAGE_SAFETY".to_owned() });
}
