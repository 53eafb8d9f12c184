//! What owners are told without asking: who is connected, what a client may say, and what it is sent.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error_code::Language;
use crate::id::{ConnectionId, JobId, base32, digest, is_base32};
use crate::limits::{CONNECTION_LIFE, CONNECTIONS_MAX, SYNC_JOBS_MAX};
use crate::time::Timestamp;

/// Opens one connection in its user's name, once. A secret: it has no `Debug` and no `Display`, and is stored hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectTicket(String);

const TICKET_PREFIX: &str = "wst_";

impl ConnectTicket {
    /// The ticket of these 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(format!("{TICKET_PREFIX}{}", base32(&bytes)))
    }

    /// Parses what a client brought; `None` when it is no ticket.
    pub fn parse(text: &str) -> Option<Self> {
        is_base32(text, TICKET_PREFIX, 52).then(|| Self(text.to_owned()))
    }

    /// The ticket itself, for its user alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it: base32(SHA-256). The ticket has 256 random bits, so nothing leads back.
    pub fn hash(&self) -> String {
        base32(&digest(&["ticket", &self.0]))
    }
}

/// One open connection of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id at the gateway.
    pub id: ConnectionId,
    /// When it was opened.
    pub connected_at: Timestamp,
    /// The language of what it is told.
    pub language: Language,
}

impl Connection {
    /// When the gateway has ended it at the latest.
    pub fn ends_at(&self) -> Timestamp {
        self.connected_at.plus(CONNECTION_LIFE)
    }
}

/// A user's connections, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Counts the writes; 0 before the first.
    pub version: u64,
    /// Those that were opened and not known to have ended.
    pub list: Vec<Connection>,
}

impl Connections {
    /// Those that the gateway may still hold at this time.
    pub fn open(&self, now: Timestamp) -> impl Iterator<Item = &Connection> {
        self.list.iter().filter(move |connection| connection.ends_at() > now)
    }

    /// The connections with one more, and those that have to go: at most [`CONNECTIONS_MAX`] stay, the newest. One that
    /// is there already is not added twice.
    pub fn with(&self, connection: &Connection) -> (Self, Vec<Connection>) {
        let (over, open): (Vec<_>, Vec<_>) = self
            .list
            .iter()
            .filter(|other| other.id != connection.id)
            .cloned()
            .partition(|other| other.ends_at() <= connection.connected_at);
        let excess = (open.len() + 1).saturating_sub(CONNECTIONS_MAX);
        let (evicted, stay) = open.split_at(excess);
        let gone = over.iter().chain(evicted).cloned().collect();
        let list = stay.iter().chain([connection]).cloned().collect();
        (Self { version: self.version + 1, list }, gone)
    }

    /// The connections without this one; `None` when it is not among them.
    pub fn without(&self, id: &ConnectionId) -> Option<Self> {
        let list: Vec<_> = self.list.iter().filter(|other| other.id != *id).cloned().collect();
        (list.len() < self.list.len()).then(|| Self { version: self.version + 1, list })
    }
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Tell me my jobs: those that are under way, and these, whatever became of them.
    Sync {
        /// Jobs that the client knows of, and has not seen end.
        jobs: Vec<JobId>,
    },
    /// I am still here.
    Ping,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    Sync {
        #[serde(default)]
        jobs: Vec<JobId>,
    },
    Ping {},
}

impl ClientMessage {
    /// Reads a message; `None` when it is none of ours, or names more than [`SYNC_JOBS_MAX`] jobs.
    pub fn parse(text: &str) -> Option<Self> {
        match serde_json::from_str(text).ok()? {
            Said::Sync { jobs } => (jobs.len() <= SYNC_JOBS_MAX).then_some(Self::Sync { jobs }),
            Said::Ping {} => Some(Self::Ping),
        }
    }
}

/// What a client is told of a job that changed: `view` is the job as its owner sees it ([`crate::job_view`]). A client
/// keeps the highest version of each job and drops the others.
pub fn job_updated(version: u64, view: &Value) -> Value {
    json!({"type": "job.updated", "job": view, "version": version})
}

/// The end of a sync: what it named and was not told is not there (any more). `complete` unless more jobs are under way than
/// a sync looks at.
pub fn synced(complete: bool) -> Value {
    json!({"type": "synced", "complete": complete})
}

/// The answer to [`ClientMessage::Ping`].
pub fn pong() -> Value {
    json!({"type": "pong"})
}
