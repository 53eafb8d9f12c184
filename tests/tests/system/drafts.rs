//! What becomes of jobs that are over: published, taken back, deleted, tried again; and what a list of drafts sees to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom::audit::Audit;
use darkroom::connect::Stores;
use darkroom_aws::clients::Clients;
use darkroom_aws::{Commit, now, random_stamp};
use darkroom_core::id::JobId;
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{Job, Record, Stage};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::ledger::Balance;
use darkroom_core::lifecycle::{Bounds, Command, End, Ending, Seen};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::time::Timestamp;
use darkroom_tests::jobs::{submit_with_deadline, submit_without_message};
use darkroom_tests::keys::MODEL;
use darkroom_tests::stack::{Answer, TestStack};
use serde_json::{Value, json};

use crate::flow::expire;

const HOUR: Duration = Duration::from_secs(3_600);

/// The one local model, whatever the default is.
fn order(prompt: &str) -> Value {
    json!({"prompt": prompt, "model": "darkroom-local"})
}

fn long_prompt() -> String {
    "a long prompt ".repeat(60)
}

async fn without_a_sweeper() -> anyhow::Result<TestStack> {
    TestStack::start_with(|settings| settings.scheduled = false).await
}

async fn draft(stack: &TestStack, key: &str, prompt: &str) -> anyhow::Result<String> {
    let accepted = stack.app.submit("alice", key, &order(prompt)).await?;
    let id = accepted.text("id").to_owned();
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!(job["status"], "draft", "{job}");
    Ok(id)
}

/// The record of a job, or the prompt beside it, as stored.
async fn item(
    stack: &TestStack,
    id: &str,
    sk: &str,
) -> anyhow::Result<Option<HashMap<String, AttributeValue>>> {
    let running = stack.system.running();
    let read = Clients::new(&running.access()).dynamodb.get_item();
    let read = read.table_name(&running.sweeper_variables["DARKROOM_JOBS_TABLE"]).consistent_read(true);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    Ok(read.key("pk", text(id)).key("sk", text(sk)).send().await?.item)
}

fn number(value: &AttributeValue) -> u64 {
    value.as_n().unwrap().parse().unwrap()
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.text("code"))
}

