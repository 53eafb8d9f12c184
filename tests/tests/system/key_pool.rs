//! The pool of keys over real workers: what a killed worker held, which model stands in for which, and what the operator's
//! commands change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use darkroom::local_system::LocalSettings;
use darkroom_aws::{Commit, QueueDepth, now, random_stamp};
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::job::WaitReason;
use darkroom_core::lifecycle::Command;
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::model::ProviderName;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::kill;
use darkroom_tests::stack::{PATIENCE, TestStack};
use darkroom_tests::stand_in_gemini::{Figures, Latency, Limits, Settings, StandIn};
use serde_json::{Value, json};

async fn submit(stack: &TestStack, key: &str) -> anyhow::Result<String> {
    let body = json!({"prompt": format!("prompt {key}"), "model": MODEL});
    let accepted = stack.app.submit("alice", key, &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    Ok(accepted.text("id").to_owned())
}

async fn draw(stack: &TestStack, key: &str) -> anyhow::Result<Value> {
    let id = submit(stack, key).await?;
    stack.app.settled("alice", &id).await
}

async fn start(gemini: &StandIn, change: impl FnOnce(&mut LocalSettings)) -> anyhow::Result<TestStack> {
    TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url());
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
        settings.variables.insert("DARKROOM_INFLIGHT_MAX".to_owned(), "1000".to_owned());
        change(settings);
    })
    .await
}

/// Workers die with slots and first calls in their hands. A slot is never given back, so the provider never counts one call
/// too many; what was on trial is taken over.
#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_leave_nothing_stuck_and_never_exceed_the_quota() -> anyhow::Result<()> {
    const PROJECTS: usize = 5;
    const JOBS: usize = 150;
    let minute = Duration::from_secs(6);
    let latency = Latency::Fixed(Duration::from_millis(300));
    let gemini = StandIn::start(Settings { minute, latency, ..Settings::default() })?;
    let variables = [
        ("DARKROOM_QUOTA_MINUTE_SECONDS", "6"),
        ("DARKROOM_CALL_TIMEOUT_SECONDS", "2"),
        ("DARKROOM_WAKE_SECONDS", "3"),
        ("DARKROOM_ATTEMPTS_MAX", "10"),
        ("DARKROOM_CALLS_MAX", "20"),
    ];
    let stack = start(&gemini, |settings| {
        settings.workers = 4;
        settings.visibility_timeout = Some(Duration::from_secs(12));
        // The lease is the invocation's end and ten seconds: short, so that the sweeper finds the dead soon.
        settings.timeouts.insert("worker".to_owned(), Duration::from_secs(46));
        settings.variables.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    })
    .await?;
    for number in 0..PROJECTS {
        let (secret, project) = (format!("AIza-{number}"), format!("project-{number}"));
        gemini.add_key(&secret, &project);
        gemini.set_limits(&project, Limits { per_minute: Some(10), per_day: None });
        keys::add(&stack.stores()?, &secret, &project, 10).await?;
    }
    stack.grant("alice", 1_000).await?;
    let mut ids = Vec::new();
    for number in 0..JOBS {
        ids.push(submit(&stack, &format!("k{number}")).await?);
    }
    let worker = stack.system.function("worker").unwrap();
    let mut killed = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        if let Some(process_id) = worker.process_ids().last() {
            kill(*process_id).await?;
            killed += 1;
        }
    }
    assert!(killed >= 10, "{killed} workers were killed");
    for id in &ids {
        let job = stack.app.settled("alice", id).await?;
        assert_eq!(job["status"], "draft", "{job}");
    }
    let figures = Figures::of(&gemini.calls());
    assert_eq!(figures.rate_refusals, 0, "{:?}", gemini.calls_by_outcome());
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (JOBS as u64, JOBS as u64));
    Ok(())
}

