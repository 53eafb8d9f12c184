//! Operations on queues: make, find, list, read, set, empty, remove.

use rusqlite::params;

use super::attributes::{self, QueueSettings};
use super::error::{Code, Fault, SqsError};
use super::state::{Queue, State, now_ms, to_json};
use super::validate::check_queue_name;
use super::wire::{
    Attributes, CreateQueue, GetQueueAttributes, GetQueueUrl, ListQueues, Nothing, OnQueue, QueueAttributes,
    QueueUrl, QueueUrls, SetQueueAttributes, SourceQueueUrls,
};

/// The most queues that one answer lists.
const PAGE: usize = 1_000;

/// Makes a queue. Idempotent for the same name and attributes.
///
/// # Errors
/// `QueueNameExists` when it exists with another value of an attribute named.
pub(super) fn create(state: &mut State, request: CreateQueue) -> Result<QueueUrl, Fault> {
    if request.tags.is_some_and(|tags| !tags.is_empty()) {
        return Err(
            SqsError::new(Code::UnsupportedOperation, "Queues have no tags here: leave them out.").into()
        );
    }
    let wanted = request.attributes.unwrap_or_default();
    if let Some(present) = state.named(&request.queue_name) {
        let all = attributes::with_defaults(&present.attributes);
        if wanted.iter().any(|(name, value)| all.get(name) != Some(value)) {
            let message = "A queue already exists with the same name and a different value for an attribute.";
            return Err(SqsError::new(Code::QueueNameExists, message).into());
        }
    } else {
        insert(state, &request.queue_name, &wanted)?;
    }
    Ok(QueueUrl { queue_url: state.identity.url(&request.queue_name) })
}

/// Makes a queue, or sets the attributes given on the one there is.
pub(super) fn ensure(state: &mut State, name: &str, wanted: &Attributes) -> Result<crate::Queue, Fault> {
    match state.named(name).cloned() {
        None => insert(state, name, wanted)?,
        Some(queue) => update(state, queue, wanted)?,
    }
    Ok(crate::Queue { url: state.identity.url(name), arn: state.identity.arn(name) })
}

fn insert(state: &mut State, name: &str, wanted: &Attributes) -> Result<(), Fault> {
    check_queue_name(name)?;
    let mut set = Attributes::new();
    attributes::check(wanted)?;
    attributes::merge(&mut set, wanted);
    let settings = settings(state, name, &set)?;
    let now = now_ms();
    let insert = "INSERT INTO queues (name, attributes, created_at, modified_at) VALUES (?1, ?2, ?3, ?3)";
    state.connection.prepare_cached(insert)?.execute(params![name, to_json(&set)?, now])?;
    let id = state.connection.last_insert_rowid();
    let name = name.to_owned();
    state.remember(Queue { id, name, attributes: set, settings, created_at: now, modified_at: now });
    Ok(())
}

fn update(state: &mut State, mut queue: Queue, changes: &Attributes) -> Result<(), Fault> {
    attributes::check(changes)?;
    attributes::merge(&mut queue.attributes, changes);
    queue.settings = settings(state, &queue.name, &queue.attributes)?;
    queue.modified_at = now_ms();
    let update = "UPDATE queues SET attributes = ?2, modified_at = ?3 WHERE id = ?1";
    let row = params![queue.id, to_json(&queue.attributes)?, queue.modified_at];
    state.connection.prepare_cached(update)?.execute(row)?;
    state.remember(queue);
    Ok(())
}

/// What the attributes mean; their dead-letter queue has to exist.
fn settings(state: &State, name: &str, set: &Attributes) -> Result<QueueSettings, SqsError> {
    let settings = QueueSettings::of(set)?;
    if let Some(redrive) = &settings.redrive {
        let target = state.by_arn(&redrive.target_arn).filter(|target| target.name != name);
        if target.is_none() {
            let message =
                format!("Dead letter target does not exist: make the queue {} first.", redrive.target_arn);
            return Err(SqsError::new(Code::InvalidParameterValue, message));
        }
    }
    Ok(settings)
}

pub(super) fn url(state: &State, request: &GetQueueUrl) -> Result<QueueUrl, Fault> {
    let queue = state.named(&request.queue_name).ok_or_else(SqsError::no_queue)?;
    Ok(QueueUrl { queue_url: state.identity.url(&queue.name) })
}

