//! Identifiers. Each is parsed once, at the edge, and is valid from then on.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE32HEX_NOPAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::time::Timestamp;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// A job id is `job_` and 52 characters of base32.
    #[error("a job id is job_ followed by 52 characters a-z and 2-7")]
    JobId,
    /// A batch's id is `bat_` and 52 characters of base32.
    #[error("a batch id is bat_ followed by 52 characters a-z and 2-7")]
    BatchId,
    /// An export's id is `exp_` and 52 characters of base32.
    #[error("an export id is exp_ followed by 52 characters a-z and 2-7")]
    ExportId,
    /// What an authorizer calls the user.
    #[error("a user is 1 to 255 printable ASCII characters without spaces")]
    UserId,
    /// The caller's idempotency key.
    #[error("an Idempotency-Key is 1 to 255 printable ASCII characters")]
    IdempotencyKey,
    /// An upload's id is `upl_` and 26 characters of base32.
    #[error("an upload id is upl_ followed by 26 characters a-z and 2-7")]
    UploadId,
    /// A key's id is `key_` and 16 characters of base32.
    #[error("a key id is key_ followed by 16 characters a-z and 2-7")]
    KeyId,
    /// Names of models and projects.
    #[error(
        "a name is 1 to 64 characters a-z, A-Z, 0-9, dot, dash and underscore, and starts with a letter or digit"
    )]
    Name,
    /// A webhook's id is `whk_` and 26 characters of base32.
    #[error("a webhook id is whk_ followed by 26 characters a-z and 2-7")]
    WebhookId,
    /// A delivery's id is `msg_` and 42 characters of base32hex.
    #[error("a delivery id is msg_ followed by 42 characters 0-9 and a-v")]
    DeliveryId,
    /// What API Gateway calls a connection.
    #[error("a connection id is 1 to 128 printable ASCII characters without spaces")]
    ConnectionId,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $error:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses the identifier.
            ///
            /// # Errors
            /// When the text has not the form that [`IdError`] tells.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err($error) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A job's id, derived from its owner and the caller's `Idempotency-Key` (see [`JobId::derive`]).
    /// It is therefore no secret: whoever serves a job checks its owner.
    JobId, IdError::JobId, |text| is_base32(text, "job_", 52)
);
text_id!(
    /// A batch's id, derived as a job's is (see [`BatchId::derive`]), and no secret either.
    BatchId, IdError::BatchId, |text| is_base32(text, "bat_", 52)
);
text_id!(
    /// An export's id, derived as a job's is (see [`ExportId::derive`]), and no secret either.
    ExportId, IdError::ExportId, |text| is_base32(text, "exp_", 52)
);
text_id!(
    /// Who pays and who owns: the `sub` claim of the authorizer, at most 255 ASCII characters (OpenID Connect Core 1.0,
    /// section 2).
    UserId, IdError::UserId, |text| is_graphic(text, 255)
);
text_id!(
    /// The caller's `Idempotency-Key` header.
    IdempotencyKey, IdError::IdempotencyKey, |text| {
        (1..=255).contains(&text.len()) && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
    }
);
text_id!(
    /// An API key's id, derived from provider and secret: the same secret added twice is one key.
    KeyId, IdError::KeyId, |text| is_base32(text, "key_", 16)
);
text_id!(
    /// An upload's id (see [`UploadId::new`]). It is no secret: its object lies below its owner's folder.
    UploadId, IdError::UploadId, |text| is_base32(text, "upl_", 26) && upload_bytes(text).is_some()
);
text_id!(
    /// A model of the catalogue, or a provider's own name for one.
    ModelName, IdError::Name, is_name
);
text_id!(
    /// The provider's project (or account) that a key belongs to. Limits belong to it, not to the key.
    ProjectName, IdError::Name, is_name
);
text_id!(
    /// A conversation that the app groups jobs by.
    ConversationId, IdError::Name, is_name
);

text_id!(
    /// A client's WebSocket connection, as API Gateway names it: unique, never used again.
    ConnectionId, IdError::ConnectionId, |text| is_graphic(text, 128)
);

impl JobId {
    /// The one job of this user and key: `job_` + base32(SHA-256("job", user, key)).
    /// Each part is length-prefixed, so no two different pairs hash the same bytes.
    pub fn derive(user: &UserId, key: &IdempotencyKey) -> Self {
        Self(format!("job_{}", base32(&digest(&["job", user.as_str(), key.as_str()]))))
    }

    /// The one job that tries the job of this ticket again: `job_` + base32(SHA-256("retry", ticket)). The ticket, because an
    /// id can be of another job once a record has expired.
    pub fn derive_retry(ticket: &Ticket) -> Self {
        Self(format!("job_{}", base32(&digest(&["retry", ticket.as_str()]))))
    }

