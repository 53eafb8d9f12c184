//! What is lost comes back: messages, workers, the whole system.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use darkroom_aws::{Commit, now, random_stamp};
use darkroom_core::id::{JobId, UserId};
use darkroom_core::job::WaitReason;
use darkroom_core::lifecycle::Command;
use darkroom_core::limits::{CLOCKS_DIFFER_MAX, SETTLE_PATIENCE};
use darkroom_core::message::{JobMessage, Message};
use darkroom_tests::kill;
use darkroom_tests::local_command::{self, LocalCommand};
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_gemini::{Behaviour, Latency, Settings, StandIn};
use serde_json::json;

/// Jobs of ten users through a slow stand-in, while workers die.
#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_lose_no_job_and_settle_none_twice() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings {
        latency: Latency::Fixed(Duration::from_millis(300)),
        accept_unknown_keys: true,
        ..Settings::default()
    })?;
    let url = gemini.base_url();
    let stack = TestStack::start_with(|settings| {
        settings.visibility_timeout = Some(Duration::from_secs(12));
        // The lease is the invocation's end and ten seconds: short, so that the sweeper finds the dead soon.
        settings.timeouts.insert("worker".to_owned(), Duration::from_secs(26));
        for (name, value) in [
            ("DARKROOM_GEMINI_BASE_URL", url.as_str()),
            ("DARKROOM_CALL_TIMEOUT_SECONDS", "2"),
            ("DARKROOM_SWEEP_SECONDS", "1"),
            ("DARKROOM_WAKE_SECONDS", "3"),
            ("DARKROOM_ATTEMPTS_MAX", "6"),
            ("DARKROOM_CALLS_MAX", "12"),
        ] {
            settings.variables.insert(name.to_owned(), value.to_owned());
        }
    })
    .await?;
    darkroom_tests::keys::add(&stack.stores()?, "AIza-one", "one", 10_000).await?;
    let mut ids = Vec::new();
    for user in 0..10 {
        let user = format!("user{user}");
        stack.grant(&user, 40).await?;
        for number in 0..20 {
            let body = json!({"prompt": format!("{user} {number}"), "model": "gemini-3.1-flash-image"});
            let accepted = stack.app.submit(&user, &format!("k{number}"), &body).await?;
            assert_eq!(accepted.status, 202, "{}", accepted.body);
            ids.push((user.clone(), accepted.text("id").to_owned()));
        }
    }
    let worker = stack.system.function("worker").unwrap();
    let mut killed = 0;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if let Some(process_id) = worker.process_ids().first() {
            kill(*process_id).await?;
            killed += 1;
        }
    }
    assert!(killed >= 3, "workers were killed");
    let mut drawn = 0;
    for (user, id) in &ids {
        let job = stack.app.settled(user, id).await?;
        drawn += u32::from(job["status"] == "draft");
        assert!(job["provider_calls"].as_u64().unwrap() <= 12);
    }
    assert_eq!(drawn, 200, "each job is drawn in the end");
    let calls = gemini.calls_by_prompt();
    assert!(calls.values().all(|count| *count <= 12), "calls are bounded");
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (200, 200), "each job is settled once");
    Ok(())
}

/// A pause after a failure lasts a little longer by the worker's clock than by the sender's: the worker waits for its end. No
/// sweeper runs here that would send the message again.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_a_little_early_is_not_lost() -> anyhow::Result<()> {
    let mut stack = TestStack::start_with(|settings| {
        settings.workers = 1;
        settings.consuming = false;
        settings.scheduled = false;
    })
    .await?;
    stack.grant("alice", 1).await?;
    stack.system.function("worker").unwrap().warm(1).await?;
    let accepted = stack.app.submit("alice", "k", &json!({"prompt": "a clock tower"})).await?;
    let (jobs, id) = (stack.stores()?.jobs, JobId::parse(accepted.text("id"))?);
    let job = jobs.get(&id).await?.unwrap();
    let not_before = now().plus(CLOCKS_DIFFER_MAX.mul_f64(0.9));
    let later = Command::defer(&job, not_before, WaitReason::Retry);
    let written = jobs.commit(&job, &later, &random_stamp(), now(), SETTLE_PATIENCE).await?;
    assert!(matches!(written, Commit::Applied(_)));
    stack.system.start_consuming()?;
    let job = stack.app.settled("alice", id.as_str()).await?;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(1)), "{job}");
    assert!(job["started_at"].as_str().unwrap() >= not_before.rfc3339().as_str(), "{job}");
    stack.finish().await?;
    Ok(())
}