/// Queues by name. A token is the last name of the page before.
pub(super) fn list(state: &State, request: &ListQueues) -> Result<QueueUrls, Fault> {
    let limit = match request.max_results {
        None => PAGE,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=PAGE).contains(limit))
            .ok_or_else(|| SqsError::value("MaxResults", limit, "Must be between 1 and 1000."))?,
    };
    let prefix = request.queue_name_prefix.as_deref().unwrap_or_default();
    let after = request.next_token.as_deref();
    let mut names: Vec<&str> = state.queues.values().map(|queue| queue.name.as_str()).collect();
    names.sort_unstable();
    names.retain(|name| name.starts_with(prefix) && after.is_none_or(|after| *name > after));
    let more = names.len() > limit;
    names.truncate(limit);
    let next_token = names.last().filter(|_| more).map(|last| (*last).to_owned());
    let queue_urls = names.into_iter().map(|name| state.identity.url(name)).collect();
    Ok(QueueUrls { queue_urls, next_token })
}

/// The queues whose dead-letter queue this is.
pub(super) fn dead_letter_sources(state: &State, request: &OnQueue) -> Result<SourceQueueUrls, Fault> {
    let target = state.queue(&request.queue_url)?;
    let arn = state.identity.arn(&target.name);
    let names = sources_of(state, &arn).map(|queue| state.identity.url(&queue.name));
    Ok(SourceQueueUrls { queue_urls: names.collect() })
}

pub(super) fn sources_of<'a>(state: &'a State, arn: &'a str) -> impl Iterator<Item = &'a Queue> {
    state
        .queues
        .values()
        .filter(move |queue| queue.settings.redrive.as_ref().is_some_and(|redrive| redrive.target_arn == arn))
}

pub(super) fn get_attributes(state: &State, request: &GetQueueAttributes) -> Result<QueueAttributes, Fault> {
    let queue = state.queue(&request.queue_url)?;
    let asked = request.attribute_names.as_deref().unwrap_or_default();
    if let Some(unknown) = asked.iter().find(|name| *name != "All" && !attributes::is_known(name)) {
        return Err(SqsError::new(Code::InvalidAttributeName, format!("Unknown Attribute {unknown}.")).into());
    }
    let mut all = attributes::with_defaults(&queue.attributes);
    if !asked.is_empty() {
        all.extend(computed(state, &queue)?);
    }
    if !asked.iter().any(|name| name == "All") {
        all.retain(|name, _| asked.contains(name));
    }
    Ok(QueueAttributes { attributes: all })
}

fn computed(state: &State, queue: &Queue) -> rusqlite::Result<Attributes> {
    let now = now_ms();
    let visible = "SELECT count(*) FROM messages WHERE queue = ?1 AND visible_at <= ?2";
    let visible: i64 =
        state.connection.prepare_cached(visible)?.query_row([queue.id, now], |row| row.get(0))?;
    // A message that nobody received yet and that is not visible is a delayed one.
    let hidden = "SELECT count(*), count(*) FILTER (WHERE receive_count = 0)
        FROM messages WHERE queue = ?1 AND visible_at > ?2";
    let (hidden, delayed): (i64, i64) = state
        .connection
        .prepare_cached(hidden)?
        .query_row([queue.id, now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let pairs = [
        ("ApproximateNumberOfMessages", visible.to_string()),
        ("ApproximateNumberOfMessagesDelayed", delayed.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", (hidden - delayed).to_string()),
        ("CreatedTimestamp", (queue.created_at / 1_000).to_string()),
        ("LastModifiedTimestamp", (queue.modified_at / 1_000).to_string()),
        ("QueueArn", state.identity.arn(&queue.name)),
    ];
    Ok(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}

pub(super) fn set_attributes(state: &mut State, request: &SetQueueAttributes) -> Result<Nothing, Fault> {
    let queue = state.queue(&request.queue_url)?;
    update(state, queue, &request.attributes)?;
    Ok(Nothing {})
}

/// Deletes every message of a queue, at once. (AWS takes up to a minute and refuses a second purge
/// meanwhile.)
pub(super) fn purge(state: &mut State, request: &OnQueue) -> Result<Nothing, Fault> {
    let queue = state.queue(&request.queue_url)?;
    state.connection.prepare_cached("DELETE FROM messages WHERE queue = ?1")?.execute([queue.id])?;
    Ok(Nothing {})
}

/// Deletes a queue and its messages. A queue of the same name can be made at once. (AWS asks for a minute's
/// wait.)
pub(super) fn delete(state: &mut State, request: &OnQueue) -> Result<Nothing, Fault> {
    let queue = state.queue(&request.queue_url)?;
    state.connection.prepare_cached("DELETE FROM messages WHERE queue = ?1")?.execute([queue.id])?;
    state.connection.prepare_cached("DELETE FROM queues WHERE id = ?1")?.execute([queue.id])?;
    state.forget(&queue);
    state.touched.insert(queue.id);
    Ok(Nothing {})
}
