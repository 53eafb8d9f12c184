//! Message move tasks: messages of a dead-letter queue go back to where they came from, or elsewhere.
//!
//! A task is a row, and each step of it is part of a transaction, so that a killed process goes on where it
//! stopped. A moved message is a new one, as on AWS: new id, sent now, never received.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>

use rusqlite::{OptionalExtension, Row, params};

use super::error::{Code, Fault, SqsError};
use super::messages::new_message_id;
use super::queues::sources_of;
use super::state::{State, now_ms};
use super::wire::{
    ListMessageMoveTasks, MessageMoveTask, MessageMoveTasks, MovedCount, StartMessageMoveTask, TaskHandle,
};

/// The fastest that a task may be asked to move, and what one moves without being asked.
const MAX_PER_SECOND: i64 = 500;
/// Steps per second of a task.
const STEPS_PER_SECOND: i64 = 10;
const STEP_MS: i64 = 1_000 / STEPS_PER_SECOND;

/// Begins a task. One at a time may run for a source.
pub(super) fn start(state: &mut State, request: &StartMessageMoveTask) -> Result<TaskHandle, Fault> {
    let Some(source) = state.by_arn(&request.source_arn).map(|queue| queue.id) else {
        return Err(
            not_found("The resource that you specified for the SourceArn parameter doesn't exist.").into()
        );
    };
    if sources_of(state, &request.source_arn).next().is_none() {
        let message = "Source queue must be configured as a Dead Letter Queue.";
        return Err(SqsError::new(Code::InvalidParameterValue, message).into());
    }
    if request.destination_arn.as_deref().is_some_and(|arn| state.by_arn(arn).is_none()) {
        let message = "The resource that you specified for the DestinationArn parameter doesn't exist.";
        return Err(not_found(message).into());
    }
    let rate = request.max_number_of_messages_per_second;
    if let Some(rate) = rate.filter(|rate| !(1..=MAX_PER_SECOND).contains(rate)) {
        let reason = "Must be between 1 and 500, if provided.";
        return Err(SqsError::value("MaxNumberOfMessagesPerSecond", rate, reason).into());
    }
    if running(state, Some(source))?.is_some() {
        let message = "There is already a task running. Only one active task is allowed for a source queue arn at a \
                       given time.";
        return Err(SqsError::new(Code::UnsupportedOperation, message).into());
    }
    let insert =
        "INSERT INTO moves (source, source_arn, destination_arn, per_second, status, started_at, to_move,
            last_message)
        SELECT ?1, ?2, ?3, ?4, 'RUNNING', ?5, count(*), coalesce(max(id), 0)
        FROM messages WHERE queue = ?1 AND visible_at <= ?5";
    let row = params![source, request.source_arn, request.destination_arn, rate, now_ms()];
    state.connection.prepare_cached(insert)?.execute(row)?;
    Ok(TaskHandle { task_handle: handle(state.connection.last_insert_rowid()) })
}

/// Stops a running task where it stands.
pub(super) fn cancel(state: &mut State, request: &TaskHandle) -> Result<MovedCount, Fault> {
    let update = "UPDATE moves SET status = 'CANCELLED' WHERE id = ?1 AND status = 'RUNNING' RETURNING moved";
    let moved = state
        .connection
        .prepare_cached(update)?
        .query_row([task_id(&request.task_handle)], |row| row.get(0))
        .optional()?;
    match moved {
        Some(moved) => Ok(MovedCount { approximate_number_of_messages_moved: moved }),
        None => Err(not_found("Task does not exist, or does not run any more.").into()),
    }
}

/// The newest tasks of a source.
pub(super) fn list(state: &State, request: &ListMessageMoveTasks) -> Result<MessageMoveTasks, Fault> {
    if state.by_arn(&request.source_arn).is_none() {
        return Err(
            not_found("The resource that you specified for the SourceArn parameter doesn't exist.").into()
        );
    }
    let limit = request.max_results.unwrap_or(1);
    if !(1..=10).contains(&limit) {
        return Err(SqsError::value("MaxResults", limit, "Must be between 1 and 10, if provided.").into());
    }
    let select =
        "SELECT id, status, source_arn, destination_arn, per_second, moved, to_move, failure, started_at
        FROM moves WHERE source_arn = ?1 ORDER BY id DESC LIMIT ?2";
    let mut select = state.connection.prepare_cached(select)?;
    let tasks = select.query_map(params![request.source_arn, limit], shown)?;
    Ok(MessageMoveTasks { results: tasks.collect::<rusqlite::Result<_>>()? })
}

