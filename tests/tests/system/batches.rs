//! Batches: each line is one job, whoever dies; what is wrong is told line by line; what is not made is given back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use darkroom_aws::{BatchCreated, BatchTime, now, random_stamp};
use darkroom_core::batch_record::{BatchOrder, BatchRecord};
use darkroom_core::id::{BatchId, IdempotencyKey, ModelName, UserId};
use darkroom_core::limits::{BATCH_INLINE_MAX, BATCH_INVALID_MAX, BATCH_LINES_MAX, SETTLE_PATIENCE, WAKE};
use darkroom_tests::kill;
use darkroom_tests::stack::{Answer, PATIENCE, TestStack};
use serde_json::{Value, json};

fn lines(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({"prompt": format!("a lighthouse, {number}")})).collect()
}

fn jsonl(lines: &[Value]) -> String {
    lines.iter().map(|line| line.to_string() + "\n").collect()
}

async fn balance(stack: &TestStack) -> anyhow::Result<[u64; 5]> {
    let account = stack.app.get("alice", "/v1/account").await?.body;
    Ok(["available", "held", "spent", "granted", "inflight"].map(|field| account[field].as_u64().unwrap()))
}

/// Waits until the batch is as wanted.
async fn until(stack: &TestStack, id: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        let batch = stack.app.get("alice", &format!("/v1/batches/{id}")).await?;
        assert_eq!(batch.status, 200, "{}", batch.body);
        if is_it(&batch.body) {
            return Ok(batch.body);
        }
        assert!(started.elapsed() < PATIENCE * 2, "it never was: {}", batch.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All jobs of a batch, page by page.
async fn jobs_of(stack: &TestStack, id: &str) -> anyhow::Result<Vec<Value>> {
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/jobs?batch_id={id}&limit=50{cursor}");
        let page = stack.app.get("alice", &path).await?;
        assert_eq!(page.status, 200, "{}", page.body);
        jobs.extend(page.body["jobs"].as_array().unwrap().iter().cloned());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(jobs),
        }
    }
}