/// Behind a backlog a job's turn is moved on while its message is still in the queue, and its message is sent again: whoever comes
/// with a slot draws it, and the other messages use none up.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_late_or_twice_wastes_no_slot() -> anyhow::Result<()> {
    const JOBS: u32 = 4;
    const EMPTY: QueueDepth = QueueDepth { visible: 0, in_flight: 0, delayed: 0 };
    let gemini = StandIn::start(Settings::default())?;
    gemini.add_key("AIza-one", "one");
    let mut stack = start(&gemini, |settings| {
        settings.workers = 1;
        settings.consuming = false;
        settings.scheduled = false;
    })
    .await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 10).await?;
    stack.grant("alice", 100).await?;
    let stores = stack.stores()?;
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let id = submit(&stack, &format!("k{number}")).await?;
        let job = stores.jobs.get(&JobId::parse(&id)?).await?.unwrap();
        let later = Command::defer(&job, now().plus(Duration::from_secs(600)), WaitReason::Quota);
        let written = stores.jobs.commit(&job, &later, &random_stamp(), now(), SETTLE_PATIENCE).await?;
        assert!(matches!(written, Commit::Applied(_)));
        // Both come in one batch.
        stores.sweep.queue.send(&job.message(), Duration::ZERO).await?;
        ids.push(id);
    }
    stack.system.start_consuming()?;
    for id in &ids {
        assert_eq!(stack.app.settled("alice", id).await?["status"], "draft");
        let job = stores.jobs.get(&JobId::parse(id)?).await?.unwrap();
        for _ in 0..5 {
            stores.sweep.queue.send(&job.message(), Duration::ZERO).await?;
        }
    }
    let started = std::time::Instant::now();
    while stores.sweep.queue.depth().await? != EMPTY {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let scopes = stores.keys.scopes(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
    assert_eq!(scopes.iter().map(|scope| scope.usage.day_count).sum::<u32>(), JOBS);
    assert_eq!(gemini.calls().len(), JOBS as usize);
    stack.finish().await?;
    Ok(())
}

/// One transaction in twenty meets another one: nothing is lost, and each costs about one try.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_cost_little_and_lose_nothing() -> anyhow::Result<()> {
    const JOBS: u64 = 200;
    let gemini = StandIn::start(Settings::default())?;
    gemini.add_key("AIza-one", "one");
    let stack = start(&gemini, |settings| {
        settings.count_dynamodb = true;
        settings.conflict_every = 20;
    })
    .await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 10_000).await?;
    stack.grant("alice", 1_000).await?;
    let mut ids = Vec::new();
    for number in 0..JOBS {
        ids.push(submit(&stack, &format!("k{number}")).await?);
    }
    for id in &ids {
        let job = stack.app.settled("alice", id).await?;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(1)), "{job}");
    }
    let used = stack.system.aws().take_dynamodb_use().unwrap();
    let transactions = used.operations.iter().filter(|(name, _)| name.starts_with("TransactWriteItems"));
    let (requests, refused) = transactions
        .fold((0, 0), |(requests, refused), (_, used)| (requests + used.requests, refused + used.refused));
    // One to submit and one to settle, each.
    assert!(refused >= JOBS / 20 && requests <= 2 * JOBS * 11 / 10, "{refused} of {requests} were refused");
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (JOBS, JOBS));
    Ok(())
}

/// The asked model's quota is used up; another one draws at the asked one's price for as long as it is offered.
#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_draws_while_the_asked_model_has_no_quota() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings::default())?;
    gemini.add_key("AIza-one", "one");
    let stack = start(&gemini, |settings| settings.workers = 2).await?;
    let asked = stack.stores()?.keys.models().await?.into_iter().find(|model| model.name.as_str() == MODEL);
    let price = asked.unwrap().price;
    keys::add(&stack.stores()?, "AIza-one", "one", 1).await?;
    let other = "spare-image";
    keys::add_scope(&stack.stores()?, (ProviderName::Gemini, other), "one", 100).await?;
    let set = ["models", "set", other, "--provider", "gemini", "--provider-model", other, "--price", "9"];
    let shown = stack.command(&set, "").await?;
    assert!(shown.status.success(), "{shown:?}");
    let wrong = stack.command(&["models", "set", MODEL, "--fallback", "nobody"], "").await?;
    let text = String::from_utf8(wrong.stderr)?;
    assert!(!wrong.status.success() && text.contains("the catalogue has no model nobody"), "{text}");
    let shown = stack.command(&["models", "set", MODEL, "--fallback", other], "").await?;
    assert!(shown.status.success(), "{shown:?}");

    stack.grant("alice", 100).await?;
    let first = draw(&stack, "k1").await?;
    assert_eq!((&first["status"], &first["drawn_by"]), (&json!("draft"), &json!(MODEL)), "{first}");
    let second = draw(&stack, "k2").await?;
    assert_eq!((&second["model"], &second["drawn_by"]), (&json!(MODEL), &json!(other)), "{second}");
    let account = stack.app.get("alice", "/v1/account").await?.body;
    assert_eq!(account["available"], 100 - 2 * price, "the asked model's price: {account}");

    // Retired, it draws nothing: the job waits for the asked model's quota. Workers that start now read that.
    let shown = stack.command(&["models", "retire", other, "--on", "2026-01-01"], "").await?;
    assert!(shown.status.success(), "{shown:?}");
    for process_id in stack.system.function("worker").unwrap().process_ids() {
        kill(process_id).await?;
    }
    let waiting = submit(&stack, "k3").await?;
    let started = std::time::Instant::now();
    let path = format!("/v1/jobs/{waiting}");
    loop {
        let job = stack.app.get("alice", &path).await?.body;
        if job["eta_reason"] == "quota" {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20) && job["status"] == "pending", "{job}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stack.app.post("alice", &format!("{path}/cancel")).await?;
    stack.finish().await?;
    Ok(())
}
