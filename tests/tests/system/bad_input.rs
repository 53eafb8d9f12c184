//! What is refused, and that a refusal writes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use darkroom_tests::stack::TestStack;
use serde_json::{Value, json};

const HEADERS: [(&str, &str); 3] =
    [("authorization", "Bearer alice"), ("idempotency-key", "k"), ("content-type", "application/json")];

/// Body, status, code, pointer of the first error.
fn refused_bodies() -> Vec<(Vec<u8>, u16, &'static str, Value)> {
    let body = |value: Value| value.to_string().into_bytes();
    let at = |pointer: &str| json!(pointer);
    let prompt = |length: usize| json!({"prompt": "x".repeat(length)});
    vec![
        (body(json!({"prompt": ""})), 422, "invalid_value", at("/prompt")),
        (body(json!({"prompt": "   "})), 422, "invalid_value", at("/prompt")),
        (body(prompt(4_001)), 422, "invalid_value", at("/prompt")),
        (body(json!({"prompt": "a\u{7}b"})), 422, "invalid_value", at("/prompt")),
        (body(json!({"prompt": "a\u{0}b"})), 422, "invalid_value", at("/prompt")),
        (body(json!({"prompt": 7})), 422, "invalid_value", at("/prompt")),
        (body(json!({"prompt": null})), 422, "invalid_value", at("/prompt")),
        (body(json!({})), 422, "invalid_value", at("/prompt")),
        (body(json!([])), 422, "invalid_value", at("")),
        (body(json!({"prompt": "x", "size": 1})), 422, "invalid_value", at("/size")),
        (body(json!({"prompt": "x", "size": "8K"})), 422, "invalid_value", at("/size")),
        (body(json!({"prompt": "x", "aspect_ratio": "16/9"})), 422, "invalid_value", at("/aspect_ratio")),
        (body(json!({"prompt": "x", "deadline_seconds": 29})), 422, "invalid_value", at("/deadline_seconds")),
        (
            body(json!({"prompt": "x", "deadline_seconds": 3601})),
            422,
            "invalid_value",
            at("/deadline_seconds"),
        ),
        (body(json!({"prompt": "x", "metadata": []})), 422, "invalid_value", at("/metadata")),
        (
            body(json!({"prompt": "x", "metadata": {"a": [[[[[[[[]]]]]]]]}})),
            422,
            "invalid_value",
            at("/metadata/a/0/0/0/0/0/0/0"),
        ),
        // Less than 16 KB as it is sent, more as it is kept.
        (
            format!("{{\"prompt\":\"x\",\"metadata\":{{\"n\":[{}0]}}}}", "1e15,".repeat(900)).into_bytes(),
            422,
            "invalid_value",
            at("/metadata"),
        ),
        (body(json!({"prompt": "x", "model": "no-such-model"})), 422, "unknown_model", at("/model")),
        (body(json!({"prompt": "x", "promt": "y"})), 400, "unknown_field", at("/promt")),
        (body(json!({"prompt": "x", "user": "bob"})), 400, "unknown_field", at("/user")),
        (b"{".to_vec(), 400, "malformed_json", Value::Null),
        (b"".to_vec(), 400, "malformed_json", Value::Null),
        (b"{\"prompt\":\"x\"} trailing".to_vec(), 400, "malformed_json", Value::Null),
        (b"\"\xff\"".to_vec(), 400, "malformed_json", Value::Null),
        (body(prompt(17 * 1024)), 413, "body_too_large", Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_submission_is_told_why_and_writes_nothing() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 3).await?;
    for (body, status, code, pointer) in refused_bodies() {
        let shown: String = String::from_utf8_lossy(&body).chars().take(60).collect();
        let answer = stack.app.send("POST", "/v1/jobs", &HEADERS, Some(body)).await?;
        assert_eq!((answer.status, answer.text("code")), (status, code), "{shown}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{shown}");
        assert_eq!(answer.body["status"], status, "{shown}");
        assert!(!answer.text("title").is_empty() && !answer.text("detail").is_empty(), "{shown}");
    }
    let body = json!({"prompt": "x"}).to_string().into_bytes();
    for (headers, status, code) in [
        (vec![HEADERS[0], HEADERS[2]], 400, "missing_idempotency_key"),
        (vec![HEADERS[0], HEADERS[2], ("idempotency-key", "")], 400, "missing_idempotency_key"),
        (vec![HEADERS[0], HEADERS[1]], 415, "unsupported_media_type"),
        (vec![HEADERS[0], HEADERS[1], ("content-type", "text/plain")], 415, "unsupported_media_type"),
    ] {
        let answer = stack.app.send("POST", "/v1/jobs", &headers, Some(body.clone())).await?;
        assert_eq!((answer.status, answer.text("code")), (status, code), "{headers:?}: {}", answer.body);
    }
    let long_key = "k".repeat(256);
    let headers = [HEADERS[0], HEADERS[2], ("idempotency-key", long_key.as_str())];
    let answer = stack.app.send("POST", "/v1/jobs", &headers, Some(body.clone())).await?;
    assert_eq!((answer.status, answer.text("code")), (400, "missing_idempotency_key"));

    let account = stack.app.get("alice", "/v1/account").await?.body;
    assert_eq!(account, json!({"available": 3, "held": 0, "spent": 0, "granted": 3, "inflight": 0}));
    assert_eq!(stack.stores()?.jobs.scan().await?.jobs.len(), 0, "no job was made");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_no_route_is_a_problem_too() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    for (method, path, status, code, allow) in [
        ("GET", "/", 404, "not_found", ""),
        ("GET", "/v1/nothing", 404, "not_found", ""),
        ("POST", "/v1/jobs/x/nothing", 404, "not_found", ""),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed", "GET,HEAD,POST"),
        ("GET", "/v1/jobs/x/cancel", 405, "method_not_allowed", "POST"),
        ("GET", "/v1/jobs/x/metadata", 405, "method_not_allowed", "PATCH"),
        ("POST", "/v1/models", 405, "method_not_allowed", "GET,HEAD"),
    ] {
        let answer = stack.app.send(method, path, &HEADERS[..1], None).await?;
        assert_eq!((answer.status, answer.text("code")), (status, code), "{method} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        assert_eq!(
            (answer.header("allow"), answer.header("vary")),
            (allow, "accept-language"),
            "{method} {path}"
        );
        let nobody = stack.app.send(method, path, &[], None).await?;
        assert_eq!(nobody.status, 401, "{method} {path}");
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_valid_request_is_taken() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 2).await?;
    let prompt = "é".repeat(4_000);
    let key = "k".repeat(255);
    let body = json!({"prompt": prompt, "model": "darkroom-local", "aspect_ratio": "21:9", "size": "1K",
                      "conversation_id": "c", "deadline_seconds": 30});
    let accepted = stack.app.submit("alice", &key, &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let job = stack.app.settled("alice", accepted.text("id")).await?;
    assert_eq!((&job["status"], &job["prompt"]), (&json!("draft"), &json!(prompt)));
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_speak_turkish_to_those_who_ask() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let headers = [HEADERS[0], HEADERS[1], HEADERS[2], ("accept-language", "tr-TR,tr;q=0.9,en;q=0.5")];
    let body = json!({"prompt": "x"}).to_string().into_bytes();
    let answer = stack.app.send("POST", "/v1/jobs", &headers, Some(body)).await?;
    assert_eq!(
        (answer.status, answer.text("code"), answer.text("title")),
        (402, "insufficient_tokens", "Yeterli jeton yok")
    );
    assert_eq!(answer.header("content-language"), "tr");
    assert!(answer.text("detail").contains("Fiyat 1 jeton"));
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_jobs_are_in_flight_as_the_operator_allows() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_INFLIGHT_MAX".to_owned(), "2".to_owned());
    })
    .await?;
    stack.grant("alice", 100).await?;
    let mut statuses = Vec::new();
    let mut ids = Vec::new();
    let submissions: Vec<_> = (0..20)
        .map(|number| {
            let app = stack.app.clone();
            tokio::spawn(async move {
                app.submit("alice", &format!("k{number}"), &json!({"prompt": "x", "size": "2K"})).await
            })
        })
        .collect();
    for submission in submissions {
        let answer = submission.await??;
        statuses.push(answer.status);
        match answer.status {
            202 => ids.push(answer.text("id").to_owned()),
            429 => {
                assert_eq!(answer.text("code"), "too_many_inflight");
                assert_eq!(answer.header("retry-after"), "10");
            }
            // Twenty writers of one balance may also be told to come back.
            503 => assert_eq!(answer.text("code"), "store_throttled"),
            status => panic!("{status} {}", answer.body),
        }
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    for id in &ids {
        stack.app.settled("alice", id).await?;
    }
    stack.finish().await?;
    Ok(())
}
