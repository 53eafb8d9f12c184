//! The queue's wire form. A message only wakes a worker: it names a job and carries no prompt.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{JobId, ModelName, UserId};

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;

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
struct Versioned {
    v: u32,
}

/// Why a body is not a message.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Not the JSON of a message.
    #[error("the body is not a job message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by another release.
    #[error("the message has version {0}, this release reads {VERSION}")]
    Version(u32),
}

impl JobMessage {
    /// The message that wakes a worker for this job.
    pub fn new(user: UserId, job_id: JobId, model: ModelName) -> Self {
        Self { v: VERSION, user, job_id, model }
    }

    /// Reads a message body.
    ///
    /// # Errors
    /// When the body is not JSON of this form, or of another version.
    pub fn parse(body: &str) -> Result<Self, MessageError> {
        // The version first: another release's message may have other fields.
        let Versioned { v } = serde_json::from_str(body)?;
        if v == VERSION { Ok(serde_json::from_str(body)?) } else { Err(MessageError::Version(v)) }
    }

    /// The body to send.
    pub fn body(&self) -> String {
        serde_json::json!({"v": self.v, "user": self.user, "job_id": self.job_id, "model": self.model})
            .to_string()
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
        assert_eq!(JobMessage::parse(&message.body()).unwrap(), message);
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
        ] {
            assert!(JobMessage::parse(&body).is_err(), "{body}");
        }
    }
}
