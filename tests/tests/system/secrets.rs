//! Secrets: nothing that is written anywhere holds one, and an envelope that was meddled with costs its own key alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use darkroom_aws::clients::Clients;
use darkroom_core::key::{KeyDisabled, KeyState};
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::TestStack;
use darkroom_tests::stand_in_gemini::{Behaviour, Settings, StandIn};
use serde_json::{Value, json};

async fn add(stack: &TestStack, project: &str, secret: &str, more: &[&str]) -> anyhow::Result<Output> {
    let arguments =
        ["keys", "add", "--provider", "gemini", "--project", project, "--model", MODEL, "--rpm", "600"];
    stack.command(&[&arguments, more].concat(), secret).await
}

async fn draw(stack: &TestStack, key: &str) -> anyhow::Result<Value> {
    let body = json!({"prompt": format!("prompt {key}"), "model": MODEL});
    let accepted = stack.app.submit("alice", key, &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    stack.app.settled("alice", accepted.text("id")).await
}

async fn start(gemini: &StandIn, visibility: Option<Duration>) -> anyhow::Result<TestStack> {
    TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url());
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
        settings.visibility_timeout = visibility;
        settings.workers = 2;
    })
    .await
}

/// Everything that a run wrote or said: where, and the bytes.
#[derive(Default)]
struct Traces(Vec<(String, Vec<u8>)>);

impl Traces {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    fn add_output(&mut self, command: &str, output: Output) {
        self.add(format!("output of {command}"), output.stdout);
        self.add(format!("errors of {command}"), output.stderr);
    }

    /// The places that hold this text, as it is, in base64 (as DynamoDB's engine keeps bytes) or in hexadecimal.
    fn places_of(&self, text: &str) -> Vec<&str> {
        let whole_groups = text.len() / 3 * 3;
        let base64 = data_encoding::BASE64.encode(&text.as_bytes()[..whole_groups]);
        let forms = [text.to_owned(), base64, data_encoding::HEXLOWER.encode(text.as_bytes())];
        let holds = |bytes: &[u8]| {
            forms.iter().any(|form| bytes.windows(form.len()).any(|part| part == form.as_bytes()))
        };
        self.0.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
    }

    async fn add_tables(&mut self, client: &Client) -> anyhow::Result<()> {
        for table in client.list_tables().send().await?.table_names() {
            let items = client.scan().table_name(table).into_paginator().items().send();
            for item in items.collect::<Result<Vec<_>, _>>().await? {
                for (name, value) in item {
                    self.add(format!("table {table}, attribute {name}"), bytes_of(&value));
                }
            }
        }
        Ok(())
    }

    fn add_files(&mut self, folder: &Path) -> anyhow::Result<()> {
        for path in files(folder)? {
            self.add(format!("file {}", path.display()), std::fs::read(&path)?);
        }
        Ok(())
    }
}

