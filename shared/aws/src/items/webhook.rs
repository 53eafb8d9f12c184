//! Endpoints and deliveries as items of the push table.

use darkroom_core::id::{JobId, UserId};
use darkroom_core::webhook::EventKind;
use darkroom_core::webhook_delivery::{Delivery, Standing, delivery_shard};
use darkroom_core::webhook_endpoint::{Endpoint, Endpoints};

use crate::attributes::{Item, ItemError, Reader, json, millis, number, text};
use crate::keys::{Key, PK, SK, WEBHOOKS_PREFIX, parse_delivery_key};

/// Names of the attributes of endpoints and deliveries.
pub(crate) mod name {
    /// A user's endpoints, as JSON.
    pub(crate) const ENDPOINTS: &str = "endpoints";
    pub(crate) const VERSION: &str = "ver";
    pub(crate) const EVENT: &str = "event";
    pub(crate) const JOB: &str = "job";
    pub(crate) const BODY: &str = "body";
    pub(crate) const TRIES: &str = "tries";
    pub(crate) const TRIES_BEFORE: &str = "tries_before";
    pub(crate) const STANDING: &str = "standing";
    pub(crate) const LAST: &str = "last";
    /// Hash key of the index `due`.
    pub(crate) const SHARD: &str = "shard";
    /// Range key of the index `due`; absent unless the delivery waits.
    pub(crate) const DUE_AT: &str = "due_at";
    pub(crate) const EXPIRES_AT: &str = "expires_at";
    pub(crate) const TTL: &str = "ttl";
}

/// The endpoints of an item.
pub(crate) fn endpoints(item: &Item) -> Result<Endpoints, ItemError> {
    let read = Reader(item);
    let list: Vec<Endpoint> = read.json(name::ENDPOINTS)?;
    Ok(Endpoints { version: read.number(name::VERSION)?, list })
}

/// The item of a delivery.
pub(crate) fn delivery_item(delivery: &Delivery) -> Item {
    let mut item = Key::Delivery(&delivery.user, &delivery.endpoint, &delivery.id).attributes();
    item.extend(
        [
            (name::EVENT, text(delivery.event.as_str())),
            (name::JOB, text(delivery.job.as_str())),
            (name::BODY, text(&delivery.body)),
            (name::TRIES, number(delivery.tries)),
            (name::TRIES_BEFORE, number(delivery.tries_before)),
            (name::STANDING, text(delivery.standing.as_str())),
            (name::EXPIRES_AT, millis(delivery.expires_at)),
            (name::TTL, number(delivery.expires_at.as_seconds())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(last) = &delivery.last {
        item.insert(name::LAST.to_owned(), json(last));
    }
    if let Some(due_at) = delivery.standing.due_at() {
        item.insert(name::SHARD.to_owned(), text(delivery_shard(&delivery.id).to_string()));
        item.insert(name::DUE_AT.to_owned(), millis(due_at));
    }
    item
}

/// The delivery of an item.
pub(crate) fn delivery(item: &Item) -> Result<Delivery, ItemError> {
    let read = Reader(item);
    let (endpoint, id) = read.parsed(SK, parse_delivery_key)?;
    let standing = match read.text(name::STANDING)? {
        "pending" => Standing::Due(read.time(name::DUE_AT)?),
        "delivered" => Standing::Delivered,
        "failed" => Standing::Failed,
        "dropped" => Standing::Dropped,
        _ => return Err(ItemError { attribute: name::STANDING, problem: "has an unknown value" }),
    };
    Ok(Delivery {
        id,
        user: user(item)?,
        endpoint,
        event: read.parsed(name::EVENT, EventKind::parse)?,
        job: read.parsed(name::JOB, |text| JobId::parse(text).ok())?,
        body: read.text(name::BODY)?.to_owned(),
        tries: read.small(name::TRIES)?,
        tries_before: read.small(name::TRIES_BEFORE)?,
        standing,
        last: if read.has(name::LAST) { Some(read.json(name::LAST)?) } else { None },
        expires_at: read.time(name::EXPIRES_AT)?,
    })
}

/// Whose webhooks an item is of.
pub(crate) fn user(item: &Item) -> Result<UserId, ItemError> {
    Reader(item).parsed(PK, |text| UserId::parse(text.strip_prefix(WEBHOOKS_PREFIX)?).ok())
}

#[cfg(test)]
mod tests {
    use darkroom_core::id::{DeliveryId, IdempotencyKey, Ticket, WebhookId};
    use darkroom_core::time::Timestamp;
    use darkroom_core::webhook_delivery::{CallResult, LastTry, Unanswered};

    use super::*;

    #[test]
    fn what_is_stored_is_what_is_read() {
        let (user, at) = (UserId::parse("a#b").unwrap(), Timestamp::from_millis(1_800_000_000_000));
        let job = JobId::derive(&user, &IdempotencyKey::parse("k").unwrap());
        let endpoint = WebhookId::from_random([7; 16]);
        let id = DeliveryId::derive(&endpoint, &Ticket::new(at, &job), 3, at);
        let fresh =
            Delivery::new(id, (user, endpoint), (EventKind::JobFailed, job), "{\"a\":\"ü\"}".into(), at);
        let last = |result| LastTry { at, ended_at: at, result };
        let failed = fresh.after(last(CallResult::Unanswered(Unanswered::TimedOut)), 0.5);
        let delivered = failed.after(last(CallResult::answered(204, b"ok")), 0.5);
        let again = delivered.sent_again(at);
        for delivery in [&fresh, &failed, &delivered, &again, &again.dropped()] {
            let item = delivery_item(delivery);
            assert_eq!(super::delivery(&item), Ok(delivery.clone()));
            let is_due = delivery.standing.due_at().is_some();
            assert_eq!((item.contains_key("shard"), item.contains_key("due_at")), (is_due, is_due));
        }
        let mut item = delivery_item(&fresh);
        item.insert(name::STANDING.to_owned(), text("lost"));
        assert!(super::delivery(&item).is_err());
    }
}
