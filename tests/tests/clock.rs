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

/// How far DynamoDB's clock, and so all the others', is ahead of this machine's.
const AHEAD: Duration = Duration::from_secs(5);

/// This machine's clock, uncorrected.
fn machine_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis().try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_corrected_before_the_first_call() -> anyhow::Result<()> {
    let gemini_started_at = machine_now();
    let gemini = StandIn::start(Settings::default()).await?;
    gemini.add_key("AIza-one", "one");
    let mut stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url());
        settings.workers = 1;
        settings.consuming = false;
        settings.count_dynamodb = true;
        settings.clock_ahead = AHEAD;
    })
    .await?;
    keys::add(&stack.stores()?, "AIza-one", "one", 100).await?;
    stack.grant("alice", 10).await?;
    // A worker reads the clock before it takes its first message.
    stack.system.function("worker").unwrap().warm(1).await?;
    stack.system.start_consuming()?;
    let body = json!({"prompt": "a clock tower", "model": MODEL});
    let accepted = stack.app.submit("alice", "one", &body).await?;
    let id = accepted.text("id").to_owned();
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!(job["status"], "draft", "{job}");

    // The one slot was reserved by DynamoDB's clock, and used by it.
    let scopes = stack.stores()?.keys.scopes(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
    let slot_at = scopes[0].usage.marks[0].at;
    let called_at = gemini_started_at.plus(gemini.calls()[0].at).plus(AHEAD);
    let late = called_at.since(slot_at);
    assert!(called_at >= slot_at && late < Duration::from_millis(500), "{slot_at}, called {called_at}");
    stack.finish().await?;
    gemini.shutdown().await;
    Ok(())
}
