//! The SQS event source mapping: what is received, what is invoked, what is deleted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{add_probe, call, call_later, lambda, until};
use crate::queue::Queue;
use darkroom_local_lambda::{
    EventSourceMapping, Function, FunctionSettings, Lambda, MappingSettings, SettingsError,
};
use serde_json::{Value, json};

struct Stand {
    lambda: Lambda,
    function: Arc<Function>,
    queue: Queue,
    mapping: EventSourceMapping,
    seen: PathBuf,
    _folder: tempfile::TempDir,
}

fn mapping_settings(client: aws_sdk_sqs::Client, function: &Arc<Function>) -> MappingSettings {
    MappingSettings {
        client,
        queue_url: crate::queue::URL.into(),
        queue_arn: crate::queue::ARN.into(),
        function: Arc::clone(function),
        batch_size: 10,
        batching_window: Duration::ZERO,
        maximum_concurrency: None,
        report_batch_item_failures: true,
    }
}

impl Stand {
    /// A mapping over a queue that already has these messages.
    async fn start(
        bodies: &[&str],
        change: impl FnOnce(&mut FunctionSettings, &mut MappingSettings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let (queue, client) = Queue::start().await;
        queue.send(bodies);
        let lambda = lambda();
        // The change needs both settings, of which the second needs the function.
        let blank = add_probe(&lambda, |settings| settings.name = "blank".into());
        let mut settings = mapping_settings(client, &blank);
        let function = add_probe(&lambda, |function| {
            function.environment.insert("PROBE_SEEN".into(), seen.to_str().unwrap().into());
            function.reserved_concurrency = 4;
            change(function, &mut settings);
        });
        settings.function = Arc::clone(&function);
        let mapping = EventSourceMapping::start(settings).unwrap();
        Self { lambda, function, queue, mapping, seen, _folder: folder }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seen).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many invocations have come to an end.
    fn reported(&self) -> u64 {
        self.function.stats().invocations
    }

    async fn stop(self) {
        self.mapping.shutdown(Duration::from_secs(5)).await;
        self.lambda.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_batch_arrives_in_lambdas_form_and_is_deleted() {
    let stand = Stand::start(&["one", "two"], |_, _| {}).await;
    until("both are deleted", || stand.queue.is_done()).await;
    let events = stand.events();
    assert_eq!(events.len(), 1);
    let record = |n: u32, body: &str| {
        json!({
            "messageId": format!("message-{n}"),
            "receiptHandle": format!("receipt-{n}"),
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1795352813771",
                "SenderId": "AKIALOCAL",
                "ApproximateFirstReceiveTimestamp": "1795352813772",
                "MessageGroupId": "u1",
            },
            "messageAttributes": {},
            "md5OfBody": "5d41402abc4b2a76b9719d911017c592",
            "eventSource": "aws:sqs",
            "eventSourceARN": crate::queue::ARN,
            "awsRegion": "eu-central-1",
        })
    };
    assert_eq!(events[0], json!({ "Records": [record(1, "one"), record(2, "two")] }));
    let receive = stand.queue.state(|state| state.receives[0].clone());
    let expected = json!({
        "QueueUrl": crate::queue::URL, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20,
        "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"],
    });
    assert_eq!(receive, expected, "the visibility time-out is the queue's");
    stand.stop().await;
}

#[tokio::test]
async fn message_attributes_are_passed_on() {
    let stand = Stand::start(&[], |_, _| {}).await;
    stand.queue.state(|state| {
        state.ready.push_back(json!({
            "MessageId": "m", "ReceiptHandle": "r", "MD5OfBody": "x", "Body": "b", "MD5OfMessageAttributes": "y",
            "MessageAttributes": {
                "trace": { "DataType": "String", "StringValue": "t-1" },
                "raw": { "DataType": "Binary", "BinaryValue": "AQI=" },
            },
        }));
    });
    stand.queue.send(&[]);
    until("it is deleted", || stand.queue.is_done()).await;
    let record = &stand.events()[0]["Records"][0];
    let expected = json!({
        "trace": {
            "stringValue": "t-1", "stringListValues": [], "binaryListValues": [], "dataType": "String",
        },
        "raw": {
            "binaryValue": "AQI=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary",
        },
    });
    assert_eq!((&record["messageAttributes"], &record["md5OfMessageAttributes"]), (&expected, &json!("y")));
    stand.stop().await;
}

#[tokio::test]
async fn only_the_messages_that_did_not_fail_are_deleted() {
    let stand = Stand::start(&["a", "fail:1", "b", "fail:2", "c"], |_, _| {}).await;
    until("three are deleted", || {
        stand.queue.state(|state| state.ready.is_empty()) && stand.queue.kept().len() == 2
    })
    .await;
    assert_eq!(stand.queue.kept(), ["fail:1", "fail:2"]);
    assert_eq!(stand.reported(), 1);
    stand.stop().await;
}

#[tokio::test]
async fn a_batch_whose_invocation_failed_is_kept_whole() {
    for failure in [
        "error",
        "exit",
        "sleep:30000",
        r#"answer:{"batchItemFailures":[{"itemIdentifier":""}]}"#,
        "answer:1",
    ] {
        let stand = Stand::start(&["a", failure, "b"], |function, _| {
            function.timeout = Duration::from_secs(1);
            function.reserved_concurrency = 1;
        })
        .await;
        // The poller has come back for more: the batch is over.
        until("the next poll", || stand.queue.state(|state| state.receives.len() == 2)).await;
        assert_eq!(stand.queue.kept().len(), 3, "{failure}");
        let stats = stand.function.stats();
        assert_eq!(stats.invocations, 1, "{failure}: not retried");
        assert_eq!(stats.errors, u64::from(!failure.starts_with("answer")), "{failure}");
        stand.queue.send(&["good"]);
        until("the next batch is done", || stand.queue.kept().len() == 3 && stand.reported() == 2).await;
        stand.stop().await;
    }
}

#[tokio::test]
async fn without_reports_any_answer_means_success_and_an_error_does_not() {
    let stand = Stand::start(&["fail", "answer:1"], |function, mapping| {
        function.reserved_concurrency = 1;
        mapping.report_batch_item_failures = false;
    })
    .await;
    until("both are deleted", || stand.queue.is_done()).await;
    stand.queue.send(&["error"]);
    until("the poll after", || stand.queue.state(|state| state.receives.len() == 3)).await;
    assert_eq!(stand.queue.kept(), ["error"]);
    stand.stop().await;
}

#[tokio::test]
async fn a_message_for_which_no_environment_is_free_stays_in_the_queue() {
    for (reserved, maximum) in [(2, None), (5, Some(2)), (2, Some(5))] {
        let stand = Stand::start(&["sleep:400"; 6], |function, mapping| {
            function.reserved_concurrency = reserved;
            mapping.maximum_concurrency = maximum;
            mapping.batch_size = 1;
        })
        .await;
        let mut most = 0;
        until("all are done", || {
            let (ready, in_flight) = stand.queue.state(|state| (state.ready.len(), state.in_flight.len()));
            most = most.max(in_flight);
            ready + in_flight == 0
        })
        .await;
        assert_eq!(most, 2, "two at a time, and none waits in the mapping's hands");
        assert_eq!(stand.function.stats().environments_started, 2);
        assert_eq!(stand.function.stats().throttles, 0);
        stand.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_received_while_others_use_the_functions_concurrency() {
    let stand = Stand::start(&[], |function, _| function.reserved_concurrency = 1).await;
    until("the mapping polls", || stand.queue.state(|state| state.open_polls == 1)).await;
    call(&stand.function, json!({})).await.unwrap();
    let busy = call_later(&stand.function, json!({ "sleep_ms": 600 }));
    until("it is at work", || stand.reported() == 2).await;
    // The poll was open before: its batch waits for the environment. No second poll follows.
    let start = Instant::now();
    stand.queue.send(&["first"]);
    until("the open poll is answered", || stand.queue.kept().len() == 1).await;
    stand.queue.send(&["second"]);
    busy.await.unwrap().unwrap();
    until("both are done", || stand.queue.is_done()).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(stand.events().len(), 2);
    assert_eq!(stand.function.stats().throttles, 0);
    stand.stop().await;
}

#[tokio::test]
async fn an_idle_mapping_costs_one_open_request_and_a_burst_is_taken_up_at_once() {
    let stand = Stand::start(&[], |function, mapping| {
        function.reserved_concurrency = 4;
        mapping.batch_size = 1;
    })
    .await;
    stand.function.warm(4).await.unwrap();
    until("the mapping polls", || stand.queue.state(|state| state.open_polls == 1)).await;
    assert_eq!(stand.queue.state(|state| state.receives.len()), 1);
    let start = Instant::now();
    stand.queue.send(&["sleep:500"; 4]);
    until("all four at work", || stand.events().len() == 4).await;
    assert!(start.elapsed() < Duration::from_millis(400), "side by side: {:?}", start.elapsed());
    until("all are done", || stand.queue.is_done()).await;
    stand.stop().await;
}

#[tokio::test]
async fn every_message_of_a_burst_is_handled_once() {
    let stand = Stand::start(&["x"; 500], |_, _| {}).await;
    until("all are done", || stand.queue.is_done()).await;
    let events = stand.events();
    let mut ids: Vec<&str> = events
        .iter()
        .flat_map(|event| event["Records"].as_array().unwrap())
        .map(|record| record["messageId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 500);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 500);
    assert_eq!(events.len(), 50, "full batches while there are messages");
    stand.stop().await;
}

/// Messages of each invocation.
fn batches(stand: &Stand) -> Vec<usize> {
    stand.events().iter().map(|event| event["Records"].as_array().unwrap().len()).collect()
}

#[tokio::test]
async fn with_a_window_a_batch_is_gathered_from_several_receives_and_deleted_in_tens() {
    let stand = Stand::start(&["x"; 45], |_, mapping| {
        mapping.batch_size = 25;
        mapping.batching_window = Duration::from_secs(1);
    })
    .await;
    until("all are done", || stand.queue.is_done()).await;
    assert_eq!(batches(&stand), [25, 20], "the second is not full: its window ends it");
    let (asked, mut deleted) = stand.queue.state(|state| {
        let asked = state.receives.iter().map(|receive| receive["MaxNumberOfMessages"].as_u64().unwrap());
        (asked.collect::<Vec<_>>(), state.deletes.clone())
    });
    assert_eq!(asked[..6], [10, 10, 5, 10, 10, 5], "never more than the batch has room for");
    deleted.sort_unstable();
    assert_eq!(deleted, [5, 10, 10, 10, 10]);
    stand.stop().await;
}

#[tokio::test]
async fn a_message_that_comes_within_the_window_joins_the_batch_that_it_fills() {
    let stand = Stand::start(&["first"], |_, mapping| {
        mapping.batch_size = 2;
        mapping.batching_window = Duration::from_secs(300);
    })
    .await;
    until("the first is received", || stand.queue.kept().len() == 1).await;
    assert_eq!(stand.reported(), 0, "it waits for a second");
    stand.queue.send(&["second"]);
    until("both are done", || stand.queue.is_done()).await;
    assert_eq!(batches(&stand), [2]);
    stand.stop().await;
}

#[tokio::test]
async fn what_was_gathered_is_handled_when_the_queue_stops_answering() {
    let stand = Stand::start(&[], |_, mapping| {
        mapping.batch_size = 20;
        mapping.batching_window = Duration::from_secs(300);
    })
    .await;
    until("the mapping polls", || stand.queue.state(|state| state.open_polls == 1)).await;
    stand.queue.state(|state| state.failing_receives = 1);
    stand.queue.send(&["a"]);
    until("it is done", || stand.queue.is_done()).await;
    assert_eq!(batches(&stand), [1]);
    stand.stop().await;
}

#[tokio::test]
async fn messages_that_fill_an_event_are_not_made_to_wait_for_more() {
    let large = "x".repeat(1024 * 1024);
    let stand = Stand::start(&[large.as_str(); 7], |_, mapping| {
        mapping.batch_size = 20;
        mapping.batching_window = Duration::from_secs(300);
    })
    .await;
    until("all are done", || stand.queue.is_done()).await;
    assert_eq!(batches(&stand), [5, 2], "as many as 6 MB hold, then the others");
    stand.stop().await;
}

#[tokio::test]
async fn a_queue_that_does_not_answer_is_tried_again_and_a_failed_delete_harms_nobody() {
    let stand = Stand::start(&["a"], |function, _| function.reserved_concurrency = 1).await;
    until("it is done and the next poll open", || {
        stand.queue.is_done() && stand.queue.state(|state| state.open_polls == 1 && state.receives.len() == 2)
    })
    .await;
    stand.queue.state(|state| {
        state.failing_receives = 2;
        state.failing_deletes = true;
    });
    // The open poll still gives this one; its delete fails, and so do the two polls after it.
    stand.queue.send(&["b"]);
    until("both polls have failed", || stand.queue.state(|state| state.failing_receives == 0)).await;
    assert_eq!(stand.queue.kept(), ["b"]);
    stand.queue.state(|state| state.failing_deletes = false);
    stand.queue.send(&["c"]);
    until("the next one is done", || stand.reported() == 3 && stand.queue.kept() == ["b"]).await;
    stand.stop().await;
}

#[tokio::test]
async fn shutdown_finishes_the_batches_under_way_and_receives_no_more() {
    let stand = Stand::start(&["sleep:500"], |_, mapping| mapping.batch_size = 1).await;
    until("it is at work", || stand.events().len() == 1).await;
    let start = Instant::now();
    stand.mapping.shutdown(Duration::from_secs(10)).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(stand.queue.is_done(), "finished and deleted");
    until("no poll is open", || stand.queue.state(|state| state.open_polls == 0)).await;
    stand.queue.send(&["late"]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stand.queue.state(|state| state.ready.len()), 1);
    stand.lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn shutdown_hands_over_what_was_gathered_and_does_not_wait_for_more() {
    let stand = Stand::start(&["a"], |_, mapping| {
        mapping.batch_size = 2;
        mapping.batching_window = Duration::from_secs(300);
    })
    .await;
    until("it is received", || stand.queue.kept().len() == 1).await;
    stand.mapping.shutdown(Duration::from_secs(10)).await;
    assert!(stand.queue.is_done(), "handled and deleted");
    stand.lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let lambda = lambda();
    let function = add_probe(&lambda, |_| {});
    let off = add_probe(&lambda, |settings| {
        settings.name = "off".into();
        settings.reserved_concurrency = 0;
    });
    let (_, client) = Queue::start().await;
    let settings = || mapping_settings(client.clone(), &function);
    for (batch_size, window_seconds) in [(0, 0), (11, 0), (0, 1), (10_001, 1)] {
        let batching_window = Duration::from_secs(window_seconds);
        let refused =
            EventSourceMapping::start(MappingSettings { batch_size, batching_window, ..settings() });
        assert!(matches!(refused, Err(SettingsError::BatchSize(_))), "{batch_size}");
    }
    for batching_window in [Duration::from_secs(301), Duration::from_millis(1_500)] {
        let refused = EventSourceMapping::start(MappingSettings { batching_window, ..settings() });
        assert!(matches!(refused, Err(SettingsError::BatchingWindow(_))), "{batching_window:?}");
    }
    let largest =
        MappingSettings { batch_size: 10_000, batching_window: Duration::from_secs(300), ..settings() };
    EventSourceMapping::start(largest).unwrap().shutdown(Duration::ZERO).await;
    let refused = EventSourceMapping::start(MappingSettings { maximum_concurrency: Some(0), ..settings() });
    assert!(matches!(refused, Err(SettingsError::Zero(_))));
    let refused = EventSourceMapping::start(mapping_settings(client.clone(), &off));
    assert!(matches!(refused, Err(SettingsError::Zero(_))));
    lambda.shutdown(Duration::from_secs(1)).await;
}
