//! The wire form of the queue of what takes long. As in the other queue, a message only wakes: it names a record, whose id
//! tells its kind, and the record says the rest.

use serde::{Deserialize, Serialize};

use crate::id::{BatchId, ExportId};
use crate::message::{MessageError, VERSION};

/// "Look at this record."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkMessage {
    /// Wire version, [`VERSION`].
    pub v: u32,
    /// The record.
    pub id: BulkId,
}

/// A record that takes long, told apart by the prefix of its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BulkId {
    /// `bat_…`
    Batch(BatchId),
    /// `exp_…`
    Export(ExportId),
}

/// The id is of no kind that this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id is of an unknown kind")]
pub struct UnknownKind;

impl TryFrom<String> for BulkId {
    type Error = UnknownKind;

    fn try_from(text: String) -> Result<Self, UnknownKind> {
        let batch = BatchId::parse(&text).map(Self::Batch);
        batch.or_else(|_| ExportId::parse(&text).map(Self::Export)).map_err(|_| UnknownKind)
    }
}

impl From<BulkId> for String {
    fn from(id: BulkId) -> Self {
        match id {
            BulkId::Batch(id) => id.into(),
            BulkId::Export(id) => id.into(),
        }
    }
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl BulkMessage {
    /// The message that has this record looked at.
    pub const fn new(id: BulkId) -> Self {
        Self { v: VERSION, id }
    }

    /// Reads a message body.
    ///
    /// # Errors
    /// When the body is not JSON of this form, or of another version.
    pub fn parse(body: &str) -> Result<Self, MessageError> {
        // The version first: another release's message may have other fields.
        let Versioned { v } = serde_json::from_str(body)?;
        if v != VERSION {
            return Err(MessageError::Version(v));
        }
        Ok(serde_json::from_str(body)?)
    }

    /// The body to send.
    pub fn body(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::id::{IdempotencyKey, UserId};

    #[test]
    fn what_is_sent_is_what_is_read() {
        let key = IdempotencyKey::parse("k").unwrap();
        let id = ExportId::derive(&UserId::parse("alice").unwrap(), &key);
        let batch = BatchId::derive(&UserId::parse("alice").unwrap(), &key);
        for message in [BulkMessage::new(BulkId::Export(id)), BulkMessage::new(BulkId::Batch(batch))] {
            assert_eq!(BulkMessage::parse(&message.body()).unwrap(), message);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let id = "a".repeat(52);
        for body in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"v":2,"id":"exp_{id}"}}"#),
            format!(r#"{{"v":1,"id":"exp_{id}","user":"a"}}"#),
            format!(r#"{{"v":1,"id":"job_{id}"}}"#),
            format!(r#"{{"v":1,"id":"xyz_{id}"}}"#),
            r#"{"v":1,"id":"exp_x"}"#.to_owned(),
            r#"{"v":1,"id":7}"#.to_owned(),
        ] {
            assert!(BulkMessage::parse(&body).is_err(), "{body}");
        }
    }
}
