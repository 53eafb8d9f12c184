//! The main job through the real binaries: prompt in, picture out, tokens settled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::clients::Clients;
use darkroom_tests::stack::TestStack;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_picture_that_is_paid_once() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let body = json!({"prompt": "a lighthouse at dusk", "aspect_ratio": "16:9"});

    let poor = stack.app.submit("alice", "k1", &body).await?;
    assert_eq!((poor.status, poor.text("code")), (402, "insufficient_tokens"), "{}", poor.body);
    assert_eq!(poor.header("content-type"), "application/problem+json");
    assert!(poor.text("detail").contains("price is 1") && poor.text("detail").contains("balance is 0"));

    stack.grant("alice", 5).await?;
    let accepted = stack.app.submit("alice", "k1", &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let id = accepted.text("id").to_owned();
    assert_eq!(accepted.header("location"), format!("/v1/jobs/{id}"));
    assert_eq!(accepted.header("idempotent-replayed"), "");

    let again = stack.app.submit("alice", "k1", &body).await?;
    assert_eq!((again.status, again.text("id")), (202, id.as_str()));
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other = stack.app.submit("alice", "k1", &json!({"prompt": "a windmill"})).await?;
    assert_eq!((other.status, other.text("code")), (422, "idempotency_mismatch"));

    let job = stack.app.settled("alice", &id).await?;
    assert_eq!(
        (&job["status"], &job["settled"], &job["progress"]),
        (&json!("draft"), &json!("captured"), &json!(100))
    );
    assert_eq!((&job["attempts"], &job["provider_calls"]), (&json!(1), &json!(1)));
    let url = job["image_url"].as_str().unwrap();
    let bytes = stack.app.download(url).await?;
    assert_eq!(sha256(&bytes), job["image"]["sha256"].as_str().unwrap());
    assert!(url.contains(job["image"]["sha256"].as_str().unwrap()), "the object is named by its hash: {url}");
    let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info()?;
    let size = (u64::from(reader.info().width), u64::from(reader.info().height));
    assert_eq!(size, (job["image"]["width"].as_u64().unwrap(), job["image"]["height"].as_u64().unwrap()));

    let account = stack.app.get("alice", "/v1/account").await?.body;
    assert_eq!(account, json!({"available": 4, "held": 0, "spent": 1, "granted": 5, "inflight": 0}));
    let entries = stack.app.get("alice", "/v1/account/entries").await?.body;
    let kinds: Vec<_> =
        entries["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, [json!("grant"), json!("captured")]);

    let audit = stack.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_its_owners_alone() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 1).await?;
    let id = stack.app.submit("alice", "k", &json!({"prompt": "x"})).await?.text("id").to_owned();
    for (method, path) in [("GET", format!("/v1/jobs/{id}")), ("POST", format!("/v1/jobs/{id}/cancel"))] {
        let stranger = stack.app.send(method, &path, &[("authorization", "Bearer bob")], None).await?;
        assert_eq!((stranger.status, stranger.text("code")), (404, "not_found"), "{method} {path}");
        let nobody = stack.app.send(method, &path, &[], None).await?;
        assert_eq!(nobody.status, 401, "{method} {path}");
    }
    assert_eq!(stack.app.get("bob", "/v1/jobs").await?.body["jobs"], json!([]));
    // The same key of another user is another job.
    stack.grant("bob", 1).await?;
    let theirs = stack.app.submit("bob", "k", &json!({"prompt": "x"})).await?;
    assert_ne!(theirs.text("id"), id);
    stack.app.settled("alice", &id).await?;
    stack.app.settled("bob", theirs.text("id")).await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_save_bytes_and_waiting_saves_polls() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 1).await?;
    let id = stack.app.submit("alice", "k", &json!({"prompt": "x"})).await?.text("id").to_owned();
    stack.app.settled("alice", &id).await?;
    let path = format!("/v1/jobs/{id}");
    let first = stack.app.get("alice", &path).await?;
    let tag = first.header("etag").to_owned();
    let headers = [("authorization", "Bearer alice"), ("if-none-match", tag.as_str())];
    let second = stack.app.send("GET", &path, &headers, None).await?;
    assert_eq!((second.status, second.header("etag")), (304, tag.as_str()));
    for answer in [&first, &second] {
        assert_eq!(answer.header("cache-control"), "private, no-cache", "{}", answer.status);
        assert_eq!(answer.header("vary"), "accept-language", "{}", answer.status);
    }
    // Only its owner changes a settled job: nobody waits for it.
    let waited = stack.app.send("GET", &format!("{path}?wait=20"), &headers, None).await?;
    assert_eq!(waited.status, 304);
    // Texts are in the caller's language, so a tag is of one language.
    let turkish = [headers[0], headers[1], ("accept-language", "tr")];
    assert_eq!(stack.app.send("GET", &path, &turkish, None).await?.status, 200);
    for wait in ["21", "-1", "x", ""] {
        let refused = stack.app.get("alice", &format!("{path}?wait={wait}")).await?;
        assert_eq!((refused.status, refused.text("code")), (422, "invalid_value"), "wait={wait}");
        assert_eq!(refused.body["errors"][0]["pointer"], "?wait");
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_newest_first_filtered_and_paged() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 7).await?;
    let long = "long ".repeat(400);
    let mut ids = Vec::new();
    for number in 0..7 {
        let conversation = if number % 2 == 0 { "even" } else { "odd" };
        let body = json!({"prompt": format!("{long}{number}"), "conversation_id": conversation});
        ids.push(stack.app.submit("alice", &format!("k{number}"), &body).await?.text("id").to_owned());
    }
    for id in &ids {
        stack.app.settled("alice", id).await?;
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/jobs?limit=3".to_owned());
    loop {
        let page = stack.app.get("alice", &path).await?.body;
        for job in page["jobs"].as_array().unwrap() {
            assert!(
                job["prompt"].as_str().unwrap().starts_with("long long"),
                "a long prompt is read beside the record"
            );
            seen.push(job["id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/jobs?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let odd = stack.app.get("alice", "/v1/jobs?conversation_id=odd&status=draft").await?.body;
    assert_eq!(odd["jobs"].as_array().unwrap().len(), 3);
    assert_eq!(stack.app.get("alice", "/v1/jobs?status=failed").await?.body["jobs"], json!([]));
    for query in ["status=done", "limit=0", "limit=51", "cursor=x", "cursor=YQ", "nonsense=1"] {
        let refused = stack.app.get("alice", &format!("/v1/jobs?{query}")).await?;
        assert!(matches!(refused.status, 400 | 422), "{query}: {} {}", refused.status, refused.body);
        assert!(refused.body["errors"][0]["pointer"].as_str().unwrap().starts_with('?'), "{query}");
    }
    stack.finish().await?;
    Ok(())
}

/// A prompt over 512 bytes is kept beside the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_is_in_the_first_answer_and_in_every_replay() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 1).await?;
    let prompt = "x".repeat(513);
    let body = json!({"prompt": prompt, "model": "darkroom-local"});
    let first = stack.app.submit("alice", "k", &body).await?;
    assert_eq!((first.status, first.text("prompt")), (202, prompt.as_str()));
    assert_eq!(first.header("vary"), "accept-language");
    let replayed = async |what: &str| {
        let again = stack.app.submit("alice", "k", &body).await?;
        assert_eq!((again.status, again.text("prompt")), (202, prompt.as_str()), "{what}");
        assert_eq!((again.header("idempotent-replayed"), again.header("vary")), ("true", "accept-language"));
        anyhow::Ok(again.body)
    };
    replayed("at once").await?;
    stack.app.settled("alice", first.text("id")).await?;
    let finished = replayed("finished").await?;
    assert!(finished["image"]["sha256"].is_string(), "{finished}");
    assert_eq!((&finished["status"], &finished["image_url"]), (&json!("draft"), &Value::Null));

    // The model leaves the catalogue, and a new process of the function reads it.
    let dynamodb = Clients::new(&stack.system.running().access()).dynamodb;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let keys = stack.system.running().sweeper_variables["DARKROOM_KEYS_TABLE"].clone();
    let delete = dynamodb.delete_item().table_name(keys);
    delete.key("pk", text("MODEL")).key("sk", text("darkroom-local")).send().await?;
    for process_id in stack.system.function("submit").unwrap().process_ids() {
        let killed = tokio::process::Command::new("kill").args(["-9", &process_id.to_string()]).status();
        assert!(killed.await?.success());
    }
    let started = std::time::Instant::now();
    loop {
        let other = stack.app.submit("alice", "k2", &body).await?;
        if other.text("code") == "unknown_model" {
            break;
        }
        // The killed process may still be given one request.
        assert_eq!(other.status, 500, "{}", other.body);
        assert!(started.elapsed() < darkroom_tests::stack::PATIENCE);
    }
    replayed("the model is gone").await?;
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_says_that_it_is_healthy() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let started = std::time::Instant::now();
    let health = loop {
        let health = stack.app.send("GET", "/health", &[], None).await?;
        if health.status == 200 || started.elapsed() > darkroom_tests::stack::PATIENCE {
            break health;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_eq!((health.status, health.text("status")), (200, "healthy"), "{}", health.body);
    assert_eq!(health.body["checks"]["store"], "ok");
    assert_eq!(health.body["checks"]["queue"], "ok");
    assert_eq!(health.body["checks"]["api_keys"], "0/0 available");
    let models = stack.app.get("alice", "/v1/models").await?.body;
    let local = models["models"].as_array().unwrap().iter().find(|model| model["default"] == true).unwrap();
    assert!(local["description"].as_str().unwrap().contains("Procedural"));
    stack.finish().await?;
    Ok(())
}

/// DynamoDB deletes what has expired hours later; for its owner it is gone at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_job_is_gone_and_its_key_makes_a_new_one() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 3).await?;
    let body = json!({"prompt": "x"});
    let mut images = Vec::new();
    let id = stack.app.submit("alice", "k", &body).await?.text("id").to_owned();
    for _ in 0..2 {
        let job = stack.app.settled("alice", &id).await?;
        let url = job["image_url"].as_str().unwrap();
        images.push(url.split('?').next().unwrap().to_owned());
        assert_eq!(stack.app.submit("alice", "k", &body).await?.header("idempotent-replayed"), "true");
        expire(&stack, &id).await?;
        assert_eq!(stack.app.get("alice", &format!("/v1/jobs/{id}")).await?.status, 404);
        assert_eq!(stack.app.get("alice", "/v1/jobs").await?.body["jobs"], json!([]));
        let cancel = stack.app.post("alice", &format!("/v1/jobs/{id}/cancel")).await?;
        assert_eq!(cancel.status, 404);
        let unknown = stack.app.submit("alice", "k", &json!({"prompt": "x", "model": "none"})).await?;
        assert_eq!((unknown.status, unknown.text("code")), (422, "unknown_model"), "{}", unknown.body);
        let again = stack.app.submit("alice", "k", &body).await?;
        assert_eq!((again.status, again.text("id")), (202, id.as_str()), "{}", again.body);
        assert_eq!(again.header("idempotent-replayed"), "");
    }
    stack.app.settled("alice", &id).await?;
    assert_ne!(images[0], images[1], "the same picture of another time is another object");
    let audit = stack.finish().await?;
    assert_eq!((audit.settled, audit.users["alice"].balance.spent), (3, 3), "each is paid");
    Ok(())
}

/// Moves the time at which a record expires into the past.
pub(crate) async fn expire(stack: &TestStack, id: &str) -> anyhow::Result<()> {
    let running = stack.system.running();
    let dynamodb = darkroom_aws::clients::Clients::new(&running.access()).dynamodb;
    dynamodb
        .update_item()
        .table_name(&running.sweeper_variables["DARKROOM_JOBS_TABLE"])
        .key("pk", AttributeValue::S(id.to_owned()))
        .key("sk", AttributeValue::S("JOB".to_owned()))
        .update_expression("SET #ttl = :past")
        .condition_expression("attribute_exists(settled)")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":past", AttributeValue::N("1".to_owned()))
        .send()
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_logged_and_hides_no_other() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 2).await?;
    let mut ids = Vec::new();
    for key in ["k1", "k2"] {
        let id =
            stack.app.submit("alice", key, &json!({"prompt": "secret words"})).await?.text("id").to_owned();
        stack.app.settled("alice", &id).await?;
        ids.push(id);
    }
    let running = stack.system.running();
    let dynamodb = darkroom_aws::clients::Clients::new(&running.access()).dynamodb;
    let set_status = async |status: &str| {
        let update = dynamodb.update_item().table_name(&running.sweeper_variables["DARKROOM_JOBS_TABLE"]);
        update
            .key("pk", AttributeValue::S(ids[0].clone()))
            .key("sk", AttributeValue::S("JOB".to_owned()))
            .update_expression("SET #status = :status")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", AttributeValue::S(status.to_owned()))
            .send()
            .await
    };
    set_status("framed").await?;
    let listed = stack.app.get("alice", "/v1/jobs").await?.body;
    assert_eq!((listed["jobs"].as_array().unwrap().len(), &listed["jobs"][0]["id"]), (1, &json!(ids[1])));
    let line = stack.logged("api", &["ERROR", "left out", &format!("{}/JOB", ids[0])]).await?;
    assert!(!line.contains("secret words"), "{line}");
    set_status("draft").await?;
    stack.finish().await?;
    Ok(())
}
