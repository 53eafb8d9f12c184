//! The queue: messages that wait, are with a worker, or were given up.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::time::Duration;

use darkroom_aws::random_fraction;
use darkroom_core::time::Timestamp;
use serde_json::{Value, json};

use super::call::Answer;
use super::fault::{Fault, LATE};
use super::time::right_now;

/// A message that waits or is with a worker.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) body: String,
    visible_at: Timestamp,
    receives: u32,
}

/// SQS gives a message up after so many receives.
const RECEIVES_MAX: u32 = 5;
/// Messages of a batch.
pub(crate) const BATCH: usize = 10;

#[derive(Default)]
pub(crate) struct Queue {
    messages: Vec<Message>,
    given_up: usize,
    sent: u64,
}

impl Queue {
    /// `SendMessage`.
    pub(crate) fn send(&mut self, request: &Value) -> Answer {
        let text = request["MessageBody"].as_str().unwrap_or_default().to_owned();
        let delay = Duration::from_secs(request["DelaySeconds"].as_u64().unwrap_or_default());
        self.sent += 1;
        let message = Message { id: self.sent, body: text, visible_at: right_now().plus(delay), receives: 0 };
        self.messages.push(message);
        Answer::ok(&json!({"MessageId": self.sent.to_string()}))
    }

    /// `SendMessageBatch`.
    pub(crate) fn send_batch(&mut self, request: &Value) -> Answer {
        let entries = request["Entries"].as_array().into_iter().flatten();
        let sent: Vec<_> = entries
            .map(|entry| {
                self.send(entry);
                json!({"Id": entry["Id"], "MessageId": self.sent.to_string(), "MD5OfMessageBody": ""})
            })
            .collect();
        Answer::ok(&json!({"Successful": sent, "Failed": []}))
    }

    /// Some of the visible messages, in any order: each of them meets what is said of it, and is hidden for so long.
    pub(crate) fn deliver(
        &mut self,
        hidden_for: Duration,
        at_most: usize,
        mut fault: impl FnMut() -> Option<Fault>,
    ) -> Vec<Message> {
        let (at, mut delivered) = (right_now(), Vec::new());
        while delivered.len() < at_most {
            let visible: Vec<_> = (0_usize..)
                .zip(&self.messages)
                .filter(|(_, message)| {
                    message.visible_at <= at && delivered.iter().all(|other: &Message| other.id != message.id)
                })
                .map(|(place, _)| place)
                .collect();
            let Some(place) = any(&visible) else { break };
            let mut message = self.messages.swap_remove(place);
            if message.receives >= RECEIVES_MAX {
                self.given_up += 1;
                continue;
            }
            match fault() {
                Some(Fault::Lost) => continue,
                Some(Fault::Delayed) => message.visible_at = at.plus(LATE),
                met => {
                    if met == Some(Fault::Doubled) {
                        // Its copy has a life of its own, also when this one is done.
                        self.sent += 1;
                        self.messages.push(Message { id: self.sent, ..message.clone() });
                    }
                    message.receives += 1;
                    message.visible_at = at.plus(hidden_for);
                    delivered.push(message.clone());
                }
            }
            self.messages.push(message);
        }
        delivered
    }

    /// Deletes what was done; the rest comes again when it is visible again.
    pub(crate) fn acknowledge(&mut self, received: &[Message], failed: &[u64]) {
        let is_done = |message: &Message| {
            received.iter().any(|other| other.id == message.id) && !failed.contains(&message.id)
        };
        self.messages.retain(|message| !is_done(message));
    }

    /// When the next message is visible, or has been since.
    pub(crate) fn next_visible(&self) -> Option<Timestamp> {
        self.messages.iter().map(|message| message.visible_at).min()
    }

    /// Messages that wait or are with a worker.
    pub(crate) const fn left(&self) -> usize {
        self.messages.len()
    }

    /// Messages that were given up.
    pub(crate) const fn given_up(&self) -> usize {
        self.given_up
    }
}

/// One of them, by the run's seed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the length")]
fn any(places: &[usize]) -> Option<usize> {
    places.get((places.len() as f64 * random_fraction()) as usize).copied()
}
