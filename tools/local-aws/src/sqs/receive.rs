//! Receiving: which messages a receiver gets, and in which form.

use rusqlite::params;

use super::error::{Fault, SqsError};
use super::fairness::choose;
use super::messages::{Stored, remove};
use super::receipt::ReceiptHandle;
use super::state::{Queue, State, milliseconds, now_ms};
use super::validate;
use super::wire::{Attributes, Message, MessageAttributes, ReceiveMessage};

/// A receive request that was found good.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) queue: i64,
    limit: usize,
    /// Until when a long poll may wait.
    pub(super) until: i64,
    visibility_timeout: i64,
    system_attributes: Names,
    attributes: Names,
}

impl Wanted {
    pub(super) fn read(state: &State, request: &ReceiveMessage) -> Result<Self, SqsError> {
        let queue = state.queue(&request.queue_url)?;
        let wait = match request.wait_time_seconds {
            None => queue.settings.wait,
            Some(seconds) => validate::wait(seconds)?,
        };
        let visibility_timeout = match request.visibility_timeout {
            None => queue.settings.visibility_timeout,
            Some(seconds) => validate::visibility(seconds)?,
        };
        let both = request.attribute_names.iter().chain(&request.message_system_attribute_names).flatten();
        Ok(Self {
            queue: queue.id,
            limit: validate::max_messages(request.max_number_of_messages)?,
            until: now_ms().saturating_add(milliseconds(wait)),
            visibility_timeout: milliseconds(visibility_timeout),
            system_attributes: Names(both.cloned().collect()),
            attributes: Names(request.message_attribute_names.clone().unwrap_or_default()),
        })
    }
}

/// Names asked for: each alone, all of them, or those with a prefix (`name.*`).
#[derive(Debug, Clone)]
struct Names(Vec<String>);

impl Names {
    fn ask_for(&self, name: &str) -> bool {
        self.0.iter().any(|asked| match asked.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => asked == "All" || asked == name,
        })
    }
}

/// Takes what is visible: hides it for the visibility timeout and counts the receipt. What outlived its
/// retention is deleted on the way; what was received too often goes to the dead-letter queue, unless that is
/// gone.
pub(super) fn take(state: &mut State, wanted: &Wanted) -> Result<Vec<Message>, Fault> {
    let Some(queue) = state.queues.get(&wanted.queue).cloned() else {
        return Err(SqsError::no_queue().into());
    };
    let now = now_ms();
    loop {
        let candidates = choose(state, queue.id, now, wanted.limit)?;
        let mut kept = Vec::with_capacity(candidates.len());
        let mut moved_on = false;
        for message in candidates {
            if leave_queue(state, &queue, &message, now)? {
                moved_on = true;
            } else {
                kept.push(message);
            }
        }
        if !moved_on {
            return kept.into_iter().map(|message| receive(state, wanted, message, now)).collect();
        }
    }
}

/// Whether a message may not be received from this queue any more; then it has gone where it belongs.
fn leave_queue(state: &mut State, queue: &Queue, message: &Stored, now: i64) -> rusqlite::Result<bool> {
    if message.sent_at.saturating_add(milliseconds(queue.settings.retention)) <= now {
        remove(state, message.id)?;
        return Ok(true);
    }
    let Some(redrive) = &queue.settings.redrive else { return Ok(false) };
    if message.received_here < redrive.max_receive_count {
        return Ok(false);
    }
    let Some(target) = state.by_arn(&redrive.target_arn).map(|target| target.id) else {
        // Better received once more than lost.
        return Ok(false);
    };
    let update = "UPDATE messages SET queue = ?2, visible_at = ?3, dead_letter_source = ?4, received_here = 0
        WHERE id = ?1";
    let source = state.identity.arn(&queue.name);
    state.connection.prepare_cached(update)?.execute(params![message.id, target, now, source])?;
    state.touched.insert(target);
    Ok(true)
}

fn receive(state: &State, wanted: &Wanted, mut message: Stored, now: i64) -> Result<Message, Fault> {
    message.receive_count += 1;
    let first_received_at = *message.first_received_at.get_or_insert(now);
    let update = "UPDATE messages SET visible_at = ?2, receive_count = ?3, first_received_at = ?4,
        received_here = received_here + 1 WHERE id = ?1";
    let hidden_until = now.saturating_add(wanted.visibility_timeout);
    let row = params![message.id, hidden_until, message.receive_count, first_received_at];
    state.connection.prepare_cached(update)?.execute(row)?;
    let handle =
        ReceiptHandle { queue: wanted.queue, message: message.id, receive_count: message.receive_count };
    let attributes = system_attributes(state, wanted, &message)?;
    let mut message_attributes = stored_attributes(message.attributes.as_deref())?;
    message_attributes.retain(|name, _| wanted.attributes.ask_for(name));
    Ok(Message {
        receipt_handle: handle.encode(),
        attributes_md5: super::digest::md5_of_attributes(&message_attributes),
        message_attributes,
        attributes,
        message_id: message.message_id,
        body_md5: message.body_md5,
        body: message.body,
    })
}

fn system_attributes(state: &State, wanted: &Wanted, message: &Stored) -> rusqlite::Result<Attributes> {
    let trace = stored_attributes(message.system_attributes.as_deref())?.remove("AWSTraceHeader");
    let pairs = [
        ("ApproximateReceiveCount", Some(message.receive_count.to_string())),
        ("ApproximateFirstReceiveTimestamp", message.first_received_at.map(|at| at.to_string())),
        ("SentTimestamp", Some(message.sent_at.to_string())),
        ("SenderId", Some(state.identity.account.clone())),
        ("MessageGroupId", message.group_id.clone()),
        ("DeadLetterQueueSourceArn", message.dead_letter_source.clone()),
        ("AWSTraceHeader", trace.and_then(|trace| trace.string_value)),
    ];
    let asked = pairs.into_iter().filter(|(name, _)| wanted.system_attributes.ask_for(name));
    Ok(asked.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

fn stored_attributes(text: Option<&str>) -> rusqlite::Result<MessageAttributes> {
    let Some(text) = text else { return Ok(MessageAttributes::new()) };
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
