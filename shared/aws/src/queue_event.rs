//! What an SQS event source mapping hands a function, and what the function answers.

use serde::{Deserialize, Serialize};

/// The mapping's event, as far as it matters here (AWS Lambda developer guide, "Using Lambda with Amazon SQS"). Bodies stay
/// text: one that is no message fails alone.
#[derive(Deserialize)]
pub struct QueueEvent {
    /// The messages.
    #[serde(rename = "Records")]
    pub records: Vec<QueueRecord>,
}

/// One message.
#[derive(Deserialize)]
pub struct QueueRecord {
    /// SQS's name for it.
    #[serde(rename = "messageId")]
    pub message_id: String,
    /// What was sent.
    #[serde(default)]
    pub body: String,
}

/// The messages that SQS keeps; it deletes the others.
#[derive(Serialize)]
pub struct QueueAnswer {
    #[serde(rename = "batchItemFailures")]
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    #[serde(rename = "itemIdentifier")]
    message_id: String,
}

impl QueueAnswer {
    /// Has these messages come again.
    pub fn keep(message_ids: Vec<String>) -> Self {
        Self { failures: message_ids.into_iter().map(|message_id| Failure { message_id }).collect() }
    }
}
