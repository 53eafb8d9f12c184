//! Jobs through Forge, from prompt to picture: progress, and a call that outlives its connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use darkroom_core::id::ModelName;
use darkroom_core::model::{Model, ProviderName};
use darkroom_tests::keys;
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_forge::{Outcome, StandIn};
use serde_json::{Value, json};

const CHECKPOINT: &str = "sd_xl_base_1.0";

/// A system with a Forge model in its catalogue and a key for it.
async fn stack(variables: &[(&str, &str)], secret: &str) -> anyhow::Result<TestStack> {
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
        let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.variables.extend(given);
    })
    .await?;
    let stores = stack.stores()?;
    let model = Model {
        name: ModelName::parse("sd-forge")?,
        provider: ProviderName::Forge,
        provider_model: ModelName::parse(CHECKPOINT)?,
        price: 1,
        description: "A checkpoint on a machine of our own.".to_owned(),
        typical_milliseconds: 600_000,
        default: false,
        retired_on: None,
        replacement: None,
        fallback: None,
    };
    stores.keys.add_model(&model).await?;
    keys::add_for(&stores, (ProviderName::Forge, CHECKPOINT), secret, "gpu", 60).await?;
    stack.grant("alice", 5).await?;
    Ok(stack)
}

async fn submit(stack: &TestStack) -> anyhow::Result<String> {
    let body = json!({"prompt": "a lighthouse", "model": "sd-forge"});
    let accepted = stack.app.submit("alice", "k", &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    Ok(accepted.text("id").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_picture_and_its_progress_is_forges_own() -> anyhow::Result<()> {
    let forge = StandIn::start()?;
    forge.require("user:Canary");
    forge.queue_durations([Duration::from_secs(12)]);
    let url = forge.base_url();
    let stack = stack(&[("DARKROOM_FORGE_BASE_URL", url.as_str())], "user:Canary").await?;
    let id = submit(&stack).await?;
    let mut seen: Vec<u64> = Vec::new();
    let job = loop {
        let job: Value = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
        if !job["settled"].is_null() {
            break job;
        }
        seen.extend(job["progress"].as_u64());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(job["status"], "draft", "{job}");
    // The model's usual time is ten minutes: an estimate would say 1 %.
    assert!(seen.iter().any(|percent| (20..=99).contains(percent)), "{seen:?}");
    let picture = stack.app.download(job["image_url"].as_str().unwrap()).await?;
    let picture = png::Decoder::new(std::io::Cursor::new(picture)).read_info()?;
    assert_eq!((picture.info().width, picture.info().height), (1024, 1024));
    let calls = forge.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].model.as_str(), calls[0].prompt.as_str()), (CHECKPOINT, "a lighthouse"));
    assert_eq!(forge.arrivals(), [(format!("darkroom-{id}-1"), Vec::new())]);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_timed_out_is_over_before_the_next_is_made() -> anyhow::Result<()> {
    let forge = StandIn::start()?;
    // The first is left after 8 s and goes on until 14 s; the second call would come after 10 s at the latest.
    forge.queue_durations([Duration::from_secs(14)]);
    let url = forge.base_url();
    let variables = [("DARKROOM_FORGE_BASE_URL", url.as_str()), ("DARKROOM_CALL_TIMEOUT_SECONDS", "8")];
    let stack = stack(&variables, "none").await?;
    let id = submit(&stack).await?;
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!(job["status"], "draft", "{job}");
    let arrivals = forge.arrivals();
    assert_eq!(arrivals.len(), 2, "{arrivals:?}");
    assert_ne!(arrivals[0].0, arrivals[1].0);
    assert!(arrivals[1].1.is_empty(), "the first was over: {arrivals:?}");
    let outcomes: Vec<_> = forge.calls().into_iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [Outcome::Drawn, Outcome::Drawn]);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drawing_that_failed_is_tried_again() -> anyhow::Result<()> {
    let forge = StandIn::start()?;
    forge.fail_next(1);
    let url = forge.base_url();
    let stack = stack(&[("DARKROOM_FORGE_BASE_URL", url.as_str())], "none").await?;
    let job = stack.app.settled("alice", &submit(&stack).await?).await?;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(2)), "{job}");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_base_url_its_models_fail_at_once_and_are_refunded() -> anyhow::Result<()> {
    let stack = stack(&[], "none").await?;
    let job = stack.app.settled("alice", &submit(&stack).await?).await?;
    assert_eq!((&job["status"], &job["settled"]), (&json!("failed"), &json!("refunded")), "{job}");
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("no_usable_key"), &json!(0)), "{job}");
    stack.logged("worker", &["DARKROOM_FORGE_BASE_URL is not set"]).await?;
    stack.finish().await?;
    Ok(())
}
