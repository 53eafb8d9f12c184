//! One message to one endpoint: a record before it is a call. What it tells, how often it was tried, and when it is next.

use serde::{Deserialize, Serialize};

use crate::id::{DeliveryId, JobId, UserId, WebhookId};
use crate::limits::{DELIVERY_LIFE, DELIVERY_SHARDS, WEBHOOK_ANSWER_BYTES_KEPT, WEBHOOK_LOOK};
use crate::message::{MessageError, VERSION, Versioned};
use crate::time::Timestamp;
use crate::webhook::{EventKind, Verdict, delivery_pause};

/// Why a call brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// The stored address is one that may not be called (any more).
    UrlRefused,
    /// Its name stands for no address.
    NoAddress,
    /// Its name stands for an address that is not public.
    AddressRefused,
    /// No connection.
    Unreachable,
    /// The server did not prove who it is.
    Tls,
    /// It took too long.
    TimedOut,
    /// The connection broke before there was an answer, or the answer was none of HTTP.
    BrokenOff,
    /// Its secrets could not be opened: it is to be given another.
    NoSecret,
}

impl Unanswered {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::UrlRefused,
        Self::NoAddress,
        Self::AddressRefused,
        Self::Unreachable,
        Self::Tls,
        Self::TimedOut,
        Self::BrokenOff,
        Self::NoSecret,
    ];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UrlRefused => "url_refused",
            Self::NoAddress => "no_address",
            Self::AddressRefused => "address_refused",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::TimedOut => "timed_out",
            Self::BrokenOff => "broken_off",
            Self::NoSecret => "no_secret",
        }
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallResult {
    /// An answer.
    Answered {
        /// Its status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// None.
    Unanswered(Unanswered),
}

impl CallResult {
    /// An answer of this status and with this body, of which the beginning is kept as text.
    pub fn answered(status: u16, body: &[u8]) -> Self {
        let kept = body.get(..WEBHOOK_ANSWER_BYTES_KEPT).unwrap_or(body);
        let mut body = String::from_utf8_lossy(kept).into_owned();
        // What is no text becomes longer: three bytes for one.
        while body.len() > WEBHOOK_ANSWER_BYTES_KEPT {
            body.pop();
        }
        Self::Answered { status, body }
    }

    /// What it means.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Answered { status, .. } => Verdict::of(*status),
            Self::Unanswered(_) => Verdict::Failed,
        }
    }
}

/// The last call of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTry {
    /// When it began.
    pub at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it came to.
    pub result: CallResult,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is called, or called again, then.
    Due(Timestamp),
    /// It has arrived.
    Delivered,
    /// It was tried as often as it is tried, or its endpoint wants no more.
    Failed,
    /// Its endpoint was disabled or deleted before its time came: nothing was sent.
    Dropped,
}

impl Standing {
    /// The words of every standing.
    pub const WORDS: [&str; 4] = ["pending", "delivered", "failed", "dropped"];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        let [pending, delivered, failed, dropped] = Self::WORDS;
        match self {
            Self::Due(_) => pending,
            Self::Delivered => delivered,
            Self::Failed => failed,
            Self::Dropped => dropped,
        }
    }

    /// When it is due, if it is.
    pub const fn due_at(self) -> Option<Timestamp> {
        match self {
            Self::Due(at) => Some(at),
            Self::Delivered | Self::Failed | Self::Dropped => None,
        }
    }
}

/// One message to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, which the receiver sees.
    pub id: DeliveryId,
    /// Whose it is.
    pub user: UserId,
    /// Where it goes.
    pub endpoint: WebhookId,
    /// What it tells of.
    pub event: EventKind,
    /// Of which job.
    pub job: JobId,
    /// What is sent, the same each time.
    pub body: String,
    /// Calls that were noted. It never falls: a call's note names the number that it found.
    pub tries: u32,
    /// Of these so many belong to schedules of before: it was sent again since.
    pub tries_before: u32,
    /// Where it stands.
    pub standing: Standing,
    /// The last call.
    pub last: Option<LastTry>,
    /// It is forgotten then.
    pub expires_at: Timestamp,
}

impl Delivery {
    /// A new one, put before it is called: if that call is never noted, it is due in a minute.
    pub fn new(
        id: DeliveryId,
        (user, endpoint): (UserId, WebhookId),
        (event, job): (EventKind, JobId),
        body: String,
        now: Timestamp,
    ) -> Self {
        Self {
            user,
            endpoint,
            event,
            job,
            body,
            tries: 0,
            tries_before: 0,
            standing: Standing::Due(now.plus(WEBHOOK_LOOK)),
            last: None,
            expires_at: id.changed_at().max(now).plus(DELIVERY_LIFE),
            id,
        }
    }

    /// Whether it is forgotten.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// After a call. `jitter` is uniform in 0..1.
    #[must_use]
    pub fn after(&self, last: LastTry, jitter: f64) -> Self {
        let tries = self.tries.saturating_add(1);
        let pause = delivery_pause(tries.saturating_sub(self.tries_before), jitter);
        let standing = match (last.result.verdict(), pause) {
            (Verdict::Delivered, _) => Standing::Delivered,
            (Verdict::Failed, Some(pause)) => Standing::Due(last.ended_at.plus(pause)),
            (Verdict::Failed, None) | (Verdict::Gone, _) => Standing::Failed,
        };
        Self { tries, standing, last: Some(last), ..self.clone() }
    }

    /// Without a call: its endpoint is not there or is disabled.
    #[must_use]
    pub fn dropped(&self) -> Self {
        Self { standing: Standing::Dropped, ..self.clone() }
    }

    /// Sent again from now on, with a schedule of its own, whatever became of it.
    #[must_use]
    pub fn sent_again(&self, now: Timestamp) -> Self {
        Self {
            tries_before: self.tries,
            standing: Standing::Due(now),
            expires_at: now.plus(DELIVERY_LIFE),
            ..self.clone()
        }
    }

    /// Whether it is to be called for this message: it waits, and no call was noted since the message was sent.
    pub fn is_called_for(&self, message: &DeliveryMessage) -> bool {
        self.standing.due_at().is_some() && self.tries == message.tries
    }

    /// The message that has it called.
    pub fn message(&self) -> DeliveryMessage {
        DeliveryMessage {
            v: VERSION,
            user: self.user.clone(),
            endpoint: self.endpoint.clone(),
            delivery: self.id.clone(),
            tries: self.tries,
        }
    }
}

/// The shard of a delivery in the index of what is due.
pub fn delivery_shard(id: &DeliveryId) -> u64 {
    id.number() % DELIVERY_SHARDS
}

/// "Call for this delivery", in the webhooks' queue. It carries nothing of what is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryMessage {
    /// Wire version, [`VERSION`].
    pub v: u32,
    /// Whose it is.
    pub user: UserId,
    /// Its endpoint.
    pub endpoint: WebhookId,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Calls that were noted when this was sent: another number, and somebody has called since.
    pub tries: u32,
}

impl DeliveryMessage {
    /// Reads a message's body.
    ///
    /// # Errors
    /// When the body is not JSON of this form, or of another version.
    pub fn parse(body: &str) -> Result<Self, MessageError> {
        // The version first: another release's message may have other fields.
        let Versioned { v, .. } = serde_json::from_str(body)?;
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
