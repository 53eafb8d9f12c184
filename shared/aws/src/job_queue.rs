//! The queues: of jobs, and of what takes long. A message only wakes; losing or doubling one costs nothing but time.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use darkroom_core::bulk_message::BulkMessage;
use darkroom_core::id::UserId;
use darkroom_core::message::Message;
use futures::future::join_all;

use crate::error::StoreError;

/// The queue.
#[derive(Clone, Debug)]
pub struct JobQueue {
    client: Client,
    url: String,
}

/// How many messages the queue holds, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Waiting to be received.
    pub visible: u64,
    /// Received and not deleted.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
}

/// Messages of one call (SQS's limit).
const SEND_BATCH_MAX: usize = 10;
/// SQS's longest delay.
const DELAY_MAX: Duration = Duration::from_secs(900);

impl JobQueue {
    /// The queue at this URL.
    pub const fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// The URL of the queue of this name in the caller's account.
    pub async fn url(client: &Client, name: &str) -> Result<String, StoreError> {
        let answer = client
            .get_queue_url()
            .queue_name(name)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("SQS", "GetQueueUrl", error))?;
        Ok(answer.queue_url.unwrap_or_default())
    }

    /// Sends a message, to be received after `delay` (whole seconds, rounded up, at most 900).
    /// The group makes the queue fair between users (SQS fair queues); its order means nothing.
    pub async fn send(&self, message: &Message, delay: Duration) -> Result<(), StoreError> {
        send(&self.client, &self.url, message.body(), message.group(), delay).await
    }

    /// Sends messages to be received at once, ten in a call and all calls at once. When one of them fails, or some messages of it do,
    /// the others are sent all the same.
    ///
    /// # Errors
    /// What failed first.
    pub async fn send_all(&self, messages: &[Message]) -> Result<(), StoreError> {
        let calls = messages.chunks(SEND_BATCH_MAX).map(|some| Box::pin(self.send_batch(some)));
        join_all(calls).await.into_iter().collect()
    }

    async fn send_batch(&self, messages: &[Message]) -> Result<(), StoreError> {
        const OPERATION: &str = "SendMessageBatch";
        let refused = |code: &str, message: String| StoreError::Refused {
            store: "SQS",
            operation: OPERATION,
            code: code.to_owned(),
            message,
        };
        let entries = messages.iter().enumerate().map(|(at, message)| {
            SendMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .message_body(message.body())
                .message_group_id(message.group())
                .build()
        });
        let entries: Result<Vec<_>, _> = entries.collect();
        let entries = entries.map_err(|error| refused("not built", error.to_string()))?;
        let call = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let answer = call.send().await.map_err(|error| StoreError::from_sdk("SQS", OPERATION, error))?;
        match answer.failed().first() {
            None => Ok(()),
            Some(failed) => Err(refused(failed.code(), failed.message().unwrap_or_default().to_owned())),
        }
    }

    /// How much waits.
    pub async fn depth(&self) -> Result<QueueDepth, StoreError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(Visible)
            .attribute_names(InFlight)
            .attribute_names(Delayed)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("SQS", "GetQueueAttributes", error))?;
        let count = |name: &QueueAttributeName| {
            answer.attributes().and_then(|all| all.get(name)).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Ok(QueueDepth { visible: count(&Visible), in_flight: count(&InFlight), delayed: count(&Delayed) })
    }
}

/// The queue of what takes long: exports.
#[derive(Clone, Debug)]
pub struct BulkQueue {
    client: Client,
    url: String,
}

impl BulkQueue {
    /// The queue at this URL.
    pub const fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Sends a message about a record of this user's.
    pub async fn send(&self, message: &BulkMessage, owner: &UserId) -> Result<(), StoreError> {
        send(&self.client, &self.url, message.body(), owner.fair_group(), Duration::ZERO).await
    }
}

/// Sends a message of a group, to be received after `delay` (whole seconds, rounded up, at most 900).
pub(crate) async fn send(
    client: &Client,
    url: &str,
    body: String,
    group: String,
    delay: Duration,
) -> Result<(), StoreError> {
    let seconds = delay.min(DELAY_MAX).as_millis().div_ceil(1000);
    client
        .send_message()
        .queue_url(url)
        .message_body(body)
        .message_group_id(group)
        .delay_seconds(i32::try_from(seconds).unwrap_or(900))
        .send()
        .await
        .map(|_| ())
        .map_err(|error| StoreError::from_sdk("SQS", "SendMessage", error))
}
