//! Live updates: what a client is told over its WebSocket, and that it misses nothing, whatever dies and whoever else is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod kills;

use std::collections::BTreeMap;
use std::time::Duration;

use darkroom_aws::{PushTable, now, random_ticket};
use darkroom_core::error_code::Language;
use darkroom_core::id::{ConnectionId, UserId};
use darkroom_core::limits::{CONNECT_TIMEOUT, CONNECTIONS_MAX, PUSH_AGE_MAX, TICKET_LIFE};
use darkroom_core::push::Connection;
use darkroom_tests::stack::{PATIENCE, TestStack};
use darkroom_tests::watcher::{Refused, Watcher, ticket_url};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A model without keys: its jobs fail.
const KEYLESS: &str = "gemini-3-pro-image";

fn push_table(stack: &TestStack) -> PushTable {
    let clients = darkroom_aws::clients::Clients::new(&stack.system.running().access());
    PushTable::new(clients.dynamodb, "darkroom-local-push".to_owned())
}

async fn connections(stack: &TestStack, user: &str) -> Vec<Connection> {
    let user = UserId::parse(user).unwrap();
    let found = push_table(stack).connections(std::slice::from_ref(&user)).await.unwrap().remove(&user);
    found.unwrap_or_default().list
}

/// A connection that the gateway does not hold, stored so long ago.
async fn ghost(stack: &TestStack, user: &str, name: &str, age: Duration) -> anyhow::Result<()> {
    let (push, user, ticket) = (push_table(stack), UserId::parse(user)?, random_ticket());
    push.issue(&ticket, &user, now()).await?;
    let seen = push.connections(std::slice::from_ref(&user)).await?.remove(&user).unwrap_or_default();
    let connection =
        Connection { id: ConnectionId::parse(name)?, connected_at: now().minus(age), language: Language::En };
    push.open(&ticket, &user, seen, &connection).await?;
    Ok(())
}

async fn submit(stack: &TestStack, user: &str, key: &str, body: Value) -> anyhow::Result<String> {
    let made = stack.app.submit(user, key, &body).await?;
    assert_eq!(made.status, 202, "{}", made.body);
    Ok(made.text("id").to_owned())
}

