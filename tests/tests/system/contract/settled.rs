//! The answers that concern settled jobs, and metadata.

use darkroom_aws::{Created, now, random_stamp};
use darkroom_core::id::{IdempotencyKey, JobId, UserId};
use darkroom_core::job::{Job, Submission};
use darkroom_core::limits::{DEADLINE, WAKE};
use darkroom_tests::jobs;
use darkroom_tests::keys::MODEL;
use darkroom_tests::stack::TestStack;
use serde_json::json;

use super::answers::{KEYLESS, RETIRED, Seen};

const RETRY: &str = "POST /v1/jobs/{id}/retry";

/// A job that was cancelled, of a model that can perhaps not be asked for; its path.
async fn cancelled(stack: &TestStack, model: &str) -> anyhow::Result<String> {
    let (user, key) = (UserId::parse("alice")?, IdempotencyKey::parse(model)?);
    let order = jobs::order(model, 1, now(), DEADLINE);
    let job = Submission { id: JobId::derive(&user, &key), user, order, op: random_stamp() };
    let created = stack.stores()?.jobs.create(Job::submitted(job, WAKE), None, 2).await?;
    let Created::New(job) = created else { anyhow::bail!("not made") };
    let path = format!("/v1/jobs/{}", job.id);
    let answer = stack.app.post("alice", &format!("{path}/cancel")).await?;
    assert_eq!(answer.body["status"], "cancelled", "{}", answer.body);
    Ok(path)
}

/// While a breaker is open: what is not offered is not tried again either.
pub(super) async fn of_an_open_breaker(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    stack.grant("alice", 1).await?;
    for (model, status, code) in [
        ("no-such-model", 422, "unknown_model"),
        (RETIRED, 422, "model_retired"),
        (MODEL, 503, "circuit_open"),
    ] {
        let path = cancelled(stack, model).await?;
        let refused = stack.app.post("alice", &format!("{path}/retry")).await?;
        seen.see_as(RETRY, &refused, status, code)?;
    }
    Ok(())
}

/// A draft is published, a draft again and deleted; a job that failed is tried again.
pub(super) async fn of_jobs(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    let app = &stack.app;
    let order = json!({"prompt": "a lighthouse", "metadata": {"a": 1}});
    let drawn = app.submit("alice", "of its owner", &order).await?;
    let path = format!("/v1/jobs/{}", drawn.text("id"));
    app.settled("alice", drawn.text("id")).await?;
    for (wish, status) in [("publish", "published"), ("unpublish", "draft")] {
        let answer = app.post("alice", &format!("{path}/{wish}")).await?;
        assert_eq!((&answer.body["status"], &answer.body["metadata"]), (&json!(status), &json!({"a": 1})));
        seen.see_as(&format!("POST /v1/jobs/{{id}}/{wish}"), &answer, 200, "")?;
    }
    seen.see_as(RETRY, &app.post("alice", &format!("{path}/retry")).await?, 409, "wrong_state")?;

    let order = json!({"prompt": "x", "model": KEYLESS, "metadata": {"of": "the first"}});
    let failed = app.submit("alice", "fails, too", &order).await?;
    let of_failed = format!("/v1/jobs/{}", failed.text("id"));
    app.settled("alice", failed.text("id")).await?;
    for wish in ["publish", "unpublish"] {
        let answer = app.post("alice", &format!("{of_failed}/{wish}")).await?;
        seen.see_as(&format!("POST /v1/jobs/{{id}}/{wish}"), &answer, 409, "wrong_state")?;
    }
    let retry = app.post("alice", &format!("{of_failed}/retry")).await?;
    assert_eq!((retry.text("retry_of"), &retry.body["metadata"]), (failed.text("id"), &order["metadata"]));
    seen.see_as(RETRY, &retry, 202, "")?;
    let of_retry = format!("/v1/jobs/{}", retry.text("id"));
    app.settled("alice", retry.text("id")).await?;
    let replayed = app.post("alice", &format!("{of_failed}/retry")).await?;
    assert_eq!((replayed.text("id"), replayed.header("idempotent-replayed")), (retry.text("id"), "true"));
    seen.see_as(RETRY, &replayed, 202, "")?;
    let shown = app.get("alice", &of_retry).await?;
    seen.see_as("GET /v1/jobs/{id}", &shown, 200, "")?;

    for path in [&of_retry, &path] {
        seen.see_as("DELETE /v1/jobs/{id}", &app.delete("alice", path).await?, 204, "")?;
        seen.see_as("GET /v1/jobs/{id}", &app.get("alice", path).await?, 404, "not_found")?;
    }
    seen.see_as(RETRY, &app.post("alice", &format!("{of_failed}/retry")).await?, 409, "job_deleted")?;
    let again =
        app.submit("alice", "of its owner", &json!({"prompt": "a lighthouse", "metadata": {"a": 1}})).await?;
    seen.see_as("POST /v1/jobs", &again, 409, "job_deleted")?;

    // The price is back, and then something of it is spent.
    stack.grant("bob", 6).await?;
    let failed = app.submit("bob", "fails", &json!({"prompt": "x", "model": KEYLESS})).await?;
    app.settled("bob", failed.text("id")).await?;
    let drawn = app.submit("bob", "drawn", &json!({"prompt": "x"})).await?;
    app.settled("bob", drawn.text("id")).await?;
    let refused = app.post("bob", &format!("/v1/jobs/{}/retry", failed.text("id"))).await?;
    seen.see_as(RETRY, &refused, 402, "insufficient_tokens")
}

/// What a patch makes, and what is refused of one.
pub(super) async fn of_patches(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    const ROUTE: &str = "PATCH /v1/jobs/{id}/metadata";
    let id = stack.app.submit("alice", "patched", &json!({"prompt": "x"})).await?.text("id").to_owned();
    let path = format!("/v1/jobs/{id}/metadata");
    let (alice, merge) =
        (("authorization", "Bearer alice"), ("content-type", "application/merge-patch+json"));
    let body = || json!({"a": {"b": [1, null]}}).to_string().into_bytes();
    for (content_type, body, status, code) in [
        (Some(merge), body(), 200, ""),
        (Some(("content-type", "application/json")), body(), 200, ""),
        (Some(merge), b"{".to_vec(), 400, "malformed_json"),
        (Some(merge), json!({"a": "x".repeat(17 * 1_024)}).to_string().into_bytes(), 413, "body_too_large"),
        (Some(merge), vec![b' '; 7 * 1_024 * 1_024], 413, ""),
        (None, body(), 415, "unsupported_media_type"),
        (Some(merge), b"[]".to_vec(), 422, "invalid_value"),
    ] {
        let headers: Vec<_> = std::iter::once(alice).chain(content_type).collect();
        let answer = stack.app.send("PATCH", &path, &headers, Some(body)).await?;
        seen.see_as(ROUTE, &answer, status, code)?;
    }
    stack.app.settled("alice", &id).await?;
    Ok(())
}