fn shown(row: &Row<'_>) -> rusqlite::Result<MessageMoveTask> {
    let status: String = row.get(1)?;
    Ok(MessageMoveTask {
        task_handle: if status == "RUNNING" { Some(handle(row.get(0)?)) } else { None },
        status,
        source_arn: row.get(2)?,
        destination_arn: row.get(3)?,
        max_number_of_messages_per_second: row.get(4)?,
        approximate_number_of_messages_moved: row.get(5)?,
        approximate_number_of_messages_to_move: row.get(6)?,
        failure_reason: row.get(7)?,
        started_timestamp: row.get(8)?,
    })
}

/// Moves a little of one running task, and says when to come again: `None` when no task runs.
pub(super) fn step(state: &mut State) -> Result<Option<i64>, Fault> {
    let Some(task) = running(state, None)? else { return Ok(None) };
    let moved = match task.step(state)? {
        Step::Moved(moved) => moved,
        Step::Failed(reason) => {
            let update = "UPDATE moves SET status = 'FAILED', failure = ?2 WHERE id = ?1";
            state.connection.prepare_cached(update)?.execute(params![task.id, reason])?;
            return Ok(Some(now_ms()));
        }
    };
    let update =
        "UPDATE moves SET moved = moved + ?2, status = iif(?2 = 0, 'COMPLETED', status) WHERE id = ?1";
    state.connection.prepare_cached(update)?.execute([task.id, moved])?;
    // A task of r per second moves at least one message per step, so a slow one steps more seldom.
    let pause = (moved * 1_000 / task.per_second).max(if moved == 0 { 0 } else { STEP_MS });
    Ok(Some(now_ms() + pause))
}

enum Step {
    Moved(i64),
    Failed(&'static str),
}

struct Task {
    id: i64,
    source: i64,
    destination_arn: Option<String>,
    per_second: i64,
    last_message: i64,
}

fn running(state: &State, source: Option<i64>) -> rusqlite::Result<Option<Task>> {
    let select = "SELECT id, source, destination_arn, coalesce(per_second, ?2), last_message FROM moves
        WHERE status = 'RUNNING' AND (?1 IS NULL OR source = ?1) ORDER BY id LIMIT 1";
    let mut select = state.connection.prepare_cached(select)?;
    let task = select.query_row(params![source, MAX_PER_SECOND], |row| {
        Ok(Task {
            id: row.get(0)?,
            source: row.get(1)?,
            destination_arn: row.get(2)?,
            per_second: row.get(3)?,
            last_message: row.get(4)?,
        })
    });
    task.optional()
}

impl Task {
    fn step(&self, state: &mut State) -> Result<Step, Fault> {
        if !state.queues.contains_key(&self.source) {
            return Ok(Step::Failed("AWS.SimpleQueueService.NonExistentQueue"));
        }
        let limit = (self.per_second / STEPS_PER_SECOND).max(1);
        let messages = self.messages(state, limit)?;
        let mut moved = 0;
        for (message, came_from) in messages {
            let Some(arn) = self.destination_arn.as_ref().or(came_from.as_ref()) else {
                return Ok(Step::Failed("CouldNotDetermineMessageSource"));
            };
            let Some(target) = state.by_arn(arn).map(|queue| queue.id) else {
                return Ok(Step::Failed("AWS.SimpleQueueService.NonExistentQueue"));
            };
            move_one(state, message, target)?;
            moved += 1;
        }
        Ok(Step::Moved(moved))
    }

    fn messages(&self, state: &State, limit: i64) -> rusqlite::Result<Vec<(i64, Option<String>)>> {
        let select = "SELECT id, dead_letter_source FROM messages
            WHERE queue = ?1 AND visible_at <= ?2 AND id <= ?3 ORDER BY visible_at, id LIMIT ?4";
        let mut select = state.connection.prepare_cached(select)?;
        let rows = select.query_map([self.source, now_ms(), self.last_message, limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect()
    }
}

fn move_one(state: &mut State, message: i64, target: i64) -> Result<(), Fault> {
    let insert = "INSERT INTO messages
        (queue, visible_at, sent_at, message_id, group_id, attributes, system_attributes, body_md5, body)
        SELECT ?2, ?3, ?3, ?4, group_id, attributes, system_attributes, body_md5, body FROM messages WHERE id = ?1";
    let row = params![message, target, now_ms(), new_message_id()?];
    state.connection.prepare_cached(insert)?.execute(row)?;
    super::messages::remove(state, message)?;
    state.touched.insert(target);
    Ok(())
}

fn handle(id: i64) -> String {
    format!("move-{id}")
}

/// The row of a handle; 0, which is nobody's, for what is none.
fn task_id(handle: &str) -> i64 {
    handle.strip_prefix("move-").and_then(|id| id.parse().ok()).unwrap_or(0)
}

fn not_found(message: &str) -> SqsError {
    SqsError::new(Code::ResourceNotFound, message)
}
