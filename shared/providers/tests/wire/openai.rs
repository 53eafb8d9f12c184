//! OpenAI's Images API over the wire: the request, and every row of the answer table.

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Shape};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::raw_server::{RawServer, Script, response};
use crate::{Asked, KEY, parts, picture, providers, refused};

fn answer() -> Vec<u8> {
    let body = json!({
        "created": 1_789_000_000,
        "background": "opaque",
        "data": [{"b64_json": BASE64.encode(&picture())}],
        "output_format": "png",
        "quality": "medium",
        "size": "2720x1536",
        "usage": {"input_tokens": 12, "output_tokens": 1568, "total_tokens": 1580},
    });
    response("200 OK", "", body.to_string().as_bytes())
}

async fn answer_to(bytes: Vec<u8>) -> Refusal {
    let server = RawServer::start(Script::Answer(bytes)).await;
    let error = Asked::of(ProviderName::OpenAi).draw(&providers(&server)).await.expect_err("a refusal");
    assert_eq!(server.requests().len(), 1, "one call");
    refused(error)
}

/// An error as the API writes it, with null for what is absent.
fn error(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

async fn meaning(status: &str, body: &Value) -> Refusal {
    answer_to(response(status, "", &serde_json::to_vec_pretty(body).unwrap())).await
}

fn unavailable(detail: &str) -> Refusal {
    Refusal::Unavailable { detail: detail.to_owned() }
}

fn limited(seconds: f64) -> Refusal {
    Refusal::RateLimited { retry_after: Some(Duration::from_secs_f64(seconds)) }
}

#[tokio::test]
async fn the_request_is_what_the_api_asks_for() {
    let server = RawServer::start(Script::Answer(answer())).await;
    let image = Asked::of(ProviderName::OpenAi).draw(&providers(&server)).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let (first, headers, body) = parts(&requests[0]);
    assert_eq!(first, "POST /v1/images/generations HTTP/1.1");
    assert_eq!(
        headers,
        [format!("authorization: Bearer {KEY}"), "content-type: application/json".to_owned()]
    );
    let expected = json!({
        "model": "gpt-image-2.6-flare",
        "prompt": "a \"lighthouse\" at dusk — Leuchtturm 灯台",
        "size": "2720x1536",
        "n": 1,
        "output_format": "png",
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    assert_eq!((image.width, image.height, image.drawn_by.as_str()), (3, 2, "gpt-image-2.6-flare"));
    assert!(!image.bytes.windows(4).any(|bytes| bytes == b"tEXt"), "texts are dropped");
}

#[tokio::test]
async fn the_first_generation_is_asked_for_a_size_that_it_has() {
    let server = RawServer::start(Script::Answer(answer())).await;
    let shape = Shape { aspect_ratio: AspectRatio::R9x16, size: ImageSize::K2 };
    let asked = Asked { model: "gpt-image-1.5", shape, ..Asked::of(ProviderName::OpenAi) };
    asked.draw(&providers(&server)).await.unwrap();
    let body: Value = serde_json::from_str(&parts(&server.requests()[0]).2).unwrap();
    assert_eq!(body["size"], "1024x1536");
}

#[tokio::test]
async fn refused_content_is_told_from_a_wrong_request() {
    let rejected = "Your request was rejected by the safety system. If you believe this is an error, contact us at \
                    help.openai.com and include the request ID 0. safety_violations=[violence].";
    let blocked = |word: &str| Refusal::ContentBlocked { detail: word.to_owned() };
    let kind = "image_generation_user_error";
    let body = error(rejected, kind, None, Some("moderation_blocked"));
    assert_eq!(meaning("400 Bad Request", &body).await, blocked("moderation_blocked"));
    let body = error("Not allowed.", "invalid_request_error", None, Some("content_policy_violation"));
    assert_eq!(meaning("400 Bad Request", &body).await, blocked("content_policy_violation"));
    assert_eq!(meaning("400 Bad Request", &error(rejected, kind, None, None)).await, blocked(kind));

    let invalid = |word: &str| Refusal::InvalidRequest { detail: word.to_owned() };
    let kind = "invalid_request_error";
    let body = error("Invalid value: '1x1'.", kind, Some("size"), Some("invalid_value"));
    assert_eq!(meaning("400 Bad Request", &body).await, invalid("invalid_value"));
    let body = error("Something else.", kind, None, None);
    assert_eq!(meaning("400 Bad Request", &body).await, invalid(kind));
    let body = error("x", "x", None, Some(&format!("free text with {KEY}")));
    assert_eq!(meaning("400 Bad Request", &body).await, invalid("UNRECOGNISED"));
    assert_eq!(answer_to(response("413 X", "", b"<html>")).await, invalid("HTTP_413"));
    assert_eq!(answer_to(response("422 X", "", b"{\"error\": \"text\"}")).await, invalid("HTTP_422"));
}

#[tokio::test]
async fn what_a_key_is_refused_for() {
    let kind = "invalid_request_error";
    let incorrect = format!("Incorrect API key provided: {KEY}.");
    let body = error(&incorrect, kind, None, Some("invalid_api_key"));
    assert_eq!(meaning("401 Unauthorized", &body).await, Refusal::InvalidKey);
    assert_eq!(meaning("400 Bad Request", &body).await, Refusal::InvalidKey);
    let body = error("You have insufficient permissions for this operation.", kind, None, None);
    assert_eq!(meaning("401 Unauthorized", &body).await, Refusal::InvalidKey);
    assert_eq!(meaning("403 Forbidden", &body).await, Refusal::InvalidKey);
    let body = error("The account has been deactivated.", kind, None, Some("account_deactivated"));
    for status in ["401 Unauthorized", "403 Forbidden"] {
        assert_eq!(meaning(status, &body).await, Refusal::Suspended);
    }

    let exceeded = "You exceeded your current quota, please check your plan and billing details.";
    let spent = "Your project has reached its configured enforced spend limit.";
    for (status, body) in [
        ("429 X", error(exceeded, "insufficient_quota", None, Some("insufficient_quota"))),
        ("429 X", error(spent, "insufficient_quota", None, Some("project_spend_limit_exceeded"))),
        ("429 X", error(spent, "", None, Some("organization_spend_limit_exceeded"))),
        (
            "400 X",
            error("Billing hard limit has been reached", kind, None, Some("billing_hard_limit_reached")),
        ),
        (
            "429 X",
            error(
                "Billing hard limit has been reached",
                "billing_limit_user_error",
                None,
                Some("billing_hard_limit_reached"),
            ),
        ),
        ("402 X", error("Insufficient credits", "", None, None)),
    ] {
        assert_eq!(meaning(status, &body).await, Refusal::AccountParked, "{status} {body}");
    }
}

#[tokio::test]
async fn a_project_that_may_not_use_the_model_keeps_its_key() {
    let kind = "invalid_request_error";
    let unverified =
        "Your organization must be verified to use the model `gpt-image-2.6-flare`. Please go to: https://x";
    let withheld = "Project `proj_x` does not have access to model `gpt-image-2.6-flare`";
    for (status, body) in [
        ("403 Forbidden", error(unverified, kind, None, None)),
        ("403 Forbidden", error(unverified, kind, None, Some("unsupported_model"))),
        ("400 Bad Request", error(unverified, kind, Some("model"), Some("unsupported_value"))),
        ("403 Forbidden", error(withheld, kind, None, Some("model_not_found"))),
        ("403 Forbidden", error(withheld, kind, None, None)),
        (
            "429 X",
            error(
                "Rate limit exceeded for images per minute in organization org-x. Limit: 0/1min. Current: 1/1min.",
                "requests",
                None,
                Some("rate_limit_exceeded"),
            ),
        ),
        (
            "429 X",
            error(
                "Rate limit reached for gpt-image-2 on input-images per min: Limit 0, Used 0, Requested 1.",
                "input-images",
                None,
                Some("rate_limit_exceeded"),
            ),
        ),
    ] {
        assert_eq!(meaning(status, &body).await, Refusal::ZeroQuota, "{status} {body}");
    }
    // It is about the worker's address: no key is at fault.
    let body = error(
        "Country, region, or territory not supported",
        "request_forbidden",
        None,
        Some("unsupported_country_region_territory"),
    );
    assert_eq!(meaning("403 Forbidden", &body).await, unavailable("HTTP_403"));
    let page = answer_to(response("403 Forbidden", "", b"<html>blocked by the firewall</html>")).await;
    assert_eq!(page, unavailable("HTTP_403"));
}

#[tokio::test]
async fn a_model_that_is_gone_is_told_from_a_wrong_address() {
    let kind = "invalid_request_error";
    for (status, body) in [
        (
            "404 X",
            error(
                "The model `gpt-9` does not exist or you do not have access to it.",
                kind,
                None,
                Some("model_not_found"),
            ),
        ),
        ("400 X", error("The model 'gpt-9' does not exist.", kind, None, Some("model_not_found"))),
        (
            "400 X",
            error(
                "Invalid value: 'gpt-9'. Supported values are: 'gpt-image-2'.",
                kind,
                Some("model"),
                Some("invalid_value"),
            ),
        ),
        // Other servers with this API.
        (
            "404 X",
            json!({"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}}),
        ),
        (
            "404 X",
            json!({"error": {"message": "model \"m\" not found, try pulling it first", "type": "api_error"}}),
        ),
    ] {
        assert_eq!(meaning(status, &body).await, Refusal::ModelRetired, "{status} {body}");
    }
    let body = error("Invalid URL (POST /v2/images/generations)", kind, None, None);
    assert_eq!(meaning("404 X", &body).await, unavailable("HTTP_404"));
    assert_eq!(answer_to(response("404 X", "", b"404 page not found")).await, unavailable("HTTP_404"));
}

#[tokio::test]
async fn how_long_a_used_up_limit_rests() {
    let reached = "Rate limit reached for gpt-image-2 (for limit gpt-image) in organization org-x on input-images per min: Limit 5, Used 5, Requested 1.";
    let body =
        |words: &str| error(&format!("{reached} {words}"), "input-images", None, Some("rate_limit_exceeded"));
    for (words, seconds) in [
        (
            "Please try again in 12s. Visit https://platform.openai.com/account/rate-limits to learn more.",
            12.0,
        ),
        ("Please try again in 240ms.", 0.24),
        ("Please try again in 7m12s.", 432.0),
        ("Please try again after 51.84 seconds.", 51.84),
    ] {
        assert_eq!(meaning("429 X", &body(words)).await, limited(seconds), "{words}");
    }
    let nothing = Refusal::RateLimited { retry_after: None };
    for words in ["", "Please retry after 0.0 seconds.", "Please try again later."] {
        assert_eq!(meaning("429 X", &body(words)).await, nothing, "{words}");
    }
    for answer in ["", "<html>", "[]", "{\"error\": []}", "{\"error\": {\"message\": 7}}"] {
        assert_eq!(answer_to(response("429 X", "", answer.as_bytes())).await, nothing, "{answer}");
    }
    let text = body("Please try again in 12s.").to_string();
    for (headers, expected) in [
        ("retry-after: 30\r\n", limited(30.0)),
        ("retry-after: 30\r\nretry-after-ms: 1500\r\n", limited(1.5)),
        ("retry-after: 0\r\n", limited(12.0)),
        ("retry-after: tomorrow\r\n", limited(12.0)),
    ] {
        assert_eq!(answer_to(response("429 X", headers, text.as_bytes())).await, expected, "{headers}");
    }
}

#[tokio::test]
async fn failures_of_the_provider_are_unavailable() {
    let body = error("The server had an error.", "image_generation_server_error", None, None);
    for line in ["500 X", "502 X", "503 X", "504 X", "520 X", "408 X", "409 X", "425 X", "499 X", "302 X"] {
        assert_eq!(meaning(line, &body).await, unavailable(&format!("HTTP_{}", &line[..3])), "{line}");
    }
}

#[tokio::test]
async fn a_200_without_a_picture_has_no_image() {
    let no_image = |detail: &str| Refusal::NoImage { detail: detail.to_owned() };
    for (body, detail) in [
        (json!({"data": []}).to_string(), "the answer has no picture"),
        (json!({"error": {"message": KEY}}).to_string(), "the answer has no picture"),
        (json!({"data": [{"url": "https://x"}]}).to_string(), "a link instead of a picture"),
        (
            json!({"data": [{"b64_json": "bm90IGEgcGljdHVyZQ=="}]}).to_string(),
            "the picture is no PNG, JPEG or WebP",
        ),
        ("<html>".to_owned(), "the answer is not JSON"),
    ] {
        assert_eq!(answer_to(response("200 OK", "", body.as_bytes())).await, no_image(detail));
    }
}
