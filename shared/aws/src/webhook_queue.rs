//! The webhooks' queue. A message has one delivery called; losing or doubling one costs nothing but time or a call.

use std::time::Duration;

use aws_sdk_sqs::Client;
use darkroom_core::webhook_delivery::DeliveryMessage;

use crate::error::StoreError;
use crate::job_queue::send;

/// The queue.
#[derive(Clone, Debug)]
pub struct WebhookQueue {
    client: Client,
    url: String,
}

impl WebhookQueue {
    /// The queue at this URL.
    pub const fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Sends a message. The group makes the queue fair between users: one whose servers hang holds up nobody else's messages
    /// for long (SQS fair queues).
    pub async fn send(&self, message: &DeliveryMessage) -> Result<(), StoreError> {
        send(&self.client, &self.url, message.body(), message.user.fair_group(), Duration::ZERO).await
    }
}
