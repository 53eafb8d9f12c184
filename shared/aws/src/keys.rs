//! Every key of every table, in one place.

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::id::{
    BatchId, ConnectionId, DeliveryId, ExportId, JobId, KeyId, ModelName, ProjectName, Ticket, UserId,
    WebhookId,
};
use darkroom_core::model::ProviderName;

use crate::attributes::{Item, text};

/// The partition key of every table.
pub(crate) const PK: &str = "pk";
/// The sort key of every table.
pub(crate) const SK: &str = "sk";

/// The shapes of all primary keys. Owner: who writes it; layout: `pk` / `sk`.
#[derive(Clone, Copy)]
#[expect(clippy::enum_variant_names, reason = "an API key has an item's key too")]
pub(crate) enum Key<'a> {
    /// jobs. The record. Written by submit, worker, api (its owner's wishes), sweeper; mutable. `<job id>` / `JOB`.
    Job(&'a JobId),
    /// jobs. A prompt too long for the record. Written by submit; api moves its expiry and deletes it. `<job id>` / `BODY`.
    Body(&'a JobId),
    /// jobs. Metadata, once there are any. Written by submit; api changes them, moves their expiry and deletes them. `<job id>` / `META`.
    Metadata(&'a JobId),
    /// jobs. A batch. Written by submit, bulk, api (its owner's wish), sweeper; mutable. `<batch id>` / `BATCH`.
    Batch(&'a BatchId),
    /// jobs. The lines of a batch that cannot be drawn; immutable. Written by submit. `<batch id>` / `INVALID`.
    InvalidLines(&'a BatchId),
    /// jobs. An export's record. Written by submit, bulk, sweeper; mutable. `<export id>` / `EXPORT`.
    Export(&'a ExportId),
    /// jobs. How many exports of a user are under way. Written by submit, bulk, sweeper; mutable. `EXPORTS#<user>` / `LIVE`.
    Exports(&'a UserId),
    /// ledger. A user's balance; mutable. `<user>` / `BAL`.
    Balance(&'a UserId),
    /// ledger. How the hold of a job, or what was left of a batch's, ended; immutable, the same key for capture and refund. `<user>` / `E#<ticket>#SETTLE`.
    Settle(&'a UserId, &'a Ticket),
    /// ledger. Tokens given; immutable. `<user>` / `GRANT#<operation id>`.
    Grant(&'a UserId, &'a str),
    /// ledger. Never written: read to see whether the table answers. `-` / `NONE`.
    NoEntry,
    /// keys. An API key with its sealed secret; mutable. `KEY` / `<provider>#<project>#<key id>`.
    ApiKey(ProviderName, &'a ProjectName, &'a KeyId),
    /// keys. A project's quota of a model; mutable. `SCOPE#<provider>#<model>` / `<project>`.
    Scope(ProviderName, &'a ModelName, &'a ProjectName),
    /// keys. A model's breaker, once it has failed; mutable. `BREAKER` / `<provider>#<model>`.
    Breaker(ProviderName, &'a ModelName),
    /// keys. A model of the catalogue. `MODEL` / `<name>`.
    Model(&'a ModelName),
    /// keys. When a function last ran. `HB` / `<function>`.
    Heartbeat(&'a str),
    /// keys. Never there: to ask whether the table answers, and when it is, in a partition that every function may read.
    /// `BREAKER` / `ping`.
    Ping,
    /// push. Opens one connection, by the ticket's hash. Written by api; notifier deletes it. `TICKET#<hash>` / `TICKET`.
    ConnectTicket(&'a str),
    /// push. Who is behind a connection, and when it was heard. Written by notifier; mutable. `CONN#<connection id>` / `CONN`.
    Connection(&'a ConnectionId),
    /// push. A user's connections. Written by notifier; mutable. `USER#<user>` / `CONNS`.
    Connections(&'a UserId),
    /// push. A user's webhooks, with their sealed secrets. Written by api (its owner's wishes), notifier (what calls come to);
    /// mutable. `HOOKS#<user>` / `ENDPOINTS`.
    Endpoints(&'a UserId),
    /// push. A message to one endpoint. Written by notifier, sweeper (when it is woken), api (when it is sent again); mutable.
    /// `HOOKS#<user>` / `MSG#<webhook id>#<delivery id>`.
    Delivery(&'a UserId, &'a WebhookId, &'a DeliveryId),
}

/// Prefix of the partitions of users' webhooks.
pub(crate) const WEBHOOKS_PREFIX: &str = "HOOKS#";
/// Prefix of deliveries' sort keys.
const DELIVERY_PREFIX: &str = "MSG#";

/// Partition of a user's webhooks.
pub(crate) fn webhooks_partition(user: &UserId) -> String {
    format!("{WEBHOOKS_PREFIX}{user}")
}

/// Prefix of the sort keys of an endpoint's deliveries.
pub(crate) fn deliveries_of(endpoint: &WebhookId) -> String {
    format!("{DELIVERY_PREFIX}{endpoint}#")
}

/// The endpoint and the delivery of a sort key.
pub(crate) fn parse_delivery_key(sort_key: &str) -> Option<(WebhookId, DeliveryId)> {
    let (endpoint, delivery) = sort_key.strip_prefix(DELIVERY_PREFIX)?.split_once('#')?;
    Some((WebhookId::parse(endpoint).ok()?, DeliveryId::parse(delivery).ok()?))
}

/// Sort key of jobs' records.
pub(crate) const JOB: &str = "JOB";
/// Sort key of batches' records.
pub(crate) const BATCH: &str = "BATCH";
/// Prefix of settle entries' sort keys.
pub(crate) const SETTLE_PREFIX: &str = "E#";
/// Prefix of grant entries' sort keys.
pub(crate) const GRANT_PREFIX: &str = "GRANT#";
/// Partition of all API keys.
pub(crate) const API_KEY_PARTITION: &str = "KEY";
/// Partition of the breakers.
pub(crate) const BREAKER_PARTITION: &str = "BREAKER";
/// Partition of the catalogue.
pub(crate) const MODEL_PARTITION: &str = "MODEL";

/// Prefix of the scopes' partitions.
pub(crate) const SCOPE_PREFIX: &str = "SCOPE#";

/// Partition of a model's scopes.
pub(crate) fn scope_partition(provider: ProviderName, model: &ModelName) -> String {
    format!("{SCOPE_PREFIX}{provider}#{model}")
}

impl Key<'_> {
    fn parts(self) -> (String, String) {
        match self {
            Self::Job(id) => (id.to_string(), JOB.to_owned()),
            Self::Body(id) => (id.to_string(), "BODY".to_owned()),
            Self::Metadata(id) => (id.to_string(), "META".to_owned()),
            Self::Batch(id) => (id.to_string(), BATCH.to_owned()),
            Self::InvalidLines(id) => (id.to_string(), "INVALID".to_owned()),
            Self::Export(id) => (id.to_string(), "EXPORT".to_owned()),
            Self::Exports(user) => (format!("EXPORTS#{user}"), "LIVE".to_owned()),
            Self::Balance(user) => (user.to_string(), "BAL".to_owned()),
            Self::Settle(user, ticket) => {
                (user.to_string(), format!("{SETTLE_PREFIX}{}#SETTLE", ticket.as_str()))
            }
            Self::Grant(user, op_id) => (user.to_string(), format!("{GRANT_PREFIX}{op_id}")),
            Self::NoEntry => ("-".to_owned(), "NONE".to_owned()),
            Self::ApiKey(provider, project, id) => {
                (API_KEY_PARTITION.to_owned(), format!("{provider}#{project}#{id}"))
            }
            Self::Scope(provider, model, project) => (scope_partition(provider, model), project.to_string()),
            Self::Breaker(provider, model) => (BREAKER_PARTITION.to_owned(), format!("{provider}#{model}")),
            Self::Model(name) => (MODEL_PARTITION.to_owned(), name.to_string()),
            Self::Heartbeat(function) => ("HB".to_owned(), function.to_owned()),
            Self::Ping => (BREAKER_PARTITION.to_owned(), "ping".to_owned()),
            Self::ConnectTicket(hash) => (format!("TICKET#{hash}"), "TICKET".to_owned()),
            Self::Connection(id) => (format!("CONN#{id}"), "CONN".to_owned()),
            Self::Connections(user) => (format!("USER#{user}"), "CONNS".to_owned()),
            Self::Endpoints(user) => (webhooks_partition(user), "ENDPOINTS".to_owned()),
            Self::Delivery(user, endpoint, id) => {
                (webhooks_partition(user), format!("{}{id}", deliveries_of(endpoint)))
            }
        }
    }

    /// The key's two attributes.
    pub(crate) fn attributes(self) -> Item {
        let (pk, sk) = self.parts();
        Item::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
    }
}

/// The key attributes of an item that was read.
pub(crate) fn readable_key(item: &Item) -> String {
    let part = |name| match item.get(name) {
        Some(AttributeValue::S(text)) => text.as_str(),
        _ => "?",
    };
    format!("{}/{}", part(PK), part(SK))
}