fn listed(answer: &Answer) -> Vec<&str> {
    answer.body["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect()
}

/// The books: what was given, is held and was paid, by user.
async fn books(stack: &TestStack) -> anyhow::Result<BTreeMap<String, Balance>> {
    let Audit { users, faults, .. } = stack.audit().await?;
    assert!(faults.is_empty(), "{faults:?}");
    Ok(users.into_iter().map(|(user, books)| (user, books.balance)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_published_taken_back_and_deleted() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 5).await?;
    let id = draft(&stack, "k", "a lighthouse").await?;
    let (path, app) = (format!("/v1/jobs/{id}"), &stack.app);
    let (first, before) = (app.get("alice", &path).await?, books(&stack).await?);
    let version = first.body["version"].as_u64().unwrap();

    for times in 0..2 {
        let published = app.post("alice", &format!("{path}/publish")).await?;
        assert_eq!((published.status, published.text("status")), (200, "published"), "{times}");
        assert_eq!(published.body["version"], version + 1, "written once: {times}");
        assert_eq!(published.header("vary"), "accept-language");
        app.download(published.text("image_url")).await?;
    }
    let shown = app.get("alice", &path).await?;
    assert_ne!(shown.header("etag"), first.header("etag"));
    for field in ["settled", "progress", "image", "drawn_by", "cost", "finished_at", "prompt"] {
        assert_eq!(shown.body[field], first.body[field], "{field}");
    }
    assert_eq!(listed(&app.get("alice", "/v1/jobs?status=published").await?), [&id]);
    assert_eq!(listed(&app.get("alice", "/v1/jobs?status=draft").await?), [""; 0]);
    let cancel = app.post("alice", &format!("{path}/cancel")).await?;
    assert_eq!(outcome(&cancel), (409, "wrong_state"));
    assert!(cancel.text("detail").contains("published"), "{}", cancel.body);

    for times in 0..2 {
        let taken_back = app.post("alice", &format!("{path}/unpublish")).await?;
        assert_eq!((taken_back.status, taken_back.text("status")), (200, "draft"), "{times}");
        assert_eq!(taken_back.body["version"], version + 2, "written once: {times}");
    }
    assert_eq!(listed(&app.get("alice", "/v1/jobs?status=draft").await?), [&id]);
    let link = app.get("alice", &path).await?.text("image_url").to_owned();
    app.download(&link).await?;

    // The second time as after a lost answer.
    for times in 0..2 {
        let deleted = app.delete("alice", &path).await?;
        assert_eq!((deleted.status, &deleted.body), (204, &Value::Null), "{times}");
    }
    let gone = app.download(&link).await.expect_err("the picture is gone").to_string();
    assert!(gone.starts_with("404"), "{gone}");
    let left = item(&stack, &id, "JOB").await?.unwrap();
    let names: BTreeSet<_> = left.keys().map(String::as_str).collect();
    let wanted = ["pk", "sk", "status", "user", "request_hash", "settled", "ttl", "ver", "op"];
    assert_eq!(names, wanted.into());
    for (method, suffix) in
        [("GET", ""), ("POST", "/publish"), ("POST", "/unpublish"), ("POST", "/cancel"), ("POST", "/retry")]
    {
        let headers = [("authorization", "Bearer alice")];
        let answer = app.send(method, &format!("{path}{suffix}"), &headers, None).await?;
        assert_eq!(outcome(&answer), (404, "not_found"), "{method} {suffix}");
    }
    assert_eq!(listed(&app.get("alice", "/v1/jobs").await?), [""; 0]);
    assert_eq!(books(&stack).await?, before, "no token has moved");
    its_key_makes_no_job_until_the_tombstone_expires(&stack, &id).await?;
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.deleted, audit.settled), (1, 0, 2));
    Ok(())
}

