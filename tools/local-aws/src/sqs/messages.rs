//! Operations on messages: send, take, delete, show or hide.

use rusqlite::{OptionalExtension, Row, params};

use super::digest::{md5_of_attributes, md5_of_body};
use super::error::{Code, Fault, SqsError};
use super::receipt::ReceiptHandle;
use super::state::{Queue, State, milliseconds, now_ms, to_json};
use super::validate::{self, ValidMessage};
use super::wire::{
    Batch, BatchResult, ChangeMessageVisibility, DeleteMessage, Entry, Failed, MessageAttributes, NewMessage,
    Nothing, Receipt, SendMessage, Sent, Succeeded, VisibilityChange,
};

pub(super) fn send(state: &mut State, request: SendMessage) -> Result<Sent, Fault> {
    let queue = state.queue(&request.queue_url)?;
    send_one(state, &queue, request.message)
}

pub(super) fn send_batch(state: &mut State, request: Batch<NewMessage>) -> Result<BatchResult<Sent>, Fault> {
    validate::check_batch(&request.entries)?;
    validate::check_batch_size(&request.entries)?;
    each(state, request, send_one)
}

pub(super) fn delete(state: &mut State, request: &DeleteMessage) -> Result<Nothing, Fault> {
    let queue = state.queue(&request.queue_url)?;
    delete_one(state, &queue, &request.receipt)
}

pub(super) fn delete_batch(
    state: &mut State,
    request: Batch<Receipt>,
) -> Result<BatchResult<Nothing>, Fault> {
    validate::check_batch(&request.entries)?;
    each(state, request, |state, queue, receipt| delete_one(state, queue, &receipt))
}

pub(super) fn change_visibility(
    state: &mut State,
    request: ChangeMessageVisibility,
) -> Result<Nothing, Fault> {
    let queue = state.queue(&request.queue_url)?;
    change_one(state, &queue, request.change)
}

pub(super) fn change_visibility_batch(
    state: &mut State,
    request: Batch<VisibilityChange>,
) -> Result<BatchResult<Nothing>, Fault> {
    validate::check_batch(&request.entries)?;
    each(state, request, change_one)
}

/// Does `one` to each entry; a refusal fails its entry alone.
fn each<T, R>(
    state: &mut State,
    request: Batch<T>,
    one: impl Fn(&mut State, &Queue, T) -> Result<R, Fault>,
) -> Result<BatchResult<R>, Fault> {
    let queue = state.queue(&request.queue_url)?;
    let mut result = BatchResult { successful: Vec::new(), failed: Vec::new() };
    for Entry { id, body } in request.entries {
        match one(state, &queue, body) {
            Ok(body) => result.successful.push(Succeeded { id, body }),
            Err(Fault::Refused(SqsError { code, message })) => result.failed.push(Failed {
                id,
                sender_fault: code.is_sender(),
                code: code.query().to_owned(),
                message,
            }),
            Err(fault @ Fault::Storage(_)) => return Err(fault),
        }
    }
    Ok(result)
}

fn send_one(state: &mut State, queue: &Queue, message: NewMessage) -> Result<Sent, Fault> {
    let message = ValidMessage::check(message, &queue.settings)?;
    let message_id = new_message_id()?;
    let body_md5 = md5_of_body(&message.body);
    let now = now_ms();
    let insert = "INSERT INTO messages
        (queue, visible_at, sent_at, message_id, group_id, attributes, system_attributes, body_md5, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    state.connection.prepare_cached(insert)?.execute(params![
        queue.id,
        now.saturating_add(milliseconds(message.delay)),
        now,
        message_id,
        message.group_id,
        attributes_text(&message.attributes)?,
        attributes_text(&message.system_attributes)?,
        body_md5,
        message.body,
    ])?;
    state.touched.insert(queue.id);
    Ok(Sent {
        message_id,
        body_md5,
        attributes_md5: md5_of_attributes(&message.attributes),
        system_attributes_md5: md5_of_attributes(&message.system_attributes),
    })
}

/// Attributes as they are stored: nothing when there are none.
fn attributes_text(attributes: &MessageAttributes) -> rusqlite::Result<Option<String>> {
    if attributes.is_empty() { Ok(None) } else { to_json(attributes).map(Some) }
}

/// A random UUID (version 4).
pub(super) fn new_message_id() -> Result<String, SqsError> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the operating system gave no randomness");
        SqsError::internal()
    })?;
    let number = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

/// Deletes the message of a receipt. An older receipt of a message that was received again since deletes
/// nothing and succeeds, as AWS documents for standard queues: the newer receiver keeps it. So does the
/// receipt of a message that is gone.
fn delete_one(state: &mut State, queue: &Queue, receipt: &Receipt) -> Result<Nothing, Fault> {
    let handle = ReceiptHandle::decode(&receipt.receipt_handle, queue.id)?;
    let delete = "DELETE FROM messages WHERE id = ?1 AND queue = ?2 AND receive_count = ?3";
    state.connection.prepare_cached(delete)?.execute([handle.message, queue.id, handle.receive_count])?;
    Ok(Nothing {})
}

