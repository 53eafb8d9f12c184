//! What an app keeps with a job: from submission to expiry, changed by merge patches, of which none is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::clients::Clients;
use darkroom_aws::{Beside, Created, JobTable, Patched};
use darkroom_core::id::{IdempotencyKey, JobId, Stamp, UserId};
use darkroom_core::job::{Job, Submission};
use darkroom_core::limits::{BODY_BYTES_MAX, METADATA_BYTES_MAX, METADATA_TRIES_MAX};
use darkroom_core::metadata::{JobMetadata, Metadata, MetadataPatch};
use darkroom_core::time::Timestamp;
use darkroom_tests::interposer::{Canned, Interposer};
use darkroom_tests::jobs;
use darkroom_tests::stack::{Answer, TestStack};
use darkroom_tests::stores::TestStores;
use serde_json::{Value, json};

use crate::flow::expire;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// An item's sort key and its attribute `ttl`.
async fn ttl(stack: &TestStack, id: &str, sort_key: &str) -> anyhow::Result<Option<u64>> {
    let running = stack.system.running();
    let item = Clients::new(&running.access())
        .dynamodb
        .get_item()
        .table_name(&running.sweeper_variables["DARKROOM_JOBS_TABLE"])
        .key("pk", AttributeValue::S(id.to_owned()))
        .key("sk", AttributeValue::S(sort_key.to_owned()))
        .consistent_read(true)
        .send()
        .await?
        .item;
    Ok(item.and_then(|item| item.get("ttl")?.as_n().ok()?.parse().ok()))
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_are_in_every_answer_and_change_by_patches() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 3).await?;
    let sent = json!({"order": {"id": "A-7", "lines": [1, 2.5, null]}, "": {"\u{0}": "~/"}});
    // The long prompt is kept beside the record, too.
    let body = json!({"prompt": "x".repeat(513), "metadata": sent});
    let first = stack.app.submit("alice", "k", &body).await?;
    assert_eq!((first.status, &first.body["metadata"]), (202, &sent), "{}", first.body);
    let id = first.text("id").to_owned();
    let path = format!("/v1/jobs/{id}");
    let none = stack.app.submit("alice", "k2", &json!({"prompt": "y"})).await?;
    assert_eq!(none.body["metadata"], json!({}));
    let job = stack.app.settled("alice", &id).await?;
    assert_eq!((&job["metadata"], &job["status"]), (&sent, &json!("draft")));

    // Objects are merged, null deletes, everything else replaces: also of a job that is over.
    let changes = json!({"order": {"id": null, "lines": [3], "paid": true}, "seen": {}});
    let patched = stack.app.patch("alice", &id, &changes).await?;
    let expected = json!({"order": {"lines": [3], "paid": true}, "": {"\u{0}": "~/"}, "seen": {}});
    assert_eq!((patched.status, &patched.body["metadata"]), (200, &expected), "{}", patched.body);
    let shown = stack.app.get("alice", &path).await?;
    assert_eq!(without_link(patched.body), without_link(shown.body.clone()), "the whole job, as it is read");
    let listed = stack.app.get("alice", "/v1/jobs").await?.body;
    let of = |id: &str| listed["jobs"].as_array().unwrap().iter().find(|job| job["id"] == id).unwrap();
    assert_eq!((&of(&id)["metadata"], &of(none.text("id"))["metadata"]), (&expected, &json!({})));
    assert_eq!(of(&id)["prompt"], "x".repeat(513));

    // A repeated submission is told by what was asked for then, and shows what is kept now.
    let again = stack.app.submit("alice", "k", &body).await?;
    assert_eq!((again.header("idempotent-replayed"), &again.body["metadata"]), ("true", &expected));
    let other = json!({"prompt": "x".repeat(513), "metadata": {"order": 1}});
    let other = stack.app.submit("alice", "k", &other).await?;
    assert_eq!((other.status, other.text("code")), (422, "idempotency_mismatch"));

    // The first of a job that came without.
    stack.app.settled("alice", none.text("id")).await?;
    let made = stack.app.patch("alice", none.text("id"), &json!({"a": {"b": 1, "c": null}})).await?;
    assert_eq!((made.status, &made.body["metadata"]), (200, &json!({"a": {"b": 1}})));
    for id in [&id, &none.text("id").to_owned()] {
        let (record, metadata) = (ttl(&stack, id, "JOB").await?, ttl(&stack, id, "META").await?);
        assert!(record.is_some() && record < metadata, "{record:?} and {metadata:?}");
        assert!(metadata.unwrap() - record.unwrap() < 3 * 86_400, "it outlives the record by {metadata:?}");
    }
    assert_eq!(stack.app.get("alice", "/v1/account").await?.body["spent"], 2, "nothing of it costs");
    stack.finish().await?;
    Ok(())
}