/// A job without what differs from one look to the next: a link's signature.
fn comparable(mut job: Value) -> Value {
    if let Some((link, _)) = job["image_url"].as_str().and_then(|url| url.split_once('?')) {
        job["image_url"] = json!(link);
    }
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_its_jobs_as_get_shows_them_and_versions_only_rise() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    assert_eq!(alice.sync(&[]).await?, json!({"type": "synced", "complete": true}));
    // Its prompt lies beside the record, and so do its metadata.
    let order = json!({"prompt": "a lighthouse ".repeat(60), "metadata": {"album": "dusk"}});
    let id = submit(&stack, "alice", "k", order).await?;
    let told = alice.settled(&id).await?;
    let shown = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
    assert_eq!(comparable(told.clone()), comparable(shown));
    assert_eq!((told["status"].as_str(), &told["metadata"]), (Some("draft"), &json!({"album": "dusk"})));
    assert!(stack.app.download(told["image_url"].as_str().unwrap()).await?.starts_with(b"\x89PNG"));
    // What becomes of a settled job is told, too.
    stack.app.post("alice", &format!("/v1/jobs/{id}/publish")).await?;
    let published = alice.until("job.updated").await?;
    assert_eq!(
        (&published["job"]["status"], &published["version"]),
        (&json!("published"), &published["job"]["version"])
    );
    assert_eq!(alice.dropped, 0, "a version came after a higher one");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_connection_within_its_minute_and_no_other() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let url = ticket_url(&stack.app, "alice").await?;
    // Fifty at once: one wins.
    let tried = join_all((0..50).map(|_| Watcher::connect_to(&url, &[]))).await;
    let (mut open, mut refused) = (Vec::new(), 0);
    for outcome in tried {
        match outcome? {
            Ok(watcher) => open.push(watcher),
            // Without an environment free the gateway itself answers.
            Err(Refused(401 | 502)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((open.len(), refused), (1, 49));
    assert_eq!(connections(&stack, "alice").await.len(), 1);
    let (base, ticket) = url.split_once("?ticket=").unwrap();
    let other_letter = if ticket.ends_with('a') { "b" } else { "a" };
    let altered = format!("{}{other_letter}", &ticket[..ticket.len() - 1]);
    let old = random_ticket();
    push_table(&stack).issue(&old, &UserId::parse("alice")?, now().minus(TICKET_LIFE)).await?;
    for query in [
        String::new(),
        "?ticket=".to_owned(),
        "?Ticket=".to_owned() + ticket,
        format!("?ticket={ticket}"),
        format!("?ticket={altered}"),
        format!("?ticket={}", old.reveal()),
        "?ticket=alice".to_owned(),
        format!("?ticket=wst_{}", "a".repeat(52)),
    ] {
        let bearer = [("authorization", "Bearer alice")];
        let refused = Watcher::connect_to(&format!("{base}{query}"), &bearer).await?.err();
        assert_eq!(refused, Some(Refused(401)), "{query}");
    }
    assert_eq!(connections(&stack, "alice").await.len(), 1);
    // Who has gone is known no more.
    drop(open);
    let until = Instant::now() + PATIENCE;
    while !connections(&stack, "alice").await.is_empty() {
        assert!(Instant::now() < until, "an ended connection is still known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_anothers_jobs() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    let mut bob = Watcher::connect(&stack.app, "bob").await?;
    alice.sync(&[]).await?;
    bob.sync(&[]).await?;
    let id = submit(&stack, "alice", "k", json!({"prompt": "a secret of alice's"})).await?;
    alice.settled(&id).await?;
    bob.is_told_nothing(Duration::from_secs(1)).await?;
    // Not even who knows its id.
    assert_eq!(bob.sync(&[&id]).await?["complete"], true);
    assert_eq!(bob.jobs.len(), 0, "{:?}", bob.jobs);
    assert_eq!(alice.sync(&[&id]).await?["complete"], true);
    assert_eq!(alice.jobs.len(), 1);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_again_and_synchronises_has_missed_nothing() -> anyhow::Result<()> {
    let mut stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    let ids = [
        submit(&stack, "alice", "1", json!({"prompt": "x"})).await?,
        submit(&stack, "alice", "2", json!({"prompt": "y"})).await?,
    ];
    alice.sync(&[]).await?;
    assert_eq!(alice.jobs.len(), 2, "those under way");
    drop(alice);
    // Both end while nobody is there; one of them is deleted.
    stack.system.start_consuming()?;
    for id in &ids {
        stack.app.settled("alice", id).await?;
    }
    stack.app.delete("alice", &format!("/v1/jobs/{}", ids[1])).await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    alice.sync(&[&ids[0], &ids[1]]).await?;
    assert_eq!(alice.jobs.keys().collect::<Vec<_>>(), [&ids[0]], "what is named and not told is not there");
    assert_eq!(alice.jobs[&ids[0]]["status"], "draft");
    stack.finish().await?;
    Ok(())
}

/// What a hostile client sends, and how it is closed.
fn hostile() -> Vec<(&'static str, Vec<Message>, &'static [u16])> {
    vec![
        ("no JSON", vec![Message::text("{")], &[1000]),
        ("no message", vec![Message::text(r#"{"type":"subscribe","user":"alice"}"#)], &[1000]),
        ("deep JSON", vec![Message::text("[".repeat(30_000))], &[1000]),
        ("binary", vec![Message::binary(vec![0; 100])], &[1003]),
        ("a huge frame", vec![Message::text("x".repeat(33 * 1024))], &[1009, 1006]),
        ("a huger one", vec![Message::text("x".repeat(10 * 1024 * 1024))], &[1009, 1006]),
        ("a flood", vec![Message::text(r#"{"type":"sync"}"#); 1_000], &[1000, 1006]),
        ("a flood of nonsense", vec![Message::text("nonsense"); 1_000], &[1000, 1006]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_client_is_cut_off_and_hurts_nobody_else() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 100).await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    alice.sync(&[]).await?;
    for (number, (name, messages, closed)) in hostile().into_iter().enumerate() {
        let mut mallory = Watcher::connect(&stack.app, "mallory").await?;
        for message in messages {
            // It may be cut off meanwhile.
            if mallory.send(message).await.is_err() {
                break;
            }
        }
        let id = submit(&stack, "alice", &number.to_string(), json!({"prompt": name})).await?;
        alice.settled(&id).await?;
        let code = mallory.ended().await?;
        assert!(closed.contains(&code), "{name}: closed with {code}");
        assert_eq!(mallory.jobs.len(), 0, "{name}");
    }
    // Alice was never cut off, and neither is who says something now and then.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    alice.say(&json!({"type": "ping"})).await?;
    alice.until("pong").await?;
    assert_eq!((alice.closed, alice.dropped), (None, 0));
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_ends_the_oldest() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let mut open = Vec::new();
    for _ in 0..=CONNECTIONS_MAX {
        open.push(Watcher::connect(&stack.app, "alice").await?);
    }
    assert_eq!(open[0].ended().await?, u16::from(CloseCode::Normal));
    assert_eq!(connections(&stack, "alice").await.len(), CONNECTIONS_MAX);
    for watcher in &mut open[1..] {
        watcher.sync(&[]).await?;
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_have_ended_are_forgotten_and_hold_up_nobody() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    for number in 0..5 {
        ghost(&stack, "alice", &format!("ghost-{number}="), CONNECT_TIMEOUT).await?;
    }
    // This one may still be on its way: `$connect` has not been answered yet.
    ghost(&stack, "alice", "young", Duration::ZERO).await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    let id = submit(&stack, "alice", "k", json!({"prompt": "x"})).await?;
    alice.settled(&id).await?;
    let until = Instant::now() + PATIENCE;
    loop {
        let left = connections(&stack, "alice").await;
        let names: Vec<_> = left.iter().map(|connection| connection.id.as_str()).collect();
        if names.len() == 2 && names[0] == "young" {
            break;
        }
        assert!(Instant::now() < until, "{names:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_is_told_in_its_own_language() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let mut told = Vec::new();
    let mut watchers = Vec::new();
    for language in ["tr", "en"] {
        let url = ticket_url(&stack.app, "alice").await?;
        let headers = [("accept-language", language)];
        watchers.push(
            Watcher::connect_to(&url, &headers).await?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?,
        );
    }
    let id = submit(&stack, "alice", "k", json!({"prompt": "x", "model": KEYLESS})).await?;
    for watcher in &mut watchers {
        told.push(watcher.settled(&id).await?["error"]["message"].clone());
    }
    let path = format!("/v1/jobs/{id}");
    for (language, told) in ["tr", "en"].into_iter().zip(&told) {
        let headers = [("authorization", "Bearer alice"), ("accept-language", language)];
        let shown = stack.app.send("GET", &path, &headers, None).await?;
        assert_eq!(shown.body["error"]["message"], *told, "{language}");
    }
    assert_ne!(told[0], told[1]);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_when_it_is_idle_and_when_it_is_old() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.connection_limits = Some((Duration::from_secs(3), Duration::from_secs(8)));
    })
    .await?;
    let mut idle = Watcher::connect(&stack.app, "alice").await?;
    let mut lively = Watcher::connect(&stack.app, "alice").await?;
    let started = Instant::now();
    assert_eq!(idle.ended().await?, u16::from(CloseCode::Away));
    while lively.closed.is_none() {
        if lively.say(&json!({"type": "ping"})).await.is_ok() {
            lively.next_until(Instant::now() + Duration::from_millis(1_500)).await?;
            lively.next_until(Instant::now() + Duration::from_millis(1_500)).await?;
        } else {
            lively.ended().await?;
        }
    }
    assert_eq!(lively.closed, Some(u16::from(CloseCode::Away)));
    assert!(started.elapsed() >= Duration::from_secs(7), "it was ended although it was not idle");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_notifier_s_own_requests_reach_connections() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    let id = connections(&stack, "alice").await[0].id.to_string().replace('=', "%3D");
    for (method, headers) in [
        ("POST", vec![]),
        ("POST", vec![("authorization", "Bearer alice")]),
        ("DELETE", vec![("authorization", "AWS4-HMAC-SHA256 Credential=somebody/20261130/x")]),
    ] {
        let path = format!("/ws/@connections/{id}");
        let answer = stack.app.send(method, &path, &headers, Some(b"{}".to_vec())).await?;
        assert_eq!(answer.status, 403, "{method} {headers:?}");
    }
    assert_eq!(alice.sync(&[]).await?["type"], "synced");
    stack.finish().await?;
    Ok(())
}

/// The messages that docs/api.md shows, one of each type.
fn shown_on_the_page() -> BTreeMap<String, Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/api.md");
    let page = std::fs::read_to_string(path).unwrap();
    let section = page.split("\n## Live updates\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let messages = blocks.map(|block| serde_json::from_str::<Value>(block).unwrap());
    messages.map(|message| (message["type"].as_str().unwrap().to_owned(), message)).collect()
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_messages_as_they_are() -> anyhow::Result<()> {
    let shown = shown_on_the_page();
    assert_eq!(members(&json!(shown)), ["job.updated", "ping", "pong", "sync", "synced"]);
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let id = submit(&stack, "alice", "k", json!({"prompt": "x"})).await?;
    stack.app.settled("alice", &id).await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    let mut sync = shown["sync"].clone();
    sync["jobs"] = json!([id]);
    alice.say(&sync).await?;
    let updated = alice.until("job.updated").await?;
    assert_eq!(members(&updated), members(&shown["job.updated"]));
    let known = members(&updated["job"]);
    assert!(members(&shown["job.updated"]["job"]).iter().all(|member| known.contains(member)), "{known:?}");
    assert_eq!(alice.until("synced").await?, shown["synced"]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    alice.say(&shown["ping"]).await?;
    assert_eq!(alice.until("pong").await?, shown["pong"]);
    stack.finish().await?;
    Ok(())
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_is_left_in_a_log_or_a_table() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let urls = [ticket_url(&stack.app, "alice").await?, ticket_url(&stack.app, "alice").await?];
    let _open =
        Watcher::connect_to(&urls[0], &[]).await?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    assert!(Watcher::connect_to(&urls[0], &[]).await?.is_err(), "used");
    // Whose it is stands in a table, so the places are the right ones.
    let is_anywhere = |text: &str| {
        let holds = |path: &std::path::PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        };
        files(stack.folder()).iter().find(|path| holds(path)).cloned()
    };
    assert!(is_anywhere("USER#alice").is_some());
    for url in &urls {
        let ticket = url.split_once("?ticket=").unwrap().1;
        assert_eq!(is_anywhere(ticket), None);
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_known_no_more_is_ended_when_it_speaks() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    push_table(&stack).forget(&connections(&stack, "alice").await[0].id).await?;
    alice.say(&json!({"type": "sync"})).await?;
    assert_eq!(alice.ended().await?, u16::from(CloseCode::Normal));
    stack.finish().await?;
    Ok(())
}

/// Where the gateway answers nobody, changes come again, and only those that somebody waits for.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_nobody_could_be_told_are_named() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.consuming = false;
        settings.variables.insert("DARKROOM_WEBSOCKET_URL".to_owned(), "ws://127.0.0.1:9/ws".to_owned());
    })
    .await?;
    stack.grant("alice", 10).await?;
    stack.grant("bob", 10).await?;
    let of_alice = submit(&stack, "alice", "k", json!({"prompt": "x"})).await?;
    let of_bob = submit(&stack, "bob", "k", json!({"prompt": "x"})).await?;
    ghost(&stack, "alice", "unreachable", Duration::ZERO).await?;
    let record = |job: &str, user: &str, number: &str, age: Duration| {
        json!({"eventName": "MODIFY", "dynamodb": {
            "Keys": {"pk": {"S": job}, "sk": {"S": "JOB"}},
            "NewImage": {"user": {"S": user}, "status": {"S": "pending"}},
            "SequenceNumber": number,
            "ApproximateCreationDateTime": now().minus(age).as_seconds(),
        }})
    };
    let (young, old) = (Duration::ZERO, PUSH_AGE_MAX + Duration::from_secs(1));
    let too_old = submit(&stack, "alice", "too old", json!({"prompt": "x"})).await?;
    let event = json!({"Records": [
        record(&of_bob, "bob", "1", young), "no record", record(&of_alice, "alice", "2", young),
        record(&of_alice, "bob", "3", young), record(&too_old, "alice", "4", old),
    ]});
    let answer = stack.system.function("notifier").unwrap().invoke(event.to_string().into()).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "2"}]}));
    for (user, id) in [("alice", of_alice), ("alice", too_old), ("bob", of_bob)] {
        stack.app.post(user, &format!("/v1/jobs/{id}/cancel")).await?;
    }
    stack.finish().await?;
    Ok(())
}
