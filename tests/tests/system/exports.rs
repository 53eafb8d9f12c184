//! Exports: what is in their files, who may have these, and what becomes of one whose writer dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout, reason = "figures of the proof")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use darkroom_aws::clients::Clients;
use darkroom_aws::{ExportTable, Exported, now, random_stamp};
use darkroom_core::export::{Export, ExportRequest, ExportSubmission};
use darkroom_core::id::{ExportId, IdempotencyKey, UserId};
use darkroom_core::limits::{EXPORT_PART_BYTES, EXPORT_WAKE, EXPORTS_LIVE_MAX};
use darkroom_core::time::Timestamp;
use darkroom_tests::kill;
use darkroom_tests::stack::{Answer, PATIENCE, TestStack};
use serde_json::{Value, json};

/// Asks for an export.
pub(crate) async fn ask(stack: &TestStack, user: &str, key: &str, body: &Value) -> anyhow::Result<Answer> {
    let authorization = format!("Bearer {user}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("idempotency-key", key),
        ("content-type", "application/json"),
    ];
    stack.app.send("POST", "/v1/exports", &headers, Some(body.to_string().into_bytes())).await
}

/// Of all that was made today.
fn of_today(kind: &str, format: &str, group_by: Option<&str>) -> Value {
    let (today, tomorrow) = (now().utc_day(), now().plus(Duration::from_secs(86_400)).utc_day());
    json!({"kind": kind, "format": format, "start_date": today, "end_date": tomorrow, "group_by": group_by})
}

