//! What the store holds: the database, and the queues as they are in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::attributes::QueueSettings;
use super::error::{Code, SqsError};
use super::wire::Attributes;
use crate::sqlite::OpenError;

/// Counts the changes of the schema.
const LAYOUT: i64 = 1;

/// Ids are never used twice (`AUTOINCREMENT`): receipt handles depend on it. Times are milliseconds since
/// 1970.
const SCHEMA: &str = "
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        attributes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL
    );
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        receive_count INTEGER NOT NULL DEFAULT 0,
        received_here INTEGER NOT NULL DEFAULT 0,  -- since it came into this queue
        first_received_at INTEGER,
        sent_at INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        group_id TEXT,
        attributes TEXT,
        system_attributes TEXT,
        dead_letter_source TEXT,  -- the queue whose receivers gave up on it
        body_md5 TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX messages_by_due ON messages (queue, visible_at);
    CREATE INDEX messages_by_group ON messages (queue, group_id, visible_at);
    CREATE TABLE moves (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL,
        source_arn TEXT NOT NULL,
        destination_arn TEXT,
        per_second INTEGER,
        status TEXT NOT NULL,
        moved INTEGER NOT NULL DEFAULT 0,
        to_move INTEGER NOT NULL,
        last_message INTEGER NOT NULL,  -- messages that come later are not moved
        failure TEXT,
        started_at INTEGER NOT NULL
    );";

/// Statements kept prepared; there are fewer than this.
const STATEMENTS: usize = 64;

/// Who this SQS says it is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) region: String,
    pub(super) account: String,
    /// `http://127.0.0.1:PORT`
    pub(super) endpoint: String,
}

impl Identity {
    pub(super) fn url(&self, queue: &str) -> String {
        format!("{}/{}/{queue}", self.endpoint, self.account)
    }

    pub(super) fn arn(&self, queue: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{queue}", self.region, self.account)
    }

    /// The name of the queue that an ARN of ours names.
    pub(super) fn name_in_arn<'a>(&self, arn: &'a str) -> Option<&'a str> {
        arn.strip_prefix(&self.arn("")).filter(|name| !name.is_empty())
    }

    /// The name of the queue that a URL names. Scheme, host and port are not looked at: the port may have
    /// changed since.
    ///
    /// # Errors
    /// `InvalidAddress` for what is no queue URL, `QueueDoesNotExist` for another account's.
    fn name_in_url<'a>(&self, url: &'a str) -> Result<&'a str, SqsError> {
        let mut parts = url.trim_end_matches('/').rsplit('/');
        match (parts.next(), parts.next()) {
            (Some(name), Some(account)) if account == self.account && !name.is_empty() => Ok(name),
            (Some(_), Some(account)) if account.len() == 12 => Err(SqsError::no_queue()),
            _ => Err(SqsError::new(
                Code::InvalidAddress,
                format!(
                    "The address {url} is not valid for this endpoint: it should read {}.",
                    self.url("NAME")
                ),
            )),
        }
    }
}

/// A queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) id: i64,
    pub(super) name: String,
    /// Those that were set; the others have their defaults.
    pub(super) attributes: Attributes,
    pub(super) settings: QueueSettings,
    pub(super) created_at: i64,
    pub(super) modified_at: i64,
}

/// The state: owned by the store's one thread, so that what it reads nobody changes.
pub(super) struct State {
    pub(super) connection: Connection,
    pub(super) identity: Identity,
    pub(super) queues: BTreeMap<i64, Queue>,
    by_name: BTreeMap<String, i64>,
    /// Queues in which something may have become visible since the last look.
    pub(super) touched: BTreeSet<i64>,
}

impl State {
    pub(super) fn open(file: &Path, identity: Identity) -> Result<Self, OpenError> {
        let connection = crate::sqlite::open(file, SCHEMA, LAYOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let mut state = Self {
            connection,
            identity,
            queues: BTreeMap::new(),
            by_name: BTreeMap::new(),
            touched: BTreeSet::new(),
        };
        state.reload()?;
        Ok(state)
    }

    /// Reads the queues from the database: at the start, and when a transaction was undone.
    pub(super) fn reload(&mut self) -> rusqlite::Result<()> {
        let queues = {
            let select = "SELECT id, name, attributes, created_at, modified_at FROM queues";
            let mut select = self.connection.prepare_cached(select)?;
            let rows = select.query_map([], read_queue)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()?
        };
        self.queues.clear();
        self.by_name.clear();
        for queue in queues {
            self.remember(queue);
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, queue: Queue) {
        self.by_name.insert(queue.name.clone(), queue.id);
        self.queues.insert(queue.id, queue);
    }

    pub(super) fn forget(&mut self, queue: &Queue) {
        self.by_name.remove(&queue.name);
        self.queues.remove(&queue.id);
    }

    pub(super) fn named(&self, name: &str) -> Option<&Queue> {
        self.queues.get(self.by_name.get(name)?)
    }

    pub(super) fn by_arn(&self, arn: &str) -> Option<&Queue> {
        self.named(self.identity.name_in_arn(arn)?)
    }

    /// The queue that a request names.
    ///
    /// # Errors
    /// `QueueDoesNotExist`, `InvalidAddress`.
    pub(super) fn queue(&self, url: &str) -> Result<Queue, SqsError> {
        let name = self.identity.name_in_url(url)?;
        self.named(name).cloned().ok_or_else(SqsError::no_queue)
    }
}

fn read_queue(row: &rusqlite::Row<'_>) -> rusqlite::Result<Queue> {
    let text: String = row.get(2)?;
    let attributes: Attributes = serde_json::from_str(&text).map_err(unreadable)?;
    let settings = QueueSettings::of(&attributes).map_err(unreadable)?;
    Ok(Queue {
        id: row.get(0)?,
        name: row.get(1)?,
        attributes,
        settings,
        created_at: row.get(3)?,
        modified_at: row.get(4)?,
    })
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    milliseconds(now)
}

pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
