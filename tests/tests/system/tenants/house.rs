//! A system with an owner, somebody else and a newcomer.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::clients::Clients;
use darkroom_aws::now;
use darkroom_core::id::{BatchId, ExportId, IdempotencyKey, JobId, UserId};
use darkroom_tests::stack::{Answer, PATIENCE, TestStack};
use serde_json::{Value, json};

use super::rows::{Asked, Job, Row};

/// Has tokens, a picture, a job that was cancelled and one that waits.
pub(super) const OWNER: &str = "alice";
/// Has a picture too, and no tokens left.
pub(super) const OTHER: &str = "bob";
/// Has nothing.
pub(super) const NEWCOMER: &str = "carol";
/// The key of the owner's first job.
pub(super) const KEY: &str = "the-first-key-of-the-owner";

/// A system at rest: nothing but requests changes what it stores.
pub(super) struct House {
    pub(super) stack: TestStack,
    dynamodb: Client,
    /// The owner's picture.
    pub(super) draft: String,
    /// The owner's job that was cancelled.
    cancelled: String,
    /// The owner's job that waits.
    pub(super) live: String,
    /// The owner's batch, of one job that waits.
    batch: String,
    absent: String,
    /// The owner's export, of the owner's first key.
    pub(super) export: String,
    absent_export: String,
    absent_batch: String,
    /// The owner's webhook, and what was sent there.
    webhook: [String; 2],
    /// What stands in the owner's answers and must stand in no other.
    pub(super) marks: Vec<String>,
}

/// Every record of a table, by its key.
type Records = BTreeMap<String, HashMap<String, AttributeValue>>;

