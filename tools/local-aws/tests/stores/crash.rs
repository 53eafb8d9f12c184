//! `kill -9` at any instant: what was acknowledged is there afterwards, and what was not is there wholly or
//! not at all.
//!
//! The victim is this very test binary, started again with a folder to serve; it is killed while clients
//! write as fast as they can.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Endpoints, eventually};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use darkroom_local_aws::LocalAws;
use serde_json::json;

const FOLDER: &str = "LOCAL_AWS_CRASH_FOLDER";
const BUCKET: &str = "images";

/// Not a test of its own: the process that the others kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the victim of the other tests"]
async fn victim() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let aws = open(folder).await;
    let lines =
        [aws.dynamodb_endpoint(), aws.kms_endpoint(), aws.s3_endpoint(), aws.sqs_endpoint()].join("\n");
    std::fs::write(folder.join("endpoints.new"), lines).unwrap();
    std::fs::rename(folder.join("endpoints.new"), folder.join("endpoints")).unwrap();
    std::future::pending::<()>().await;
}

async fn open(folder: &Path) -> LocalAws {
    let aws = LocalAws::start(crate::common::settings(folder.join("data"))).await.unwrap();
    aws.ensure_table(
        json!({
            "TableName": "ledger",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
        }),
        None,
    )
    .await
    .unwrap();
    aws.ensure_bucket(BUCKET).await.unwrap();
    aws.ensure_queue("jobs", &BTreeMap::new()).await.unwrap();
    aws
}

struct Victim {
    process: Child,
    endpoints: Endpoints,
}