async fn its_key_makes_no_job_until_the_tombstone_expires(stack: &TestStack, id: &str) -> anyhow::Result<()> {
    let app = &stack.app;
    let refused = app.submit("alice", "k", &order("a lighthouse")).await?;
    assert_eq!(outcome(&refused), (409, "job_deleted"), "{}", refused.body);
    assert_eq!(refused.body["retryable"], false);
    let other = app.submit("alice", "k", &order("a windmill")).await?;
    assert_eq!(outcome(&other), (422, "idempotency_mismatch"));
    let headers = [
        ("authorization", "Bearer alice"),
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
        ("accept-language", "tr"),
    ];
    let body = order("a lighthouse").to_string().into_bytes();
    let turkish = app.send("POST", "/v1/jobs", &headers, Some(body)).await?;
    assert_eq!((turkish.status, turkish.text("title")), (409, "Bu isteğin işi silindi"));
    expire(stack, id).await?;
    assert_eq!(app.delete("alice", &format!("/v1/jobs/{id}")).await?.status, 404, "it has expired");
    let again = app.submit("alice", "k", &order("a lighthouse")).await?;
    assert_eq!((again.status, again.text("id")), (202, id), "{}", again.body);
    app.settled("alice", id).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_and_its_prompt_are_kept_as_long_as_they_should() -> anyhow::Result<()> {
    const DAY: u64 = 86_400;
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_PUBLISHED_TTL_DAYS".to_owned(), "200".to_owned());
    })
    .await?;
    stack.grant("alice", 1).await?;
    let id = draft(&stack, "k", &long_prompt()).await?;
    let path = format!("/v1/jobs/{id}");
    let days = async || {
        let (job, body) =
            (item(&stack, &id, "JOB").await?.unwrap(), item(&stack, &id, "BODY").await?.unwrap());
        let (ttl, ended) = (number(&job["ttl"]), number(&job["finished_at"]) / 1_000);
        anyhow::Ok(((ttl - ended) / DAY, number(&body["ttl"]).abs_diff(ttl + DAY)))
    };
    // The worker and submit each count from their own moment.
    let (kept, differ) = days().await?;
    assert!(kept == 90 && differ <= 3_700, "{kept} {differ}");
    for (change, kept) in [("publish", 200), ("unpublish", 90), ("publish", 200)] {
        let answer = stack.app.post("alice", &format!("{path}/{change}")).await?;
        assert_eq!((answer.status, answer.text("prompt")), (200, long_prompt().as_str()), "{change}");
        assert_eq!(days().await?, (kept, 0), "{change}");
    }
    // 350 days later it is published anew: its picture goes 401 days after it was stored.
    let stores = stack.stores()?;
    let job = stores.jobs.get(&JobId::parse(&id)?).await?.unwrap();
    stack.app.post("alice", &format!("{path}/unpublish")).await?;
    let running = stack.system.running();
    let long_ago = number(&item(&stack, &id, "JOB").await?.unwrap()["finished_at"]) - 350 * DAY * 1_000;
    Clients::new(&running.access())
        .dynamodb
        .update_item()
        .table_name(&running.sweeper_variables["DARKROOM_JOBS_TABLE"])
        .key("pk", AttributeValue::S(id.clone()))
        .key("sk", AttributeValue::S("JOB".to_owned()))
        .update_expression("SET finished_at = :then")
        .expression_attribute_values(":then", AttributeValue::N(long_ago.to_string()))
        .send()
        .await?;
    stack.app.post("alice", &format!("{path}/publish")).await?;
    assert_eq!(days().await?, (400, 0));
    assert!(stores.jobs.get(&job.id).await?.unwrap().image() == job.image(), "the picture is another");

    assert_eq!(stack.app.delete("alice", &path).await?.status, 204);
    assert!(item(&stack, &id, "BODY").await?.is_none(), "the prompt is gone");
    stack.finish().await?;
    Ok(())
}