/// The real command on a data folder, killed with -9 while jobs run, and started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_system_goes_on_where_it_was() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings {
        latency: Latency::Fixed(Duration::from_millis(400)),
        accept_unknown_keys: true,
        ..Settings::default()
    })?;
    let mut system = LocalCommand::start(&[
        ("DARKROOM_GEMINI_BASE_URL", &gemini.base_url()),
        ("DARKROOM_SWEEP_SECONDS", "1"),
        ("DARKROOM_WAKE_SECONDS", "2"),
        ("DARKROOM_CALL_TIMEOUT_SECONDS", "2"),
        ("DARKROOM_ATTEMPTS_MAX", "10"),
        ("DARKROOM_CALLS_MAX", "20"),
    ])
    .await?;
    let stores = system.stores().await?;
    stores.ledger.grant(&UserId::parse("alice")?, 100, "g", now()).await?;
    darkroom_tests::keys::add(&stores, "AIza-one", "one", 10_000).await?;
    let mut app = local_command::app(system.folder())?;
    let body = |number: u32| json!({"prompt": format!("p{number}"), "model": "gemini-3.1-flash-image", "deadline_seconds": 600});
    let mut ids = Vec::new();
    for number in 0..40 {
        let accepted = app.submit("alice", &format!("k{number}"), &body(number)).await?;
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        ids.push(accepted.text("id").to_owned());
        if number == 20 || number == 39 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            system.kill_and_start().await?;
            app = local_command::app(system.folder())?;
        }
    }
    let stores = system.stores().await?;
    let live = stores.jobs.all_live().await?.len();
    assert!(live > 0, "the kill found jobs under way");
    let mut drawn = 0;
    for id in &ids {
        let job = app.settled("alice", id).await?;
        drawn += u32::from(job["status"] == "draft");
        assert!(!job["settled"].is_null());
    }
    assert_eq!(drawn, 40);
    let audit = darkroom::audit::audit(&stores.jobs, &stores.ledger).await?;
    assert_eq!((audit.faults, audit.jobs, audit.settled), (Vec::<String>::new(), 40, 40));
    system.kill().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_message_is_lost_is_sent_again() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings { accept_unknown_keys: true, ..Settings::default() })?;
    let url = gemini.base_url();
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), url);
        settings.scheduled = false;
        settings.variables.insert("DARKROOM_WAKE_SECONDS".to_owned(), "1".to_owned());
    })
    .await?;
    // Submitted by the store alone: a record, and no message, as after a crash between the two.
    stack.grant("alice", 1).await?;
    let stores = stack.stores()?;
    let id =
        darkroom_tests::jobs::submit_without_message(&stores, "alice", "k", Duration::from_secs(1)).await?;
    let pending = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
    assert_eq!(pending["status"], "pending");
    let dry = stores.sweep.pass(darkroom_aws::now(), true).await?;
    assert_eq!(
        dry.swept.iter().map(|job| (job.id.as_str(), job.action)).collect::<Vec<_>>(),
        [(id.as_str(), "send")]
    );
    let still = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
    assert_eq!(still, pending, "a dry run changes nothing");
    let swept = stores.sweep.pass(darkroom_aws::now(), false).await?;
    assert_eq!(swept.counts().get("send"), Some(&1), "{swept:?}");
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!(job["status"], "draft", "{job}");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_too_long_is_failed_and_refunded_once() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.scheduled = false;
    })
    .await?;
    stack.grant("alice", 1).await?;
    let stores = stack.stores()?;
    let id =
        darkroom_tests::jobs::submit_without_message(&stores, "alice", "k", Duration::from_secs(1)).await?;
    let later = darkroom_aws::now().plus(Duration::from_secs(4_320));
    let dry = stores.sweep.pass(later, true).await?;
    assert_eq!(dry.swept[0].action, "fail");
    assert!(dry.swept[0].detail.as_ref().unwrap().contains("stuck in pending for 1.2 h"), "{dry:?}");
    assert_eq!(stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.text("status"), "pending");
    // Two sweepers at once: one ends it, the other finds it ended.
    let (one, two) = tokio::join!(stores.sweep.pass(later, false), stores.sweep.pass(later, false));
    let failed = [one?, two?].iter().filter_map(|report| report.counts().get("fail").copied()).sum::<u64>();
    assert_eq!(failed, 1);
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("stuck")));
    assert!(job["error"]["detail"].as_str().unwrap().contains("stuck in pending for 1.2 h"), "{job}");
    let audit = stack.finish().await?;
    assert_eq!(audit.users["alice"].balance.available, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_worker_loses_the_job_which_is_refunded_once() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings { accept_unknown_keys: true, ..Settings::default() })?;
    gemini.add_key("AIza-one", "one");
    gemini.set_behaviour("AIza-one", Behaviour::Hang);
    let url = gemini.base_url();
    let stack = TestStack::start_with(|settings| {
        for (name, value) in [
            ("DARKROOM_GEMINI_BASE_URL", url.as_str()),
            // The call may last longer than the function: the function is killed while it waits.
            ("DARKROOM_CALL_TIMEOUT_SECONDS", "60"),
            ("DARKROOM_ATTEMPTS_MAX", "1"),
        ] {
            settings.variables.insert(name.to_owned(), value.to_owned());
        }
        settings.scheduled = false;
        settings.timeouts.insert("worker".to_owned(), Duration::from_secs(90));
    })
    .await?;
    darkroom_tests::keys::add(&stack.stores()?, "AIza-one", "one", 60).await?;
    stack.grant("alice", 2).await?;
    let body = json!({"prompt": "x", "model": "gemini-3.1-flash-image"});
    let id = stack.app.submit("alice", "k", &body).await?.text("id").to_owned();
    // Its worker is killed while the provider hangs; nothing is left, so the sweeper ends it when the lease does.
    let started = std::time::Instant::now();
    while gemini.call_count() == 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "the call was made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let processing = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
    assert_eq!((&processing["status"], &processing["provider_calls"]), (&json!("processing"), &json!(1)));
    for process_id in stack.system.function("worker").unwrap().process_ids() {
        kill(process_id).await?;
    }
    // Time runs on: the lease of a dead worker ends.
    let stores = stack.stores()?;
    let later = darkroom_aws::now().plus(Duration::from_secs(240));
    let dry = stores.sweep.pass(later, true).await?;
    assert_eq!(dry.swept[0].action, "fail", "{dry:?}");
    assert!(dry.swept[0].detail.as_ref().unwrap().contains("stuck in processing for"), "{dry:?}");
    stores.sweep.pass(later, false).await?;
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("timeout")), "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("stuck in processing for"), "{job}");
    let audit = stack.finish().await?;
    assert_eq!((audit.settled, audit.users["alice"].balance.available), (1, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_reaches_the_dead_letter_queue_alone() -> anyhow::Result<()> {
    let stack =
        TestStack::start_with(|settings| settings.visibility_timeout = Some(Duration::from_secs(2))).await?;
    let sqs = darkroom_aws::clients::Clients::new(&stack.system.running().access()).sqs;
    let queue = stack.system.running().queue_url.clone();
    stack.grant("alice", 5).await?;
    let mut batch = sqs.send_message_batch().queue_url(&queue);
    for number in 0..10 {
        let body = if number == 4 { "this is no JSON".to_owned() } else { message(number) };
        batch = batch.entries(
            aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .message_body(body)
                .build()?,
        );
    }
    batch.send().await?;
    for number in 0..5 {
        let accepted = stack.app.submit("alice", &format!("k{number}"), &json!({"prompt": "x"})).await?;
        let job = stack.app.settled("alice", accepted.text("id")).await?;
        assert_eq!(job["status"], "draft", "the neighbours are drawn");
    }
    let dead = loop {
        let received = sqs
            .receive_message()
            .queue_url(stack.system.dead_letter_queue_url())
            .wait_time_seconds(20)
            .message_system_attribute_names(aws_sdk_sqs::types::MessageSystemAttributeName::All)
            .send()
            .await?;
        if let Some(message) = received.messages().first() {
            break message.clone();
        }
    };
    assert_eq!(dead.body(), Some("this is no JSON"));
    let depth = sqs
        .get_queue_attributes()
        .queue_url(&queue)
        .attribute_names(aws_sdk_sqs::types::QueueAttributeName::All)
        .send()
        .await?;
    let count = |name| depth.attributes().unwrap().get(&name).unwrap().clone();
    assert_eq!(
        count(aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages),
        "0",
        "nothing else is left or dead"
    );
    assert_eq!(count(aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessagesNotVisible), "0");
    let log = stack.logged("worker", &["no message of ours"]).await?;
    assert!(!log.contains("this is no JSON"), "a body may hold anything: it is not logged");
    stack.finish().await?;
    Ok(())
}

/// A message of a job that was never made: done at once.
fn message(number: u32) -> String {
    let user = UserId::parse("alice").unwrap();
    let key = darkroom_core::id::IdempotencyKey::parse(&format!("absent{number}")).unwrap();
    let id = darkroom_core::id::JobId::derive(&user, &key);
    let model = darkroom_core::id::ModelName::parse("darkroom-local").unwrap();
    Message::Job(JobMessage::new(user, id, model)).body()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_refunded_and_one_under_way_is_paid_if_it_comes() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings {
        latency: Latency::Fixed(Duration::from_millis(1_500)),
        accept_unknown_keys: true,
        ..Settings::default()
    })?;
    let url = gemini.base_url();
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), url);
        settings.scheduled = false;
    })
    .await?;
    let stores = stack.stores()?;
    darkroom_tests::keys::add(&stores, "AIza-one", "one", 60).await?;
    stack.grant("alice", 10).await?;
    let waiting =
        darkroom_tests::jobs::submit_without_message(&stores, "alice", "w", Duration::from_secs(60)).await?;
    let cancelled = stack.app.post("alice", &format!("/v1/jobs/{waiting}/cancel")).await?;
    assert_eq!(
        (cancelled.status, cancelled.text("status"), cancelled.text("settled")),
        (200, "cancelled", "refunded")
    );
    let again = stack.app.post("alice", &format!("/v1/jobs/{waiting}/cancel")).await?;
    assert_eq!((again.status, again.text("status")), (200, "cancelled"), "asked again, the same answer");

    let body = json!({"prompt": "x", "model": "gemini-3.1-flash-image"});
    let id = stack.app.submit("alice", "k", &body).await?.text("id").to_owned();
    loop {
        let job = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?;
        if job.text("status") == "processing" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = stack.app.post("alice", &format!("/v1/jobs/{id}/cancel")).await?;
    assert_eq!((asked.status, asked.body["cancel_requested"].as_bool()), (200, Some(true)), "{}", asked.body);
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!(
        (&job["status"], &job["settled"]),
        (&json!("draft"), &json!("captured")),
        "it came, and is paid"
    );
    let late = stack.app.post("alice", &format!("/v1/jobs/{id}/cancel")).await?;
    assert_eq!((late.status, late.text("code")), (409, "wrong_state"));
    let audit = stack.finish().await?;
    assert_eq!(audit.users["alice"].balance.available, 8);
    Ok(())
}