/// Waits until an export is over.
pub(crate) async fn over(stack: &TestStack, user: &str, id: &str) -> anyhow::Result<Answer> {
    let started = Instant::now();
    loop {
        let export = stack.app.get(user, &format!("/v1/exports/{id}")).await?;
        if ["ready", "failed"].contains(&export.text("status")) {
            return Ok(export);
        }
        assert!(started.elapsed() < PATIENCE, "{id} is not over: {}", export.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks for an export and downloads its file.
async fn file(stack: &TestStack, user: &str, key: &str, body: &Value) -> anyhow::Result<(Answer, String)> {
    let asked = ask(stack, user, key, body).await?;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let export = over(stack, user, asked.text("id")).await?;
    assert_eq!(export.text("status"), "ready", "{}", export.body);
    let bytes = stack.app.download(export.text("download_url")).await?;
    assert_eq!(export.body["bytes"], bytes.len(), "{}", export.body);
    Ok((export, String::from_utf8(bytes)?))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rows of a CSV file by their columns, read by this reader of RFC 4180 alone.
fn records(text: &str) -> Vec<BTreeMap<String, String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(letters.next(), Some('\n'), "a row ends so");
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            letter => cell.push(letter),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !quoted, "the last row ends, too");
    let mut rows = rows.into_iter();
    let names: Vec<String> = rows.next().unwrap();
    rows.map(|row| {
        assert_eq!(row.len(), names.len());
        names.iter().cloned().zip(row).collect()
    })
    .collect()
}

const PROMPTS: [&str; 6] = [
    "a lighthouse",
    "=HYPERLINK(\"https://example.com\",\"click\")",
    "@SUM(1+1), \"quoted\", comma",
    "-2+3",
    "＝1+1",
    "ışık 🌊 \"",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_files_hold_what_the_api_shows() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 20).await?;
    stack.grant("bob", 20).await?;
    let long = format!("+{}", "long ".repeat(200));
    let prompts: Vec<_> = PROMPTS.into_iter().chain([long.as_str()]).collect();
    let mut ids = BTreeSet::new();
    for (number, prompt) in prompts.iter().enumerate() {
        let body = json!({"prompt": prompt, "conversation_id": "talk"});
        let made = stack.app.submit("alice", &format!("k{number}"), &body).await?;
        stack.app.settled("alice", made.text("id")).await?;
        ids.insert(made.text("id").to_owned());
    }
    let failing =
        stack.app.submit("alice", "f", &json!({"prompt": "x", "model": "gemini-3-pro-image"})).await?;
    stack.app.settled("alice", failing.text("id")).await?;
    ids.insert(failing.text("id").to_owned());
    let others = stack.app.submit("bob", "k", &json!({"prompt": "a bridge"})).await?;
    stack.app.settled("bob", others.text("id")).await?;
    let deleted = stack.app.submit("alice", "gone", &json!({"prompt": "a bridge"})).await?;
    stack.app.settled("alice", deleted.text("id")).await?;
    stack.app.delete("alice", &format!("/v1/jobs/{}", deleted.text("id"))).await?;

    let (export, text) = file(&stack, "alice", "jobs", &of_today("jobs", "jsonl", None)).await?;
    let rows = lines(&text);
    assert_eq!(export.body["rows"], rows.len());
    assert_eq!(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), ids);
    for row in &rows {
        let job = stack.app.get("alice", &format!("/v1/jobs/{}", row["id"].as_str().unwrap())).await?.body;
        for name in [
            "status",
            "prompt",
            "model",
            "cost",
            "settled",
            "created_at",
            "finished_at",
            "attempts",
            "provider_calls",
            "aspect_ratio",
            "size",
            "conversation_id",
            "retry_of",
            "drawn_by",
            "started_at",
        ] {
            assert_eq!(row[name], job[name], "{name} of {row}");
        }
        assert_eq!(row["error_code"], job["error"]["code"]);
        assert_eq!(
            (&row["image_sha256"], &row["image_bytes"]),
            (&job["image"]["sha256"], &job["image"]["bytes"])
        );
    }
    let submitted: Vec<_> = rows.iter().map(|row| row["created_at"].as_str().unwrap()).collect();
    assert!(submitted.is_sorted(), "oldest first: {submitted:?}");

    let (_, text) = file(&stack, "alice", "jobs.csv", &of_today("jobs", "csv", None)).await?;
    let in_csv = records(&text);
    assert_eq!(in_csv.len(), rows.len());
    for (row, in_csv) in rows.iter().zip(&in_csv) {
        for (name, value) in row.as_object().unwrap() {
            let text = match value {
                Value::String(text) if text.starts_with(['=', '+', '-', '@', '＝']) => format!("'{text}"),
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            assert_eq!(in_csv[name], text, "{name} of {row}");
        }
    }
    assert_eq!(in_csv.iter().filter(|row| row["prompt"].starts_with('\'')).count(), 5, "formulas");

    let (_, text) = file(&stack, "alice", "ledger", &of_today("ledger", "jsonl", None)).await?;
    let mut entries = lines(&text);
    for entry in &mut entries {
        entry.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    let shown =
        stack.app.get("alice", "/v1/account/entries").await?.body["entries"].as_array().unwrap().clone();
    let key = |entry: &Value| entry.to_string();
    assert_eq!(
        entries.iter().map(key).collect::<BTreeSet<_>>(),
        shown.iter().map(key).collect::<BTreeSet<_>>()
    );
    assert_eq!(entries.len(), shown.len(), "each once");

    for group_by in ["day", "week", "month"] {
        let (_, text) = file(&stack, "alice", group_by, &of_today("ledger", "jsonl", Some(group_by))).await?;
        let sums = lines(&text);
        let sum = |name: &str| sums.iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
        let account = stack.app.get("alice", "/v1/account").await?.body;
        assert_eq!(account["granted"], sum("granted"), "{text}");
        assert_eq!(account["spent"], sum("captured"), "{text}");
        assert_eq!(sum("entries"), entries.len() as u64, "{text}");
        let (_, text) =
            file(&stack, "alice", &format!("jobs {group_by}"), &of_today("jobs", "csv", Some(group_by)))
                .await?;
        let of_jobs = records(&text);
        let sum = |name: &str| of_jobs.iter().map(|row| row[name].parse::<u64>().unwrap()).sum::<u64>();
        assert_eq!((sum("jobs"), sum("failed"), sum("unsettled")), (rows.len() as u64, 1, 0), "{text}");
        assert_eq!(sum("captured"), sum("drawn"), "{text}");
    }
    // Nothing of a day before anything was, but a head.
    let before =
        json!({"kind": "ledger", "format": "csv", "start_date": "2020-01-01", "end_date": "2020-12-30"});
    let (export, text) = file(&stack, "alice", "before", &before).await?;
    assert_eq!(
        (text.as_str(), &export.body["rows"]),
        ("at,kind,tokens,job_id,batch_id,op_id\r\n", &json!(0))
    );
    stack.finish().await?;
    Ok(())
}

/// Grants by operations with long ids, put there by hand: 20,000 rows of a kilobyte. The names of all, in their order.
async fn with_many_grants(stack: &TestStack, user: &str, rows: usize) -> anyhow::Result<Vec<String>> {
    let variables = &stack.system.running().sweeper_variables;
    let dynamodb = Clients::new(&stack.system.running().access()).dynamodb;
    let names: Vec<_> = (0..rows).map(|row| format!("={row:06}{}", "x".repeat(900))).collect();
    let at = now().as_millis().to_string();
    for chunk in names.chunks(25) {
        let puts = chunk.iter().map(|name| {
            let item = [
                ("pk", AttributeValue::S(user.to_owned())),
                ("sk", AttributeValue::S(format!("GRANT#{name}"))),
                ("kind", AttributeValue::S("grant".to_owned())),
                ("tokens", AttributeValue::N("1".to_owned())),
                ("at", AttributeValue::N(at.clone())),
            ];
            let item = item.map(|(name, value)| (name.to_owned(), value)).into();
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        });
        let table = &variables["DARKROOM_LEDGER_TABLE"];
        dynamodb.batch_write_item().request_items(table, puts.collect()).send().await?;
    }
    Ok(names)
}

fn exports(stack: &TestStack) -> ExportTable {
    let variables = &stack.system.running().sweeper_variables;
    let dynamodb = Clients::new(&stack.system.running().access()).dynamodb;
    ExportTable::new(dynamodb, variables["DARKROOM_JOBS_TABLE"].clone())
}

/// Changes a number of an export's record by hand: what would take minutes, and what never should be.
async fn set(stack: &TestStack, id: &str, name: &str, value: u64) -> anyhow::Result<()> {
    let variables = &stack.system.running().sweeper_variables;
    Clients::new(&stack.system.running().access())
        .dynamodb
        .update_item()
        .table_name(&variables["DARKROOM_JOBS_TABLE"])
        .key("pk", AttributeValue::S(id.to_owned()))
        .key("sk", AttributeValue::S("EXPORT".to_owned()))
        .update_expression("SET #name = :value")
        .condition_expression("attribute_exists(due_at)")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", AttributeValue::N(value.to_string()))
        .send()
        .await?;
    Ok(())
}

async fn swept_each_second() -> anyhow::Result<TestStack> {
    TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
    })
    .await
}