/// Each of these lines is one job.
fn are_each_line(jobs: &[Value], id: &str, lines: impl Iterator<Item = u64>) {
    let found: Vec<_> = jobs.iter().map(|job| job["batch_line"].as_u64().unwrap()).collect();
    assert_eq!(found, lines.collect::<Vec<_>>(), "by their lines");
    let ids: BTreeSet<_> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert!(ids.len() == jobs.len() && jobs.iter().all(|job| job["batch_id"] == *id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_one_and_one_of_a_few_are_drawn_and_paid_line_by_line() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let one = stack.app.submit_batch("alice", "one", &json!({"jobs": lines(1)})).await?;
    assert_eq!(
        (one.status, &one.body["made"], &one.body["cost"]),
        (202, &json!(1), &json!(1)),
        "{}",
        one.body
    );
    assert_eq!(one.header("location"), format!("/v1/batches/{}", one.text("id")));
    let some = json!({"jobs": [
        {"prompt": "a lighthouse", "metadata": {"n": 1}, "conversation_id": "c"},
        {"prompt": "a harbour ".repeat(80), "size": "2K", "aspect_ratio": "16:9"},
        {"prompt": "a bridge", "model": "nobody"},
        {"prompt": "a lighthouse", "metadata": {"n": 2}},
    ]});
    let some = stack.app.submit_batch("alice", "some", &some).await?;
    assert_eq!((&some.body["lines"], &some.body["invalid_lines"]), (&json!(3), &json!(1)), "{}", some.body);
    assert_eq!(
        some.body["invalid"][0],
        json!({"line": 3, "code": "unknown_model", "reason": "/model: There is no such model"})
    );
    let is_completed = |batch: &Value| batch["status"] == "completed";
    let done = until(&stack, some.text("id"), is_completed).await?;
    assert_eq!((&done["counts"]["draft"], &done["eta_seconds"]), (&json!(3), &Value::Null), "{done}");
    until(&stack, one.text("id"), is_completed).await?;
    let jobs = jobs_of(&stack, some.text("id")).await?;
    are_each_line(&jobs, some.text("id"), [1, 2, 4].into_iter());
    assert_eq!((&jobs[0]["metadata"], &jobs[0]["conversation_id"]), (&json!({"n": 1}), &json!("c")));
    assert_eq!((&jobs[1]["prompt"], &jobs[1]["size"]), (&json!("a harbour ".repeat(80)), &json!("2K")));
    assert!(jobs.iter().all(|job| job["status"] == "draft" && job["settled"] == "captured"));
    assert_eq!(balance(&stack).await?, [6, 0, 4, 10, 0]);
    // They are jobs as any: in their owner's list, published, deleted.
    assert_eq!(stack.app.get("alice", "/v1/jobs").await?.body["jobs"].as_array().unwrap().len(), 4);
    let drafts =
        stack.app.get("alice", &format!("/v1/jobs?batch_id={}&status=draft", some.text("id"))).await?;
    assert_eq!(drafts.body["jobs"].as_array().unwrap().len(), 3);
    let path = format!("/v1/jobs/{}", jobs[0]["id"].as_str().unwrap());
    assert_eq!(stack.app.post("alice", &format!("{path}/publish")).await?.body["status"], "published");
    assert_eq!(stack.app.delete("alice", &path).await?.status, 204);
    assert_eq!(jobs_of(&stack, some.text("id")).await?.len(), 2);
    // Nobody else sees any of it.
    let shown = stack.app.get("bob", &format!("/v1/batches/{}", some.text("id"))).await?;
    let listed = stack.app.get("bob", &format!("/v1/jobs?batch_id={}", some.text("id"))).await?;
    assert_eq!((shown.status, &listed.body["jobs"]), (404, &json!([])));
    let cancel = stack.app.post("bob", &format!("/v1/batches/{}/cancel", some.text("id"))).await?;
    assert_eq!(cancel.status, 404);
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.deleted, audit.batches), (3, 1, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_batch_and_what_cannot_be_taken_writes_nothing() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| settings.consuming = false).await?;
    let hundred = json!({"jobs": lines(BATCH_INLINE_MAX)});
    let refused = stack.app.submit_batch("alice", "k", &hundred).await?;
    assert_eq!((refused.status, refused.text("code")), (402, "insufficient_tokens"), "{}", refused.body);
    stack.grant("alice", 99).await?;
    let refused = stack.app.submit_batch("alice", "k", &hundred).await?;
    assert_eq!((refused.status, refused.text("code")), (402, "insufficient_tokens"), "{}", refused.body);
    assert!(refused.text("detail").contains("100 tokens and your balance is 99"), "{}", refused.body);
    let more = stack.app.submit_batch("alice", "k", &json!({"jobs": lines(BATCH_INLINE_MAX + 1)})).await?;
    assert_eq!((more.status, &more.body["errors"][0]["pointer"]), (422, &json!("/jobs")), "{}", more.body);
    let nothing = json!({"jobs": [{"prompt": ""}, 7]});
    let nothing = stack.app.submit_batch("alice", "k", &nothing).await?;
    assert_eq!(
        (nothing.status, &nothing.body["errors"][1]["pointer"]),
        (422, &json!("/jobs/1")),
        "{}",
        nothing.body
    );
    let audit = stack.audit().await?;
    assert_eq!((audit.jobs, audit.batches, audit.faults.len()), (0, 0, 0));
    assert_eq!(balance(&stack).await?, [99, 0, 0, 99, 0]);

    stack.grant("alice", 1).await?;
    let made = stack.app.submit_batch("alice", "k", &hundred).await?;
    assert_eq!(
        (made.status, &made.body["made"], made.header("idempotent-replayed")),
        (202, &json!(100), ""),
        "{}",
        made.body
    );
    let again = stack.app.submit_batch("alice", "k", &hundred).await?;
    assert_eq!((again.text("id"), again.header("idempotent-replayed")), (made.text("id"), "true"));
    let other = stack.app.submit_batch("alice", "k", &json!({"jobs": lines(1)})).await?;
    assert_eq!((other.status, other.text("code")), (422, "idempotency_mismatch"));
    assert_eq!(balance(&stack).await?, [0, 100, 0, 100, 0]);
    // The key of a job is another's.
    let job = stack.app.submit("alice", "k", &json!({"prompt": "x"})).await?;
    assert_eq!(job.status, 402, "{}", job.body);
    let waiting = until(&stack, made.text("id"), |batch| batch["counts"]["pending"] == 100).await?;
    assert!(waiting["eta_seconds"].as_u64().unwrap() > 0, "{waiting}");
    are_each_line(&jobs_of(&stack, made.text("id")).await?, made.text("id"), 1..=100);
    let cancelled = stack.app.post("alice", &format!("/v1/batches/{}/cancel", made.text("id"))).await?;
    assert_eq!((cancelled.status, cancelled.text("status")), (200, "in_progress"), "{}", cancelled.body);
    assert_eq!(balance(&stack).await?, [100, 0, 0, 100, 0]);
    until(&stack, made.text("id"), |batch| {
        batch["status"] == "completed" && batch["counts"]["cancelled"] == 100
    })
    .await?;
    // One that was cancelled can be tried again, and is then no line of it.
    let first = jobs_of(&stack, made.text("id")).await?[0]["id"].as_str().unwrap().to_owned();
    let retry = stack.app.post("alice", &format!("/v1/jobs/{first}/retry")).await?;
    assert_eq!((retry.status, &retry.body["batch_id"]), (202, &Value::Null), "{}", retry.body);
    assert_eq!(balance(&stack).await?, [99, 1, 0, 100, 1]);
    stack.app.post("alice", &format!("/v1/jobs/{}/cancel", retry.text("id"))).await?;
    stack.finish().await?;
    Ok(())
}

/// A file of as many lines as there may be, with every kind of fault among them, while bulk is killed again and again.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_lines_become_one_job_each_whoever_is_killed() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| {
        settings.consuming = false;
        let fast = [("DARKROOM_SWEEP_SECONDS", "1"), ("DARKROOM_WAKE_SECONDS", "1")];
        settings.variables.extend(fast.map(|(name, value)| (name.to_owned(), value.to_owned())));
    })
    .await?;
    stack.grant("alice", 10_000).await?;
    let mut texts: Vec<_> = lines(BATCH_LINES_MAX).iter().map(Value::to_string).collect();
    let faults = [
        (1, "{".to_owned(), "malformed_json"),
        (500, r#"{"prompt": "x", "promt": 1}"#.to_owned(), "unknown_field"),
        (1_000, r#"{"prompt": "x", "model": "nobody"}"#.to_owned(), "unknown_model"),
        (5_000, json!({"prompt": "x".repeat(20_000)}).to_string(), "body_too_large"),
        (9_000, texts[10].clone(), "invalid_value"),
        (10_000, r#"{"prompt": ""}"#.to_owned(), "invalid_value"),
    ];
    for (line, text, _) in &faults {
        texts[line - 1].clone_from(text);
    }
    let file = texts.join("\n");
    let upload = stack.app.upload("alice", "application/x-ndjson", file.as_bytes()).await?;
    let made = stack.app.submit_batch("alice", "k", &json!({"upload_id": upload})).await?;
    assert_eq!(
        (made.status, &made.body["lines"], &made.body["cost"]),
        (202, &json!(9_994), &json!(9_994)),
        "{}",
        made.body
    );
    let told: Vec<_> = made.body["invalid"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["code"].as_str().unwrap()))
        .collect();
    assert_eq!(told, faults.iter().map(|(line, _, code)| (*line as u64, *code)).collect::<Vec<_>>());
    assert!(made.body["invalid"][4]["reason"].as_str().unwrap().contains("line 11"), "{}", made.body);

    let (bulk, mut killed) = (stack.system.function("bulk").unwrap(), 0);
    let id = made.text("id");
    for _ in 0..600 {
        let batch = stack.app.get("alice", &format!("/v1/batches/{id}")).await?.body;
        let held = batch["made"].as_u64().unwrap() + batch["remaining"].as_u64().unwrap();
        assert_eq!(held, 9_994, "{batch}");
        if batch["remaining"] == 0 {
            break;
        }
        if killed < 5
            && let Some(process_id) = bulk.process_ids().first()
        {
            kill(*process_id).await?;
            killed += 1;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(killed >= 2, "bulk was killed");
    let all = until(&stack, id, |batch| batch["counts"]["pending"] == 9_994).await?;
    assert_eq!((&all["made"], &all["remaining"]), (&json!(9_994), &json!(0)), "{all}");
    assert_eq!(balance(&stack).await?, [6, 9_994, 0, 10_000, 0]);
    let audit = stack.audit().await?;
    assert_eq!((audit.jobs, audit.batches, audit.faults), (9_994, 1, vec![]));

    // Its owner ends it: in as many requests as that takes.
    let started = Instant::now();
    loop {
        let cancelled = stack.app.post("alice", &format!("/v1/batches/{id}/cancel")).await?;
        if cancelled.status == 200 {
            break;
        }
        assert_eq!(
            (cancelled.status, cancelled.text("code")),
            (503, "store_throttled"),
            "{}",
            cancelled.body
        );
        assert!(started.elapsed() < PATIENCE * 3, "never cancelled");
    }
    assert_eq!(balance(&stack).await?, [10_000, 0, 0, 10_000, 0]);
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (9_994, 9_994));
    Ok(())
}

/// Its owner ends it while jobs are made of it: every token goes with a job or is given back, and no line becomes a job afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cancelled_in_the_middle_gives_back_what_was_not_made() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| settings.consuming = false).await?;
    stack.grant("alice", 3_000).await?;
    let upload = stack.app.upload("alice", "application/x-ndjson", jsonl(&lines(3_000)).as_bytes()).await?;
    let made = stack.app.submit_batch("alice", "k", &json!({"upload_id": upload})).await?;
    let id = made.text("id");
    until(&stack, id, |batch| batch["made"].as_u64().unwrap() > 0).await?;
    let cancelled = stack.app.post("alice", &format!("/v1/batches/{id}/cancel")).await?;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    let made = cancelled.body["made"].as_u64().unwrap();
    assert!((1..3_000).contains(&made) && cancelled.text("status") == "cancelled", "{}", cancelled.body);
    assert_eq!(balance(&stack).await?, [3_000, 0, 0, 3_000, 0]);
    let again = stack.app.post("alice", &format!("/v1/batches/{id}/cancel")).await?;
    assert_eq!((again.status, &again.body["made"], &again.body["remaining"]), (200, &json!(made), &json!(0)));
    let entries = stack.app.get("alice", "/v1/account/entries?limit=50").await?.body;
    let of_batch: Vec<_> =
        entries["entries"].as_array().unwrap().iter().filter(|entry| entry["batch_id"] == *id).collect();
    let given: u64 = of_batch.iter().map(|entry| entry["tokens"].as_u64().unwrap()).sum();
    assert!(of_batch.is_empty() || given == 3_000 - made, "{of_batch:?}");
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (made, made));
    Ok(())
}

