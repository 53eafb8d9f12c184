//! The mapping over this repository's own SQS: what comes again, when, and how soon a message arrives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{add_probe, lambda, until};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use darkroom_local_aws::{LocalAws, Queue, Settings};
use darkroom_local_lambda::{EventSourceMapping, Function, Lambda, MappingSettings};
use serde_json::Value;

struct Stand {
    aws: LocalAws,
    client: Client,
    queue: Queue,
    dead_letters: Queue,
    lambda: Lambda,
    function: Arc<Function>,
    mapping: EventSourceMapping,
    folder: tempfile::TempDir,
}

impl Stand {
    /// Two environments; a message comes again after a second, and goes to the dead letters after three receives.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let credentials = darkroom_local_aws::Credentials {
            access_key_id: "AKIALOCAL".into(),
            secret_access_key: "not-a-secret".into(),
        };
        let aws = LocalAws::start(Settings::new(folder.path().join("aws"), credentials)).await.unwrap();
        let dead_letters = aws.ensure_queue("dead", &BTreeMap::new()).await.unwrap();
        let redrive = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":3}}"#, dead_letters.arn);
        let attributes = [("VisibilityTimeout", "1".to_owned()), ("RedrivePolicy", redrive)];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).into();
        let queue = aws.ensure_queue("jobs", &attributes).await.unwrap();
        let client = crate::queue::client(aws.sqs_endpoint());
        let lambda = lambda();
        let function = add_probe(&lambda, |settings| {
            let seen = folder.path().join("seen");
            settings.environment.insert("PROBE_SEEN".into(), seen.to_str().unwrap().into());
            settings.reserved_concurrency = 2;
        });
        function.warm(2).await.unwrap();
        let mapping = EventSourceMapping::start(MappingSettings {
            client: client.clone(),
            queue_url: queue.url.clone(),
            queue_arn: queue.arn.clone(),
            function: Arc::clone(&function),
            batch_size: 10,
            batching_window: Duration::ZERO,
            maximum_concurrency: None,
            report_batch_item_failures: true,
        })
        .unwrap();
        Self { aws, client, queue, dead_letters, lambda, function, mapping, folder }
    }

    async fn send(&self, body: &str) {
        let send = self.client.send_message().queue_url(&self.queue.url).message_group_id("u1");
        send.message_body(body).send().await.unwrap();
    }

    /// Messages that are there, seen or not.
    async fn left(&self, queue: &Queue) -> u32 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let ask = self.client.get_queue_attributes().queue_url(&queue.url);
        let attributes =
            ask.set_attribute_names(Some(names.to_vec())).send().await.unwrap().attributes.unwrap();
        attributes.values().map(|count| count.parse::<u32>().unwrap()).sum()
    }

    async fn until_left(&self, queue: &Queue, wanted: u32) {
        let start = Instant::now();
        while self.left(queue).await != wanted {
            assert!(start.elapsed() < crate::common::SOON, "{} has not come to {wanted}", queue.arn);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.mapping.shutdown(Duration::from_secs(5)).await;
        self.lambda.shutdown(Duration::from_secs(1)).await;
        self.aws.shutdown().await;
    }
}

/// Receive counts of a body, in the order its batches were handled.
fn receive_counts(folder: &Path, body: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("seen")).unwrap_or_default();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records = events.flat_map(|event| event["Records"].as_array().unwrap().clone());
    records
        .filter(|record| record["body"] == body)
        .map(|record| record["attributes"]["ApproximateReceiveCount"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_failed_message_comes_again_with_a_higher_count_and_ends_as_a_dead_letter() {
    let stand = Stand::start().await;
    for body in ["good", "fail:1", "exit"] {
        stand.send(body).await;
        until("it was seen", || receive_counts(stand.folder.path(), body) == ["1"]).await;
    }
    stand.until_left(&stand.dead_letters, 2).await;
    stand.until_left(&stand.queue, 0).await;
    assert_eq!(receive_counts(stand.folder.path(), "good"), ["1"]);
    for body in ["fail:1", "exit"] {
        assert_eq!(receive_counts(stand.folder.path(), body), ["1", "2", "3"], "{body}");
    }
    stand.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_an_idle_worker_arrives_within_milliseconds() {
    let stand = Stand::start().await;
    stand.send("first").await;
    stand.until_left(&stand.queue, 0).await;
    let mut took = Vec::new();
    for _ in 0..50 {
        // As a rule the next poll is open by then; one message in fifty may meet the gap between two.
        let before = stand.function.stats().invocations;
        let start = Instant::now();
        stand.send("x").await;
        while stand.function.stats().invocations == before {
            assert!(start.elapsed() < crate::common::SOON);
            tokio::task::yield_now().await;
        }
        took.push(start.elapsed());
        stand.until_left(&stand.queue, 0).await;
    }
    took.sort();
    println!("from SendMessage to the invocation: median {:?}, worst {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_millis(250), "nobody waits for a poll to end: {took:?}");
    stand.stop().await;
}