/// Lets the message of a receipt become visible after another time, counted from now; 0 shows it at once.
///
/// # Errors
/// `InvalidParameterValue` when the message is gone or was received again since, `MessageNotInflight` when it
/// is visible.
fn change_one(state: &mut State, queue: &Queue, change: VisibilityChange) -> Result<Nothing, Fault> {
    let handle = ReceiptHandle::decode(&change.receipt_handle, queue.id)?;
    let asked = change.visibility_timeout.ok_or_else(|| SqsError::missing("VisibilityTimeout"))?;
    let timeout = validate::visibility(asked)?;
    let now = now_ms();
    let select = "SELECT visible_at FROM messages WHERE id = ?1 AND queue = ?2 AND receive_count = ?3";
    let visible_at: Option<i64> = state
        .connection
        .prepare_cached(select)?
        .query_row([handle.message, queue.id, handle.receive_count], |row| row.get(0))
        .optional()?;
    let Some(visible_at) = visible_at else {
        let reason = "Message does not exist or is not available for visibility timeout change.";
        return Err(SqsError::value("ReceiptHandle", change.receipt_handle, reason).into());
    };
    if visible_at <= now {
        let message = "The specified message isn't in flight: it is visible again.";
        return Err(SqsError::new(Code::MessageNotInflight, message).into());
    }
    let update = "UPDATE messages SET visible_at = ?2 WHERE id = ?1";
    let shown = now.saturating_add(milliseconds(timeout));
    state.connection.prepare_cached(update)?.execute([handle.message, shown])?;
    state.touched.insert(queue.id);
    Ok(Nothing {})
}

/// A message as it lies in its queue.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) visible_at: i64,
    pub(super) receive_count: i64,
    /// Since it came into the queue it is in.
    pub(super) received_here: i64,
    pub(super) first_received_at: Option<i64>,
    pub(super) sent_at: i64,
    pub(super) message_id: String,
    pub(super) group_id: Option<String>,
    pub(super) attributes: Option<String>,
    pub(super) system_attributes: Option<String>,
    pub(super) dead_letter_source: Option<String>,
    pub(super) body_md5: String,
    pub(super) body: String,
}

const STORED: &str =
    "SELECT id, visible_at, receive_count, received_here, first_received_at, sent_at, message_id, group_id, attributes,
    system_attributes, dead_letter_source, body_md5, body FROM messages";

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        id: row.get(0)?,
        visible_at: row.get(1)?,
        receive_count: row.get(2)?,
        received_here: row.get(3)?,
        first_received_at: row.get(4)?,
        sent_at: row.get(5)?,
        message_id: row.get(6)?,
        group_id: row.get(7)?,
        attributes: row.get(8)?,
        system_attributes: row.get(9)?,
        dead_letter_source: row.get(10)?,
        body_md5: row.get(11)?,
        body: row.get(12)?,
    })
}

/// Up to `limit` visible messages of a queue, those first that have been visible longest.
pub(super) fn visible(state: &State, queue: i64, now: i64, limit: usize) -> rusqlite::Result<Vec<Stored>> {
    let select = format!("{STORED} WHERE queue = ?1 AND visible_at <= ?2 ORDER BY visible_at, id LIMIT ?3");
    let mut select = state.connection.prepare_cached(&select)?;
    let rows = select.query_map(params![queue, now, limit], stored)?;
    rows.collect()
}

/// The same of one group, or of the messages without one.
pub(super) fn visible_of_group(
    state: &State,
    queue: i64,
    group: Option<&str>,
    now: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Stored>> {
    let select = format!(
        "{STORED} WHERE queue = ?1 AND group_id IS ?2 AND visible_at <= ?3 ORDER BY visible_at, id LIMIT ?4"
    );
    let mut select = state.connection.prepare_cached(&select)?;
    let rows = select.query_map(params![queue, group, now, limit], stored)?;
    rows.collect()
}

/// When the next message of a queue shows. No moment is asked for: what has shown since the caller looked for
/// visible messages is due at once, and a later "now" would pass it over.
pub(super) fn next_due(state: &State, queue: i64) -> rusqlite::Result<Option<i64>> {
    let select = "SELECT min(visible_at) FROM messages WHERE queue = ?1";
    state.connection.prepare_cached(select)?.query_row([queue], |row| row.get(0))
}

pub(super) fn remove(state: &State, id: i64) -> rusqlite::Result<()> {
    state.connection.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id]).map(drop)
}

/// Deletes what outlived its queue's retention. Receivers never see such messages; this is for queues that
/// nobody reads.
pub(super) fn expire(state: &State) -> rusqlite::Result<usize> {
    let now = now_ms();
    let mut expired = 0;
    for queue in state.queues.values() {
        let cut = now.saturating_sub(milliseconds(queue.settings.retention));
        let delete = "DELETE FROM messages WHERE queue = ?1 AND sent_at <= ?2";
        expired += state.connection.prepare_cached(delete)?.execute([queue.id, cut])?;
    }
    Ok(expired)
}