impl Victim {
    async fn start(folder: &Path) -> Self {
        let _ = std::fs::remove_file(folder.join("endpoints"));
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["crash::victim", "--exact", "--ignored", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let text = eventually("the victim's start", || async {
            std::fs::read_to_string(folder.join("endpoints")).ok()
        })
        .await;
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap();
        Self { process, endpoints: Endpoints { dynamodb: next(), kms: next(), s3: next(), sqs: next() } }
    }

    /// SIGKILL, in the middle of whatever it does.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

type Acknowledged = Arc<Mutex<BTreeSet<String>>>;

/// Writes under names of its own until the server is gone; remembers what was acknowledged.
fn writer<W, F>(name: String, acknowledged: &Acknowledged, write: W) -> tokio::task::JoinHandle<()>
where
    W: Fn(String) -> F + Send + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    let acknowledged = Arc::clone(acknowledged);
    tokio::spawn(async move {
        for number in 0_u32.. {
            let id = format!("{name}-{number}");
            if !write(id.clone()).await {
                return;
            }
            acknowledged.lock().unwrap().insert(id);
        }
    })
}

fn content(id: &str) -> Vec<u8> {
    id.as_bytes().repeat(2_000)
}

fn transaction(client: &aws_sdk_dynamodb::Client, id: &str) -> impl Future<Output = bool> + Send + use<> {
    let put = Put::builder()
        .table_name("ledger")
        .item("pk", AttributeValue::S(id.to_owned()))
        .condition_expression("attribute_not_exists(pk)")
        .build()
        .unwrap();
    let count = Update::builder()
        .table_name("ledger")
        .key("pk", AttributeValue::S("total".to_owned()))
        .update_expression("ADD n :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
        .build()
        .unwrap();
    let write = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(TransactWriteItem::builder().update(count).build());
    async move { write.send().await.is_ok() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Acknowledged::default();
    let messages = Acknowledged::default();
    let entries = Acknowledged::default();
    for round in 0..4_u64 {
        let victim = Victim::start(folder.path()).await;
        let s3 = crate::common::s3(&victim.endpoints.s3, crate::common::SECRET);
        let sqs = crate::common::sqs_client(&victim.endpoints.sqs, crate::common::KEY);
        let dynamodb = crate::common::dynamodb(&victim.endpoints.dynamodb);
        let queue_url = format!("{}/000000000000/jobs", victim.endpoints.sqs);
        let mut writers = Vec::new();
        for lane in 0..2 {
            let name = format!("{round}-{lane}");
            let client = s3.clone();
            writers.push(writer(name.clone(), &objects, move |id| {
                let put = client.put_object().bucket(BUCKET).key(&id).if_none_match("*").metadata("id", &id);
                let put = put.body(content(&id).into());
                async move { put.send().await.is_ok() }
            }));
            let (client, url) = (sqs.clone(), queue_url.clone());
            writers.push(writer(name.clone(), &messages, move |id| {
                let send = client.send_message().queue_url(&url).message_body(id);
                async move { send.send().await.is_ok() }
            }));
            let client = dynamodb.clone();
            writers.push(writer(name, &entries, move |id| transaction(&client, &id)));
        }
        tokio::time::sleep(Duration::from_millis(700 + 137 * round)).await;
        victim.kill();
        for writer in writers {
            writer.abort();
            let _ = writer.await;
        }
    }
    let aws = open(folder.path()).await;
    let [objects, messages, entries] =
        [objects, messages, entries].map(|names| names.lock().unwrap().clone());
    check_objects(&aws, &objects, folder.path()).await;
    check_messages(&aws, messages).await;
    check_entries(&aws, &entries).await;
    aws.shutdown().await;
}

/// Every acknowledged object is there; every object there is whole; no file is left over.
async fn check_objects(aws: &LocalAws, acknowledged: &BTreeSet<String>, folder: &Path) {
    let client = crate::common::s3(aws.s3_endpoint(), crate::common::SECRET);
    let mut present = BTreeSet::new();
    let mut pages = client.list_objects_v2().bucket(BUCKET).into_paginator().send();
    while let Some(page) = pages.next().await {
        present.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    let lost: Vec<_> = acknowledged.difference(&present).collect();
    assert!(acknowledged.len() > 40, "only {} objects were written", acknowledged.len());
    assert!(lost.is_empty(), "lost objects: {lost:?}");
    for key in &present {
        let got = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(&got.metadata().unwrap()["id"], key);
        assert!(got.body.collect().await.unwrap().to_vec() == content(key), "{key} is not whole");
    }
    let files = std::fs::read_dir(folder.join("data/s3/objects")).unwrap().count();
    assert_eq!(files, present.len());
}

async fn check_messages(aws: &LocalAws, mut acknowledged: BTreeSet<String>) {
    assert!(acknowledged.len() > 40, "only {} messages were sent", acknowledged.len());
    let client = crate::common::sqs_client(aws.sqs_endpoint(), crate::common::KEY);
    let url = format!("{}/000000000000/jobs", aws.sqs_endpoint());
    loop {
        let receive =
            client.receive_message().queue_url(&url).max_number_of_messages(10).visibility_timeout(600);
        let received = receive.send().await.unwrap();
        if received.messages().is_empty() {
            break;
        }
        for message in received.messages() {
            acknowledged.remove(message.body().unwrap());
        }
    }
    assert!(acknowledged.is_empty(), "lost messages: {acknowledged:?}");
}

/// Every acknowledged entry is there, and the total agrees with the entries: transactions are whole.
async fn check_entries(aws: &LocalAws, acknowledged: &BTreeSet<String>) {
    assert!(acknowledged.len() > 40, "only {} transactions were made", acknowledged.len());
    let client = crate::common::dynamodb(aws.dynamodb_endpoint());
    let mut present = BTreeSet::new();
    let mut total = 0;
    let mut pages = client.scan().table_name("ledger").consistent_read(true).into_paginator().send();
    while let Some(page) = pages.next().await {
        for item in page.unwrap().items() {
            match item["pk"].as_s().unwrap().as_str() {
                "total" => total = item["n"].as_n().unwrap().parse().unwrap(),
                id => drop(present.insert(id.to_owned())),
            }
        }
    }
    let lost: Vec<_> = acknowledged.difference(&present).collect();
    assert!(lost.is_empty(), "lost transactions: {lost:?}");
    assert_eq!(present.len(), total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_the_folder_free_and_a_living_one_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let victim = Victim::start(folder.path()).await;
    let process = victim.process.id();
    let refused = LocalAws::start(crate::common::settings(folder.path().join("data"))).await.err().unwrap();
    assert!(refused.to_string().contains(&format!("in use by process {process}")), "{refused}");
    victim.kill();
    open(folder.path()).await.shutdown().await;
}
