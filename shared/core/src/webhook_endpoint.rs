//! A user's endpoints: where their messages go, with which secrets they are signed, and when one is disabled.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error_code::Language;
use crate::fields::{Fields, one_of};
use crate::id::WebhookId;
use crate::limits::{WEBHOOK_FAILING_MAX, WEBHOOK_ROTATION, WEBHOOK_SECRETS_MAX, WEBHOOKS_MAX};
use crate::request::Violation;
use crate::time::Timestamp;
use crate::webhook::{EventKind, Reach, Verdict, WebhookUrl};

/// What a user asks for when they make an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Where it is.
    pub url: WebhookUrl,
    /// What it is told of, each once; all, unless they are named.
    pub events: Vec<EventKind>,
}

const FIELDS: [&str; 2] = ["url", "events"];

impl WebhookRequest {
    /// Parses a request for an endpoint.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing; of unknown fields the first 16 and how many more there are.
    pub fn parse(body: &Value, reach: Reach) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(body, &FIELDS)?;
        let url =
            fields.required("url", |text| WebhookUrl::parse(text, reach).map_err(|error| error.to_string()));
        let events = fields.optional_texts("events", (1, EventKind::ALL.len()), |text| {
            EventKind::parse(text).ok_or_else(|| one_of(&EventKind::ALL.map(EventKind::as_str)))
        });
        match url {
            Some(url) if fields.violations.is_empty() => {
                let mut events = events.unwrap_or_else(|| EventKind::ALL.to_vec());
                events.sort_unstable();
                events.dedup();
                Ok(Self { url, events })
            }
            _ => Err(fields.violations),
        }
    }
}

/// A secret of an endpoint, sealed: only the store can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The envelope, as the store wrote it.
    pub sealed: String,
    /// It signs until then; the current one has no end.
    pub until: Option<Timestamp>,
}

/// Why nothing is sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// It answered 410: it wants no more.
    Gone,
    /// Nothing has arrived there for [`WEBHOOK_FAILING_MAX`].
    Unreachable,
}

impl DisabledReason {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Gone, Self::Unreachable];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Since when nothing is sent to an endpoint, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// Since when.
    pub at: Timestamp,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: WebhookId,
    /// Where it is. It was an endpoint's address when it was made; it is parsed again before each call.
    pub url: String,
    /// What it is told of.
    pub events: Vec<EventKind>,
    /// The language of what it is told.
    pub language: Language,
    /// The current secret, and those that it has replaced lately, the newest first.
    pub secrets: Vec<SealedSecret>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was made or enabled again: what calls of before come to says nothing about it.
    pub enabled_at: Timestamp,
    /// Nothing has arrived since then, and something has failed.
    pub failing_since: Option<Timestamp>,
    /// When nothing is sent to it.
    pub disabled: Option<Disabled>,
}

impl Endpoint {
    /// A new one.
    pub fn new(
        id: WebhookId,
        request: &WebhookRequest,
        language: Language,
        sealed: String,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            url: request.url.as_str().to_owned(),
            events: request.events.clone(),
            language,
            secrets: vec![SealedSecret { sealed, until: None }],
            created_at: now,
            enabled_at: now,
            failing_since: None,
            disabled: None,
        }
    }

    /// Whether it is told of this.
    pub fn wants(&self, event: EventKind) -> bool {
        self.disabled.is_none() && self.events.contains(&event)
    }

    /// The envelopes of the secrets that sign at this time, the current one first.
    pub fn secrets_at(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let signs = move |secret: &&SealedSecret| secret.until.is_none_or(|until| until > now);
        self.secrets.iter().filter(signs).map(|secret| secret.sealed.as_str())
    }

    /// When the last of its earlier secrets signs no more; `None` when there is none.
    pub fn earlier_secrets_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.secrets.iter().filter_map(|secret| secret.until).filter(|until| *until > now).max()
    }

    /// With another secret; the one before signs beside it for [`WEBHOOK_ROTATION`]. Of more than [`WEBHOOK_SECRETS_MAX`] the
    /// oldest go at once.
    #[must_use]
    pub fn rotated(&self, sealed: String, now: Timestamp) -> Self {
        let ends = now.plus(WEBHOOK_ROTATION);
        let earlier = self.secrets.iter().filter(|secret| secret.until.is_none_or(|until| until > now));
        let earlier = earlier.map(|secret| SealedSecret {
            until: Some(secret.until.map_or(ends, |until| until.min(ends))),
            ..secret.clone()
        });
        let current = SealedSecret { sealed, until: None };
        let secrets = std::iter::once(current).chain(earlier).take(WEBHOOK_SECRETS_MAX).collect();
        Self { secrets, ..self.clone() }
    }

    /// Enabled, as if nothing had ever failed.
    #[must_use]
    pub fn enabled(&self, now: Timestamp) -> Self {
        Self { enabled_at: now, failing_since: None, disabled: None, ..self.clone() }
    }

    /// What a call that began at `called_at` and ended `now` makes of it; `None` when nothing changes.
    pub fn after(&self, verdict: Verdict, called_at: Timestamp, now: Timestamp) -> Option<Self> {
        if self.disabled.is_some() || called_at < self.enabled_at {
            return None;
        }
        let disabled = |reason| Some(Self { disabled: Some(Disabled { reason, at: now }), ..self.clone() });
        match (verdict, self.failing_since) {
            (Verdict::Gone, _) => disabled(DisabledReason::Gone),
            (Verdict::Delivered, Some(_)) => Some(Self { failing_since: None, ..self.clone() }),
            (Verdict::Failed, None) => Some(Self { failing_since: Some(called_at), ..self.clone() }),
            (Verdict::Failed, Some(since)) if called_at.since(since) >= WEBHOOK_FAILING_MAX => {
                disabled(DisabledReason::Unreachable)
            }
            (Verdict::Delivered, None) | (Verdict::Failed, Some(_)) => None,
        }
    }
}

/// A user's endpoints, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Counts the writes; 0 before the first.
    pub version: u64,
    /// Those that were made and not deleted.
    pub list: Vec<Endpoint>,
}

impl Endpoints {
    /// The endpoint of this id.
    pub fn get(&self, id: &WebhookId) -> Option<&Endpoint> {
        self.list.iter().find(|endpoint| endpoint.id == *id)
    }

    /// With one more; `None` when there are [`WEBHOOKS_MAX`] already.
    pub fn with(&self, endpoint: Endpoint) -> Option<Self> {
        if self.list.len() >= WEBHOOKS_MAX {
            return None;
        }
        let list = self.list.iter().cloned().chain([endpoint]).collect();
        Some(Self { version: self.version + 1, list })
    }

    /// Without this one; `None` when it is not among them.
    pub fn without(&self, id: &WebhookId) -> Option<Self> {
        let list: Vec<_> = self.list.iter().filter(|endpoint| endpoint.id != *id).cloned().collect();
        (list.len() < self.list.len()).then(|| Self { version: self.version + 1, list })
    }

    /// With this one in the place of the one that has its id; `None` when there is none.
    pub fn replaced(&self, endpoint: Endpoint) -> Option<Self> {
        let mut list = self.list.clone();
        let place = list.iter().position(|other| other.id == endpoint.id)?;
        *list.get_mut(place)? = endpoint;
        Some(Self { version: self.version + 1, list })
    }
}
