//! Webhooks: what a user's own server is told of a job, where that server may be, and what becomes of a message by its answer.
//! By Standard Webhooks 1.0 (<https://github.com/standard-webhooks/standard-webhooks>).

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use url::{Host, Url};

use crate::job::Status;
use crate::public_address::is_public;
use crate::time::Timestamp;

/// Characters of an endpoint's address.
pub const WEBHOOK_URL_CHARS_MAX: usize = 2_048;

/// What happened. Those of batches and exports will stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A picture is there.
    #[serde(rename = "job.draft")]
    JobDraft,
    /// No picture came; the tokens went back.
    #[serde(rename = "job.failed")]
    JobFailed,
    /// Its owner ended it; the tokens went back.
    #[serde(rename = "job.cancelled")]
    JobCancelled,
    /// Its owner published the picture.
    #[serde(rename = "job.published")]
    JobPublished,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::JobDraft, Self::JobFailed, Self::JobCancelled, Self::JobPublished];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobDraft => "job.draft",
            Self::JobFailed => "job.failed",
            Self::JobCancelled => "job.cancelled",
            Self::JobPublished => "job.published",
        }
    }

    /// Parses the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// What happened to a job that was `before` and is `after`; `None` when its owner is told nothing. A picture that is no longer
    /// published is no new one.
    pub const fn of(before: Status, after: Status) -> Option<Self> {
        match (before, after) {
            (Status::Pending | Status::Processing, Status::Draft) => Some(Self::JobDraft),
            (Status::Pending | Status::Processing, Status::Failed) => Some(Self::JobFailed),
            (Status::Pending | Status::Processing, Status::Cancelled) => Some(Self::JobCancelled),
            (Status::Draft, Status::Published) => Some(Self::JobPublished),
            (_, Status::Pending | Status::Processing)
            | (Status::Draft | Status::Published | Status::Failed | Status::Cancelled, _)
            | (Status::Pending | Status::Processing, Status::Published) => None,
        }
    }
}

/// The body of a message, by Standard Webhooks: what happened when, and the job as it was then. Its picture's link would be out
/// of date when the message is sent again: whoever wants one asks for it.
pub fn message_body(kind: EventKind, changed_at: Timestamp, mut job: Value) -> String {
    if let Some(link) = job.get_mut("image_url") {
        *link = Value::Null;
    }
    json!({"type": kind.as_str(), "timestamp": changed_at.rfc3339(), "data": job}).to_string()
}

/// From one try of a message to the next; the first is made at once. Standard Webhooks proposes these.
const DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(5 * 3_600),
    Duration::from_secs(10 * 3_600),
    Duration::from_secs(14 * 3_600),
    Duration::from_secs(20 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// A message is tried so often.
#[expect(clippy::cast_possible_truncation, reason = "a handful")]
pub const DELIVERY_TRIES_MAX: u32 = DELAYS.len() as u32 + 1;

/// The pause after so many tries (from 1); `None` when there is no next. `jitter`, uniform in 0..1, makes it up to a tenth longer, so
/// that what failed together does not come back together.
pub fn delivery_pause(tries: u32, jitter: f64) -> Option<Duration> {
    let place = usize::try_from(tries.checked_sub(1)?).ok()?;
    Some(DELAYS.get(place)?.mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0)))
}

/// What a call comes to, for its message and its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has arrived.
    Delivered,
    /// It is tried again, while a try is left.
    Failed,
    /// The endpoint wants no more: it is disabled, and nothing is sent to it any longer.
    Gone,
}

impl Verdict {
    /// By the status that the endpoint answered. A redirect is a failure: it could lead anywhere.
    pub const fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            410 => Self::Gone,
            _ => Self::Failed,
        }
    }
}

/// Why an address cannot be an endpoint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// No URL.
    #[error("an absolute URL of at most 2,048 characters is needed")]
    NotAUrl,
    /// Another scheme.
    #[error("the URL has to begin with https://")]
    NotHttps,
    /// It would be sent with every message, and stand in logs.
    #[error("the URL has to have no user name and no password")]
    Credentials,
    /// No server sees it.
    #[error("the URL has to have no fragment")]
    Fragment,
    /// Other services listen on it.
    #[error("the port has to be 443, or 1024 or above")]
    Port,
    /// It cannot be reached from here, or leads to the operator's own network.
    #[error("the host has to be a public one")]
    NotPublic,
}

/// Where an endpoint may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the public internet, over TLS.
    Public,
    /// Anywhere, without TLS too: on a laptop, where whoever calls and whoever is called is one person.
    Anywhere,
}

impl Reach {
    /// Whether a connection to this address may be made. Asked of the very address that is connected to: what a name stands for
    /// can have changed since it was looked at.
    pub fn allows(self, address: IpAddr) -> bool {
        self == Self::Anywhere || is_public(address)
    }
}

/// An endpoint's address. That its name stands for public addresses only shows when it is called ([`Reach::allows`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// Parses an address as browsers do: `https://2130706433/` is an address of this machine.
    ///
    /// # Errors
    /// Why no endpoint may be there.
    pub fn parse(text: &str, reach: Reach) -> Result<Self, UrlError> {
        if text.chars().count() > WEBHOOK_URL_CHARS_MAX {
            return Err(UrlError::NotAUrl);
        }
        // White space and control characters would be dropped in silence.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| UrlError::NotAUrl)?;
        let host = url.host().ok_or(UrlError::NotAUrl)?;
        if !is_scheme_allowed(url.scheme(), reach) {
            return Err(UrlError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        if reach == Reach::Public && !matches!(url.port_or_known_default(), Some(443 | 1_024..)) {
            return Err(UrlError::Port);
        }
        if !may_be_public(&host) && reach == Reach::Public {
            return Err(UrlError::NotPublic);
        }
        Ok(Self(url))
    }

    /// The address as it is called.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host's name or address; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Host and port as the header `host` names them: the scheme's own port is left out.
    pub fn authority(&self) -> String {
        match self.0.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        }
    }

    /// What a request names: path and query.
    pub fn target(&self) -> String {
        let path = self.0.path();
        self.0.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }

    /// Whether it is called over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }
}

fn is_scheme_allowed(scheme: &str, reach: Reach) -> bool {
    match reach {
        Reach::Public => scheme == "https",
        Reach::Anywhere => matches!(scheme, "https" | "http"),
    }
}

/// Names that stand for no host of the public internet (RFC 6761, RFC 6762, RFC 8375, and ICANN's `.internal`).
const NOT_PUBLIC_NAMES: [&str; 9] =
    ["localhost", "local", "internal", "home.arpa", "test", "invalid", "example", "onion", "alt"];

fn may_be_public(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => is_public(IpAddr::V4(*address)),
        Host::Ipv6(address) => is_public(IpAddr::V6(*address)),
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let is_below = |top: &&str| name.strip_suffix(*top).is_some_and(|rest| rest.ends_with('.'));
            // A name of one part is looked up in the network's own domain.
            name.contains('.') && !NOT_PUBLIC_NAMES.iter().any(is_below)
        }
    }
}
