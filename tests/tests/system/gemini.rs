//! Jobs through the Gemini wire: keys of the pool, every kind of refusal, many jobs with ten in flight.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use darkroom_core::id::ModelName;
use darkroom_core::key::{ApiKey, KeyDisabled, KeyState, ScopeDisabled, ScopeState};
use darkroom_core::message::{Message, ProbeMessage};
use darkroom_core::model::ProviderName;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::{PATIENCE, TestStack};
use darkroom_tests::stand_in_gemini::{Behaviour, Latency, Limits, Settings, StandIn};
use serde_json::{Value, json};

async fn stack(gemini: &StandIn, more: &[(&str, &str)]) -> anyhow::Result<TestStack> {
    let mut variables = vec![("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url())];
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    TestStack::start_with(|settings| settings.variables.extend(variables)).await
}

/// A key of the pool and of the stand-in, in a project of its own.
async fn add_key(
    stack: &TestStack,
    gemini: &StandIn,
    secret: &str,
    project: &str,
    rpm: u32,
) -> anyhow::Result<ApiKey> {
    gemini.add_key(secret, project);
    keys::add(&stack.stores()?, secret, project, rpm).await
}

async fn draw(stack: &TestStack, key: &str) -> anyhow::Result<Value> {
    let body = json!({"prompt": format!("prompt {key}"), "model": MODEL});
    let accepted = stack.app.submit("alice", key, &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    stack.app.settled("alice", accepted.text("id")).await
}

fn start_gemini(minute: Duration) -> anyhow::Result<StandIn> {
    Ok(StandIn::start(Settings { minute, ..Settings::default() })?)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_are_each_drawn_once() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings {
        minute: Duration::from_secs(5),
        latency: Latency::Fixed(Duration::from_millis(100)),
        ..Settings::default()
    })?;
    let stack =
        stack(&gemini, &[("DARKROOM_QUOTA_MINUTE_SECONDS", "5"), ("DARKROOM_SWEEP_SECONDS", "1")]).await?;
    for number in 0..10 {
        let project = format!("project-{number}");
        add_key(&stack, &gemini, &format!("AIza-secret-{number}"), &project, 40).await?;
        gemini.set_limits(&project, Limits { per_minute: Some(40), per_day: None });
    }
    stack.grant("alice", 400).await?;
    let next = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut askers = Vec::new();
    for _ in 0..10 {
        let (app, next) = (stack.app.clone(), next.clone());
        askers.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if number >= 200 {
                    return anyhow::Ok(());
                }
                let body = json!({"prompt": format!("prompt {number}"), "model": MODEL});
                let accepted = app.submit("alice", &format!("k{number}"), &body).await?;
                assert_eq!(accepted.status, 202, "{}", accepted.body);
                let job = app.settled("alice", accepted.text("id")).await?;
                assert_eq!(job["status"], "draft", "{job}");
            }
        }));
    }
    for asker in askers {
        asker.await??;
    }
    let pictures = gemini.pictures_by_prompt();
    assert_eq!(pictures.len(), 200);
    assert!(pictures.values().all(|count| *count == 1), "{pictures:?}");
    assert_eq!(gemini.call_count(), 200, "{:?}", gemini.calls_by_outcome());
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (200, 200));
    assert_eq!(audit.users["alice"].balance.spent, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_put_away_and_another_draws() -> anyhow::Result<()> {
    for (behaviour, reason) in [
        (Behaviour::InvalidKey, KeyDisabled::Invalid),
        (Behaviour::Unauthenticated, KeyDisabled::Invalid),
        (Behaviour::NoBilling, KeyDisabled::Billing),
        (Behaviour::PaymentRequired, KeyDisabled::AccountParked),
        (Behaviour::Suspended, KeyDisabled::Suspended),
        (Behaviour::Leaked, KeyDisabled::Suspended),
        (Behaviour::DeniedAccess, KeyDisabled::Suspended),
    ] {
        let gemini = start_gemini(Duration::from_secs(60))?;
        let stack = stack(&gemini, &[]).await?;
        let bad = add_key(&stack, &gemini, "AIza-canary-bad", "bad", 60).await?;
        gemini.set_behaviour("AIza-canary-bad", behaviour.clone());
        add_key(&stack, &gemini, "AIza-canary-good", "good", 60).await?;
        stack.grant("alice", 8).await?;
        for number in 0..4 {
            let job = draw(&stack, &format!("k{number}")).await?;
            assert_eq!(job["status"], "draft", "{behaviour:?}: {job}");
            assert!(job["attempts"] == 1, "another key is tried in the same attempt: {job}");
        }
        let calls = gemini.calls();
        let to_bad = calls.iter().filter(|call| call.key == "AIza-canary-bad").count();
        assert_eq!(to_bad, 1, "{behaviour:?}: a dead key is not called again");
        let state = stack.stores()?.keys.key(&bad.id).await?.unwrap().state;
        assert!(
            matches!(state, KeyState::Disabled { reason: why, .. } if why == reason),
            "{behaviour:?}: {state:?}"
        );
        assert_no_secret(&stack)?;
        stack.finish().await?;
    }
    Ok(())
}

/// No log line holds a key's text.
fn assert_no_secret(stack: &TestStack) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(stack.folder().join("logs"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        assert!(!text.contains("AIza-canary"), "{} holds a secret", path.display());
        assert!(!text.contains("prompt k"), "{} holds a prompt", path.display());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_scope_rests_or_is_put_away() -> anyhow::Result<()> {
    let gemini = start_gemini(Duration::from_secs(60))?;
    let stack = stack(&gemini, &[]).await?;
    for (project, behaviour) in [
        ("zero", Behaviour::ZeroQuota),
        ("day", Behaviour::PerDay),
        ("minute", Behaviour::PerMinute(Duration::from_secs(200))),
    ] {
        let secret = format!("AIza-{project}");
        add_key(&stack, &gemini, &secret, project, 60).await?;
        gemini.set_behaviour(&secret, behaviour);
    }
    add_key(&stack, &gemini, "AIza-good", "good", 60).await?;
    stack.grant("alice", 20).await?;
    for number in 0..8 {
        let job = draw(&stack, &format!("k{number}")).await?;
        assert_eq!(job["status"], "draft", "{job}");
    }
    let refusals = gemini.calls().iter().filter(|call| call.project != "good").count();
    assert_eq!(refusals, 3, "each refused scope is called once: {:?}", gemini.calls_by_outcome());
    let scopes = stack.stores()?.keys.scopes(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
    let state = |project: &str| scopes.iter().find(|scope| scope.project.as_str() == project).unwrap().state;
    assert!(matches!(state("zero"), ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, .. }));
    let now = darkroom_aws::now();
    let ScopeState::Cooling { until: midnight, .. } = state("day") else { panic!("{:?}", state("day")) };
    assert_eq!(midnight, now.next_pacific_midnight());
    let ScopeState::Cooling { until, .. } = state("minute") else { panic!("{:?}", state("minute")) };
    assert!(until > now.plus(Duration::from_secs(100)) && until < now.plus(Duration::from_secs(210)));
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_without_a_picture_fail_with_a_reason_and_are_refunded() -> anyhow::Result<()> {
    let gemini = start_gemini(Duration::from_secs(60))?;
    let stack =
        stack(&gemini, &[("DARKROOM_SWEEP_SECONDS", "1"), ("DARKROOM_CALL_TIMEOUT_SECONDS", "2")]).await?;
    add_key(&stack, &gemini, "AIza-one", "one", 60).await?;
    stack.grant("alice", 2).await?;
    for (name, behaviours, code, calls) in [
        ("blocked", vec![Behaviour::Finish("IMAGE_SAFETY".to_owned())], "content_blocked", 1),
        ("prompt", vec![Behaviour::PromptBlocked("PROHIBITED_CONTENT".to_owned())], "content_blocked", 1),
        ("argument", vec![Behaviour::InvalidArgument], "invalid_request", 1),
        (
            "none",
            vec![Behaviour::Finish("NO_IMAGE".to_owned()), Behaviour::Finish("NO_IMAGE".to_owned())],
            "no_image",
            2,
        ),
        ("down", vec![Behaviour::Status(503), Behaviour::Hang, Behaviour::Reset], "provider_unavailable", 3),
    ] {
        gemini.clear_calls();
        gemini.queue_behaviours("AIza-one", behaviours);
        let job = draw(&stack, name).await?;
        assert_eq!(
            (&job["status"], &job["settled"]),
            (&json!("failed"), &json!("refunded")),
            "{name}: {job}"
        );
        assert_eq!(
            (&job["error"]["code"], &job["error"]["refunded"]),
            (&json!(code), &json!(true)),
            "{name}: {job}"
        );
        assert!(!job["error"]["message"].as_str().unwrap().is_empty());
        assert_eq!((gemini.call_count(), &job["provider_calls"]), (calls, &json!(calls)), "{name}: {job}");
    }
    // What fails once is tried again.
    gemini.queue_behaviours("AIza-one", [Behaviour::Status(500)]);
    let job = draw(&stack, "again").await?;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(2)), "{job}");
    let audit = stack.finish().await?;
    assert_eq!(audit.users["alice"].balance.spent, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_quota_costs_no_attempt() -> anyhow::Result<()> {
    let gemini = start_gemini(Duration::from_secs(30))?;
    // A minute of 30 s: the third call is more than the 20 s away that a worker waits, so the job is deferred.
    let stack =
        stack(&gemini, &[("DARKROOM_QUOTA_MINUTE_SECONDS", "30"), ("DARKROOM_SWEEP_SECONDS", "1")]).await?;
    add_key(&stack, &gemini, "AIza-slow", "slow", 2).await?;
    gemini.set_limits("slow", Limits { per_minute: Some(2), per_day: None });
    stack.grant("alice", 8).await?;
    let mut ids = Vec::new();
    for number in 0..3 {
        let body = json!({"prompt": format!("p{number}"), "model": MODEL});
        ids.push(stack.app.submit("alice", &format!("k{number}"), &body).await?.text("id").to_owned());
    }
    stack.logged("worker", &["deferred", "quota"]).await?;
    let waiting = loop {
        let list = stack.app.get("alice", "/v1/jobs?status=pending").await?.body;
        match list["jobs"].as_array().unwrap().as_slice() {
            [job] if job["eta_reason"] == "quota" => break job.clone(),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert_eq!((&waiting["attempts"], &waiting["queue_position"]), (&json!(0), &json!(1)), "{waiting}");
    assert!(waiting["eta_seconds"].as_u64().unwrap() > 5, "{waiting}");
    for id in &ids {
        let job = stack.app.settled("alice", id).await?;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(1)), "{job}");
    }
    assert_eq!(gemini.call_count(), 3, "no call was refused: {:?}", gemini.calls_by_outcome());
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probed_key_shows_what_the_provider_says_of_it_and_draws_nothing() -> anyhow::Result<()> {
    let gemini = start_gemini(Duration::from_secs(60))?;
    let stack = stack(&gemini, &[]).await?;
    let good = add_key(&stack, &gemini, "AIza-good", "good", 60).await?;
    // In the pool, and unknown to the provider.
    let dead = keys::add(&stack.stores()?, "AIza-dead", "dead", 60).await?;
    let stores = stack.stores()?;
    for key in [&good, &dead] {
        let message = Message::Probe(ProbeMessage::new(key.id.clone()));
        stores.sweep.queue.send(&message, Duration::ZERO).await?;
    }
    for (key, outcome) in [(good, "ok"), (dead, "invalid_key")] {
        let started = std::time::Instant::now();
        let probed = loop {
            let probed = stores.keys.key(&key.id).await?.unwrap();
            if probed.probe.is_some() {
                break probed;
            }
            assert!(started.elapsed() < PATIENCE, "{outcome}: never probed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(probed.probe.unwrap().outcome, outcome);
        assert_eq!(probed.standing.is_proven(), outcome == "ok");
        assert_eq!(probed.state == KeyState::Active, outcome == "ok", "{:?}", probed.state);
    }
    assert!(gemini.pictures_by_prompt().is_empty());
    stack.finish().await?;
    Ok(())
}
