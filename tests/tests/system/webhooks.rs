//! Webhooks: a real server is told by the real system, whatever it answers, whoever dies, and nobody else is called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::ensure;
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom::local_system::LocalSettings;
use darkroom_aws::clients::Clients;
use darkroom_aws::{SecretBox, WebhookSecrets, WebhookTable, now, random_webhook_id};
use darkroom_core::error_code::Language;
use darkroom_core::id::UserId;
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::Reach;
use darkroom_core::webhook_endpoint::{Endpoint, WebhookRequest};
use darkroom_core::webhook_signature::{WebhookSecret, signature_header};
use darkroom_tests::kill;
use darkroom_tests::receiver::{Answers, Call, Receiver, Reply};
use darkroom_tests::stack::{PATIENCE, TestStack};
use futures::future::join_all;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

/// A model without keys: its jobs fail.
const KEYLESS: &str = "gemini-3-pro-image";
const PUSH: &str = "darkroom-local-push";

/// A sweep each second: what is due is woken soon.
async fn start() -> anyhow::Result<TestStack> {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut LocalSettings)) -> anyhow::Result<TestStack> {
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
        change(settings);
    })
    .await?;
    stack.grant("alice", 100).await?;
    Ok(stack)
}

async fn post(stack: &TestStack, user: &str, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let bearer = format!("Bearer {user}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = stack.app.send("POST", path, &headers, Some(body.to_string().into_bytes())).await?;
    Ok((answer.status, answer.body))
}

/// A webhook of a user's; its path and its secret.
async fn make(stack: &TestStack, user: &str, body: &Value) -> anyhow::Result<(String, String)> {
    let (status, made) = post(stack, user, "/v1/webhooks", body).await?;
    ensure!(status == 201, "{status} {made}");
    Ok((format!("/v1/webhooks/{}", text(&made["id"])), text(&made["secret"])))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn drawn(stack: &TestStack, user: &str, key: &str) -> anyhow::Result<String> {
    let made = stack.app.submit(user, key, &json!({"prompt": "a canary lighthouse"})).await?;
    assert_eq!(made.status, 202, "{}", made.body);
    stack.app.settled(user, made.text("id")).await?;
    Ok(made.text("id").to_owned())
}

/// Waits until the deliveries of a webhook are as they should be.
async fn until(
    stack: &TestStack,
    user: &str,
    path: &str,
    are: impl Fn(&[Value]) -> bool,
) -> anyhow::Result<Vec<Value>> {
    let started = Instant::now();
    loop {
        let page = stack.app.get(user, &format!("{path}/deliveries")).await?;
        let deliveries = page.body["deliveries"].as_array().cloned().unwrap_or_default();
        if page.status == 200 && are(&deliveries) {
            return Ok(deliveries);
        }
        ensure!(started.elapsed() < PATIENCE, "{} {}", page.status, page.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the first of a user's webhooks is disabled.
pub(crate) async fn until_disabled(stack: &TestStack, user: &str) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        let listed = stack.app.get(user, "/v1/webhooks").await?.body;
        if listed["webhooks"][0]["enabled"] == false {
            return Ok(listed["webhooks"][0].clone());
        }
        ensure!(started.elapsed() < PATIENCE, "never disabled: {listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn all_are(deliveries: &[Value], status: &str) -> bool {
    !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery["status"] == status)
}

/// Lets the time of everything that waits come now.
async fn let_time_pass(stack: &TestStack) -> anyhow::Result<()> {
    let dynamodb = Clients::new(&stack.system.running().access()).dynamodb;
    let found = dynamodb.scan().table_name(PUSH).consistent_read(true).send().await?;
    for item in found.items().iter().filter(|item| item.contains_key("due_at")) {
        dynamodb
            .update_item()
            .table_name(PUSH)
            .key("pk", item["pk"].clone())
            .key("sk", item["sk"].clone())
            .update_expression("SET due_at = :now")
            .condition_expression("attribute_exists(due_at)")
            .expression_attribute_values(":now", AttributeValue::N(now().as_millis().to_string()))
            .send()
            .await?;
    }
    Ok(())
}

/// No log of any function shows any of this.
fn logs_show_none_of(stack: &TestStack, canaries: &[&str]) {
    for file in std::fs::read_dir(stack.folder().join("logs")).unwrap() {
        let path = file.unwrap().path();
        let log = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        for canary in canaries {
            assert!(!log.contains(canary), "{} shows {canary}", path.display());
        }
    }
}

fn event(call: &Call) -> String {
    text(&call.json().unwrap()["type"])
}

/// What a job is apart from its link.
fn without_link(mut job: Value) -> Value {
    job["image_url"].take();
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_each_end_once_signed_and_as_get_shows_it() -> anyhow::Result<()> {
    let mut stack = start().await?;
    let (receiver, others) = (Receiver::start(Answers::always(200))?, Receiver::start(Answers::always(200))?);
    let url = receiver.url("/hook?token=canary-query");
    let (path, secret) = make(&stack, "alice", &json!({"url": url})).await?;
    make(&stack, "bob", &json!({"url": others.url("/")})).await?;
    let (few, _) =
        make(&stack, "alice", &json!({"url": others.url("/few"), "events": ["job.failed"]})).await?;
    let id = drawn(&stack, "alice", "drawn").await?;
    let calls = receiver.received(1).await?;
    let shown = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
    let told = calls[0].json()?;
    assert_eq!((event(&calls[0]), &told["data"]), ("job.draft".to_owned(), &without_link(shown)));
    assert_eq!(calls[0].target, "/hook?token=canary-query");
    assert_eq!(calls[0].headers["content-type"], "application/json");
    // Independently, and by the core's own words.
    assert_eq!(calls[0].signed_by(&secret)?, 1);
    let at: u64 = calls[0].headers["webhook-timestamp"].parse()?;
    let parsed = WebhookSecret::parse(&secret).unwrap();
    let by_core = signature_header(
        &[parsed],
        calls[0].id(),
        Timestamp::from_millis(at * 1_000),
        calls[0].body.as_bytes(),
    );
    assert_eq!(calls[0].headers["webhook-signature"], by_core);
    assert_eq!(calls[0].signed_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?, 0);

    stack.app.post("alice", &format!("/v1/jobs/{id}/publish")).await?;
    stack.app.post("alice", &format!("/v1/jobs/{id}/unpublish")).await?;
    let failing = stack.app.submit("alice", "fails", &json!({"prompt": "x", "model": KEYLESS})).await?;
    stack.app.settled("alice", failing.text("id")).await?;
    receiver.received(3).await?;
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let cancelled = stack.app.submit("alice", "cancelled", &json!({"prompt": "x"})).await?;
    stack.app.post("alice", &format!("/v1/jobs/{}/cancel", cancelled.text("id"))).await?;
    stack.system.start_consuming()?;
    let calls = receiver.received(4).await?;
    let mut events: Vec<_> = calls.iter().map(event).collect();
    events.sort_unstable();
    assert_eq!(events, ["job.cancelled", "job.draft", "job.failed", "job.published"]);
    let mut ids: Vec<_> = calls.iter().map(|call| call.id().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each has an id of its own");
    for call in &calls {
        assert_eq!(call.signed_by(&secret)?, 1);
        let (kind, data) = (event(call), &call.json()?["data"]);
        assert_eq!(format!("job.{}", text(&data["status"])), kind, "the job as it was then");
    }
    // Another's jobs are told nobody, and what was not asked for neither.
    let of_others = others.received(1).await?;
    assert_eq!(of_others.iter().map(event).collect::<Vec<_>>(), ["job.failed"]);
    assert_eq!(of_others[0].target, "/few");
    until(&stack, "alice", &few, |all| all.len() == 1 && all_are(all, "delivered")).await?;
    let log = until(&stack, "alice", &path, |all| all.len() == 4 && all_are(all, "delivered")).await?;
    assert!(log.iter().all(|one| one["tries"] == 1 && one["last_try"]["status_code"] == 200), "{log:?}");
    assert!(log.iter().all(|one| one["last_try"]["answer"] == "noted" && one["next_try_at"].is_null()));
    logs_show_none_of(&stack, &["canary", &secret, "whsec_", "webhook-signature", "noted"]);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_by_the_schedule_with_one_id_and_body() -> anyhow::Result<()> {
    let stack = start().await?;
    let replies = vec![Reply::Status(500, "no"), Reply::HangUp, Reply::Status(200, "yes")];
    let receiver = Receiver::start(Answers::in_turn(replies))?;
    let (path, secret) = make(&stack, "alice", &json!({"url": receiver.url("/")})).await?;
    drawn(&stack, "alice", "k").await?;
    // The second try, by itself: five seconds later.
    let log = until(&stack, "alice", &path, |all| all.len() == 1 && all[0]["tries"] == 1).await?;
    assert_eq!((&log[0]["status"], &log[0]["last_try"]["status_code"]), (&json!("pending"), &json!(500)));
    let log = until(&stack, "alice", &path, |all| all[0]["tries"] == 2).await?;
    assert_eq!(log[0]["last_try"]["failure"], "broken_off");
    let failing = stack.app.get("alice", "/v1/webhooks").await?.body["webhooks"][0].clone();
    assert!(failing["failing_since"].is_string() && failing["enabled"] == true, "{failing}");
    // The third is minutes away.
    let next = text(&log[0]["next_try_at"]);
    let last = text(&log[0]["last_try"]["at"]);
    assert!(next > last, "{next} after {last}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receiver.calls().len(), 2, "it is not called before its time");
    let_time_pass(&stack).await?;
    let calls = receiver.received(3).await?;
    until(&stack, "alice", &path, |all| all_are(all, "delivered") && all[0]["tries"] == 3).await?;
    for call in &calls {
        assert_eq!((call.id(), &call.body), (calls[0].id(), &calls[0].body));
        assert_eq!(call.signed_by(&secret)?, 1);
    }
    let started = Instant::now();
    loop {
        let webhook = stack.app.get("alice", "/v1/webhooks").await?.body["webhooks"][0].clone();
        if webhook["failing_since"].is_null() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "what has arrived ends it: {webhook}");
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_a_stall_and_an_endless_answer_end() -> anyhow::Result<()> {
    let stack = start().await?;
    let inner = Receiver::start(Answers::always(200))?;
    let redirecting = Receiver::start(Answers::in_turn(vec![Reply::Redirect(inner.url("/admin"))]))?;
    let endless = Receiver::start(Answers::in_turn(vec![Reply::Endless]))?;
    let stalling = Receiver::start(Answers::in_turn(vec![Reply::Stall]))?;
    let mut paths = Vec::new();
    for receiver in [&redirecting, &endless, &stalling] {
        paths.push(make(&stack, "alice", &json!({"url": receiver.url("/")})).await?.0);
    }
    // And one where nobody listens.
    let nobody = Receiver::start(Answers::always(200))?;
    let url = nobody.url("/");
    drop(nobody);
    paths.push(make(&stack, "alice", &json!({"url": url})).await?.0);
    drawn(&stack, "alice", "k").await?;
    // Those that fail at once are tried again while others are looked at.
    let is_tried = |all: &[Value]| all.len() == 1 && all[0]["tries"].as_u64() >= Some(1);
    let of = async |path: &str| until(&stack, "alice", path, is_tried).await;
    let redirected = of(&paths[0]).await?;
    assert_eq!(
        (&redirected[0]["status"], &redirected[0]["last_try"]["status_code"]),
        (&json!("pending"), &json!(301))
    );
    let endless = of(&paths[1]).await?;
    assert_eq!(endless[0]["status"], "delivered");
    assert_eq!(endless[0]["last_try"]["answer"], "a".repeat(1_024));
    let stalled = of(&paths[2]).await?;
    assert_eq!(
        (&stalled[0]["status"], &stalled[0]["last_try"]["failure"]),
        (&json!("pending"), &json!("timed_out"))
    );
    let seconds = stalled[0]["last_try"]["seconds"].as_f64().unwrap();
    assert!((10.0..15.0).contains(&seconds), "{seconds}");
    let unreachable = of(&paths[3]).await?;
    assert_eq!(unreachable[0]["last_try"]["failure"], "unreachable");
    assert_eq!(inner.calls().len(), 0, "the redirect was followed");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_410_is_told_no_more_until_its_owner_enables_it() -> anyhow::Result<()> {
    let stack = start().await?;
    let receiver =
        Receiver::start(Answers::in_turn(vec![Reply::Status(500, ""), Reply::Status(410, "gone")]))?;
    let (path, _) = make(&stack, "alice", &json!({"url": receiver.url("/")})).await?;
    drawn(&stack, "alice", "waits").await?;
    until(&stack, "alice", &path, |all| all.len() == 1 && all[0]["tries"] == 1).await?;
    drawn(&stack, "alice", "ends it").await?;
    let disabled = until_disabled(&stack, "alice").await?;
    assert_eq!(disabled["disabled_reason"], "gone");
    // What waited is dropped when its time comes, and says so; what happens now is not told.
    drawn(&stack, "alice", "not told").await?;
    let_time_pass(&stack).await?;
    let log = until(&stack, "alice", &path, |all| all.iter().all(|one| one["status"] != "pending")).await?;
    let mut statuses: Vec<_> = log.iter().map(|one| text(&one["status"])).collect();
    statuses.sort_unstable();
    let calls = receiver.calls().len();
    assert!(statuses == ["dropped", "failed"] || statuses == ["failed", "failed"], "{statuses:?}");
    assert!((2..=3).contains(&calls), "{calls}");
    let dropped = text(&log.last().unwrap()["id"]);
    let resend = format!("{path}/deliveries/{dropped}/resend");
    assert_eq!(stack.app.post("alice", &resend).await?.text("code"), "webhook_disabled");
    receiver.answer(Answers::always(200));
    for _ in 0..2 {
        let enabled = stack.app.post("alice", &format!("{path}/enable")).await?;
        assert_eq!((enabled.status, &enabled.body["enabled"]), (200, &json!(true)));
    }
    let again = stack.app.post("alice", &resend).await?;
    assert_eq!((again.status, again.text("status")), (202, "pending"), "{}", again.body);
    until(&stack, "alice", &path, |all| {
        all.iter().any(|one| one["id"] == *dropped && one["status"] == "delivered")
    })
    .await?;
    assert_eq!(receiver.calls().last().unwrap().id(), dropped);
    drawn(&stack, "alice", "told").await?;
    receiver.received(calls + 2).await?;
    // Deleted, it is told nothing, and nobody else's is touched.
    assert_eq!(stack.app.delete("bob", &path).await?.status, 404);
    assert_eq!(stack.app.delete("alice", &path).await?.status, 204);
    drawn(&stack, "alice", "to nobody").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.calls().len(), calls + 2);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_sign_after_a_rotation_and_no_secret_is_shown_again() -> anyhow::Result<()> {
    let stack = start().await?;
    let receiver = Receiver::start(Answers::always(204))?;
    let (path, first) = make(&stack, "alice", &json!({"url": receiver.url("/")})).await?;
    let rotated = stack.app.post("alice", &format!("{path}/rotate")).await?;
    assert_eq!((rotated.status, rotated.header("cache-control")), (200, "no-store"));
    let second = rotated.text("secret").to_owned();
    assert!(second != first && rotated.body["earlier_secrets_until"].is_string(), "{}", rotated.body);
    drawn(&stack, "alice", "k").await?;
    let call = receiver.received(1).await?.remove(0);
    assert_eq!((call.signed_by(&first)?, call.signed_by(&second)?), (1, 1));
    assert_eq!(call.headers["webhook-signature"].split(' ').count(), 2);
    let listed = stack.app.get("alice", "/v1/webhooks").await?.body.to_string();
    assert!(!listed.contains("whsec_") && !listed.contains(&first) && !listed.contains(&second), "{listed}");
    // Nor is it stored as it is.
    let dynamodb = Clients::new(&stack.system.running().access()).dynamodb;
    let stored = format!("{:?}", dynamodb.scan().table_name(PUSH).send().await?.items());
    for secret in [&first, &second] {
        assert!(!stored.contains(secret.strip_prefix("whsec_").unwrap()), "a secret is stored");
    }
    logs_show_none_of(&stack, &[&first, &second]);
    stack.finish().await?;
    Ok(())
}

/// The notifier dies while a server has a call and has not answered; and what is stored was never sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_notifier_and_a_lost_message_cost_a_call_and_no_message() -> anyhow::Result<()> {
    let mut stack = start().await?;
    let receiver = Receiver::start(Answers::in_turn(vec![Reply::Stall, Reply::Status(200, "")]))?;
    let (path, secret) = make(&stack, "alice", &json!({"url": receiver.url("/")})).await?;
    let id = drawn(&stack, "alice", "k").await?;
    receiver.received(1).await?;
    for process in stack.system.function("notifier").unwrap().process_ids() {
        kill(process).await?;
    }
    let log = until(&stack, "alice", &path, |all| all.len() == 1).await?;
    assert_eq!((&log[0]["status"], &log[0]["tries"]), (&json!("pending"), &json!(0)), "no call was noted");
    let_time_pass(&stack).await?;
    let calls = receiver.received(2).await?;
    assert_eq!((calls[0].id(), &calls[0].body), (calls[1].id(), &calls[1].body));
    until(&stack, "alice", &path, |all| all_are(all, "delivered")).await?;

    // Put, and its message lost: as if the notifier had died between the two.
    stack.system.stop_consuming_of("notifier", Duration::from_secs(5)).await;
    stack.app.post("alice", &format!("/v1/jobs/{id}/publish")).await?;
    until(&stack, "alice", &path, |all| all.len() == 2).await?;
    for process in stack.system.function("notifier").unwrap().process_ids() {
        kill(process).await?;
    }
    let sqs = Clients::new(&stack.system.running().access()).sqs;
    let queue = stack.system.running().queue_url.replace("darkroom-local-jobs", "darkroom-local-webhooks");
    sqs.purge_queue().queue_url(queue).send().await?;
    stack.system.start_consuming_of("notifier")?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.calls().len(), 2, "nobody knows of it but its record");
    let_time_pass(&stack).await?;
    let calls = receiver.received(3).await?;
    assert_eq!((event(&calls[2]), calls[2].signed_by(&secret)?), ("job.published".to_owned(), 1));
    until(&stack, "alice", &path, |all| all_are(all, "delivered")).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_many_notifiers_read_makes_one_message() -> anyhow::Result<()> {
    let stack = start().await?;
    let receiver = Receiver::start(Answers::always(200))?;
    let (path, _) = make(&stack, "alice", &json!({"url": receiver.url("/")})).await?;
    drawn(&stack, "alice", "k").await?;
    until(&stack, "alice", &path, |all| all_are(all, "delivered")).await?;
    let reader = stack.system.aws().stream_reader();
    let records = reader.read("darkroom-local-jobs".to_owned(), None, 100).await.unwrap();
    let records: Vec<_> = records.into_iter().map(|record| record.record).collect();
    assert!(records.len() >= 3, "{records:?}");
    let event = json!({"Records": records}).to_string();
    let notifier = stack.system.function("notifier").unwrap();
    let answers = join_all((0..5).map(|_| notifier.invoke(event.clone().into()))).await;
    for answer in answers {
        assert_eq!(serde_json::from_slice::<Value>(&answer?)?, json!({"batchItemFailures": []}));
    }
    let log = until(&stack, "alice", &path, |all| all_are(all, "delivered")).await?;
    assert_eq!(log.len(), 1, "{log:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.calls().len(), 1);
    // One that is made later is not told of it, whoever reads it again.
    let (later, _) = make(&stack, "alice", &json!({"url": receiver.url("/later")})).await?;
    notifier.invoke(event.into()).await?;
    let told = stack.app.get("alice", &format!("{later}/deliveries")).await?.body["deliveries"].clone();
    assert_eq!(told, json!([]));
    stack.finish().await?;
    Ok(())
}

/// As on AWS: only public servers, at once and whenever one is called.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_public_servers_is_an_endpoint_or_is_called() -> anyhow::Result<()> {
    let stack = start_with(|settings| {
        settings.variables.insert("DARKROOM_WEBHOOK_REACH".to_owned(), "public".to_owned());
    })
    .await?;
    let corpus = include_str!("../../../shared/core/tests/decisions/hostile_webhook_urls.txt");
    let urls: Vec<_> = corpus.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(urls.len() >= 100, "{}", urls.len());
    for url in urls {
        let (status, answer) = post(&stack, "alice", "/v1/webhooks", &json!({"url": url})).await?;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/url")), "{url}: {answer}");
    }
    assert_eq!(stack.app.get("alice", "/v1/webhooks").await?.body, json!({"webhooks": []}));

    // One that was stored all the same is not called.
    let receiver = Receiver::start(Answers::always(200))?;
    let clients = Clients::new(&stack.system.running().access());
    let secrets = SecretBox::new(clients.kms(), stack.system.running().kms_key.clone());
    let (webhooks, alice) = (WebhookTable::new(clients.dynamodb, PUSH.to_owned()), UserId::parse("alice")?);
    let request = WebhookRequest::parse(&json!({"url": receiver.url("/")}), Reach::Anywhere).unwrap();
    let id = random_webhook_id();
    let (_, sealed) = WebhookSecrets::new(secrets, PUSH.to_owned()).make(&alice, &id).await?;
    let endpoint = Endpoint::new(id.clone(), &request, Language::En, sealed, now());
    webhooks.change(&alice, webhooks.endpoints_of(&alice).await?, |seen| seen.with(endpoint.clone())).await?;
    drawn(&stack, "alice", "k").await?;
    let path = format!("/v1/webhooks/{id}");
    let log = until(&stack, "alice", &path, |all| all.len() == 1 && all[0]["tries"] == 1).await?;
    assert_eq!(log[0]["last_try"]["failure"], "url_refused", "{log:?}");
    assert_eq!(receiver.calls().len(), 0);
    stack.finish().await?;
    Ok(())
}

/// Over TLS: a server that proves who it is is told, and one that is another is not.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_that_proves_its_name_is_told() -> anyhow::Result<()> {
    let names = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (right, wrong) = (names("127.0.0.1"), names("other.example.com"));
    let folder = tempfile::tempdir()?;
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, format!("{}{}", right.cert.pem(), wrong.cert.pem()))?;
    let stack = start_with(|settings| {
        settings.variables.insert("SSL_CERT_FILE".to_owned(), roots.display().to_string());
    })
    .await?;
    let serve = |certified: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        Receiver::start_tls(Answers::always(200), certified.cert.der().clone(), key)
    };
    let (right, wrong) = (serve(&right)?, serve(&wrong)?);
    let (told, secret) = make(&stack, "alice", &json!({"url": right.url("/")})).await?;
    let (not_told, _) = make(&stack, "alice", &json!({"url": wrong.url("/")})).await?;
    drawn(&stack, "alice", "k").await?;
    until(&stack, "alice", &told, |all| all_are(all, "delivered")).await?;
    assert_eq!(right.calls()[0].signed_by(&secret)?, 1);
    let log = until(&stack, "alice", &not_told, |all| all.len() == 1 && all[0]["tries"] == 1).await?;
    assert_eq!(log[0]["last_try"]["failure"], "tls");
    assert_eq!(wrong.calls().len(), 0);
    stack.finish().await?;
    Ok(())
}