/// Submissions whose process dies somewhere: who asks again is given the same batch, and each line is one job.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_submission_makes_one_batch_and_each_line_once() -> anyhow::Result<()> {
    const BATCHES: usize = 8;
    let stack = TestStack::start_with(|settings| {
        settings.consuming = false;
        let fast = [("DARKROOM_SWEEP_SECONDS", "1"), ("DARKROOM_WAKE_SECONDS", "1")];
        settings.variables.extend(fast.map(|(name, value)| (name.to_owned(), value.to_owned())));
    })
    .await?;
    stack.grant("alice", 1_000).await?;
    let submit = stack.system.function("submit").unwrap();
    let (mut ids, mut killed) = (Vec::new(), 0);
    for number in 0..BATCHES {
        let (key, body) = (format!("k{number}"), json!({"jobs": lines(BATCH_INLINE_MAX)}));
        let app = stack.app.clone();
        let asked = tokio::spawn({
            let (key, body) = (key.clone(), body.clone());
            async move { app.submit_batch("alice", &key, &body).await }
        });
        tokio::time::sleep(Duration::from_millis(5 + 15 * number as u64)).await;
        if let Some(process_id) = submit.process_ids().first() {
            kill(*process_id).await?;
            killed += 1;
        }
        asked.await?.ok();
        ids.push(accepted(&stack, &key, &body).await?.text("id").to_owned());
    }
    assert!(killed > 0, "submit was killed");
    for id in &ids {
        let all = until(&stack, id, |batch| batch["counts"]["pending"] == 100).await?;
        assert_eq!((&all["made"], &all["remaining"]), (&json!(100), &json!(0)), "{all}");
    }
    assert_eq!(balance(&stack).await?, [200, 800, 0, 1_000, 0]);
    for id in &ids {
        let cancelled = stack.app.post("alice", &format!("/v1/batches/{id}/cancel")).await?;
        assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    }
    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.batches, audit.settled), (800, 8, 800));
    Ok(())
}