    /// The one job of a batch's line, from 0 among those that can be drawn: `job_` + base32(SHA-256("line", ticket, line)). The
    /// ticket, because an id can be of another batch once a record has expired, and jobs that were published live longer.
    pub fn derive_line(batch: &Ticket, line: u32) -> Self {
        Self(format!("job_{}", base32(&digest(&["line", batch.as_str(), &line.to_string()]))))
    }

    /// A number that belongs to this job alone; seeds its picture and its index shard.
    pub fn number(&self) -> u64 {
        first_u64(&digest(&["number", &self.0]))
    }
}

impl BatchId {
    /// The one batch of this user and key: `bat_` + base32(SHA-256("batch", user, key)).
    pub fn derive(user: &UserId, key: &IdempotencyKey) -> Self {
        Self(format!("bat_{}", base32(&digest(&["batch", user.as_str(), key.as_str()]))))
    }

    /// A number that belongs to this batch alone; its index shard.
    pub fn number(&self) -> u64 {
        first_u64(&digest(&["number", &self.0]))
    }
}

text_id!(
    /// An endpoint's id: random, and no secret.
    WebhookId, IdError::WebhookId, |text| is_base32(text, "whk_", 26)
);
text_id!(
    /// A delivery's id, which its receiver sees as `webhook-id` (see [`DeliveryId::derive`]). Those of later changes are greater.
    DeliveryId, IdError::DeliveryId, |text| delivery_bytes(text).is_some()
);

impl WebhookId {
    /// The id of these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(format!("whk_{}", base32(&bytes)))
    }
}

impl DeliveryId {
    /// The id of what an endpoint is told of a job's change to this version: the same however often the change is read.
    /// `msg_` + base32hex of 48 bits of the change's milliseconds and 160 bits of the hash of endpoint, job and version.
    pub fn derive(endpoint: &WebhookId, job: &Ticket, version: u64, changed_at: Timestamp) -> Self {
        let hash = digest(&["webhook", endpoint.as_str(), job.as_str(), &version.to_string()]);
        let [_, _, time @ ..] = changed_at.as_millis().to_be_bytes();
        let mut bytes = [0; DELIVERY_BYTES];
        for (byte, value) in bytes.iter_mut().zip(time.into_iter().chain(hash)) {
            *byte = value;
        }
        Self(format!("msg_{}", BASE32HEX_NOPAD.encode(&bytes).to_ascii_lowercase()))
    }

    /// When what it tells of happened.
    pub fn changed_at(&self) -> Timestamp {
        let bytes = delivery_bytes(&self.0).unwrap_or_default();
        Timestamp::from_millis(bytes.iter().take(6).fold(0, |time, byte| (time << 8) | u64::from(*byte)))
    }

    /// A number that belongs to this delivery alone: the shard of its index.
    pub fn number(&self) -> u64 {
        first_u64(&digest(&["number", &self.0]))
    }
}

impl ExportId {
    /// The one export of this user and key: `exp_` + base32(SHA-256("export", user, key)). The kind is hashed, too: a key that
    /// made a job makes an export of its own.
    pub fn derive(user: &UserId, key: &IdempotencyKey) -> Self {
        Self(format!("exp_{}", base32(&digest(&["export", user.as_str(), key.as_str()]))))
    }
}

const DELIVERY_BYTES: usize = 26;

/// The bytes of a delivery's id. In base32hex the order of texts is that of the bytes.
fn delivery_bytes(text: &str) -> Option<[u8; DELIVERY_BYTES]> {
    let rest = text.strip_prefix("msg_")?;
    let is_lower = rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'v'));
    let bytes = BASE32HEX_NOPAD.decode(rest.to_ascii_uppercase().as_bytes()).ok()?;
    is_lower.then_some(bytes)?.try_into().ok()
}

impl UploadId {
    /// The id of an upload that is made now: `upl_` + base32 of 48 bits of milliseconds and 80 random bits. So it tells when
    /// it was made, as an UUIDv7 does.
    pub fn new(made_at: Timestamp, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        let [_, _, time @ ..] = made_at.as_millis().to_be_bytes();
        for (byte, value) in bytes.iter_mut().zip(time.into_iter().chain(random)) {
            *byte = value;
        }
        Self(format!("upl_{}", base32(&bytes)))
    }

    /// When it was made. Whoever makes an id up can make this up, and has no object that belongs to it.
    pub fn made_at(&self) -> Timestamp {
        let bytes = upload_bytes(&self.0).unwrap_or_default();
        Timestamp::from_millis(bytes.iter().take(6).fold(0, |time, byte| (time << 8) | u64::from(*byte)))
    }
}

