//! A machine whose clock is wrong: DynamoDB's answers tell, and every function goes by them.
//!
//! A file, hence a process, of its own: a process has one clock, and this one's is corrected too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use darkroom_core::id::ModelName;
use darkroom_core::model::ProviderName;
use darkroom_core::time::Timestamp;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_gemini::{Settings, StandIn};
use serde_json::json;

/// This machine's clock, uncorrected.
fn machine_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis().try_into().unwrap())
}

/// How far DynamoDB's clock is ahead of this machine's; all others are to go by it. The slot of a job, by that clock, and how
/// much later the call for it arrived.
async fn call_of(clock_ahead_seconds: i64) -> anyhow::Result<(Timestamp, Duration)> {
    let gemini = StandIn::start(Settings::default())?;
    let started_by = machine_now();
    gemini.add_key("AIza-one", "one");
    let mut stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url());
        settings.workers = 1;
        settings.consuming = false;
        settings.count_dynamodb = true;
        settings.clock_ahead_seconds = clock_ahead_seconds;
    })
    .await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 100).await?;
    stack.grant("alice", 10).await?;
    // A worker reads the clock before it takes its first message.
    stack.system.function("worker").unwrap().warm(1).await?;
    stack.system.start_consuming()?;
    let body = json!({"prompt": "a clock tower", "model": MODEL});
    let accepted = stack.app.submit("alice", "one", &body).await?;
    let job = stack.app.settled("alice", accepted.text("id")).await?;
    assert_eq!(job["status"], "draft", "{job}");
    let scopes = stack.stores()?.keys.scopes(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
    // The last one: a slot that was missed is followed by another.
    let slot_at = scopes[0].usage.marks.last().unwrap().at;
    let called_at = started_by.plus(gemini.calls()[0].at).as_millis();
    let called_at = Timestamp::from_millis(called_at.saturating_add_signed(clock_ahead_seconds * 1_000));
    // By the clocks' tolerance too early is as wrong as too late.
    let early = Duration::from_millis(100);
    assert!(called_at.plus(early) >= slot_at, "for {slot_at} called at {called_at}");
    stack.finish().await?;
    Ok((slot_at, called_at.plus(early).since(slot_at)))
}

/// A machine that is slow by five seconds, and one that is fast: its calls would be early, and counted in another minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_corrected_before_the_first_call() -> anyhow::Result<()> {
    for clock_ahead_seconds in [5, -5] {
        let before = machine_now();
        let (slot_at, late) = call_of(clock_ahead_seconds).await?;
        assert!(late < Duration::from_millis(300), "{late:?} after {slot_at}, {clock_ahead_seconds} s");
        let [earliest, latest] = [before, machine_now()].map(|at| {
            Timestamp::from_millis(at.as_millis().saturating_add_signed(clock_ahead_seconds * 1_000))
        });
        let known = Duration::from_millis(100);
        assert!(slot_at.plus(known) > earliest && slot_at < latest.plus(known), "{slot_at}, from {earliest}");
    }
    Ok(())
}
