//! The answers of the running system, each held against the contract. What the contract tells of and nothing here brings about
//! fails, apart from what only API Gateway says.

use std::collections::BTreeSet;
use std::time::Duration;

use darkroom_aws::{Written, now};
use darkroom_core::breaker::{Breaker, OpenReason, State};
use darkroom_core::id::ModelName;
use darkroom_core::model::ProviderName;
use darkroom_tests::keys::MODEL;
use darkroom_tests::openapi::{Document, Kind, Operation};
use darkroom_tests::stack::{Answer, PATIENCE, TestStack};
use serde_json::{Value, json};

use super::batches;
use super::routers::{Refusing, Routers};
use super::{settled, webhooks};

/// A model without keys: its jobs fail.
pub(super) const KEYLESS: &str = "gemini-3-pro-image";
pub(super) const RETIRED: &str = "gpt-image-2";
const INFLIGHT_MAX: &str = "2";

/// What was answered so far.
pub(super) struct Seen<'a> {
    document: &'a Document,
    kinds: BTreeSet<Kind>,
}

impl Seen<'_> {
    /// Holds an answer against the contract.
    fn see(&mut self, route: &str, answer: &Answer) -> anyhow::Result<()> {
        let kind = self.document.operation(route)?.describes(answer)?;
        if answer.header("content-type") == "application/problem+json" {
            assert_eq!(answer.header("vary"), "accept-language", "{route}: {answer:?}");
            assert!(["en", "tr"].contains(&answer.header("content-language")), "{route}: {answer:?}");
        }
        self.kinds.insert(kind);
        Ok(())
    }

    /// The same, of an answer that is to have this status and code.
    pub(super) fn see_as(
        &mut self,
        route: &str,
        answer: &Answer,
        status: u16,
        code: &str,
    ) -> anyhow::Result<()> {
        assert_eq!((answer.status, answer.text("code")), (status, code), "{route}: {}", answer.body);
        self.see(route, answer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described_and_all_that_is_described_is_answered() -> anyhow::Result<()> {
    let document = Document::read()?;
    let mut seen = Seen { document: &document, kinds: BTreeSet::new() };
    let mut stack = TestStack::start_with(|settings| {
        for (name, value) in [("DARKROOM_INFLIGHT_MAX", INFLIGHT_MAX), ("DARKROOM_REFUSE_WHEN_OPEN", "true")]
        {
            settings.variables.insert(name.to_owned(), value.to_owned());
        }
    })
    .await?;
    // Before any function has read the catalogue.
    let retired = stack.command(&["models", "retire", RETIRED], "").await?;
    assert!(retired.status.success(), "{}", String::from_utf8_lossy(&retired.stderr));
    open_breaker(&stack).await?;
    of_every_route(&mut seen, &stack).await?;
    of_submissions(&mut seen, &stack).await?;
    batches::of_refusals(&mut seen, &stack).await?;
    settled::of_an_open_breaker(&mut seen, &stack).await?;
    of_jobs(&mut seen, &stack).await?;
    of_uploads(&mut seen, &stack).await?;
    of_exports(&mut seen, &mut stack).await?;
    batches::of_batches(&mut seen, &stack).await?;
    webhooks::of_webhooks(&mut seen, &stack).await?;
    settled::of_jobs(&mut seen, &stack).await?;
    settled::of_patches(&mut seen, &stack).await?;
    of_waiting_jobs(&mut seen, &mut stack).await?;
    of_broken_stores(&mut seen).await?;
    stack.finish().await?;

    let described: BTreeSet<_> = document.operations().iter().flat_map(Operation::kinds).collect();
    let unseen: Vec<_> =
        described.difference(&seen.kinds).filter(|kind| !is_api_gateways_alone(kind)).collect();
    assert!(unseen.is_empty(), "described, and answered nowhere here: {unseen:#?}");
    Ok(())
}

/// A scope that is missing, throttling, a function that gives no answer or has no environment free.
fn is_api_gateways_alone((_, status, media, _): &Kind) -> bool {
    media == "application/json" && [403, 429, 500, 503].contains(status)
}

async fn open_breaker(stack: &TestStack) -> anyhow::Result<()> {
    let (keys, model, at) = (stack.stores()?.keys, ModelName::parse(MODEL)?, now());
    let until = at.plus(Duration::from_secs(3_600));
    let state = State::Open { at, until, reason: OpenReason::Failures, openings: 1 };
    let next = Breaker { epoch: 1, version: 1, state };
    let written = keys.set_breaker(ProviderName::Gemini, &model, &Breaker::default(), next).await?;
    assert!(matches!(written, Written::Applied(_)));
    Ok(())
}

/// What any route answers: to nobody, to a method that it has not, to what cannot be read, for a job that is not there.
async fn of_every_route(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    let (document, app) = (seen.document, &stack.app);
    let operations = document.operations();
    let routers = Routers::nowhere();
    for operation in &operations {
        let (route, method) = (operation.route.as_str(), operation.method.as_str());
        let (path, headers, body) = operation.example();
        let body = body.map(|body| body.to_string().into_bytes());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let alice = ("authorization", "Bearer alice");
        let as_alice = [&headers[..], &[alice]].concat();

        let nobody = app.send(method, &path, &headers, body.clone()).await?;
        seen.see(route, &nobody)?;
        if operation.needs_token() {
            assert_eq!((nobody.status, &nobody.body), (401, &json!({"message": "Unauthorized"})), "{route}");
            // A token whose `sub` is none does not come through the local gateway.
            seen.see_as(route, &routers.ask(operation, None).await, 401, "unauthenticated")?;
        }
        let has = |method: &str| {
            operations.iter().any(|other| other.path == operation.path && other.method == method)
        };
        let other = ["PUT", "DELETE", "PATCH"].into_iter().find(|method| !has(method)).unwrap();
        let answer = app.send(other, &path, &as_alice, None).await?;
        seen.see_as(route, &answer, 405, "method_not_allowed")?;
        let unreadable = [&as_alice[..], &[("host", "_")]].concat();
        let answer = app.send(method, &path, &unreadable, body.clone()).await?;
        seen.see_as(route, &answer, 400, "")?;

        if operation.path.contains("{id}") {
            let absent = app.send(method, &path, &as_alice, body.clone()).await?;
            seen.see_as(route, &absent, 404, "not_found")?;
        }
        let query: Vec<_> =
            operation.parameters().into_iter().filter(|parameter| parameter["in"] == "query").collect();
        if !query.is_empty() {
            let answer = app.send(method, &format!("{path}?nonsense=1"), &as_alice, body.clone()).await?;
            seen.see_as(route, &answer, 400, "unknown_field")?;
        }
        for parameter in query {
            let asked = format!("{path}?{}=%2F", parameter["name"].as_str().unwrap());
            let answer = app.send(method, &asked, &as_alice, body.clone()).await?;
            seen.see_as(route, &answer, 422, "invalid_value")?;
        }
    }
    Ok(())
}

/// What is refused of a submission.
async fn of_submissions(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    const ROUTE: &str = "POST /v1/jobs";
    let all =
        [("authorization", "Bearer alice"), ("idempotency-key", "k"), ("content-type", "application/json")];
    let body = |body: Value| body.to_string().into_bytes();
    let valid = || body(json!({"prompt": "x"}));
    let of = |model: &str| body(json!({"prompt": "x", "model": model}));
    let large = body(json!({"prompt": "x".repeat(17 * 1_024)}));
    for (headers, body, status, code) in [
        (&all[..], b"{".to_vec(), 400, "malformed_json"),
        (&all[..], body(json!({"prompt": "x", "promt": "y"})), 400, "unknown_field"),
        (&[all[0], all[2]][..], valid(), 400, "missing_idempotency_key"),
        (&all[..], valid(), 402, "insufficient_tokens"),
        (&all[..], large, 413, "body_too_large"),
        (&all[..], vec![b' '; 7 * 1_024 * 1_024], 413, ""),
        (&all[..2], valid(), 415, "unsupported_media_type"),
        (&all[..], body(json!({"prompt": "", "size": "8K"})), 422, "invalid_value"),
        (&all[..], of("no-such-model"), 422, "unknown_model"),
        (&all[..], of(RETIRED), 422, "model_retired"),
        (&all[..], of(MODEL), 503, "circuit_open"),
    ] {
        let answer = stack.app.send("POST", "/v1/jobs", headers, Some(body)).await?;
        seen.see_as(ROUTE, &answer, status, code)?;
    }
    let turkish = [&all[..], &[("accept-language", "tr")]].concat();
    let answer = stack.app.send("POST", "/v1/jobs", &turkish, Some(valid())).await?;
    seen.see_as(ROUTE, &answer, 402, "insufficient_tokens")?;
    assert_eq!(answer.header("content-language"), "tr");
    Ok(())
}

/// A place for an upload, what is refused of one, and a job that is drawn from it.
async fn of_uploads(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    const ROUTE: &str = "POST /v1/uploads";
    let all = [("authorization", "Bearer alice"), ("content-type", "application/json")];
    let body = |body: Value| body.to_string().into_bytes();
    let promise =
        json!({"kind": "reference", "content_type": "image/webp", "bytes": 9, "sha256": "0a".repeat(32)});
    for (headers, body, status, code) in [
        (&all[..], body(promise.clone()), 201, ""),
        (&all[..], b"{".to_vec(), 400, "malformed_json"),
        (&all[..], body(json!({"kind": "reference", "name": "x.png"})), 400, "unknown_field"),
        (&all[..], vec![b' '; 17 * 1_024], 413, "body_too_large"),
        (&all[..], vec![b' '; 7 * 1_024 * 1_024], 413, ""),
        (&all[..1], body(promise), 415, "unsupported_media_type"),
        (&all[..], body(json!({"kind": "picture"})), 422, "invalid_value"),
    ] {
        let answer = stack.app.send("POST", "/v1/uploads", headers, Some(body)).await?;
        seen.see_as(ROUTE, &answer, status, code)?;
    }
    let upload = stack.app.upload("alice", "image/png", PICTURE).await?;
    let order = json!({"prompt": "x", "reference_upload_id": upload});
    let made = stack.app.submit("alice", "from a picture", &order).await?;
    seen.see_as("POST /v1/jobs", &made, 202, "")?;
    stack.app.settled("alice", made.text("id")).await?;
    let shown = stack.app.get("alice", &format!("/v1/jobs/{}", made.text("id"))).await?;
    assert_eq!(shown.body["reference"]["upload_id"], *upload, "{}", shown.body);
    seen.see_as("GET /v1/jobs/{id}", &shown, 200, "")
}

/// An export, what is refused of one, and more than may be under way.
async fn of_exports(seen: &mut Seen<'_>, stack: &mut TestStack) -> anyhow::Result<()> {
    const ROUTE: &str = "POST /v1/exports";
    let all =
        [("authorization", "Bearer erin"), ("idempotency-key", "k"), ("content-type", "application/json")];
    let body = |body: Value| body.to_string().into_bytes();
    let order =
        json!({"kind": "ledger", "format": "csv", "start_date": "2026-01-01", "end_date": "2026-12-31"});
    let other = json!({"kind": "jobs", "format": "jsonl", "start_date": "2026-02-01", "end_date": "2026-02-28",
                       "group_by": "week"});
    let post = async |headers: &[(&str, &str)], body| {
        stack.app.send("POST", "/v1/exports", headers, Some(body)).await
    };
    for (headers, body, status, code) in [
        (&all[..], b"{".to_vec(), 400, "malformed_json"),
        (&all[..], body(json!({"kind": "ledger", "from": "x"})), 400, "unknown_field"),
        (&[all[0], all[2]][..], body(order.clone()), 400, "missing_idempotency_key"),
        (&all[..], vec![b' '; 17 * 1_024], 413, "body_too_large"),
        (&all[..], vec![b' '; 7 * 1_024 * 1_024], 413, ""),
        (&all[..2], body(order.clone()), 415, "unsupported_media_type"),
        (&all[..], body(json!({"kind": "ledger"})), 422, "invalid_value"),
        (&all[..], body(order.clone()), 202, ""),
        (&all[..], body(order.clone()), 202, ""),
        (&all[..], body(other.clone()), 422, "idempotency_mismatch"),
    ] {
        let answer = post(headers, body).await?;
        seen.see_as(ROUTE, &answer, status, code)?;
    }
    let replayed = post(&all, body(order)).await?;
    assert_eq!(replayed.header("idempotent-replayed"), "true");
    let ready = crate::exports::over(stack, "erin", replayed.text("id")).await?;
    assert_eq!(ready.text("status"), "ready", "{}", ready.body);
    seen.see_as("GET /v1/exports/{id}", &ready, 200, "")?;
    stack.system.stop_consuming_of("bulk", Duration::from_secs(5)).await;
    let mut last = None;
    for (key, status, code) in
        [("k1", 202, ""), ("k2", 202, ""), ("k3", 202, ""), ("k4", 429, "too_many_exports")]
    {
        let headers = [all[0], ("idempotency-key", key), all[2]];
        let answer = stack.app.send("POST", "/v1/exports", &headers, Some(body(other.clone()))).await?;
        seen.see_as(ROUTE, &answer, status, code)?;
        if status == 202 {
            last = Some(answer.text("id").to_owned());
        }
    }
    let waits = stack.app.get("erin", &format!("/v1/exports/{}", last.unwrap_or_default())).await?;
    assert_eq!(waits.text("status"), "pending", "{}", waits.body);
    seen.see_as("GET /v1/exports/{id}", &waits, 200, "")?;
    stack.system.start_consuming_of("bulk")
}

const PICTURE: &[u8] = include_bytes!("../../../corpora/image/good_rgb.png");

/// A job that is drawn and one that fails, and what shows them.
async fn of_jobs(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    let app = &stack.app;
    stack.grant("alice", 1_000).await?;
    let order = json!({"prompt": "a lighthouse", "conversation_id": "talk", "deadline_seconds": 600});
    let made = app.submit("alice", "drawn", &order).await?;
    seen.see_as("POST /v1/jobs", &made, 202, "")?;
    let path = format!("/v1/jobs/{}", made.text("id"));
    let drawn = app.settled("alice", made.text("id")).await?;
    assert_eq!(drawn["status"], "draft", "{drawn}");
    let replayed = app.submit("alice", "drawn", &order).await?;
    assert_eq!(replayed.header("idempotent-replayed"), "true");
    seen.see_as("POST /v1/jobs", &replayed, 202, "")?;
    let mismatch = app.submit("alice", "drawn", &json!({"prompt": "another"})).await?;
    seen.see_as("POST /v1/jobs", &mismatch, 422, "idempotency_mismatch")?;

    let shown = app.get("alice", &path).await?;
    seen.see_as("GET /v1/jobs/{id}", &shown, 200, "")?;
    let known = [("authorization", "Bearer alice"), ("if-none-match", shown.header("etag"))];
    seen.see_as("GET /v1/jobs/{id}", &app.send("GET", &path, &known, None).await?, 304, "")?;
    let cancel = app.post("alice", &format!("{path}/cancel")).await?;
    seen.see_as("POST /v1/jobs/{id}/cancel", &cancel, 409, "wrong_state")?;

    let failing = app.submit("alice", "fails", &json!({"prompt": "x", "model": KEYLESS})).await?;
    seen.see_as("POST /v1/jobs", &failing, 202, "")?;
    let failed = app.settled("alice", failing.text("id")).await?;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("no_usable_key")));
    let shown = app.get("alice", &format!("/v1/jobs/{}", failing.text("id"))).await?;
    seen.see_as("GET /v1/jobs/{id}", &shown, 200, "")?;

    for (route, query) in [
        ("GET /v1/jobs", "?limit=1"),
        ("GET /v1/jobs", "?status=draft&conversation_id=talk"),
        ("GET /v1/account", ""),
        ("GET /v1/account/entries", "?limit=2"),
        ("GET /v1/account/entries", ""),
        ("GET /v1/models", ""),
        ("GET /v1/queue", ""),
    ] {
        let path = route.trim_start_matches("GET ");
        let page = app.get("alice", &format!("{path}{query}")).await?;
        seen.see_as(route, &page, 200, "")?;
        if let Some(cursor) = page.body["next_cursor"].as_str() {
            let next = app.get("alice", &format!("{path}?cursor={cursor}")).await?;
            seen.see_as(route, &next, 200, "")?;
        }
    }
    let ticket = app.post("alice", "/v1/ws-tickets").await?;
    seen.see_as("POST /v1/ws-tickets", &ticket, 201, "")?;
    health(seen, stack, 503).await?;
    let reset = stack.command(&["breaker", "reset", MODEL], "").await?;
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    health(seen, stack, 200).await
}