/// The 16 bytes of an upload's id.
fn upload_bytes(text: &str) -> Option<[u8; 16]> {
    let bytes = BASE32_NOPAD.decode(text.strip_prefix("upl_")?.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

impl KeyId {
    /// The id of a secret at a provider: `key_` + the first 80 bits of its hash in base32.
    pub fn derive(provider: &str, secret: &str) -> Self {
        let hash = base32(&digest(&["key", provider, secret]));
        Self(format!("key_{}", hash.get(..16).unwrap_or_default()))
    }
}

impl UserId {
    /// A short opaque group for fair queueing: which user it is cannot be read from it.
    pub fn fair_group(&self) -> String {
        self.opaque("group")
    }

    /// The folder of the user's uploads: another for each user, and a part of a key, which a user's name may not be.
    pub fn upload_folder(&self) -> String {
        self.opaque("uploads")
    }

    /// A name for a user that is another for each purpose, of 130 bits.
    fn opaque(&self, purpose: &str) -> String {
        let hash = base32(&digest(&[purpose, &self.0]));
        hash.get(..26).unwrap_or_default().to_owned()
    }
}

/// `created_at` in milliseconds plus the id of the job or batch: unique and ordered without a global counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(String);

impl Ticket {
    /// The ticket of the job or batch of this id that was created then.
    pub fn new(created_at: Timestamp, id: &impl fmt::Display) -> Self {
        Self(format!("{:015}#{id}", created_at.as_millis()))
    }

    /// The ticket as text: 15 digits of milliseconds, `#`, the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A fresh random mark of one conditional write. After a time-out it tells our own success from
/// somebody else's. Never shared by two writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(String);

impl Stamp {
    /// The stamp of these 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(base32(&bytes))
    }

    /// A stamp as it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The stamp as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 over the parts, each preceded by its length in eight bytes.
pub(crate) fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn first_u64(bytes: &[u8; 32]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

pub(crate) fn is_base32(text: &str, prefix: &str, length: usize) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == length && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
    })
}

fn is_graphic(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_depends_on_where_user_ends_and_key_begins() {
        let id = |user: &str, key: &str| {
            JobId::derive(&UserId::parse(user).unwrap(), &IdempotencyKey::parse(key).unwrap())
        };
        assert_eq!(id("alice", "k1"), id("alice", "k1"));
        assert_ne!(id("alice", "k1"), id("alicek", "1"));
        assert_ne!(id("alice", "k1"), id("bob", "k1"));
        assert!(JobId::parse(id("alice", "k1").as_str()).is_ok());
    }

    #[test]
    fn an_export_is_no_job_of_the_same_key() {
        let (user, key) = (UserId::parse("alice").unwrap(), IdempotencyKey::parse("k").unwrap());
        let export = ExportId::derive(&user, &key);
        assert_eq!(ExportId::parse(export.as_str()), Ok(export.clone()));
        assert_ne!(export.as_str().get(4..), JobId::derive(&user, &key).as_str().get(4..));
        assert_ne!(export, ExportId::derive(&UserId::parse("bob").unwrap(), &key));
        assert!(JobId::parse(export.as_str()).is_err());
    }

    #[test]
    fn each_job_has_one_retry() {
        let user = UserId::parse("alice").unwrap();
        let job = JobId::derive(&user, &IdempotencyKey::parse("k").unwrap());
        let ticket = |millis, job: &JobId| Ticket::new(Timestamp::from_millis(millis), job);
        let retry = |ticket: &Ticket| JobId::derive_retry(ticket);
        let first = retry(&ticket(7, &job));
        assert_eq!(first, retry(&ticket(7, &job)));
        assert!(JobId::parse(first.as_str()).is_ok());
        // Another generation, another job of the same key, and no key that makes the same.
        assert_ne!(first, retry(&ticket(7, &first)));
        assert_ne!(first, retry(&ticket(8, &job)));
        for key in ["retry", ticket(7, &job).as_str()] {
            assert_ne!(first, JobId::derive(&user, &IdempotencyKey::parse(key).unwrap()));
        }
    }

    #[test]
    fn each_line_of_a_batch_has_one_job() {
        let key = |text: &str| IdempotencyKey::parse(text).unwrap();
        let user = UserId::parse("alice").unwrap();
        let batch = BatchId::derive(&user, &key("k"));
        assert!(BatchId::parse(batch.as_str()).is_ok() && JobId::parse(batch.as_str()).is_err());
        assert_eq!(BatchId::parse(JobId::derive(&user, &key("k")).as_str()), Err(IdError::BatchId));
        assert_ne!(batch, BatchId::derive(&UserId::parse("bob").unwrap(), &key("k")));
        let line =
            |millis, line| JobId::derive_line(&Ticket::new(Timestamp::from_millis(millis), &batch), line);
        assert!(JobId::parse(line(7, 0).as_str()).is_ok());
        assert_eq!(line(7, 0), line(7, 0));
        assert_ne!(line(7, 0), line(7, 1));
        // The key's batch of another time has other jobs.
        assert_ne!(line(7, 0), line(8, 0));
    }

    #[test]
    fn texts_of_the_wrong_form_are_refused() {
        for text in ["", "job_", "job_ABC", "JOB_aaaa", "job_../x", &format!("job_{}", "a".repeat(53))] {
            assert_eq!(JobId::parse(text), Err(IdError::JobId), "{text}");
        }
        for text in ["", " ", "a b", "a\u{7f}", "ü", &"u".repeat(256)] {
            assert_eq!(UserId::parse(text), Err(IdError::UserId), "{text}");
        }
        assert!(UserId::parse(&"u".repeat(255)).is_ok());
        for text in ["", "\n", "ü", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::parse(text), Err(IdError::IdempotencyKey), "{text}");
        }
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_ok());
        for text in ["", ".a", "-a", "a b", "a/b", "a#b", &"m".repeat(65)] {
            assert_eq!(ModelName::parse(text), Err(IdError::Name), "{text}");
        }
    }

    #[test]
    fn an_upload_tells_when_it_was_made() {
        for millis in [0, 1, 1_800_000_000_123, 253_402_127_999_999] {
            let id = UploadId::new(Timestamp::from_millis(millis), [0xff; 10]);
            assert_eq!((id.made_at().as_millis(), UploadId::parse(id.as_str())), (millis, Ok(id.clone())));
        }
        let at = Timestamp::from_millis(7);
        assert_ne!(UploadId::new(at, [1; 10]), UploadId::new(at, [2; 10]));
        // The last letter stands for three bits: another one with the same would be another id of the same object.
        let id = UploadId::new(at, [0; 10]);
        assert!(id.as_str().ends_with('a'));
        let again = format!("{}b", id.as_str().strip_suffix('a').unwrap());
        for text in
            ["upl_", &again, "upl_../x", &format!("upl_{}", "a".repeat(27)), &id.as_str().to_uppercase()]
        {
            assert_eq!(UploadId::parse(text), Err(IdError::UploadId), "{text}");
        }
    }

    #[test]
    fn the_folders_of_two_users_are_two_and_no_path() {
        let folder = |user: &str| UserId::parse(user).unwrap().upload_folder();
        let folders: std::collections::HashSet<_> = ["alice", "bob", "..", "a/b", "a#b"].map(folder).into();
        assert_eq!(folders.len(), 5);
        assert!(folders.iter().all(|folder| is_base32(folder, "", 26)));
        assert_ne!(folder("alice"), UserId::parse("alice").unwrap().fair_group());
    }

    #[test]
    fn deliveries_sort_by_time_and_are_one_for_each_endpoint_job_and_version() {
        let job = JobId::derive(&UserId::parse("u").unwrap(), &IdempotencyKey::parse("k").unwrap());
        let at = Timestamp::from_millis;
        let (ticket, other) = (Ticket::new(at(1), &job), Ticket::new(at(2), &job));
        let [one, two] = [1, 2].map(|byte| WebhookId::from_random([byte; 16]));
        let id = DeliveryId::derive(&one, &ticket, 7, at(1_800_000_000_000));
        assert_eq!(id, DeliveryId::derive(&one, &ticket, 7, at(1_800_000_000_000)));
        assert_eq!(
            (id.changed_at(), DeliveryId::parse(id.as_str())),
            (at(1_800_000_000_000), Ok(id.clone()))
        );
        let others = [
            DeliveryId::derive(&two, &ticket, 7, at(1_800_000_000_000)),
            DeliveryId::derive(&one, &other, 7, at(1_800_000_000_000)),
            DeliveryId::derive(&one, &ticket, 8, at(1_800_000_000_000)),
        ];
        assert!(others.iter().all(|other| *other != id));
        for later in [1_800_000_000_001, 1_800_000_000_256, 1_900_000_000_000] {
            assert!(id < DeliveryId::derive(&one, &ticket, 7, at(later)), "{later}");
        }
        let short = &id.as_str()[..45];
        for text in ["msg_", short, &format!("{id}0"), &id.as_str().to_uppercase(), &format!("{short}z")] {
            assert_eq!(DeliveryId::parse(text), Err(IdError::DeliveryId), "{text}");
        }
    }

    #[test]
    fn tickets_sort_by_time_then_id() {
        let id = JobId::derive(&UserId::parse("u").unwrap(), &IdempotencyKey::parse("k").unwrap());
        let early = Ticket::new(Timestamp::from_millis(999), &id);
        let late = Ticket::new(Timestamp::from_millis(1_000), &id);
        assert!(early.as_str() < late.as_str());
    }
}
