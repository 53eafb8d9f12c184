//! The queue's wire form. A message only wakes a worker: it names a job, or a key to be probed, and carries no prompt and
//! no secret.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{JobId, KeyId, ModelName, UserId};

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;

/// What a worker is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Look at this job.
    Job(JobMessage),
    /// Probe this key.
    Probe(ProbeMessage),
}

/// "Ask the provider whether it accepts this key." Only a worker may open its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeMessage {
    /// Wire version, [`VERSION`].
    pub v: u32,
    /// The key.
    pub probe_key: KeyId,
}

/// "Look at this job."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobMessage {
    /// Wire version, [`VERSION`].
    pub v: u32,
    /// The job's owner.
    pub user: UserId,
    /// The job.
    pub job_id: JobId,
    /// The model of the catalogue that it asks for: which quota it needs, before the record is read.
    pub model: ModelName,
}

#[derive(Deserialize)]
pub(crate) struct Versioned {
    pub(crate) v: u32,
    probe_key: Option<serde::de::IgnoredAny>,
}

/// Why a body is not a message.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Not the JSON of a message. Its words tell where, not what: what somebody else sent may be anything, and they are logged.
    #[error("the body is no message (line {line}, column {column})")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Written by another release.
    #[error("the message has version {0}, this release reads {VERSION}")]
    Version(u32),
}

impl From<serde_json::Error> for MessageError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed { line: error.line(), column: error.column() }
    }
}

impl Message {
    /// Reads a message body.
    ///
    /// # Errors
    /// When the body is not JSON of one of these forms, or of another version.
    pub fn parse(body: &str) -> Result<Self, MessageError> {
        // The version first: another release's message may have other fields.
        let Versioned { v, probe_key } = serde_json::from_str(body)?;
        if v != VERSION {
            return Err(MessageError::Version(v));
        }
        Ok(match probe_key {
            None => Self::Job(serde_json::from_str(body)?),
            Some(_) => Self::Probe(serde_json::from_str(body)?),
        })
    }

    /// The body to send.
    pub fn body(&self) -> String {
        match self {
            Self::Job(job) => serde_json::json!(job),
            Self::Probe(probe) => serde_json::json!(probe),
        }
        .to_string()
    }

    /// The fair queue's group: a user's messages, or an operator's.
    pub fn group(&self) -> String {
        match self {
            Self::Job(job) => job.user.fair_group(),
            Self::Probe(_) => "probes".to_owned(),
        }
    }
}

impl ProbeMessage {
    /// The message that has this key probed.
    pub const fn new(key: KeyId) -> Self {
        Self { v: VERSION, probe_key: key }
    }
}

impl JobMessage {
    /// The message that wakes a worker for this job.
    pub fn new(user: UserId, job_id: JobId, model: ModelName) -> Self {
        Self { v: VERSION, user, job_id, model }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::id::IdempotencyKey;

    #[test]
    fn what_is_sent_is_what_is_read() {
        let user = UserId::parse("alice").unwrap();
        let id = JobId::derive(&user, &IdempotencyKey::parse("k").unwrap());
        let message = JobMessage::new(user, id, ModelName::parse("darkroom-local").unwrap());
        for message in
            [Message::Job(message), Message::Probe(ProbeMessage::new(KeyId::derive("gemini", "secret")))]
        {
            assert_eq!(Message::parse(&message.body()).unwrap(), message);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let id = format!("job_{}", "a".repeat(52));
        for body in [
            String::new(),
            "not json".to_owned(),
            "{}".to_owned(),
            format!(r#"{{"v":2,"user":"a","job_id":"{id}","model":"m"}}"#),
            format!(r#"{{"v":1,"user":"a","job_id":"{id}","model":"m","prompt":"x"}}"#),
            r#"{"v":1,"user":"a","job_id":"job_x","model":"m"}"#.to_owned(),
            r#"{"v":1,"probe_key":null}"#.to_owned(),
            format!(r#"{{"v":1,"probe_key":"{}","user":"a"}}"#, KeyId::derive("gemini", "secret")),
            r#"{"v":2,"probe_key":"x"}"#.to_owned(),
        ] {
            assert!(Message::parse(&body).is_err(), "{body}");
        }
    }
}
