//! The answers that concern webhooks.

use darkroom_core::limits::WEBHOOKS_MAX;
use darkroom_tests::receiver::{Answers, Receiver};
use darkroom_tests::stack::TestStack;
use serde_json::{Value, json};

use super::answers::Seen;

const MAKE: &str = "POST /v1/webhooks";
const LIST: &str = "GET /v1/webhooks";
const DELIVERIES: &str = "GET /v1/webhooks/{id}/deliveries";
const RESEND: &str = "POST /v1/webhooks/{id}/deliveries/{delivery}/resend";

/// One that is told, one that wants no more, and what is refused.
pub(super) async fn of_webhooks(seen: &mut Seen<'_>, stack: &TestStack) -> anyhow::Result<()> {
    let app = &stack.app;
    let all = [("authorization", "Bearer alice"), ("content-type", "application/json")];
    let body = |body: Value| body.to_string().into_bytes();
    let receiver = Receiver::start(Answers::always(200))?;
    let valid = || body(json!({"url": receiver.url("/hook")}));
    for (headers, body, status, code) in [
        (&all[..], b"{".to_vec(), 400, "malformed_json"),
        (&all[..], body(json!({"url": "https://app.example.com", "secret": "x"})), 400, "unknown_field"),
        (&all[..], vec![b' '; 17 * 1_024], 413, "body_too_large"),
        (&all[..], vec![b' '; 7 * 1_024 * 1_024], 413, ""),
        (&all[..1], valid(), 415, "unsupported_media_type"),
        (&all[..], body(json!({"url": "ftp://app.example.com"})), 422, "invalid_value"),
        (&all[..], valid(), 201, ""),
    ] {
        let answer = app.send("POST", "/v1/webhooks", headers, Some(body)).await?;
        seen.see_as(MAKE, &answer, status, code)?;
    }
    let listed = app.get("alice", "/v1/webhooks").await?;
    seen.see_as(LIST, &listed, 200, "")?;
    let path = format!("/v1/webhooks/{}", listed.body["webhooks"][0]["id"].as_str().unwrap());
    let rotated = app.post("alice", &format!("{path}/rotate")).await?;
    seen.see_as("POST /v1/webhooks/{id}/rotate", &rotated, 200, "")?;

    for key in ["told", "told, too"] {
        let job = app.submit("alice", key, &json!({"prompt": "x"})).await?;
        app.settled("alice", job.text("id")).await?;
    }
    receiver.received(2).await?;
    let page = app.get("alice", &format!("{path}/deliveries?limit=1")).await?;
    seen.see_as(DELIVERIES, &page, 200, "")?;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    seen.see_as(
        DELIVERIES,
        &app.get("alice", &format!("{path}/deliveries?cursor={cursor}")).await?,
        200,
        "",
    )?;
    let delivery = page.body["deliveries"][0]["id"].as_str().unwrap();
    let resend = format!("{path}/deliveries/{delivery}/resend");
    seen.see_as(RESEND, &app.post("alice", &resend).await?, 202, "")?;

    // Sent again, it is told that nobody wants it any more.
    receiver.answer(Answers::always(410));
    super::super::webhooks::until_disabled(stack, "alice").await?;
    seen.see_as(LIST, &app.get("alice", "/v1/webhooks").await?, 200, "")?;
    seen.see_as(RESEND, &app.post("alice", &resend).await?, 409, "webhook_disabled")?;
    seen.see_as(DELIVERIES, &app.get("alice", &format!("{path}/deliveries")).await?, 200, "")?;
    let enabled = app.post("alice", &format!("{path}/enable")).await?;
    seen.see_as("POST /v1/webhooks/{id}/enable", &enabled, 200, "")?;

    for _ in 1..WEBHOOKS_MAX {
        seen.see_as(MAKE, &app.send("POST", "/v1/webhooks", &all, Some(valid())).await?, 201, "")?;
    }
    let many = app.send("POST", "/v1/webhooks", &all, Some(valid())).await?;
    seen.see_as(MAKE, &many, 409, "too_many_webhooks")?;
    let listed = app.get("alice", "/v1/webhooks").await?;
    for webhook in listed.body["webhooks"].as_array().unwrap() {
        let path = format!("/v1/webhooks/{}", webhook["id"].as_str().unwrap());
        seen.see_as("DELETE /v1/webhooks/{id}", &app.delete("alice", &path).await?, 204, "")?;
    }
    Ok(())
}