async fn accepted(stack: &TestStack, key: &str, body: &Value) -> anyhow::Result<Answer> {
    let started = Instant::now();
    loop {
        if let Ok(answer) = stack.app.submit_batch("alice", key, body).await
            && answer.status == 202
        {
            return Ok(answer);
        }
        assert!(started.elapsed() < PATIENCE, "never accepted");
    }
}

/// A file of which more cannot be drawn than can be told, and one that is somebody else's, or nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_be_taken_is_refused_whole() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| settings.consuming = false).await?;
    stack.grant("alice", 10).await?;
    let put = async |text: &str| stack.app.upload("alice", "application/x-ndjson", text.as_bytes()).await;
    let many = "{\n".repeat(BATCH_INVALID_MAX + 1) + r#"{"prompt": "a"}"#;
    let endless = "{}\n".repeat(BATCH_LINES_MAX + 1);
    let picture =
        stack.app.upload("alice", "image/png", include_bytes!("../../corpora/image/good_rgb.png")).await?;
    let bobs = stack.app.upload("bob", "application/x-ndjson", b"{\"prompt\": \"a\"}").await?;
    let unput =
        stack.app.begin_upload("alice", "application/x-ndjson", b"{}").await?.text("upload_id").to_owned();
    for (upload, part) in [
        (put(&many).await?, "line 1: is no JSON"),
        (put(&endless).await?, "at most 10000 lines"),
        (put("\n\n").await?, "has no line"),
        (picture, "no upload of yours"),
        (bobs, "no upload of yours"),
        (unput, "no upload of yours"),
    ] {
        let answer = stack.app.submit_batch("alice", "k", &json!({"upload_id": upload})).await?;
        let error = &answer.body["errors"][0];
        assert_eq!((answer.status, &error["pointer"]), (422, &json!("/upload_id")), "{}", answer.body);
        assert!(error["reason"].as_str().unwrap().contains(part), "{part}: {}", answer.body);
    }
    // As many faults as can be told are.
    let some = "{\n".repeat(BATCH_INVALID_MAX) + r#"{"prompt": "a"}"#;
    let made = stack.app.submit_batch("alice", "k", &json!({"upload_id": put(&some).await?})).await?;
    assert_eq!(
        (made.status, made.body["invalid"].as_array().unwrap().len()),
        (202, BATCH_INVALID_MAX),
        "{}",
        made.status
    );
    until(&stack, made.text("id"), |batch| batch["made"] == 1).await?;
    stack.app.post("alice", &format!("/v1/batches/{}/cancel", made.text("id"))).await?;
    stack.finish().await?;
    Ok(())
}

