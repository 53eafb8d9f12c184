//! What is answered of batches.

use darkroom_tests::keys::MODEL;
use darkroom_tests::stack::{PATIENCE, TestStack};
use serde_json::{Value, json};

use super::answers::Seen;

const ROUTE: &str = "POST /v1/batches";

/// What is refused of a batch, while nobody has tokens and a breaker is open.
pub(super) async fn of_refusals(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    let all =
        [("authorization", "Bearer alice"), ("idempotency-key", "b"), ("content-type", "application/json")];
    let body = |body: Value| body.to_string().into_bytes();
    let valid = || body(json!({"jobs": [{"prompt": "x"}]}));
    for (headers, body, status, code) in [
        (&all[..], b"{".to_vec(), 400, "malformed_json"),
        (&all[..], body(json!({"jobs": [{}], "job": 1})), 400, "unknown_field"),
        (&[all[0], all[2]][..], valid(), 400, "missing_idempotency_key"),
        (&all[..], valid(), 402, "insufficient_tokens"),
        (&all[..], body(json!({"jobs": ["x".repeat(1_024 * 1_024)]})), 413, "body_too_large"),
        (&all[..], vec![b' '; 7 * 1_024 * 1_024], 413, ""),
        (&all[..2], valid(), 415, "unsupported_media_type"),
        (&all[..], body(json!({"jobs": [{"prompt": ""}]})), 422, "invalid_value"),
        (&all[..], body(json!({"jobs": [{"prompt": "x", "model": MODEL}]})), 503, "circuit_open"),
    ] {
        let answer = stack.app.send("POST", "/v1/batches", headers, Some(body)).await?;
        seen.see_as(ROUTE, &answer, status, code)?;
    }
    Ok(())
}

/// A batch that is drawn, and one that is cancelled.
pub(super) async fn of_batches(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    let app = &stack.app;
    stack.grant("alice", 10).await?;
    let jobs = json!({"jobs": [{"prompt": "a"}, {"prompt": "b", "n": 2}, {"prompt": "c"}]});
    let made = app.submit_batch("alice", "drawn", &jobs).await?;
    assert_eq!((&made.body["lines"], &made.body["invalid"][0]["line"]), (&json!(2), &json!(2)), "{made:?}");
    seen.see_as(ROUTE, &made, 202, "")?;
    let replayed = app.submit_batch("alice", "drawn", &jobs).await?;
    assert_eq!(replayed.header("idempotent-replayed"), "true");
    seen.see_as(ROUTE, &replayed, 202, "")?;
    let other = app.submit_batch("alice", "drawn", &json!({"jobs": [{"prompt": "a"}]})).await?;
    seen.see_as(ROUTE, &other, 422, "idempotency_mismatch")?;

    let path = format!("/v1/batches/{}", made.text("id"));
    let started = std::time::Instant::now();
    loop {
        let shown = app.get("alice", &path).await?;
        seen.see_as("GET /v1/batches/{id}", &shown, 200, "")?;
        if shown.text("status") == "completed" {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "never completed: {}", shown.body);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let list = app.get("alice", &format!("/v1/jobs?batch_id={}", made.text("id"))).await?;
    assert_eq!(
        (list.body["jobs"].as_array().unwrap().len(), &list.body["jobs"][1]["batch_line"]),
        (2, &json!(3))
    );
    seen.see_as("GET /v1/jobs", &list, 200, "")?;
    let shown =
        app.get("alice", &format!("/v1/jobs/{}", list.body["jobs"][0]["id"].as_str().unwrap())).await?;
    seen.see_as("GET /v1/jobs/{id}", &shown, 200, "")?;
    let cancelled = app.post("alice", &format!("{path}/cancel")).await?;
    assert_eq!(cancelled.text("status"), "completed", "{}", cancelled.body);
    seen.see_as("POST /v1/batches/{id}/cancel", &cancelled, 200, "")
}