impl House {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mut stack = TestStack::start_with(|settings| settings.scheduled = false).await?;
        let owner = UserId::parse(OWNER)?;
        let op_id = "op-id-of-the-owners-grant";
        stack.stores()?.ledger.grant(&owner, 4_242_424_242, op_id, now()).await?;
        let webhook = owners_webhook(&stack).await?;
        let draft = stack.app.submit(OWNER, KEY, &order()).await?.text("id").to_owned();
        let drawn = stack.app.settled(OWNER, &draft).await?;
        assert_eq!(drawn["status"], "draft", "{drawn}");
        let order_of_export =
            json!({"kind": "ledger", "format": "csv", "start_date": "2026-01-01", "end_date": "2026-12-31"});
        let export = crate::exports::ask(&stack, OWNER, KEY, &order_of_export).await?.text("id").to_owned();
        assert_eq!(crate::exports::over(&stack, OWNER, &export).await?.text("status"), "ready");
        stack.grant(OTHER, 1).await?;
        let others = stack.app.submit(OTHER, "k", &json!({"prompt": "a windmill"})).await?;
        stack.app.settled(OTHER, others.text("id")).await?;
        let delivery = called_once(&stack, &webhook).await?;
        stack.system.stop_consuming(Duration::from_secs(5)).await;
        stack.system.stop_consuming_of("bulk", Duration::from_secs(5)).await;
        let cancelled = stack.app.submit(OWNER, "the-third-key-of-the-owner", &order()).await?;
        let cancelled = cancelled.text("id").to_owned();
        stack.app.post(OWNER, &format!("/v1/jobs/{cancelled}/cancel")).await?;
        let live = stack.app.submit(OWNER, "the-second-key-of-the-owner", &order()).await?;
        let live = live.text("id").to_owned();
        let jobs = json!({"jobs": [order()]});
        let batch = stack.app.submit_batch(OWNER, KEY, &jobs).await?.text("id").to_owned();
        let hash = drawn["image"]["sha256"].as_str().unwrap().to_owned();
        let mut marks = vec![
            draft.clone(),
            cancelled.clone(),
            live.clone(),
            batch.clone(),
            export.clone(),
            hash,
            op_id.to_owned(),
        ];
        marks
            .extend(["lighthouse", "talk-of-the-owner", "album-of-the-owner", "42424242"].map(str::to_owned));
        marks.extend([webhook.clone(), delivery.clone(), "hook-of-the-owner".to_owned()]);
        Ok(Self {
            dynamodb: Clients::new(&stack.system.running().access()).dynamodb,
            stack,
            draft,
            cancelled,
            live,
            batch,
            webhook: [webhook, delivery],
            absent: JobId::derive(&owner, &IdempotencyKey::parse("never")?).to_string(),
            export,
            absent_export: ExportId::derive(&owner, &IdempotencyKey::parse("never")?).to_string(),
            absent_batch: BatchId::derive(&owner, &IdempotencyKey::parse("never")?).to_string(),
            marks,
        })
    }

    /// A route's paths: for each of the owner's jobs where it names one, and for its batch where it names that.
    pub(super) fn paths(&self, row: &Row) -> Vec<String> {
        if row.owners.0 == Job::Webhook {
            vec![self.owners_path(row)]
        } else if row.owners.0 == Job::Batch {
            [&self.batch, &self.live].map(|id| row.path.replace("{id}", id)).to_vec()
        } else if row.path.contains("{id}") {
            [&self.draft, &self.cancelled, &self.live].map(|id| row.path.replace("{id}", id)).to_vec()
        } else {
            vec![row.path.replace("{export}", &self.export)]
        }
    }

    /// A route's path that its owner can have.
    pub(super) fn owners_path(&self, row: &Row) -> String {
        let id = match row.owners.0 {
            Job::Draft => &self.draft,
            Job::Cancelled => &self.cancelled,
            Job::Live => &self.live,
            Job::Batch => &self.batch,
            Job::Webhook => &self.webhook[0],
        };
        row.path.replace("{id}", id).replace("{delivery}", &self.webhook[1]).replace("{export}", &self.export)
    }

    /// Whether the owner's answer is as it should be, and shows what is the owner's.
    pub(super) fn is_the_owners(&self, row: &Row, answer: &Answer) {
        assert_eq!(answer.status, row.owners.1, "{}: {}", row.route, answer.body);
        let is_shown = answer.status == 204 || !self.marks_in(answer).is_empty();
        assert!(is_shown, "{}: {}", row.route, answer.body);
    }

    /// A route's path for a job, a webhook or an export that nobody has.
    pub(super) fn absent_path(&self, row: &Row) -> String {
        let absent = match row.owners.0 {
            Job::Webhook => format!("whk_{}", "a".repeat(26)),
            Job::Batch => self.absent_batch.clone(),
            Job::Draft | Job::Cancelled | Job::Live => self.absent.clone(),
        };
        row.path
            .replace("{id}", &absent)
            .replace("{delivery}", &self.webhook[1])
            .replace("{export}", &self.absent_export)
    }

    /// Asks over HTTP, with this `Authorization`.
    pub(super) async fn ask(&self, asked: &Asked, authorization: Option<&str>) -> anyhow::Result<Answer> {
        let mut headers: Vec<_> = asked.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.extend(authorization.map(|value| ("authorization", value)));
        let path = match asked.query.as_str() {
            "" => asked.path.clone(),
            query => format!("{}?{query}", asked.path),
        };
        let body = asked.body.as_ref().map(|body| body.to_string().into_bytes());
        self.stack.app.send(asked.method, &path, &headers, body).await
    }

    /// Asks over HTTP as a user.
    pub(super) async fn ask_as(&self, asked: &Asked, user: &str) -> anyhow::Result<Answer> {
        self.ask(asked, Some(&format!("Bearer {user}"))).await
    }

    /// The owner's marks that an answer shows.
    pub(super) fn marks_in(&self, answer: &Answer) -> Vec<&str> {
        let text = format!("{:?} {}", answer.headers, answer.body);
        self.marks.iter().map(String::as_str).filter(|mark| text.contains(mark)).collect()
    }

    pub(super) fn shows_nothing_of_the_owner(&self, answer: &Answer, asked: &Asked) {
        let marks = self.marks_in(answer);
        assert!(marks.is_empty(), "{asked:?} shows {marks:?}: {answer:?}");
    }

    /// The records of jobs and ledger, and the owner's webhooks, as they are stored.
    pub(super) async fn stored(&self) -> anyhow::Result<[Records; 3]> {
        let variables = &self.stack.system.running().sweeper_variables;
        let jobs = self.records(&variables["DARKROOM_JOBS_TABLE"]).await?;
        let ledger = self.records(&variables["DARKROOM_LEDGER_TABLE"]).await?;
        let mut webhooks = self.records(&variables["DARKROOM_PUSH_TABLE"]).await?;
        // Others may have tickets.
        webhooks.retain(|key, _| key.contains(&format!("HOOKS#{OWNER}")));
        assert!(jobs.len() >= 3 && ledger.len() >= 4 && webhooks.len() == 2, "the tables hold what was made");
        Ok([jobs, ledger, webhooks])
    }

    async fn records(&self, table: &str) -> anyhow::Result<Records> {
        let page = self.dynamodb.scan().table_name(table).consistent_read(true).send().await?;
        assert!(page.last_evaluated_key.is_none(), "a few records are one page");
        let key = |record: &HashMap<String, AttributeValue>| format!("{:?} {:?}", record["pk"], record["sk"]);
        // An export costs nothing: others make some of their own.
        let others = |record: &HashMap<String, AttributeValue>| {
            let of = |name: &str| {
                record.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
            };
            let is_of_export = of("pk").starts_with("exp_") || of("pk").starts_with("EXPORTS#");
            is_of_export && of("user") != OWNER && of("pk") != format!("EXPORTS#{OWNER}")
        };
        let records = page.items.unwrap_or_default().into_iter().filter(|record| !others(record));
        Ok(records.map(|record| (key(&record), record)).collect())
    }

    /// Lets what waits be drawn and ends the test.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        self.stack.system.start_consuming()?;
        self.stack.system.start_consuming_of("bulk")?;
        for job in self.stack.stores()?.jobs.all_live().await? {
            self.stack.app.settled(job.user.as_str(), job.id.as_str()).await?;
        }
        self.stack.finish().await?;
        Ok(())
    }
}