fn bytes_of(value: &AttributeValue) -> Vec<u8> {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone().into_bytes(),
        AttributeValue::B(blob) => blob.as_ref().to_vec(),
        AttributeValue::M(map) => map.values().flat_map(bytes_of).collect(),
        AttributeValue::Bool(_) => Vec::new(),
        other => panic!("no attribute of ours is like {other:?}"),
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Secrets and what the provider says to them. The last is in capitals, as the provider's own words are.
fn canaries() -> [(&'static str, &'static str, Behaviour); 6] {
    let finished = |reason: &str| Bytes::from(json!({"candidates": [{"finishReason": reason}]}).to_string());
    [
        ("good", "AIzaCanaryGood-5f3a9c71", Behaviour::Draw),
        ("suspended", "AIzaCanarySuspended-81d2e0b4", Behaviour::Suspended),
        ("leaked", "AIzaCanaryLeaked-c0467ae9", Behaviour::Leaked),
        ("invalid", "AIzaCanaryInvalid-2b95d13f", Behaviour::InvalidKey),
        ("echoed", "AIzaCanaryEchoed-77f0a8c2", Behaviour::Body(finished("AIzaCanaryEchoed-77f0a8c2"))),
        ("capitals", "CANARY_IN_CAPITALS_9E41", Behaviour::Body(finished("CANARY_IN_CAPITALS_9E41"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_left_anywhere_after_a_whole_run() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings::default())?;
    let stack = start(&gemini, Some(Duration::from_secs(2))).await?;
    let clients = Clients::new(&stack.system.running().access());
    let mut traces = Traces::default();
    for (project, secret, behaviour) in canaries() {
        gemini.add_key(secret, project);
        gemini.set_behaviour(secret, behaviour);
        let added = add(&stack, project, secret, &["--json"]).await?;
        assert!(added.status.success(), "{project}: {}", String::from_utf8_lossy(&added.stderr));
        traces.add_output("keys add", added);
    }
    refuse_to_add(&stack, &mut traces).await?;

    stack.grant("alice", 100).await?;
    for number in 0..24 {
        let job = draw(&stack, &format!("k{number}")).await?;
        traces.add("the API's answer", job.to_string());
    }
    let called: std::collections::BTreeSet<_> = gemini.calls().into_iter().map(|call| call.key).collect();
    assert_eq!(called.len(), canaries().len(), "each key has met its answer: {called:?}");
    stack.logged("worker", &["REDACTED"]).await?;

    traces.add("the dead-letter queue", dead_letter(&stack, &clients.sqs).await?);
    for arguments in [&["keys", "list"][..], &["keys", "list", "--json"], &["sweep", "--dry-run", "--json"]] {
        let output = stack.command(arguments, "").await?;
        assert!(output.status.success(), "{arguments:?}");
        traces.add_output(&arguments.join(" "), output);
    }
    traces.add_tables(&clients.dynamodb).await?;
    traces.add_files(stack.folder())?;
    for (_, secret, _) in canaries() {
        assert_eq!(traces.places_of(secret), [""; 0], "{secret}");
    }
    // Had they been there, they would have been found: what may be known of a key is found in all these places.
    let (_, good, _) = &canaries()[1];
    let id = darkroom_core::id::KeyId::derive("gemini", good);
    let places = traces.places_of(id.as_str()).join("\n");
    for place in
        ["output of keys list", "table darkroom-local-keys", "dynamodb.sqlite", "darkroom-local-worker.log"]
    {
        assert!(places.contains(place), "{place} in {places}");
    }
    stack.finish().await?;
    Ok(())
}

/// `keys add` refuses a secret that is there already and one that is none, and shows neither.
async fn refuse_to_add(stack: &TestStack, traces: &mut Traces) -> anyhow::Result<()> {
    let (_, good, _) = canaries()[0].clone();
    let elsewhere = add(stack, "elsewhere", good, &[]).await?;
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("is there already"));
    traces.add_output("keys add elsewhere", elsewhere);
    let no_secret = add(stack, "good", &format!("{good}\n{good}"), &[]).await?;
    assert_eq!(no_secret.status.code(), Some(1));
    traces.add_output("keys add of two lines", no_secret);
    Ok(())
}

/// A message that was received too often, as the dead-letter queue has it.
async fn dead_letter(stack: &TestStack, sqs: &aws_sdk_sqs::Client) -> anyhow::Result<Vec<u8>> {
    let queue_url = &stack.system.running().queue_url;
    sqs.send_message().queue_url(queue_url).message_body("this is no job's message").send().await?;
    for _ in 0..30 {
        let received = sqs
            .receive_message()
            .queue_url(stack.system.dead_letter_queue_url())
            .wait_time_seconds(2)
            .message_system_attribute_names(aws_sdk_sqs::types::MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .send()
            .await?;
        if let Some(message) = received.messages().first() {
            assert_eq!(message.body(), Some("this is no job's message"));
            return Ok(format!("{received:?}").into_bytes());
        }
    }
    anyhow::bail!("no message died")
}

/// Replaces one attribute of a key's item.
async fn set(stack: &TestStack, secret: &str, project: &str, name: &str, value: AttributeValue) {
    let id = darkroom_core::id::KeyId::derive("gemini", secret);
    Clients::new(&stack.system.running().access())
        .dynamodb
        .update_item()
        .table_name("darkroom-local-keys")
        .key("pk", AttributeValue::S("KEY".to_owned()))
        .key("sk", AttributeValue::S(format!("gemini#{project}#{id}")))
        .update_expression("SET #name = :value")
        .condition_expression("attribute_exists(pk)")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", value)
        .send()
        .await
        .unwrap();
}

/// More of them than a lost race is run again: each is put away by itself, and the first job is drawn all the same.
#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_secret_does_not_open_are_put_away_and_another_draws() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings::default())?;
    let stack = start(&gemini, None).await?;
    let stores = stack.stores()?;
    let mut damaged = Vec::new();
    for number in 0..8 {
        let (secret, project) = (format!("AIza-damaged-{number}"), format!("damaged-{number}"));
        gemini.add_key(&secret, &project);
        damaged.push(keys::add(&stores, &secret, &project, 600).await?);
        let attribute = ["secret", "secret_nonce", "secret_data_key"][number % 3];
        let blob = AttributeValue::B(vec![7; 12].into());
        set(&stack, &secret, &project, attribute, blob).await;
    }
    gemini.add_key("AIza-good", "good");
    keys::add(&stores, "AIza-good", "good", 600).await?;
    stack.grant("alice", 40).await?;
    for number in 0..20 {
        let job = draw(&stack, &format!("k{number}")).await?;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("draft"), &json!(1)), "{job}");
    }
    assert_eq!(gemini.call_count(), 20, "no call was made for a damaged key");
    for key in &damaged {
        let state = stores.keys.key(&key.id).await?.unwrap().state;
        let is_put_away = matches!(state, KeyState::Disabled { reason: KeyDisabled::Unreadable, .. });
        assert!(is_put_away, "{state:?}");
        stack.logged("worker", &["does not open", key.id.as_str()]).await?;
    }
    let log = std::fs::read_to_string(stack.folder().join("logs/darkroom-local-worker.log"))?;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("does not open")).collect();
    assert_eq!(lines.len(), damaged.len(), "each is said once: {lines:#?}");
    for line in lines {
        assert!(line.contains("\"ERROR\"") && line.contains("darkroom keys remove"), "{line}");
    }
    // Two environments opened the good key once each; the damaged keys cost one more look each at most.
    let decrypted = stack.system.aws().requests()[&("kms", "Decrypt".to_owned())];
    assert!(decrypted <= 2 * 9, "{decrypted} for 20 jobs");
    let list = stack.command(&["keys", "list"], "").await?;
    assert!(String::from_utf8_lossy(&list.stdout).contains("unreadable: remove it and add it again"));
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_key_draws_again_once_it_was_removed_and_added() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings::default())?;
    let stack = start(&gemini, None).await?;
    let stores = stack.stores()?;
    gemini.add_key("AIza-only", "only");
    let key = keys::add(&stores, "AIza-only", "only", 600).await?;
    set(&stack, "AIza-only", "only", "secret", AttributeValue::S("AIza-only".to_owned())).await;
    stack.grant("alice", 4).await?;
    let job = draw(&stack, "k1").await?;
    assert_eq!(
        (&job["error"]["code"], &job["settled"]),
        (&json!("no_usable_key"), &json!("refunded")),
        "{job}"
    );
    stack.logged("worker", &["stored as plain text", key.id.as_str()]).await?;
    let removed = stack.command(&["keys", "remove", key.id.as_str()], "").await?;
    assert!(removed.status.success());
    assert!(add(&stack, "only", "AIza-only", &[]).await?.status.success());
    // The worker looks at the keys again within five seconds.
    stack.grant("alice", 40).await?;
    let drawn = async {
        for number in 0.. {
            if draw(&stack, &format!("again{number}")).await?["status"] == "draft" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), drawn).await??;
    stack.finish().await?;
    Ok(())
}