/// A batch whose lines are gone makes no job; its time gives back what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_time_is_over_gives_back_what_it_holds() -> anyhow::Result<()> {
    let stack = TestStack::start_with(|settings| settings.scheduled = false).await?;
    stack.grant("alice", 10).await?;
    let stores = stack.stores()?;
    let batch = |key: &str, life: Duration| {
        let (user, at) = (UserId::parse("alice").unwrap(), now());
        let order = BatchOrder {
            request_hash: "h".to_owned(),
            cost: 4,
            invalid: 0,
            models: vec![(ModelName::parse("darkroom-local").unwrap(), 4)],
            lines_sha256: "0f".repeat(32),
            created_at: at.minus(Duration::from_secs(3_600)),
            deadline_at: at.minus(Duration::from_secs(3_600)).plus(life),
            spacing: Duration::ZERO,
        };
        let id = BatchId::derive(&user, &IdempotencyKey::parse(key).unwrap());
        BatchRecord::submitted(id, user, order, random_stamp(), WAKE)
    };
    let mut ids = Vec::new();
    for (key, life) in [("over", 3_599), ("open", 7_200)] {
        let made = stores.jobs.create_batch(batch(key, Duration::from_secs(life)), &[], 90).await?;
        let BatchCreated::New(made) = made else { panic!("{made:?}") };
        ids.push(made.id);
    }
    assert_eq!(balance(&stack).await?, [2, 8, 0, 10, 0]);
    let sweep = stack.command(&["sweep", "--json"], "").await?;
    let swept: Value = serde_json::from_slice(&sweep.stdout)?;
    assert_eq!(swept["counts"], json!({"expire_batch": 1, "send_batch": 1}), "{swept}");
    // Told of it, bulk finds no lines, and makes nothing.
    stack.logged("bulk", &[ids[1].as_str(), "were not made"]).await?;
    let over = stack.app.get("alice", &format!("/v1/batches/{}", ids[0])).await?.body;
    assert_eq!(
        (&over["status"], &over["remaining"], &over["made"]),
        (&json!("expired"), &json!(0), &json!(0)),
        "{over}"
    );
    assert_eq!(balance(&stack).await?, [6, 4, 0, 10, 0]);
    let entries = stack.app.get("alice", "/v1/account/entries").await?.body;
    let refund = &entries["entries"][1];
    assert_eq!(
        (&refund["kind"], &refund["batch_id"], &refund["tokens"]),
        (&json!("refunded"), &json!(ids[0]), &json!(4)),
        "{entries}"
    );
    let cancelled = stack.app.post("alice", &format!("/v1/batches/{}/cancel", ids[1])).await?;
    assert_eq!(cancelled.text("status"), "cancelled", "{}", cancelled.body);
    let open = stores.jobs.batch(&ids[1]).await?.unwrap();
    let time = BatchTime { now: now(), ttl_days: 90 };
    let end = darkroom_core::batch::BatchEnding::Expired;
    let late = stores.jobs.end_batch(&open, end, time, &random_stamp(), SETTLE_PATIENCE).await?;
    assert!(matches!(late, darkroom_aws::BatchCommit::Refused(_)), "{late:?}");
    stack.finish().await?;
    Ok(())
}