/// A link is signed anew each time.
fn without_link(mut job: Value) -> Value {
    job["image_url"].take();
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_another_tag_and_wakes_who_waits_for_one() -> anyhow::Result<()> {
    let mut stack = TestStack::start().await?;
    stack.grant("alice", 1).await?;
    // Nothing else changes: it waits.
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let id = stack.app.submit("alice", "k", &json!({"prompt": "x"})).await?.text("id").to_owned();
    let path = format!("/v1/jobs/{id}");
    let get = async |query: &str, tag: &str| {
        let headers = [("authorization", "Bearer alice"), ("if-none-match", tag)];
        stack.app.send("GET", &format!("{path}{query}"), &headers, None).await
    };
    let mut tags = vec![stack.app.get("alice", &path).await?.header("etag").to_owned()];
    for (patch, changes) in [
        (json!({"a": 1}), true),
        (json!({"a": 1}), false),
        (json!({"b": null}), false),
        (json!({}), false),
        (json!({"a": 1.0}), true),
    ] {
        let last = tags.last().unwrap().clone();
        assert_eq!(get("", &last).await?.status, 304, "nothing has changed before {patch}");
        let started = Instant::now();
        // `?wait` looks twice a second.
        let waits = async { get(if changes { "?wait=20" } else { "?wait=1" }, &last).await };
        let change = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stack.app.patch("alice", &id, &patch).await
        };
        let (waited, patched) = tokio::join!(waits, change);
        let (waited, patched) = (waited?, patched?);
        assert_eq!((patched.status, &patched.body["version"]), (200, &json!(1)), "the record stays as it is");
        assert_eq!(waited.status, if changes { 200 } else { 304 }, "{patch}: {}", waited.body);
        assert_eq!(waited.header("etag") != last, changes, "{patch}");
        if changes {
            assert!(started.elapsed() < Duration::from_secs(15), "it waited to the end");
            assert_eq!(waited.body["metadata"], patched.body["metadata"]);
            tags.push(waited.header("etag").to_owned());
        }
    }
    tags.dedup();
    assert_eq!(tags.len(), 3);
    stack.system.start_consuming()?;
    stack.app.settled("alice", &id).await?;
    stack.finish().await?;
    Ok(())
}

/// Fifty at once, each in a process of its own, while the job is drawn.
#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_patches_at_once_none_is_lost() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 2).await?;
    for (key, body) in [
        ("k1", json!({"prompt": "x", "metadata": {"of": {"g0": {"kept": true}}}})),
        // The first of them makes the metadata.
        ("k2", json!({"prompt": "x"})),
    ] {
        let submitted = stack.app.submit("alice", key, &body).await?;
        let id = submitted.text("id").to_owned();
        let patches = (0..50).map(|number| {
            let (app, id) = (stack.app.clone(), id.clone());
            tokio::spawn(async move {
                let patch = json!({"of": {format!("g{}", number % 5): {format!("n{number}"): number}}});
                app.patch("alice", &id, &patch).await
            })
        });
        for (number, patch) in patches.collect::<Vec<_>>().into_iter().enumerate() {
            let answer = patch.await??;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let own = &answer.body["metadata"]["of"][format!("g{}", number % 5)][format!("n{number}")];
            assert_eq!(*own, json!(number), "each is told its own");
        }
        let job = stack.app.settled("alice", &id).await?;
        assert_eq!(job["status"], "draft");
        let mut expected = submitted.body["metadata"].clone();
        for number in 0..50 {
            expected["of"][format!("g{}", number % 5)][format!("n{number}")] = json!(number);
        }
        assert_eq!(job["metadata"], expected);
    }
    stack.finish().await?;
    Ok(())
}