/// A job of a token in some state, made at the stores.
async fn made(stores: &Stores, key: &str, state: &str) -> anyhow::Result<String> {
    let id = submit_without_message(stores, "alice", key, Duration::from_secs(600)).await?;
    let job = stores.jobs.get(&JobId::parse(&id)?).await?.unwrap();
    let at = now();
    let end = End { now: at, expires_at: Timestamp::from_millis((at.as_seconds() + 86_400) * 1_000) };
    let commit = async |job: &Job, command: Command| {
        let commit = stores.jobs.commit(job, &command, &random_stamp(), at, SETTLE_PATIENCE).await?;
        let Commit::Applied(job) = commit else { anyhow::bail!("{command:?} was refused") };
        anyhow::Ok(job)
    };
    let failed = Ending::Failed(JobFailure::new(JobErrorCode::NoImage, "why"));
    let image = StoredImage {
        key: format!("images/{id}/1/1/0.png"),
        sha256: "0".repeat(64),
        bytes: 1,
        width: 1,
        height: 1,
        format: ImageFormat::Png,
        attempt: 1,
    };
    let capture = Command::Capture { image, drawn_by: "m".to_owned(), end };
    match state {
        "processing" => {
            let bounds = Bounds { attempts_max: 3, calls_max: 6 };
            commit(&job, Command::Claim { now: at, lease_until: at.plus(HOUR), bounds }).await?;
        }
        "draft" | "published" => drop(commit(&job, capture).await?),
        "failed" => {
            let seen = Seen::of(&job).unwrap();
            commit(&job, Command::EndAsSeen { seen, ending: failed, end }).await?;
        }
        "cancelled" | "deleted" | "expired" => drop(commit(&job, Command::CancelPending { end }).await?),
        _ => {}
    }
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_on_each_state() -> anyhow::Result<()> {
    let mut stack = without_a_sweeper().await?;
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    stack.grant("alice", 1_000).await?;
    let (stores, app) = (stack.stores()?, &stack.app);
    let routes = ["publish", "unpublish", "delete", "retry", "cancel"];
    let table = [
        //             publish unpublish delete retry cancel
        ("pending", [409, 409, 409, 409, 200]),
        ("processing", [409, 409, 409, 409, 200]),
        ("draft", [200, 200, 204, 409, 409]),
        ("published", [200, 200, 204, 409, 409]),
        ("failed", [409, 409, 204, 202, 409]),
        ("cancelled", [409, 409, 204, 202, 200]),
        ("deleted", [404, 404, 204, 404, 404]),
        ("expired", [404, 404, 404, 404, 404]),
    ];
    for (state, wanted) in table {
        for (route, wanted) in routes.into_iter().zip(wanted) {
            let id = made(&stores, &format!("{state} {route}"), state).await?;
            let path = format!("/v1/jobs/{id}");
            match state {
                "published" => assert_eq!(app.post("alice", &format!("{path}/publish")).await?.status, 200),
                "deleted" => assert_eq!(app.delete("alice", &path).await?.status, 204),
                "expired" => expire(&stack, &id).await?,
                _ => {}
            }
            let (before, money) = (item(&stack, &id, "JOB").await?, books(&stack).await?);
            let answer = match route {
                "delete" => app.delete("alice", &path).await?,
                route => app.post("alice", &format!("{path}/{route}")).await?,
            };
            assert_eq!(answer.status, wanted, "{route} of {state}: {}", answer.body);
            match wanted {
                404 => assert_eq!(answer.text("code"), "not_found", "{route} of {state}"),
                409 => assert_eq!(answer.text("code"), "wrong_state", "{route} of {state}"),
                _ => {}
            }
            // The store deletes what has expired when it likes.
            if state != "expired" && (wanted == 404 || wanted == 409) {
                assert_eq!(item(&stack, &id, "JOB").await?, before, "{route} of {state} wrote");
            }
            if wanted != 202 && route != "cancel" {
                assert_eq!(books(&stack).await?, money, "{route} of {state} moved tokens");
            }
        }
    }
    let absent = format!("/v1/jobs/job_{}", "a".repeat(52));
    for path in [absent.as_str(), "/v1/jobs/none"] {
        assert_eq!(app.delete("alice", path).await?.status, 404, "{path}");
        for route in ["publish", "unpublish", "retry"] {
            assert_eq!(app.post("alice", &format!("{path}/{route}")).await?.status, 404, "{path}/{route}");
        }
    }
    // The other function's route says so when it is asked with another method.
    let method = app.get("alice", &format!("{absent}/retry")).await?;
    assert_eq!((outcome(&method), method.header("allow")), ((405, "method_not_allowed"), "POST"));
    end_all(&stores).await?;
    stack.finish().await?;
    Ok(())
}

/// Ends whatever is live, as nobody will draw it.
async fn end_all(stores: &Stores) -> anyhow::Result<()> {
    for job in stores.jobs.all_live().await? {
        let (seen, at) = (Seen::of(&job).unwrap(), now());
        let end = End { now: at, expires_at: at.plus(HOUR) };
        let command = Command::EndAsSeen { seen, ending: Ending::Cancelled, end };
        let commit = stores.jobs.commit(&job, &command, &random_stamp(), at, SETTLE_PATIENCE).await?;
        assert!(matches!(commit, Commit::Applied(_)), "{command:?}");
    }
    Ok(())
}

/// Asks all of these at once; their answers.
async fn at_once(stack: &TestStack, asked: Vec<(&'static str, String)>) -> anyhow::Result<Vec<Answer>> {
    let ask = |(method, path): (&'static str, String)| {
        let app = stack.app.clone();
        async move { app.send(method, &path, &[("authorization", "Bearer alice")], None).await }
    };
    futures::future::join_all(asked.into_iter().map(ask)).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_come_to_one_end() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 5).await?;
    let id = draft(&stack, "k", &long_prompt()).await?;
    let (path, before) = (format!("/v1/jobs/{id}"), books(&stack).await?);
    let version = stack.app.get("alice", &path).await?.body["version"].as_u64().unwrap();
    let link = stack.app.get("alice", &path).await?.text("image_url").to_owned();
    let change = |number: u32| ("POST", format!("{path}/{}", ["publish", "unpublish"][number as usize % 2]));
    let answers = at_once(&stack, (0..50).map(change).collect()).await?;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let job = stack.app.get("alice", &path).await?.body;
    // Each change is the other one than before, so their number tells where they have led.
    let changes = job["version"].as_u64().unwrap() - version;
    assert_eq!(job["status"], ["draft", "published"][usize::try_from(changes % 2).unwrap()], "{job}");
    let (record, body) =
        (item(&stack, &id, "JOB").await?.unwrap(), item(&stack, &id, "BODY").await?.unwrap());
    assert_eq!(number(&body["ttl"]), number(&record["ttl"]) + 86_400, "the prompt's time is its record's");

    let asked = |number: u32| if number % 5 == 4 { ("DELETE", path.clone()) } else { change(number) };
    for answer in at_once(&stack, (0..50).map(asked).collect()).await? {
        assert!([200, 204, 404].contains(&answer.status), "{} {}", answer.status, answer.body);
    }
    assert_eq!(stack.app.get("alice", &path).await?.status, 404);
    let left = stack.stores()?.jobs.record(&JobId::parse(&id)?).await?;
    assert!(matches!(left, Some(Record::Tombstone(left)) if left.image_key.is_none()), "it names a picture");
    assert!(item(&stack, &id, "BODY").await?.is_none(), "the prompt is there");
    assert!(stack.app.download(&link).await.is_err(), "the picture is there");
    assert_eq!(books(&stack).await?, before);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_picture_is_tried_again_once() -> anyhow::Result<()> {
    let mut stack = TestStack::start().await?;
    stack.grant("alice", 5).await?;
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let mut body = order(&long_prompt());
    body["conversation_id"] = json!("c1");
    body["aspect_ratio"] = json!("16:9");
    body["deadline_seconds"] = json!(1_800);
    let first = stack.app.submit("alice", "k", &body).await?.text("id").to_owned();
    let path = format!("/v1/jobs/{first}");
    assert_eq!(outcome(&stack.app.post("alice", &format!("{path}/retry")).await?), (409, "wrong_state"));
    stack.app.post("alice", &format!("{path}/cancel")).await?;

    let answers = at_once(&stack, vec![("POST", format!("{path}/retry")); 50]).await?;
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer.text("id")).collect();
    assert_eq!(ids.len(), 1, "one retry: {ids:?}");
    let retry = answers[0].text("id").to_owned();
    assert_ne!(retry, first);
    let made = answers.iter().filter(|answer| answer.header("idempotent-replayed") != "true").count();
    assert_eq!(made, 1, "the others are told of it");
    for answer in &answers {
        assert_eq!((answer.status, answer.text("retry_of")), (202, first.as_str()), "{}", answer.body);
        assert_eq!(answer.header("location"), format!("/v1/jobs/{retry}"));
        assert_eq!(answer.text("prompt"), long_prompt());
    }
    assert_eq!(books(&stack).await?["alice"].held, 1, "one hold");
    stack.system.start_consuming()?;
    let drawn = stack.app.settled("alice", &retry).await?;
    assert_eq!((&drawn["status"], &drawn["retry_of"]), (&json!("draft"), &json!(first)), "{drawn}");
    assert_eq!(drawn["prompt"], long_prompt());
    let old = stack.app.get("alice", &path).await?.body;
    assert_eq!((&old["status"], &old["retry_of"]), (&json!("cancelled"), &Value::Null));
    for field in ["conversation_id", "aspect_ratio", "size", "model"] {
        assert_eq!(drawn[field], old[field], "{field}");
    }
    let stores = stack.stores()?;
    let retried = stores.jobs.get(&JobId::parse(&retry)?).await?.unwrap();
    assert_eq!(retried.order.deadline_at.since(retried.order.created_at).as_secs(), 1_800);
    // Asked again, it is the answer: a picture by now. A draft itself is not tried again.
    let again = stack.app.post("alice", &format!("{path}/retry")).await?;
    assert_eq!((again.status, again.text("id"), again.text("status")), (202, retry.as_str(), "draft"));
    assert_eq!(again.header("idempotent-replayed"), "true");
    let draft = stack.app.post("alice", &format!("/v1/jobs/{retry}/retry")).await?;
    assert_eq!(outcome(&draft), (409, "wrong_state"));
    assert!(draft.text("detail").contains("draft"), "{}", draft.body);
    // The retry is deleted: it is not made once more.
    assert_eq!(stack.app.delete("alice", &format!("/v1/jobs/{retry}")).await?.status, 204);
    let deleted = stack.app.post("alice", &format!("{path}/retry")).await?;
    assert_eq!(outcome(&deleted), (409, "job_deleted"));
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.deleted, audit.settled), (1, 1, 2));
    assert_eq!(audit.users["alice"].balance.spent, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_fails_is_tried_again() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 100).await?;
    // There is no key for it.
    let body = json!({"prompt": "x", "model": MODEL});
    let mut id = stack.app.submit("alice", "k", &body).await?.text("id").to_owned();
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let failed = stack.app.settled("alice", &id).await?;
        assert_eq!(
            (&failed["status"], &failed["settled"]),
            (&json!("failed"), &json!("refunded")),
            "{failed}"
        );
        assert!(ids.insert(id.clone()), "{id} was its own retry");
        let retry = stack.app.post("alice", &format!("/v1/jobs/{id}/retry")).await?;
        assert_eq!((retry.status, retry.text("retry_of")), (202, id.as_str()), "{}", retry.body);
        retry.text("id").clone_into(&mut id);
    }
    stack.app.settled("alice", &id).await?;
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.users["alice"].balance.available), (4, 100));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_refused_as_a_submission_is() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.scheduled = false;
        settings.variables.insert("DARKROOM_INFLIGHT_MAX".to_owned(), "1".to_owned());
    })
    .await?;
    let stores = stack.stores()?;
    stack.grant("alice", 1).await?;
    let cancelled = made(&stores, "cancelled", "cancelled").await?;
    let retry = format!("/v1/jobs/{cancelled}/retry");
    let held = made(&stores, "held", "pending").await?;
    assert_eq!(outcome(&stack.app.post("alice", &retry).await?), (429, "too_many_inflight"));
    stack.app.post("alice", &format!("/v1/jobs/{held}/cancel")).await?;
    draft(&stack, "spends the token", "x").await?;
    let poor = stack.app.post("alice", &retry).await?;
    assert_eq!(outcome(&poor), (402, "insufficient_tokens"));
    assert_eq!(stores.jobs.scan().await?.jobs.len(), 3, "a refused retry makes no job");

    // Its model is no longer offered. A process reads the catalogue when it starts, and not for a minute after.
    stack.grant("alice", 1).await?;
    for arguments in [&["models", "set", MODEL, "--default"][..], &["models", "retire", "darkroom-local"]] {
        let done = stack.command(arguments, "").await?;
        assert!(done.status.success(), "{done:?}");
    }
    for process_id in stack.system.function("submit").unwrap().process_ids() {
        let killed = tokio::process::Command::new("kill").args(["-9", &process_id.to_string()]).status();
        assert!(killed.await?.success());
    }
    let started = std::time::Instant::now();
    loop {
        let refused = stack.app.post("alice", &retry).await?;
        if outcome(&refused) == (422, "model_retired") {
            break;
        }
        // The killed process may still be given one request.
        assert_eq!(refused.status, 500, "{}", refused.body);
        assert!(started.elapsed() < darkroom_tests::stack::PATIENCE);
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_drafts_ends_what_is_over_and_sends_nothing() -> anyhow::Result<()> {
    let stack = without_a_sweeper().await?;
    stack.grant("alice", 10).await?;
    stack.grant("bob", 1).await?;
    let stores = stack.stores()?;
    let over =
        async |user, key| submit_with_deadline(&stores, user, key, HOUR, Duration::from_millis(1)).await;
    let mut drafts = vec![draft(&stack, "k1", "x").await?];
    let first = over("alice", "over 1").await?;
    drafts.insert(0, draft(&stack, "k2", "x").await?);
    let second = over("alice", "over 2").await?;
    drafts.insert(0, draft(&stack, "k3", "x").await?);
    let waits = submit_without_message(&stores, "alice", "waits", Duration::ZERO).await?;
    let bobs = over("bob", "over").await?;

    // Another list looks and does nothing.
    for path in ["/v1/jobs", "/v1/jobs?status=published", "/v1/jobs?status=failed"] {
        stack.app.get("alice", path).await?;
        assert_eq!(books(&stack).await?["alice"].held, 3, "{path}");
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/jobs?status=draft&limit=1".to_owned());
    loop {
        let page = stack.app.get("alice", &path).await?;
        seen.extend(listed(&page).into_iter().map(str::to_owned));
        assert_eq!(books(&stack).await?["alice"].held, 1, "what waits is still paid for");
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/v1/jobs?status=draft&limit=1&cursor={cursor}");
    }
    assert_eq!(seen, drafts, "page by page");
    for id in [first, second] {
        let job = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.body;
        assert_eq!((&job["status"], &job["settled"]), (&json!("failed"), &json!("refunded")), "{job}");
        assert_eq!(job["error"]["code"], "stuck", "{job}");
    }
    let waiting = stores.jobs.get(&JobId::parse(&waits)?).await?.unwrap();
    assert!(matches!(&waiting.stage, Stage::Pending(pending) if pending.wakes == 0), "it was woken");
    let bobs = stores.jobs.get(&JobId::parse(&bobs)?).await?.unwrap();
    assert!(bobs.settlement().is_none(), "it is another user's list");
    end_all(&stores).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_listed_whatever_comes_of_the_sweep() -> anyhow::Result<()> {
    let stack = without_a_sweeper().await?;
    stack.grant("alice", 2).await?;
    let id = draft(&stack, "k", "x").await?;
    let stores = stack.stores()?;
    submit_with_deadline(&stores, "alice", "over", HOUR, Duration::from_millis(1)).await?;
    let running = stack.system.running();
    let dynamodb = Clients::new(&running.access()).dynamodb;
    let set = async |held: AttributeValue| {
        let update = dynamodb.update_item().table_name(&running.sweeper_variables["DARKROOM_LEDGER_TABLE"]);
        update
            .key("pk", AttributeValue::S("alice".to_owned()))
            .key("sk", AttributeValue::S("BAL".to_owned()))
            .update_expression("SET held = :held")
            .expression_attribute_values(":held", held)
            .send()
            .await
    };
    set(AttributeValue::S("one".to_owned())).await?;
    let drafts = stack.app.get("alice", "/v1/jobs?status=draft").await?;
    assert_eq!((drafts.status, listed(&drafts)), (200, vec![id.as_str()]));
    stack.logged("api", &["WARN", "drafts are listed without a sweep before"]).await?;
    set(AttributeValue::N("1".to_owned())).await?;
    assert_eq!(stack.app.get("alice", "/v1/jobs?status=draft").await?.status, 200);
    assert_eq!(books(&stack).await?["alice"].held, 0, "the next list has ended it");
    stack.finish().await?;
    Ok(())
}
