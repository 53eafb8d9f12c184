//! What a function is given at a time: messages whose event Lambda can carry.

use std::collections::BTreeSet;

use aws_sdk_sqs::types::Message;
use bytes::Bytes;

use super::record;
use crate::runtime_api::PAYLOAD_BYTES;

/// A message and its record in the event, as JSON.
pub(super) struct Received {
    message: Message,
    record: Vec<u8>,
}

impl Received {
    /// A message of the queue of this ARN.
    pub(super) fn new(message: Message, queue_arn: &str) -> Result<Self, serde_json::Error> {
        Ok(Self { record: record::encode(&message, queue_arn)?, message })
    }

    /// Bytes that it takes in an event, its comma included.
    fn bytes(&self) -> usize {
        self.record.len() + 1
    }
}

/// One invocation's messages.
pub(super) struct Batch(Vec<Received>);

/// Whether these messages fill an event.
pub(super) fn is_full(messages: &[Received]) -> bool {
    record::AROUND_BYTES + messages.iter().map(Received::bytes).sum::<usize>() >= PAYLOAD_BYTES
}

/// The messages in their order, in as many batches as their events need: ten messages of 1 MB are more than one event
/// of 6 MB holds.
pub(super) fn events(messages: Vec<Received>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.bytes();
        match batches.last_mut() {
            Some(batch) if bytes <= PAYLOAD_BYTES => batch.0.push(message),
            _ => {
                bytes = record::AROUND_BYTES + message.bytes();
                batches.push(Batch(vec![message]));
            }
        }
    }
    batches
}

impl Batch {
    /// The event.
    pub(super) fn event(&self) -> Bytes {
        record::event(self.0.iter().map(|received| received.record.as_slice()))
    }

    /// The ids that a report may name.
    pub(super) fn message_ids(&self) -> BTreeSet<&str> {
        self.0.iter().filter_map(|received| received.message.message_id()).collect()
    }

    /// The receipts of all messages but these.
    pub(super) fn receipts_but(&self, failed: &BTreeSet<String>) -> Vec<&str> {
        let done = |received: &&Received| received.message.message_id().is_none_or(|id| !failed.contains(id));
        self.0.iter().filter(done).filter_map(|received| received.message.receipt_handle()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn received(id: usize, body_bytes: usize) -> Received {
        let message = Message::builder().message_id(id.to_string()).body("x".repeat(body_bytes)).build();
        Received::new(message, "arn:aws:sqs:eu-central-1:000000000000:jobs").unwrap()
    }

    #[test]
    fn no_event_is_larger_than_lambda_takes_and_no_message_is_lost_or_moved() {
        let large = 1024 * 1024;
        let batches = events((0..12).map(|id| received(id, large)).collect());
        let ids: Vec<Vec<_>> = batches
            .iter()
            .map(|batch| batch.0.iter().map(|one| one.message.message_id().unwrap()).collect())
            .collect();
        // Six bodies of 1 MiB are 6 MiB already, and their records more.
        assert_eq!(ids, [vec!["0", "1", "2", "3", "4"], vec!["5", "6", "7", "8", "9"], vec!["10", "11"]]);
        for batch in &batches {
            assert!(batch.event().len() <= PAYLOAD_BYTES);
            let event: serde_json::Value = serde_json::from_slice(&batch.event()).unwrap();
            assert_eq!(event["Records"].as_array().unwrap().len(), batch.0.len());
        }
        assert!(events(Vec::new()).is_empty());
    }

    #[test]
    fn an_event_is_filled_to_the_last_byte() {
        let small = received(0, 0).bytes();
        let room = PAYLOAD_BYTES - record::AROUND_BYTES - small;
        let large = |bytes| received(1, bytes - small);
        assert_eq!(events(vec![received(0, 0), large(room)]).len(), 1);
        assert_eq!(events(vec![received(0, 0), large(room + 1)]).len(), 2);
        assert!(is_full(&[received(0, 0), large(room)]));
        assert!(!is_full(&[received(0, 0), large(room - 1)]));
    }
}