/// What lies beside a record is kept a day longer.
async fn outlives_its_record(stack: &TestStack, id: &str, sort_keys: &[&str]) -> anyhow::Result<u64> {
    let record = ttl(stack, id, "JOB").await?.expect("it is settled");
    for sort_key in sort_keys {
        assert_eq!(ttl(stack, id, sort_key).await?, Some(record + 86_400), "{sort_key}");
    }
    Ok(record)
}

async fn tag(stack: &TestStack, id: &str) -> anyhow::Result<String> {
    Ok(stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.header("etag").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_are_kept_as_long_as_a_published_job_and_go_with_a_deleted_one() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 2).await?;
    let body = json!({"prompt": "x".repeat(513), "metadata": {"a": 1}});
    let with = stack.app.submit("alice", "with", &body).await?.text("id").to_owned();
    let without = stack.app.submit("alice", "without", &json!({"prompt": "x"})).await?.text("id").to_owned();
    for id in [&with, &without] {
        assert_eq!(stack.app.settled("alice", id).await?["status"], "draft");
    }
    let ask = async |id: &str, wish: &str| {
        let answer = stack.app.post("alice", &format!("/v1/jobs/{id}/{wish}")).await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        anyhow::Ok(answer)
    };
    let first = tag(&stack, &with).await?;
    let published = ask(&with, "publish").await?;
    assert_eq!(published.body["metadata"], json!({"a": 1}), "its answer shows them");
    let kept = outlives_its_record(&stack, &with, &["BODY", "META"]).await?;
    let second = tag(&stack, &with).await?;
    // Those that are there keep their time.
    assert_eq!(stack.app.patch("alice", &with, &json!({"b": 2})).await?.body["status"], "published");
    assert_eq!(outlives_its_record(&stack, &with, &["BODY", "META"]).await?, kept);
    let third = tag(&stack, &with).await?;
    assert!(first != second && second != third && first != third, "{first} {second} {third}");
    ask(&with, "unpublish").await?;
    assert!(outlives_its_record(&stack, &with, &["BODY", "META"]).await? < kept);

    // Nothing is there to be kept, and then the first are made.
    ask(&without, "publish").await?;
    assert_eq!(ttl(&stack, &without, "META").await?, None, "nothing was made");
    assert_eq!(stack.app.patch("alice", &without, &json!({"c": 3})).await?.status, 200);
    outlives_its_record(&stack, &without, &["META"]).await?;

    for id in [&with, &without] {
        let path = format!("/v1/jobs/{id}");
        // Whoever comes first: nothing lies beside what is left.
        let patches = (0..10).map(|number| {
            let (app, id) = (stack.app.clone(), id.clone());
            tokio::spawn(async move { app.patch("alice", &id, &json!({"late": number})).await })
        });
        let patches: Vec<_> = patches.collect();
        assert_eq!(stack.app.delete("alice", &path).await?.status, 204);
        for patch in patches {
            let answer = patch.await??;
            let is_gone = (answer.status, answer.text("code")) == (404, "not_found");
            assert!(answer.status == 200 || is_gone, "{}", answer.body);
        }
        let late = stack.app.patch("alice", id, &json!({"later": 1})).await?;
        assert_eq!((late.status, late.text("code")), (404, "not_found"), "{}", late.body);
        for sort_key in ["BODY", "META"] {
            assert_eq!(ttl(&stack, id, sort_key).await?, None, "{sort_key} beside a tombstone");
        }
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_carries_the_metadata_of_the_job_that_it_tries_again() -> anyhow::Result<()> {
    let mut stack = TestStack::start().await?;
    stack.grant("alice", 1).await?;
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let body = json!({"prompt": "x", "metadata": {"album": "dusk", "draft": 1}});
    let id = stack.app.submit("alice", "k", &body).await?.text("id").to_owned();
    stack.app.post("alice", &format!("/v1/jobs/{id}/cancel")).await?;
    // As they are now, not as they came.
    stack.app.patch("alice", &id, &json!({"draft": null, "again": true})).await?;
    let expected = json!({"album": "dusk", "again": true});
    let path = format!("/v1/jobs/{id}/retry");
    let retry = stack.app.post("alice", &path).await?;
    assert_eq!((retry.status, &retry.body["metadata"]), (202, &expected), "{}", retry.body);
    let again = retry.text("id").to_owned();
    assert_eq!(stack.app.get("alice", &format!("/v1/jobs/{again}")).await?.body["metadata"], expected);
    // Each has its own from then on, and what is compared is what was asked for.
    stack.app.patch("alice", &id, &json!({"of": "the first"})).await?;
    stack.app.patch("alice", &again, &json!({"of": "the second"})).await?;
    let replayed = stack.app.post("alice", &path).await?;
    let own = json!({"album": "dusk", "again": true, "of": "the second"});
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (202, "true"), "{}", replayed.body);
    assert_eq!((replayed.text("id"), &replayed.body["metadata"]), (again.as_str(), &own));
    stack.system.start_consuming()?;
    stack.app.settled("alice", &again).await?;
    stack.finish().await?;
    Ok(())
}

fn refused_patches() -> Vec<(Vec<u8>, u16, &'static str, Value)> {
    let body = |value: Value| value.to_string().into_bytes();
    let at = |pointer: &str| json!(pointer);
    vec![
        (body(json!([])), 422, "invalid_value", at("")),
        (body(json!(null)), 422, "invalid_value", at("")),
        (body(json!("a")), 422, "invalid_value", at("")),
        (body(json!({"a": [[[[[[[[]]]]]]]]})), 422, "invalid_value", at("/a/0/0/0/0/0/0/0")),
        // It would make objects as deep as it is.
        (
            body(json!({"a": {"b/c": {"": {"d": {"e": {"f": {"g": {"~": {"h": null}}}}}}}}})),
            422,
            "invalid_value",
            at("/a/b~1c//d/e/f/g/~0"),
        ),
        (
            format!("{}1{}", "{\"a\":".repeat(127), "}".repeat(127)).into_bytes(),
            422,
            "invalid_value",
            at(&"/a".repeat(8)),
        ),
        // With what is there it is too long.
        (body(json!({"b": "x".repeat(METADATA_BYTES_MAX - 100)})), 422, "invalid_value", at("")),
        (format!("{{\"n\":[{}0]}}", "1e15,".repeat(900)).into_bytes(), 422, "invalid_value", at("")),
        (body(json!({"b": "x".repeat(BODY_BYTES_MAX)})), 413, "body_too_large", Value::Null),
        ("{\"a\":".repeat(3_000).into_bytes(), 400, "malformed_json", Value::Null),
        (b"{\"a\":1e400}".to_vec(), 400, "malformed_json", Value::Null),
        (b"{\"a\":1} x".to_vec(), 400, "malformed_json", Value::Null),
        (b"{\"\xff\":1}".to_vec(), 400, "malformed_json", Value::Null),
        (b"".to_vec(), 400, "malformed_json", Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_patch_is_told_why_and_changes_nothing() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 1).await?;
    let kept = json!({"a": "y".repeat(100)});
    let submitted = stack.app.submit("alice", "k", &json!({"prompt": "x", "metadata": kept})).await?;
    let id = submitted.text("id").to_owned();
    stack.app.settled("alice", &id).await?;
    let path = format!("/v1/jobs/{id}/metadata");
    let send = async |media_type: &str, body: &[u8]| {
        let headers = [("authorization", "Bearer alice"), ("content-type", media_type)];
        stack.app.send("PATCH", &path, &headers, Some(body.to_vec())).await
    };
    let tag = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.header("etag").to_owned();
    let is_problem = |answer: &Answer, status: u16, code: &str, shown: &str| {
        assert_eq!((answer.status, answer.text("code")), (status, code), "{shown}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
    };
    for (body, status, code, pointer) in refused_patches() {
        let shown: String = String::from_utf8_lossy(&body).chars().take(60).collect();
        let answer = send("application/merge-patch+json", &body).await?;
        is_problem(&answer, status, code, &shown);
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{shown}");
    }
    for media_type in ["text/plain", "application/json-patch+json", "application/merge-patch", ""] {
        let answer = send(media_type, b"{\"a\":1}").await?;
        is_problem(&answer, 415, "unsupported_media_type", media_type);
        assert_eq!(answer.header("accept-patch"), "application/merge-patch+json, application/json");
    }
    let unchanged = stack.app.get("alice", &format!("/v1/jobs/{id}")).await?;
    assert_eq!((&unchanged.body["metadata"], unchanged.header("etag")), (&kept, tag.as_str()));

    // Somebody else's, and none at all.
    for (user, id) in [("bob", id.as_str()), ("alice", &id.replace("job_", "job_a")[..56]), ("alice", "x")] {
        let answer = stack.app.patch(user, id, &json!({"a": 1})).await?;
        is_problem(&answer, 404, "not_found", id);
    }
    assert_eq!(stack.app.send("PATCH", &path, &[], Some(b"{}".to_vec())).await?.status, 401);
    // Any of these is one.
    for media_type in
        ["application/json", "application/merge-patch+json; charset=utf-8", "Application/Merge-Patch+JSON"]
    {
        let answer = send(media_type, b"{\"a\":null,\"a\":{\"b\":1},\"n\":18446744073709551616}").await?;
        let expected = json!({"a": {"b": 1}, "n": 18_446_744_073_709_551_616_f64});
        assert_eq!((answer.status, &answer.body["metadata"]), (200, &expected), "{media_type}");
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_are_gone_with_their_job() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 3).await?;
    let with = json!({"prompt": "x", "metadata": {"old": 1}});
    let id = stack.app.submit("alice", "k", &with).await?.text("id").to_owned();
    stack.app.settled("alice", &id).await?;
    expire(&stack, &id).await?;
    let patched = stack.app.patch("alice", &id, &json!({"late": 1})).await?;
    assert_eq!((patched.status, patched.text("code")), (404, "not_found"));
    // The key is used again. What lies there of old is none of its own, in no answer.
    let without = json!({"prompt": "x"});
    let again = stack.app.submit("alice", "k", &without).await?;
    assert_eq!((again.text("id"), &again.body["metadata"]), (id.as_str(), &json!({})));
    assert!(ttl(&stack, &id, "META").await?.is_some(), "it still lies there");
    let replayed = stack.app.submit("alice", "k", &without).await?;
    assert_eq!((replayed.header("idempotent-replayed"), &replayed.body["metadata"]), ("true", &json!({})));
    assert_eq!(stack.app.settled("alice", &id).await?["metadata"], json!({}));
    let listed = stack.app.get("alice", "/v1/jobs").await?.body;
    assert_eq!(listed["jobs"][0]["metadata"], json!({}));
    let patched = stack.app.patch("alice", &id, &json!({"new": 1})).await?;
    assert_eq!((patched.status, &patched.body["metadata"]), (200, &json!({"new": 1})));
    // And once more, with its own.
    expire(&stack, &id).await?;
    let third = json!({"prompt": "x", "metadata": {"third": 1}});
    assert_eq!(stack.app.submit("alice", "k", &third).await?.text("id"), id);
    assert_eq!(stack.app.settled("alice", &id).await?["metadata"], json!({"third": 1}));
    stack.finish().await?;
    Ok(())
}

fn metadata(value: &Value) -> Metadata {
    Metadata::from_stored(&value.to_string()).unwrap()
}

fn patch(value: Value) -> MetadataPatch {
    MetadataPatch::parse(value).unwrap_or_else(|violation| panic!("{}", violation.reason))
}

/// A job with metadata, its table behind an interposer, and both as they were made.
async fn start(with: &Value) -> anyhow::Result<(TestStores, Interposer, JobTable, Job, JobMetadata)> {
    let stores = TestStores::start().await?;
    let user = UserId::parse("alice")?;
    stores.ledger.grant(&user, 10, "g", NOW).await?;
    let order = jobs::order("m", 3, NOW, HOUR);
    let id = JobId::derive(&user, &IdempotencyKey::parse("k")?);
    let op = Stamp::from_stored("new".to_owned());
    let job = Job::submitted(Submission { id, user, order, op }, Duration::from_secs(120));
    let with = metadata(with);
    let beside = Beside {
        long_prompt: None,
        metadata: (!with.is_empty()).then_some(&with),
        expires_at: NOW.plus(HOUR * 2),
    };
    assert!(matches!(stores.jobs.create(job.clone(), Some(beside), 10).await?, Created::New(_)));
    let interposer = Interposer::before(stores.endpoints.dynamodb.as_deref().unwrap()).await?;
    let jobs = stores.jobs_at(interposer.url());
    let kept = stores.jobs.metadata(&job).await?;
    Ok((stores, interposer, jobs, job, kept))
}

async fn patched(jobs: &JobTable, job: &Job, seen: &JobMetadata, with: Value) -> anyhow::Result<JobMetadata> {
    match jobs.patch_metadata(job, seen.clone(), &patch(with), 1, NOW).await? {
        Patched::Applied(metadata) => Ok(metadata),
        Patched::Refused(violation) => anyhow::bail!("{}", violation.reason),
        Patched::Absent => anyhow::bail!("absent"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_was_overtaken_is_merged_again_without_a_read() -> anyhow::Result<()> {
    for (with, operation) in [(json!({}), "TransactWriteItems"), (json!({"a": {"x": 1}}), "UpdateItem")] {
        let (stores, dynamodb, jobs, job, seen) = start(&with).await?;
        patched(&stores.jobs, &job, &seen, json!({"a": {"other": 2}})).await?;
        let now = patched(&jobs, &job, &seen, json!({"a": {"own": 3}})).await?;
        let mut expected = with.clone();
        expected["a"]["other"] = json!(2);
        expected["a"]["own"] = json!(3);
        assert!(now.value == metadata(&expected) && now == stores.jobs.metadata(&job).await?);
        let calls = [operation, "UpdateItem"].map(|operation| dynamodb.calls(operation).len());
        assert_eq!(calls, if with == json!({}) { [1, 1] } else { [2, 2] }, "refused, and written");
        assert_eq!(dynamodb.calls("GetItem").len() + dynamodb.calls("BatchGetItem").len(), 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_whose_answer_was_lost_is_told_right() -> anyhow::Result<()> {
    let conflicts = [
        (json!({}), "TransactWriteItems", Canned::cancelled(&["None", "TransactionConflict"])),
        (json!({"a": 1}), "UpdateItem", Canned::item_in_transaction()),
    ];
    for (with, operation, conflict) in conflicts {
        // It was written although its answer says otherwise, and nobody came between.
        let (stores, dynamodb, jobs, job, seen) = start(&with).await?;
        dynamodb.answer(operation, 1, &conflict.clone().after_the_store_has_done_it());
        let now = patched(&jobs, &job, &seen, json!({"b": 2})).await?;
        assert_eq!(now.version, seen.version + 1, "written once");
        assert!(now == stores.jobs.metadata(&job).await? && now.value.members()["b"] == 2);
        // It was not.
        dynamodb.answer(operation, 3, &conflict);
        let now = patched(&jobs, &job, &now, json!({"c": 3})).await?;
        assert!(now == stores.jobs.metadata(&job).await? && now.value.members()["c"] == 3);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_gives_up_after_sixty_tries_and_nothing_is_written() -> anyhow::Result<()> {
    let (stores, dynamodb, jobs, job, seen) = start(&json!({"a": 1})).await?;
    dynamodb.answer("UpdateItem", 100, &Canned::item_in_transaction());
    let busy = patched(&jobs, &job, &seen, json!({"b": 2})).await.err().unwrap();
    let busy = busy.downcast::<darkroom_aws::StoreError>()?;
    assert!(matches!(busy, darkroom_aws::StoreError::Throttled { .. }), "{busy}");
    assert_eq!(dynamodb.calls("UpdateItem").len(), METADATA_TRIES_MAX as usize);
    assert!(stores.jobs.metadata(&job).await? == seen);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_cannot_be_read_are_not_written_over() -> anyhow::Result<()> {
    let (stores, _dynamodb, jobs, job, seen) = start(&json!({"a": 1})).await?;
    let set = stores.clients.dynamodb.update_item().table_name(&stores.jobs_name);
    set.key("pk", AttributeValue::S(job.id.to_string()))
        .key("sk", AttributeValue::S("META".to_owned()))
        .update_expression("SET metadata = :text, ver = :other")
        .expression_attribute_values(":text", AttributeValue::S("[secret words".to_owned()))
        .expression_attribute_values(":other", AttributeValue::N("9".to_owned()))
        .send()
        .await?;
    let unreadable = |error: &str| error.contains("/META cannot be read") && !error.contains("secret words");
    let read = jobs.get_with_metadata(&job.id).await.err().unwrap().to_string();
    assert!(unreadable(&read), "{read}");
    let refused = patched(&jobs, &job, &seen, json!({"b": 1})).await.err().unwrap().to_string();
    assert!(unreadable(&refused), "{refused}");
    // In a list they are left out, and hide nothing else.
    let listed = jobs.beside(std::slice::from_ref(&job)).await?;
    assert!(listed.get(&job.id).is_none_or(|kept| kept.metadata == JobMetadata::default()));
    Ok(())
}
