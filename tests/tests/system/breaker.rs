//! The breaker over a fleet of real workers: a provider that is down, a pool that is used up, a probe that dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use darkroom_core::breaker::{Breaker, OpenReason, State};
use darkroom_core::id::ModelName;
use darkroom_core::model::ProviderName;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::{PATIENCE, TestStack};
use darkroom_tests::stand_in_gemini::{Behaviour, Faults, Latency, Settings, StandIn};
use serde_json::{Value, json};

const KEYS: usize = 6;

async fn start(workers: usize) -> anyhow::Result<(StandIn, TestStack)> {
    let latency = Latency::Fixed(Duration::from_millis(50));
    let gemini = StandIn::start(Settings { latency, ..Settings::default() })?;
    let variables = [
        ("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url()),
        ("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned()),
        ("DARKROOM_BREAKER_OPEN_SECONDS".to_owned(), "2".to_owned()),
        ("DARKROOM_BREAKER_OPEN_MAX_SECONDS".to_owned(), "4".to_owned()),
        ("DARKROOM_ATTEMPTS_MAX".to_owned(), "12".to_owned()),
        ("DARKROOM_CALLS_MAX".to_owned(), "12".to_owned()),
        ("DARKROOM_CALL_TIMEOUT_SECONDS".to_owned(), "2".to_owned()),
    ];
    let stack = TestStack::start_with(|settings| {
        settings.workers = workers;
        settings.visibility_timeout = Some(Duration::from_secs(12));
        // The lease is the invocation's end and ten seconds: short, so that the sweeper finds the dead soon.
        settings.timeouts.insert("worker".to_owned(), Duration::from_secs(46));
        settings.variables.extend(variables);
    })
    .await?;
    for number in 0..KEYS {
        let (secret, project) = (format!("AIza-{number}"), format!("project-{number}"));
        gemini.add_key(&secret, &project);
        keys::add(&stack.stores()?, &secret, &project, 1_000).await?;
    }
    stack.grant("alice", 10_000).await?;
    Ok((gemini, stack))
}

async fn submit(stack: &TestStack, jobs: usize) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for number in 0..jobs {
        let body = json!({"prompt": format!("prompt {number}"), "model": MODEL});
        let accepted = stack.app.submit("alice", &format!("k{number}"), &body).await?;
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        ids.push(accepted.text("id").to_owned());
    }
    Ok(ids)
}

async fn breaker(stack: &TestStack) -> anyhow::Result<Breaker> {
    Ok(stack.stores()?.keys.breaker(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?)
}

/// Waits until the breaker is as wanted.
async fn breaker_is(stack: &TestStack, wanted: impl Fn(&Breaker) -> bool) -> anyhow::Result<Breaker> {
    let started = Instant::now();
    loop {
        let breaker = breaker(stack).await?;
        if wanted(&breaker) {
            return Ok(breaker);
        }
        assert!(started.elapsed() < PATIENCE, "{breaker:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const fn is_open(breaker: &Breaker) -> bool {
    matches!(breaker.state, State::Open { .. })
}

async fn all_drawn(stack: &TestStack, ids: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut jobs = Vec::new();
    for id in ids {
        let job = stack.app.settled("alice", id).await?;
        assert_eq!(job["status"], "draft", "{job}");
        jobs.push(job);
    }
    Ok(jobs)
}

fn calls_of(jobs: &[Value]) -> u64 {
    jobs.iter().filter_map(|job| job["provider_calls"].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_probed_once_an_epoch_by_fifty_workers() -> anyhow::Result<()> {
    let (gemini, stack) = start(50).await?;
    gemini.update(|settings| settings.faults = Faults { server_error: 1.0, ..Faults::default() });
    let ids = submit(&stack, 60).await?;
    breaker_is(&stack, is_open).await?;
    // Calls that were under way when it opened have ended by its second opening.
    let first = breaker(&stack).await?.epoch;
    let from = breaker_is(&stack, |breaker| is_open(breaker) && breaker.epoch > first).await?;
    let calls_before = gemini.call_count() as u64;
    let waiting = stack.app.get("alice", "/v1/jobs?status=pending").await?.body;
    let waiting = waiting["jobs"].as_array().unwrap();
    assert!(waiting.iter().any(|job| job["eta_reason"] == "breaker_open"), "{waiting:?}");
    let until = breaker_is(&stack, |breaker| is_open(breaker) && breaker.epoch >= from.epoch + 4).await?;
    // Open and half-open are an epoch each: one call in each pair of them.
    let probes = gemini.call_count() as u64 - calls_before;
    assert_eq!(probes, (until.epoch - from.epoch) / 2, "{from:?} {until:?}");
    let State::Open { reason, openings, at, until: open_until } = until.state else { panic!("{until:?}") };
    assert!(reason == OpenReason::Failures && openings >= 3, "{until:?}");
    assert!(open_until.since(at) <= Duration::from_secs(4));

    gemini.update(|settings| settings.faults = Faults::default());
    let jobs = all_drawn(&stack, &ids).await?;
    assert_eq!(calls_of(&jobs), gemini.call_count() as u64, "every call is counted on a job");
    breaker_is(&stack, |breaker| matches!(breaker.state, State::Closed { .. })).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_used_up_costs_no_attempt_and_is_used_the_second_it_is_free() -> anyhow::Result<()> {
    let (gemini, stack) = start(8).await?;
    let rest = Duration::from_secs(3);
    for number in 0..KEYS {
        gemini.set_behaviour(&format!("AIza-{number}"), Behaviour::PerMinute(rest));
    }
    let ids = submit(&stack, 30).await?;
    let opened = breaker_is(&stack, is_open).await?;
    let State::Open { reason, .. } = opened.state else { panic!("{opened:?}") };
    assert_eq!(reason, OpenReason::Exhausted, "{opened:?}");
    // One call a scope for each time that it had cooled; three rounds open the breaker.
    let refused = gemini.call_count();
    assert!(refused <= KEYS * 4, "{:?}", gemini.calls_by_outcome());
    for number in 0..KEYS {
        gemini.set_behaviour(&format!("AIza-{number}"), Behaviour::Draw);
    }
    let jobs = all_drawn(&stack, &ids).await?;
    assert!(jobs.iter().all(|job| job["attempts"] == 1), "waiting costs no attempt: {jobs:?}");
    let audit = stack.finish().await?;
    assert_eq!(audit.settled, 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_dies_is_taken_over() -> anyhow::Result<()> {
    let (gemini, stack) = start(4).await?;
    gemini.update(|settings| settings.faults = Faults { server_error: 1.0, ..Faults::default() });
    let ids = submit(&stack, 12).await?;
    breaker_is(&stack, is_open).await?;
    gemini.update(|settings| settings.faults = Faults { hang: 1.0, ..Faults::default() });
    let probing = breaker_is(&stack, |breaker| matches!(breaker.state, State::HalfOpen { .. })).await?;
    for process in stack.system.function("worker").unwrap().process_ids() {
        darkroom_tests::kill(process).await?;
    }
    gemini.update(|settings| settings.faults = Faults::default());
    let closed = breaker_is(&stack, |breaker| matches!(breaker.state, State::Closed { .. })).await?;
    assert!(closed.epoch > probing.epoch + 1, "another probe, then closed: {probing:?} {closed:?}");
    all_drawn(&stack, &ids).await?;
    stack.finish().await?;
    Ok(())
}