/// The most memory that a process ever had, in megabytes.
fn peak_megabytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Twenty megabytes in three parts, by writers that are killed as soon as each part is noted.
#[tokio::test(flavor = "multi_thread")]
async fn killed_writers_leave_a_file_that_is_whole_and_each_row_there_once() -> anyhow::Result<()> {
    let stack = swept_each_second().await?;
    let names = with_many_grants(&stack, "alice", 20_000).await?;
    let asked = ask(&stack, "alice", "many", &of_today("ledger", "jsonl", None)).await?;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let id = asked.text("id").to_owned();
    let bulk = stack.system.function("bulk").unwrap();
    let (mut killed, started) = (0, Instant::now());
    while killed < 2 {
        let export = stack.app.get("alice", &format!("/v1/exports/{id}")).await?;
        assert_ne!(export.text("status"), "ready", "it was too quick to be killed: {}", export.body);
        // Once before the first part is noted, once after it.
        let is_time = export.text("status") == "processing" && (killed == 0 || export.body["rows"] != 0);
        if let (true, Some(process)) = (is_time, bulk.process_ids().first()) {
            tokio::time::sleep(Duration::from_millis(150)).await;
            kill(*process).await?;
            killed += 1;
            // Its lease would be over in two minutes.
            set(&stack, &id, "due_at", 1).await?;
        }
        assert!(started.elapsed() < PATIENCE, "{}", export.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let export = over(&stack, "alice", &id).await?;
    assert_eq!(
        (export.text("status"), &export.body["rows"]),
        ("ready", &json!(names.len())),
        "{}",
        export.body
    );
    let text = String::from_utf8(stack.app.download(export.text("download_url")).await?)?;
    assert!(text.len() > 2 * EXPORT_PART_BYTES, "{} bytes are no three parts", text.len());
    assert_eq!(export.body["bytes"], text.len());
    let written: Vec<_> = lines(&text).iter().map(|row| row["op_id"].as_str().unwrap().to_owned()).collect();
    assert!(written == names, "rows are missing, or there twice: {} of {}", written.len(), names.len());
    let recorded = exports(&stack).get(&ExportId::parse(&id)?).await?.unwrap();
    assert!(recorded.attempt >= 3, "{} attempts", recorded.attempt);
    assert_eq!(exports(&stack).live(&UserId::parse("alice")?).await?, 0);
    let peak = bulk.process_ids().into_iter().map(peak_megabytes).max().unwrap();
    println!("bulk's memory at its most: {peak} MB for a file of {} MB", text.len() >> 20);
    assert!(peak < 128, "{peak} MB");
    // The grants stand in no balance: this system's books never balanced.
    stack.system.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_message_is_lost_is_sent_again() -> anyhow::Result<()> {
    let stack = swept_each_second().await?;
    stack.grant("alice", 3).await?;
    let (user, key) = (UserId::parse("alice")?, IdempotencyKey::parse("k")?);
    let id = ExportId::derive(&user, &key);
    let request = ExportRequest::parse(&of_today("ledger", "csv", None)).unwrap();
    let asked_at = now().minus(EXPORT_WAKE);
    let lost =
        Export::submitted(ExportSubmission { id: id.clone(), user, request, asked_at, op: random_stamp() });
    assert!(matches!(exports(&stack).create(lost).await?, Exported::New(_)));
    let export = over(&stack, "alice", id.as_str()).await?;
    assert_eq!(export.text("status"), "ready", "{}", export.body);
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_done_fails_visibly_and_makes_room() -> anyhow::Result<()> {
    let mut stack = swept_each_second().await?;
    stack.system.stop_consuming_of("bulk", Duration::from_secs(5)).await;
    let order = of_today("jobs", "csv", None);
    let mut ids = Vec::new();
    for number in 0..EXPORTS_LIVE_MAX {
        let asked = ask(&stack, "alice", &format!("k{number}"), &order).await?;
        assert_eq!(asked.status, 202, "{}", asked.body);
        ids.push(asked.text("id").to_owned());
    }
    let one_more = ask(&stack, "alice", "one more", &order).await?;
    assert_eq!((one_more.status, one_more.text("code")), (429, "too_many_exports"), "{}", one_more.body);
    assert_eq!(ask(&stack, "bob", "k", &order).await?.status, 202, "others have their own");
    let again = ask(&stack, "alice", "k0", &order).await?;
    assert_eq!((again.status, again.text("id")), (202, ids[0].as_str()), "one that is there is shown");

    set(&stack, &ids[0], "tries", 5).await?;
    set(&stack, &ids[0], "due_at", 1).await?;
    set(&stack, &ids[1], "deadline_at", 1).await?;
    set(&stack, &ids[1], "due_at", 1).await?;
    for (id, code) in [(&ids[0], "attempts_exhausted"), (&ids[1], "deadline_exceeded")] {
        let failed = over(&stack, "alice", id).await?;
        assert_eq!(failed.text("status"), "failed", "{}", failed.body);
        assert_eq!(
            (&failed.body["error"]["code"], &failed.body["download_url"]),
            (&json!(code), &Value::Null)
        );
        let headers = [("authorization", "Bearer alice"), ("accept-language", "tr")];
        let turkish = stack.app.send("GET", &format!("/v1/exports/{id}"), &headers, None).await?;
        assert!(
            turkish.body["error"]["message"].as_str().unwrap().contains("Dışa aktarma"),
            "{}",
            turkish.body
        );
    }
    assert_eq!(exports(&stack).live(&UserId::parse("alice")?).await?, EXPORTS_LIVE_MAX - 2);
    assert_eq!(ask(&stack, "alice", "one more", &order).await?.status, 202, "there is room again");
    // What is over is worked on no more, whoever sends what.
    stack.system.start_consuming_of("bulk")?;
    for id in [&ids[2]] {
        assert_eq!(over(&stack, "alice", id).await?.text("status"), "ready");
    }
    assert_eq!(over(&stack, "alice", &ids[0]).await?.text("status"), "failed");
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_had_through_its_link_alone_and_kept_not_shown() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 3).await?;
    let (export, _) = file(&stack, "alice", "k", &of_today("ledger", "csv", None)).await?;
    let link = export.text("download_url");
    assert!(link.contains("X-Amz-Expires=3600"), "{link}");
    let answer = darkroom_tests::stack::plain_client()?.get(link).send().await?;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/csv; charset=utf-8");
    let disposition = header("content-disposition");
    assert!(disposition.starts_with("attachment; filename=\"darkroom-ledger-"), "{disposition}");
    let (object, query) = link.split_once('?').unwrap();
    for other in [object.to_owned(), link.replace("3600", "36000"), format!("{object}x?{query}")] {
        let refused = stack.app.download(&other).await.expect_err(&other).to_string();
        assert!(refused.starts_with("403"), "{refused}");
    }
    let expires_at = export.text("expires_at");
    assert!(
        expires_at > Timestamp::rfc3339(now().plus(Duration::from_secs(6 * 86_400))).as_str(),
        "{expires_at}"
    );
    stack.finish().await?;
    Ok(())
}
