//! Jobs through OpenAI's Images API, from prompt to picture.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use darkroom_core::id::ModelName;
use darkroom_core::key::{KeyDisabled, KeyState, ScopeDisabled, ScopeState};
use darkroom_core::model::ProviderName;
use darkroom_tests::keys;
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_openai::{Behaviour, Outcome, StandIn};
use serde_json::{Value, json};

const MODEL: &str = "gpt-image-2.6-flare";

async fn stack(openai: &StandIn) -> anyhow::Result<TestStack> {
    let url = openai.base_url();
    TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_OPENAI_BASE_URL".to_owned(), url);
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
    })
    .await
}

async fn draw(stack: &TestStack, key: &str) -> anyhow::Result<Value> {
    let body = json!({"prompt": format!("prompt {key}"), "model": MODEL, "aspect_ratio": "16:9"});
    let accepted = stack.app.submit("alice", key, &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    stack.app.settled("alice", accepted.text("id")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_picture() -> anyhow::Result<()> {
    let openai = StandIn::start()?;
    let stack = stack(&openai).await?;
    openai.add_key("sk-canary-one", []);
    keys::add_for(&stack.stores()?, (ProviderName::OpenAi, MODEL), "sk-canary-one", "one", 60).await?;
    stack.grant("alice", 5).await?;
    let job = draw(&stack, "k").await?;
    assert_eq!((&job["status"], &job["settled"]), (&json!("draft"), &json!("captured")), "{job}");
    let picture = stack.app.download(job["image_url"].as_str().unwrap()).await?;
    let picture = png::Decoder::new(std::io::Cursor::new(picture)).read_info()?;
    assert_eq!((picture.info().width, picture.info().height), (1360, 768), "16:9");
    let calls = openai.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].model.as_str(), calls[0].prompt.as_str()), (MODEL, "prompt k"));
    assert_eq!(calls[0].outcome, Outcome::Drawn);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_the_job_or_move_it_to_another_key() -> anyhow::Result<()> {
    let openai = StandIn::start()?;
    let stack = stack(&openai).await?;
    let stores = stack.stores()?;
    for (secret, project, behaviours) in [
        ("sk-canary-unpaid", "unpaid", vec![Behaviour::InsufficientQuota]),
        ("sk-canary-unverified", "unverified", vec![Behaviour::Unverified]),
        ("sk-canary-good", "good", vec![]),
    ] {
        openai.add_key(secret, behaviours);
        keys::add_for(&stores, (ProviderName::OpenAi, MODEL), secret, project, 60).await?;
    }
    stack.grant("alice", 40).await?;
    for number in 0..6 {
        let job = draw(&stack, &format!("k{number}")).await?;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(1)), "{job}");
    }
    let keys = stores.keys.keys().await?;
    let state = |project: &str| keys.iter().find(|key| key.project.as_str() == project).unwrap().state;
    assert!(matches!(state("unpaid"), KeyState::Disabled { reason: KeyDisabled::AccountParked, .. }));
    assert_eq!(state("unverified"), KeyState::Active, "the key serves other models");
    let scopes = stores.keys.scopes(ProviderName::OpenAi, &ModelName::parse(MODEL)?).await?;
    let unverified = scopes.iter().find(|scope| scope.project.as_str() == "unverified").unwrap();
    assert!(matches!(unverified.state, ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, .. }));

    openai.add_key("sk-canary-good", [Behaviour::ModerationBlocked]);
    let job = draw(&stack, "blocked").await?;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("failed"), &json!("content_blocked")),
        "{job}"
    );
    openai.add_key("sk-canary-good", [Behaviour::Status(500)]);
    let job = draw(&stack, "again").await?;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(2)), "{job}");
    for entry in std::fs::read_dir(stack.folder().join("logs"))? {
        assert!(!std::fs::read_to_string(entry?.path())?.contains("canary"), "a secret in a log");
    }
    stack.finish().await?;
    Ok(())
}