/// Asks until the health has this status.
async fn health(seen: &mut Seen<'_>, stack: &TestStack, status: u16) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    loop {
        let health = stack.app.send("GET", "/health", &[], None).await?;
        seen.see("GET /health", &health)?;
        if health.status == status {
            return Ok(());
        }
        assert!(started.elapsed() < PATIENCE, "never {status}: {}", health.body);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Jobs that nobody draws.
async fn of_waiting_jobs(seen: &mut Seen<'_>, stack: &mut TestStack) -> anyhow::Result<()> {
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let app = &stack.app;
    let mut paths = Vec::new();
    for key in ["waits 1", "waits 2"] {
        let made = app.submit("alice", key, &json!({"prompt": "x"})).await?;
        seen.see_as("POST /v1/jobs", &made, 202, "")?;
        paths.push(format!("/v1/jobs/{}", made.text("id")));
    }
    let refused = app.submit("alice", "too many", &json!({"prompt": "x"})).await?;
    seen.see_as("POST /v1/jobs", &refused, 429, "too_many_inflight")?;
    let failed = app.submit("alice", "fails", &json!({"prompt": "x", "model": KEYLESS})).await?;
    let retry = app.post("alice", &format!("/v1/jobs/{}/retry", failed.text("id"))).await?;
    seen.see_as("POST /v1/jobs/{id}/retry", &retry, 429, "too_many_inflight")?;
    let alive = app.delete("alice", &paths[0]).await?;
    seen.see_as("DELETE /v1/jobs/{id}", &alive, 409, "wrong_state")?;
    for path in &paths {
        let shown = app.get("alice", path).await?;
        assert!(shown.body["queue_position"].is_u64(), "{}", shown.body);
        seen.see_as("GET /v1/jobs/{id}", &shown, 200, "")?;
    }
    seen.see_as("GET /v1/jobs", &app.get("alice", "/v1/jobs").await?, 200, "")?;
    seen.see_as("GET /v1/queue", &app.get("alice", "/v1/queue").await?, 200, "")?;
    for path in &paths {
        let cancelled = app.post("alice", &format!("{path}/cancel")).await?;
        assert_eq!(cancelled.body["status"], "cancelled", "{}", cancelled.body);
        seen.see_as("POST /v1/jobs/{id}/cancel", &cancelled, 200, "")?;
    }
    stack.system.start_consuming()
}

/// What every route answers when the stores are throttling it, and when they refuse it.
async fn of_broken_stores(seen: &mut Seen<'_>) -> anyhow::Result<()> {
    for (error, status, code) in [
        ("ProvisionedThroughputExceededException", 503, "store_throttled"),
        ("AccessDeniedException", 500, "internal"),
    ] {
        let stores = Refusing::with(error).await?;
        for operation in seen.document.operations() {
            let answer = stores.routers.ask(&operation, Some("alice")).await;
            // One that asks no store: nothing is stored before the bytes are put.
            if operation.route == "POST /v1/uploads" {
                assert_eq!(answer.status, 201, "{answer:?}");
            } else if operation.needs_token() {
                seen.see_as(&operation.route, &answer, status, code)?;
            } else {
                assert_eq!(answer.status, 503, "{}: {answer:?}", operation.route);
                seen.see(&operation.route, &answer)?;
            }
        }
    }
    Ok(())
}