/// Others need not wait for a large batch: its lines stand in the queue as far apart as they can be drawn.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_later_stands_before_most_of_a_batch() -> anyhow::Result<()> {
    // Few enough that a look at the queue, of 125 entries a shard, reaches the last.
    const LINES: u16 = 600;
    let stack = TestStack::start_with(|settings| settings.consuming = false).await?;
    for user in ["alice", "bob"] {
        stack.grant(user, 1_000).await?;
    }
    let upload = jsonl(&lines(usize::from(LINES)));
    let upload = stack.app.upload("alice", "application/x-ndjson", upload.as_bytes()).await?;
    let made = stack.app.submit_batch("alice", "k", &json!({"upload_id": upload})).await?;
    let job = stack.app.submit("bob", "k", &json!({"prompt": "a bridge"})).await?;
    until(&stack, made.text("id"), |batch| batch["counts"]["pending"] == LINES).await?;
    let place = async |user: &str, id: &str| {
        let job = stack.app.get(user, &format!("/v1/jobs/{id}")).await?.body;
        anyhow::Ok((job["queue_position"].as_u64().unwrap(), job["queue_position_exact"].as_bool().unwrap()))
    };
    // A look at the queue may be a second old, and who was told a place is never told a higher one.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let last = jobs_of(&stack, made.text("id")).await?.pop().unwrap();
    assert_eq!(place("alice", last["id"].as_str().unwrap()).await?, (u64::from(LINES) + 1, false));
    let (bobs, _) = place("bob", job.text("id")).await?;
    assert!(bobs < u64::from(LINES) / 2, "he is at {bobs}");
    stack.app.post("bob", &format!("/v1/jobs/{}/cancel", job.text("id"))).await?;
    let cancelled = stack.app.post("alice", &format!("/v1/batches/{}/cancel", made.text("id"))).await?;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    stack.finish().await?;
    Ok(())
}
