//! What `GET /health` shows when something is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use darkroom_aws::{now, random_stamp};
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::key::{ScopeDisabled, ScopeState};
use darkroom_core::lifecycle::{Bounds, Command};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::model::ProviderName;
use darkroom_tests::stack::{Answer, PATIENCE, TestStack};
use serde_json::Value;

/// Asks until a check says this, since an answer is kept for a moment.
async fn health(stack: &TestStack, check: &str, says: &str) -> anyhow::Result<Answer> {
    let started = Instant::now();
    loop {
        let answer = stack.app.send("GET", "/health", &[], None).await?;
        if answer.body["checks"][check] == says {
            return Ok(answer);
        }
        assert!(started.elapsed() < PATIENCE, "{check} never says {says:?}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.text("status"))
}

async fn without_a_sweeper() -> anyhow::Result<TestStack> {
    TestStack::start_with(|settings| settings.scheduled = false).await
}

/// Asks until the whole answer is this.
async fn until(stack: &TestStack, wanted: (u16, &str)) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        let answer = stack.app.send("GET", "/health", &[], None).await?;
        if outcome(&answer) == wanted {
            return Ok(answer.body);
        }
        assert!(started.elapsed() < PATIENCE, "never {wanted:?}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_sweeper_shows_when_a_processing_job_is_due() -> anyhow::Result<()> {
    let stack = without_a_sweeper().await?;
    let stores = stack.stores()?;
    let idle = health(&stack, "sweeper", "stale (never seen)").await?;
    assert_eq!(outcome(&idle), (200, "healthy"), "nothing is due: {}", idle.body);
    stack.grant("alice", 1).await?;
    let wake = Duration::from_secs(600);
    let id = darkroom_tests::jobs::submit_without_message(&stores, "alice", "k", wake).await?;
    let job = stores.jobs.get(&JobId::parse(&id)?).await?.unwrap();
    let at = now();
    // Its worker is gone and its lease is over.
    let bounds = Bounds { attempts_max: 3, calls_max: 6 };
    let claim = Command::Claim { now: at, lease_until: at, bounds };
    stores.jobs.commit(&job, &claim, &random_stamp(), at, SETTLE_PATIENCE).await?;
    let body = until(&stack, (503, "degraded")).await?;
    assert_eq!(body["checks"]["worker"], "idle", "a job waits for the sweeper, none for a worker: {body}");
    stores.sweep.pass(at.plus(Duration::from_secs(7_200)), false).await?;
    until(&stack, (200, "healthy")).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_job_after_a_quiet_time_is_no_fault() -> anyhow::Result<()> {
    let stack = without_a_sweeper().await?;
    stack.grant("alice", 1).await?;
    // Waits, and no worker was ever seen.
    let stores = stack.stores()?;
    let wake = Duration::from_secs(600);
    let id = darkroom_tests::jobs::submit_without_message(&stores, "alice", "k", wake).await?;
    let answer = health(&stack, "worker", "idle").await?;
    assert_eq!(outcome(&answer), (200, "healthy"), "{}", answer.body);
    stack.app.post("alice", &format!("/v1/jobs/{id}/cancel")).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_usable_scope_is_not_available() -> anyhow::Result<()> {
    let stack = without_a_sweeper().await?;
    let stores = stack.stores()?;
    darkroom_tests::keys::add(&stores, "AIza-one", "one", 60).await?;
    let answer = health(&stack, "api_keys", "1/1 available").await?;
    assert_eq!(outcome(&answer), (200, "healthy"), "{}", answer.body);
    let model = ModelName::parse(darkroom_tests::keys::MODEL)?;
    let scope = stores.keys.scopes(ProviderName::Gemini, &model).await?.remove(0);
    let disabled = ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: now() };
    stores.keys.set_scope_state(&scope, disabled).await?;
    let answer = health(&stack, "api_keys", "0/1 available").await?;
    assert_eq!(outcome(&answer), (503, "degraded"), "{}", answer.body);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_store_is_asked() -> anyhow::Result<()> {
    for variable in ["DARKROOM_JOBS_TABLE", "DARKROOM_LEDGER_TABLE", "DARKROOM_IMAGE_BUCKET"] {
        let stack = TestStack::start_with(|settings| {
            settings.scheduled = false;
            settings.variables.insert(variable.to_owned(), "not-there".to_owned());
        })
        .await?;
        let answer = stack.app.send("GET", "/health", &[], None).await?;
        assert_eq!(outcome(&answer), (503, "unhealthy"), "{variable}: {}", answer.body);
        assert_eq!(answer.body["checks"]["store"], "no answer", "{variable}");
        assert_eq!(answer.body["checks"]["queue"], "ok", "{variable}");
        stack.system.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_whose_passes_fail_shows_no_sign_of_life() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
        settings.variables.insert("DARKROOM_JOBS_TABLE".to_owned(), "not-there".to_owned());
    })
    .await?;
    stack.logged("sweeper", &["a sweep's pass failed"]).await?;
    assert_eq!(stack.stores()?.keys.last_beat("sweeper").await?, None);
    stack.system.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_shows_a_sign_of_life_after_a_pass() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let answer = health(&stack, "sweeper", "ok").await?;
    assert_eq!(outcome(&answer), (200, "healthy"), "{}", answer.body);
    stack.finish().await?;
    Ok(())
}
