//! One invocation: up to ten messages, each on its own. One that fails never fails its neighbours.

use std::sync::Arc;

use darkroom_aws::now;
use darkroom_core::message::JobMessage;
use darkroom_core::time::Timestamp;
use lambda_runtime::{Error, LambdaEvent};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::pool::SpareSlots;
use crate::worker::{Done, Worker};

/// The event source mapping's event, as far as it matters here (AWS Lambda developer guide, "Using Lambda with SQS").
/// Bodies stay text: one that is no message fails alone.
#[derive(Deserialize)]
pub(crate) struct Batch {
    #[serde(rename = "Records", default)]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "messageId")]
    message_id: String,
    #[serde(default)]
    body: String,
}

/// The messages that SQS keeps; it deletes the others.
#[derive(Serialize)]
pub(crate) struct Answer {
    #[serde(rename = "batchItemFailures")]
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    #[serde(rename = "itemIdentifier")]
    message_id: String,
}

/// Handles every message of a batch side by side.
pub(crate) async fn handle(worker: Arc<Worker>, event: LambdaEvent<Batch>) -> Result<Answer, Error> {
    let ends_at = Timestamp::from_millis(event.context.deadline);
    if let Err(error) = worker.keys.beat("worker", now()).await {
        tracing::warn!(error = %error, "the worker's sign of life was not stored");
    }
    let spare = Arc::new(SpareSlots::default());
    let mut running = JoinSet::new();
    let mut unanswered: Vec<String> = Vec::new();
    for record in event.payload.records {
        unanswered.push(record.message_id.clone());
        let (worker, spare) = (worker.clone(), spare.clone());
        running.spawn(async move {
            let done = match JobMessage::parse(&record.body) {
                Ok(message) => Box::pin(worker.draw(&message, ends_at, &spare)).await,
                Err(error) => {
                    tracing::error!(message.id = record.message_id, error = %error,
                        "not a job's message: it goes to the dead-letter queue; `darkroom` did not send it");
                    Done::Return
                }
            };
            (record.message_id, done)
        });
    }
    // A message whose handling panicked stays unanswered, and so goes back.
    while let Some(handled) = running.join_next().await {
        match handled {
            Ok((message_id, Done::Acknowledge)) => unanswered.retain(|id| *id != message_id),
            Ok((_, Done::Return)) => {}
            Err(error) => tracing::error!(error = %error, "a message's handling broke off"),
        }
    }
    let failures = unanswered.into_iter().map(|message_id| Failure { message_id }).collect();
    Ok(Answer { failures })
}
