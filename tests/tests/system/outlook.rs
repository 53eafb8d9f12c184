//! What callers and operators are told of waiting: until when a breaker is open, when quota frees, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use darkroom::local_system::LocalSettings;
use darkroom_aws::{Written, now};
use darkroom_core::breaker::{Breaker, OpenReason, State};
use darkroom_core::id::ModelName;
use darkroom_core::model::ProviderName;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::{Answer, PATIENCE, TestStack};
use darkroom_tests::stand_in_gemini::{Settings, StandIn};
use serde_json::json;

async fn start(change: impl FnOnce(&mut LocalSettings)) -> anyhow::Result<(StandIn, TestStack)> {
    let gemini = StandIn::start(Settings::default())?;
    gemini.add_key("AIza-one", "one");
    let stack = TestStack::start_with(|settings| {
        settings.workers = 1;
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url());
        change(settings);
    })
    .await?;
    stack.grant("alice", 100).await?;
    Ok((gemini, stack))
}

async fn submit(stack: &TestStack, key: &str, model: &str) -> anyhow::Result<Answer> {
    let body = json!({"prompt": format!("prompt {key}"), "model": model});
    stack.app.submit("alice", key, &body).await
}

/// Opens the model's breaker for so long.
async fn open(stack: &TestStack, time: Duration) -> anyhow::Result<()> {
    let (keys, model) = (stack.stores()?.keys, ModelName::parse(MODEL)?);
    let seen = keys.breaker(ProviderName::Gemini, &model).await?;
    let (at, until) = (now(), now().plus(time));
    let state = State::Open { at, until, reason: OpenReason::Failures, openings: 1 };
    let next = Breaker { epoch: seen.epoch + 1, version: seen.version + 1, state };
    let written = keys.set_breaker(ProviderName::Gemini, &model, &seen, next).await?;
    assert!(matches!(written, Written::Applied(_)));
    Ok(())
}

/// Asks until the answer is as wanted: functions look at a breaker once a second, and `/health` once in two.
async fn becomes(stack: &TestStack, path: &str, wanted: impl Fn(&Answer) -> bool) -> anyhow::Result<Answer> {
    let started = std::time::Instant::now();
    loop {
        let answer = stack.app.get("alice", path).await?;
        if wanted(&answer) {
            return Ok(answer);
        }
        assert!(started.elapsed() < PATIENCE, "{path}: {} {}", answer.status, answer.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_is_told_and_an_operator_closes_it() -> anyhow::Result<()> {
    let (_gemini, stack) = start(|_| {}).await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 100).await?;
    open(&stack, Duration::from_secs(120)).await?;
    let accepted = submit(&stack, "early", MODEL).await?;
    assert_eq!((accepted.status, &accepted.body["eta_reason"]), (202, &json!("breaker_open")));
    let eta = accepted.body["eta_seconds"].as_u64().unwrap();
    assert!((100..=140).contains(&eta), "{eta}");
    let path = format!("/v1/jobs/{}", accepted.text("id"));
    let job = becomes(&stack, &path, |job| job.body["eta_reason"] == "breaker_open").await?;
    assert!(job.body["eta_seconds"].as_u64().unwrap() > 100, "{}", job.body);
    let health = becomes(&stack, "/health", |health| health.status == 503).await?;
    assert_eq!(health.body["status"], "degraded");
    assert_eq!(health.body["checks"]["breaker"], format!("open (gemini#{MODEL})"), "{}", health.body);
    let shown = stack.command(&["breaker", "show"], "").await?;
    let words = String::from_utf8(shown.stdout)?;
    assert!(shown.status.success() && words.contains("next probe in"), "{words}");

    let unknown = stack.command(&["breaker", "reset", "no-such-model"], "").await?;
    assert!(!unknown.status.success());
    let reset = stack.command(&["breaker", "reset", MODEL], "").await?;
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    becomes(&stack, "/health", |health| health.body["checks"]["breaker"] == "closed").await?;
    // Nobody waits for a breaker that is closed.
    let accepted = submit(&stack, "late", MODEL).await?;
    assert_eq!(accepted.body["eta_reason"], "capacity", "{}", accepted.body);
    let drawn = stack.app.settled("alice", accepted.text("id")).await?;
    assert_eq!(drawn["status"], "draft", "{drawn}");
    // Its record says when the first one is looked at again: that is not waited for here.
    stack.app.post("alice", &format!("{path}/cancel")).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_refuse_jobs_while_a_breaker_is_open() -> anyhow::Result<()> {
    let (_gemini, stack) = start(|settings| {
        settings.variables.insert("DARKROOM_REFUSE_WHEN_OPEN".to_owned(), "true".to_owned());
    })
    .await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 100).await?;
    let first = submit(&stack, "before", MODEL).await?;
    stack.app.settled("alice", first.text("id")).await?;
    let account = stack.app.get("alice", "/v1/account").await?.body;
    open(&stack, Duration::from_secs(60)).await?;
    // The breaker that submit has seen is at most a second old.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let refused = submit(&stack, "during", MODEL).await?;
    assert_eq!((refused.status, refused.text("code")), (503, "circuit_open"), "{}", refused.body);
    assert_eq!(refused.body["retryable"], true);
    let wait: u64 = refused.header("retry-after").parse()?;
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(stack.app.get("alice", "/v1/account").await?.body, account, "nothing is held");
    // What was taken before is answered as ever, and other models are not concerned.
    let again = submit(&stack, "before", MODEL).await?;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"), "{}", again.body);
    let other = submit(&stack, "other", "darkroom-local").await?;
    assert_eq!(other.status, 202, "{}", other.body);
    let drawn = stack.app.settled("alice", other.text("id")).await?;
    assert_eq!(drawn["status"], "draft", "{drawn}");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_free_quota_of_all_scopes_tells_when_a_job_is_drawn() -> anyhow::Result<()> {
    let (_gemini, stack) = start(|settings| settings.consuming = false).await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 2).await?;
    let mut paths = Vec::new();
    for number in 0..5 {
        let accepted = submit(&stack, &format!("k{number}"), MODEL).await?;
        paths.push(format!("/v1/jobs/{}", accepted.text("id")));
    }
    let eta = |job: &Answer| job.body["eta_seconds"].as_u64().unwrap();
    // Two a minute: the first two now, the next two in the next minute, the fifth in the one after.
    for (path, minute) in paths.iter().zip([0, 0, 1, 1, 2]) {
        let job = becomes(&stack, path, |job| eta(job) / 60 == minute).await?;
        let reason = if minute == 0 { "capacity" } else { "quota" };
        assert_eq!(job.body["eta_reason"], reason, "{}", job.body);
    }
    // Another project has twice the quota.
    keys::add(&stack.stores()?, "AIza-two", "two", 2).await?;
    for (path, minute) in paths.iter().zip([0, 0, 0, 0, 1]) {
        becomes(&stack, path, |job| eta(job) / 60 == minute).await?;
    }
    for path in &paths {
        stack.app.post("alice", &format!("{path}/cancel")).await?;
    }
    stack.finish().await?;
    Ok(())
}