/// Makes a webhook of the owner's, where nobody listens; its id.
async fn owners_webhook(stack: &TestStack) -> anyhow::Result<String> {
    let bearer = format!("Bearer {OWNER}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    // Of the first picture alone: what comes later would change what is stored.
    let body = json!({"url": "http://127.0.0.1:9/hook-of-the-owner", "events": ["job.draft"]});
    let body = body.to_string().into_bytes();
    let made = stack.app.send("POST", "/v1/webhooks", &headers, Some(body)).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    Ok(made.text("id").to_owned())
}

/// Waits until the owner's webhook was called once; the delivery's id.
async fn called_once(stack: &TestStack, webhook: &str) -> anyhow::Result<String> {
    let started = Instant::now();
    loop {
        let page = stack.app.get(OWNER, &format!("/v1/webhooks/{webhook}/deliveries")).await?;
        let delivery = &page.body["deliveries"][0];
        if delivery["tries"] == 1 {
            return Ok(delivery["id"].as_str().unwrap().to_owned());
        }
        assert!(started.elapsed() < PATIENCE, "{}", page.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the owner asked for.
pub(super) fn order() -> Value {
    json!({"prompt": "a lighthouse at dusk", "conversation_id": "talk-of-the-owner",
           "metadata": {"album": "album-of-the-owner"}})
}

/// Whether two answers cannot be told apart, but for what is new in each.
pub(super) fn alike(one: &Answer, two: &Answer) -> bool {
    let headers = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        // Whether a caller has asked so before is the caller's own.
        headers
            .retain(|name, _| !["date", "apigw-requestid", "idempotent-replayed"].contains(&name.as_str()));
        headers
    };
    let body = |answer: &Answer| {
        let mut body = answer.body.clone();
        for name in ["ticket", "url", "expires_at"] {
            body.as_object_mut().and_then(|body| body.remove(name));
        }
        let rows = body.get_mut("models").and_then(Value::as_array_mut).into_iter().flatten();
        for row in rows.filter_map(Value::as_object_mut) {
            row.remove("oldest_pending_seconds");
        }
        // A place for an upload is new each time.
        if let Some(place) = body.as_object_mut().filter(|body| body.contains_key("upload_id")) {
            for name in ["upload_id", "url", "expires_at"] {
                place.insert(name.to_owned(), Value::Null);
            }
        }
        body
    };
    (one.status, body(one), headers(one)) == (two.status, body(two), headers(two))
}
