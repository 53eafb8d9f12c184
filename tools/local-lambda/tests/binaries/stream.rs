//! The stream's event source mapping: in order, halved, tried again, given up.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::{add_probe, kill_9, lambda, until};
use darkroom_local_lambda::{
    Function, Lambda, SettingsError, StreamMapping, StreamMappingSettings, StreamReader, StreamRecord,
};
use serde_json::{Value, json};

type Stream = Arc<Mutex<Vec<StreamRecord>>>;

fn record(number: usize, body: &str, age: Duration) -> StreamRecord {
    let sequence_number = format!("{number:021}");
    StreamRecord {
        record: json!({"messageId": sequence_number, "body": body, "eventName": "MODIFY"}),
        sequence_number,
        written_at: SystemTime::now() - age,
    }
}

fn reader(stream: &Stream) -> StreamReader {
    let stream = Arc::clone(stream);
    Arc::new(move |after, limit| {
        let stream = Arc::clone(&stream);
        Box::pin(async move {
            let records = stream.lock().unwrap();
            let later =
                records.iter().filter(|record| after.as_ref().is_none_or(|at| record.sequence_number > *at));
            Ok(later.take(limit).cloned().collect())
        })
    })
}

struct Stand {
    lambda: Lambda,
    function: Arc<Function>,
    mapping: StreamMapping,
    stream: Stream,
    seen: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stand {
    /// A mapping over a stream that has these records already, all young.
    fn start(bodies: &[&str], change: impl FnOnce(&mut StreamMappingSettings)) -> Self {
        let records = bodies.iter().enumerate().map(|(number, body)| record(number, body, Duration::ZERO));
        Self::over(records.collect(), change)
    }

    fn over(records: Vec<StreamRecord>, change: impl FnOnce(&mut StreamMappingSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let stream = Arc::new(Mutex::new(records));
        let lambda = lambda();
        let function = add_probe(&lambda, |function| {
            function.environment.insert("PROBE_SEEN".into(), seen.to_str().unwrap().into());
        });
        let mut settings = StreamMappingSettings {
            stream: reader(&stream),
            stream_arn: "arn:aws:dynamodb:eu-central-1:000000000000:table/jobs/stream/now".into(),
            function: Arc::clone(&function),
            from_the_oldest: true,
            batch_size: 10,
            bisect: true,
            retry_attempts: 2,
            maximum_record_age: Duration::from_secs(60),
            report_batch_item_failures: true,
        };
        change(&mut settings);
        let mapping = StreamMapping::start(settings).unwrap();
        Self { lambda, function, mapping, stream, seen, _folder: folder }
    }

    /// The bodies of each invocation.
    fn batches(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(&self.seen).unwrap_or_default();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let body = |record: &Value| record["body"].as_str().unwrap().to_owned();
        events.map(|event| event["Records"].as_array().unwrap().iter().map(body).collect()).collect()
    }

    fn push(&self, body: &str) {
        let mut stream = self.stream.lock().unwrap();
        let number = stream.len();
        stream.push(record(number, body, Duration::ZERO));
    }

    async fn stop(self) {
        self.mapping.shutdown(Duration::from_secs(5)).await;
        self.lambda.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn changes_arrive_in_order_and_once_while_nothing_fails() {
    let stand = Stand::start(&["a", "b", "c"], |settings| settings.batch_size = 2);
    until("the first three", || stand.batches().concat().len() == 3).await;
    stand.push("d");
    until("a later one", || stand.batches().concat().len() == 4).await;
    assert_eq!(stand.batches(), [vec!["a", "b"], vec!["c"], vec!["d"]]);
    let event: Value =
        serde_json::from_str(std::fs::read_to_string(&stand.seen).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(
        event["Records"][0]["eventSourceARN"],
        "arn:aws:dynamodb:eu-central-1:000000000000:table/jobs/stream/now"
    );
    stand.stop().await;
}

#[tokio::test]
async fn a_record_that_fails_its_batch_is_found_by_halving_and_given_up_alone() {
    let stand = Stand::start(&["a", "b", "error", "d", "e"], |_| {});
    until("the last", || stand.batches().last().is_some_and(|batch| batch.contains(&"e".to_owned()))).await;
    stand.push("f");
    until("what comes after", || stand.batches().concat().contains(&"f".to_owned())).await;
    let batches = stand.batches();
    // Alone it was tried once and twice again.
    assert_eq!(batches.iter().filter(|batch| **batch == ["error"]).count(), 3, "{batches:?}");
    let done: BTreeSet<_> =
        batches.iter().filter(|batch| !batch.contains(&"error".to_owned())).flatten().collect();
    assert_eq!(done.into_iter().collect::<Vec<_>>(), ["a", "b", "d", "e", "f"]);
    // In order: nothing of the second half was seen before the first was over.
    let at = |body: &[&str]| batches.iter().position(|batch| batch == body);
    assert!(at(&["a", "b"]) < at(&["error"]) && at(&["error"]) < at(&["d", "e"]), "{batches:?}");
    stand.stop().await;
}

#[tokio::test]
async fn what_is_named_as_failed_comes_again_with_all_that_follows() {
    let stand = Stand::start(&["a", "fail", "c"], |_| {});
    until("it is tried for the last time", || stand.batches().len() == 3).await;
    // Given up with what followed, as AWS does.
    assert_eq!(stand.batches(), [vec!["a", "fail", "c"], vec!["fail", "c"], vec!["fail", "c"]]);
    stand.push("d");
    until("what comes after", || stand.batches().len() == 4).await;
    assert_eq!(stand.batches()[3], ["d"]);
    stand.stop().await;
}

#[tokio::test]
async fn what_is_too_old_is_passed_over() {
    let old = Duration::from_secs(61);
    let records =
        vec![record(0, "old", old), record(1, "young", Duration::ZERO), record(2, "older", old * 2)];
    let stand = Stand::over(records, |_| {});
    until("the young one", || !stand.batches().is_empty()).await;
    assert_eq!(stand.batches(), [vec!["young"]]);
    stand.stop().await;
}

#[tokio::test]
async fn the_latest_position_passes_over_what_is_there() {
    let stand = Stand::start(&["a", "b", "c"], |settings| {
        settings.from_the_oldest = false;
        settings.batch_size = 2;
    });
    // It has looked when it has found nothing more; what is written from then on is seen.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stand.push("d");
    until("the new one", || !stand.batches().is_empty()).await;
    assert_eq!(stand.batches(), [vec!["d"]]);
    stand.stop().await;
}

#[tokio::test]
async fn a_killed_function_loses_no_change() {
    let stand = Stand::start(&["sleep:500", "b"], |settings| settings.retry_attempts = 10);
    until("it works", || stand.function.process_ids().len() == 1 && !stand.batches().is_empty()).await;
    kill_9(stand.function.process_ids()[0]);
    let is_done =
        |batches: Vec<Vec<String>>| batches.concat().iter().filter(|body| *body == "b").count() >= 2;
    until("both came again", || is_done(stand.batches())).await;
    stand.push("c");
    until("what comes after", || stand.batches().concat().contains(&"c".to_owned())).await;
    stand.stop().await;
}

#[tokio::test]
async fn a_batch_size_that_aws_refuses_is_refused() {
    for (batch_size, is_taken) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
        let lambda = lambda();
        let function = add_probe(&lambda, |_| {});
        let settings = StreamMappingSettings {
            stream: reader(&Stream::default()),
            stream_arn: String::new(),
            function,
            from_the_oldest: true,
            batch_size,
            bisect: false,
            retry_attempts: 0,
            maximum_record_age: Duration::from_secs(60),
            report_batch_item_failures: false,
        };
        let started = StreamMapping::start(settings);
        assert_eq!(started.is_ok(), is_taken, "{batch_size}");
        if let Err(error) = started {
            assert!(matches!(error, SettingsError::StreamBatchSize(_)), "{error}");
        }
        lambda.shutdown(Duration::ZERO).await;
    }
}
