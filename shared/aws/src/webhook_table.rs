//! The push table's other half: users' endpoints, and the messages that are to be sent to them.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use darkroom_core::id::{DeliveryId, UserId, WebhookId};
use darkroom_core::limits::DELIVERY_SHARDS;
use darkroom_core::message::VERSION;
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;
use darkroom_core::webhook_delivery::{Delivery, DeliveryMessage, delivery_shard};
use darkroom_core::webhook_endpoint::Endpoints;

use crate::attributes::{Item, ItemError, Reader, json, millis, number, text};
use crate::batch_get::batch_get;
use crate::error::{StoreError, is_conflict};
use crate::expression::Expression;
use crate::items::webhook::{delivery, delivery_item, endpoints, name, user};
use crate::job_table::readable;
use crate::keys::{Key, PK, SK, deliveries_of, parse_delivery_key, webhooks_partition};
use crate::tries::Tries;

/// Endpoints and deliveries, in the push table.
#[derive(Clone, Debug)]
pub struct WebhookTable {
    client: Client,
    table: String,
}

/// What became of a change of a user's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// They are so now.
    Applied(Endpoints),
    /// What they were left nothing to change; so they are.
    Not(Endpoints),
}

/// What became of a write of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is so now.
    Applied,
    /// Another call was noted since it was read; so it is.
    Overtaken(Box<Delivery>),
    /// It is forgotten.
    Absent,
}

/// A delivery that is due, as the index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The message that has it called.
    pub message: DeliveryMessage,
    /// Since when.
    pub due_at: Timestamp,
}

/// A page of an endpoint's deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The newest first.
    pub deliveries: Vec<Delivery>,
    /// After which the next page begins; `None` at the end.
    pub next: Option<DeliveryId>,
}

/// Entries of one shard that one look at what is due reads.
const DUE_PER_SHARD: i32 = 100;

impl WebhookTable {
    /// The table of this name.
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// The endpoints of these users, strongly consistent. Users without any are left out. What cannot be read is logged and left
    /// out.
    pub async fn endpoints(&self, users: &[UserId]) -> Result<HashMap<UserId, Endpoints>, StoreError> {
        let users: BTreeSet<_> = users.iter().collect();
        let keys = users.into_iter().map(|user| Key::Endpoints(user).attributes()).collect();
        let items = batch_get(&self.client, &self.table, keys).await?;
        let of_item = |item| Some((readable(read(item, user))?, readable(read(item, endpoints))?));
        Ok(items.iter().filter_map(of_item).collect())
    }

    /// A user's endpoints, strongly consistent.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] too: nothing is written over what cannot be read.
    pub async fn endpoints_of(&self, user: &UserId) -> Result<Endpoints, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::Endpoints(user).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem endpoints", error))?;
        answer.item.map_or(Ok(Endpoints::default()), |item| read(&item, endpoints))
    }

    /// Changes a user's endpoints, which were `seen` so: `change` says what they become, and is asked again when another
    /// change came first, so that both are kept.
    ///
    /// No stamp tells an earlier try's success whose answer was lost: asked again, `change` finds its own work done.
    ///
    /// # Errors
    /// [`StoreError::Throttled`] when others are in the way for too long.
    pub async fn change(
        &self,
        user: &UserId,
        mut seen: Endpoints,
        change: impl Fn(&Endpoints) -> Option<Endpoints>,
    ) -> Result<Changed, StoreError> {
        let (mut tries, operation) = (Tries::new(Patience::Race), "UpdateItem endpoints");
        loop {
            let Some(next) = change(&seen) else { return Ok(Changed::Not(seen)) };
            let write = Expression::default()
                .set(name::ENDPOINTS, json(&next.list))
                .set(name::VERSION, number(next.version));
            let write = match seen.version {
                0 => write.require_absent(name::VERSION),
                version => write.require(name::VERSION, "=", number(version)),
            };
            let call = write.update_item(&self.client, &self.table, Key::Endpoints(user).attributes()).send();
            match tries.send(Box::pin(call)).await {
                Ok(_) => return Ok(Changed::Applied(next)),
                Err(error) if error.code().is_some_and(is_conflict) => {}
                Err(error) => match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                        let there = refused.item();
                        seen = there.map_or(Ok(Endpoints::default()), |item| read(item, endpoints))?;
                    }
                    _ => return Err(StoreError::from_sdk("DynamoDB", operation, error)),
                },
            }
            if !tries.pause().await {
                return Err(StoreError::Throttled { store: "DynamoDB", operation });
            }
        }
    }

    /// Stores a delivery unless it is there: `false` then. A change that is read twice makes one.
    pub async fn put(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(delivery_item(delivery)))
            .condition_expression("attribute_not_exists(pk)")
            .send();
        match Box::pin(put).await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(StoreError::from_sdk("DynamoDB", "PutItem delivery", error)),
            },
        }
    }

    /// A delivery, strongly consistent; `None` also of one that is forgotten by `now`.
    pub async fn delivery(
        &self,
        user: &UserId,
        endpoint: &WebhookId,
        id: &DeliveryId,
        now: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        let key = Key::Delivery(user, endpoint, id).attributes();
        let items = batch_get(&self.client, &self.table, vec![key]).await?;
        let found = items.first().map(|item| read(item, delivery)).transpose()?;
        Ok(found.filter(|delivery| !delivery.is_expired(now)))
    }

    /// Writes a delivery as `next`, if no call was noted since it was read as `seen`.
    pub async fn note(&self, seen: &Delivery, next: &Delivery) -> Result<Noted, StoreError> {
        let mut write = Expression::default()
            .set(name::TRIES, number(next.tries))
            .set(name::TRIES_BEFORE, number(next.tries_before))
            .set(name::STANDING, text(next.standing.as_str()))
            .set(name::EXPIRES_AT, millis(next.expires_at))
            .set(name::TTL, number(next.expires_at.as_seconds()))
            .require(name::TRIES, "=", number(seen.tries));
        if let Some(last) = &next.last {
            write = write.set(name::LAST, json(last));
        }
        write = match next.standing.due_at() {
            Some(due_at) => write
                .set(name::SHARD, text(delivery_shard(&next.id).to_string()))
                .set(name::DUE_AT, millis(due_at)),
            None => write.remove(&[name::SHARD, name::DUE_AT]),
        };
        let key = Key::Delivery(&seen.user, &seen.endpoint, &seen.id).attributes();
        let call = write.update_item(&self.client, &self.table, key).send();
        let Err(error) = Box::pin(call).await else { return Ok(Noted::Applied) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                let there = refused.item().map(|item| read(item, delivery)).transpose()?;
                Ok(there.map_or(Noted::Absent, |delivery| Noted::Overtaken(Box::new(delivery))))
            }
            _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem delivery", error)),
        }
    }

    /// An endpoint's deliveries, the newest first, after this one. Those that are forgotten by `now` are left out.
    pub async fn deliveries(
        &self,
        user: &UserId,
        endpoint: &WebhookId,
        after: Option<&DeliveryId>,
        limit: u16,
        now: Timestamp,
    ) -> Result<DeliveryPage, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk AND begins_with(#sk, :of)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(webhooks_partition(user)))
            .expression_attribute_values(":of", text(deliveries_of(endpoint)))
            .set_exclusive_start_key(after.map(|id| Key::Delivery(user, endpoint, id).attributes()))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(i32::from(limit))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query deliveries", error))?;
        let next = answer.last_evaluated_key.as_ref().and_then(|key| {
            let (_, id) = parse_delivery_key(Reader(key).text(SK).ok()?)?;
            Some(id)
        });
        let deliveries = answer.items().iter().filter_map(|item| readable(read(item, delivery)));
        Ok(DeliveryPage { deliveries: deliveries.filter(|one| !one.is_expired(now)).collect(), next })
    }

    /// What is due by `now`, the longest first, at most a hundred of each shard. The index is a hint: [`WebhookTable::mark`]
    /// decides.
    pub async fn due(&self, now: Timestamp) -> Result<Vec<Due>, StoreError> {
        let shards = (0..DELIVERY_SHARDS).map(|shard| self.due_of(shard, now));
        let shards = futures::future::try_join_all(shards).await?;
        let mut due: Vec<_> = shards.into_iter().flatten().collect();
        due.sort_by_key(|due| due.due_at);
        Ok(due)
    }

    async fn due_of(&self, shard: u64, now: Timestamp) -> Result<Vec<Due>, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("due")
            .key_condition_expression("#shard = :shard AND #due_at <= :now")
            .expression_attribute_names("#shard", name::SHARD)
            .expression_attribute_names("#due_at", name::DUE_AT)
            .expression_attribute_values(":shard", text(shard.to_string()))
            .expression_attribute_values(":now", millis(now))
            .limit(DUE_PER_SHARD)
            .send();
        let answer = Box::pin(query)
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query due deliveries", error))?;
        Ok(answer.items().iter().filter_map(|item| readable(read(item, due))).collect())
    }

    /// Moves the time of what is due on, if it is as the index shows it: `false` when somebody has written it since.
    pub async fn mark(&self, due: &Due, until: Timestamp) -> Result<bool, StoreError> {
        let write = Expression::default().set(name::DUE_AT, millis(until)).require(
            name::DUE_AT,
            "=",
            millis(due.due_at),
        );
        let DeliveryMessage { user, endpoint, delivery, .. } = &due.message;
        let key = Key::Delivery(user, endpoint, delivery).attributes();
        let call = write.update_item(&self.client, &self.table, key).send();
        match Box::pin(call).await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem due delivery", error)),
            },
        }
    }
}

/// An entry of the index `due`. Who writes its time writes its tries.
fn due(item: &Item) -> Result<Due, ItemError> {
    let read = Reader(item);
    let (endpoint, delivery) = read.parsed(SK, parse_delivery_key)?;
    let tries = read.small(name::TRIES)?;
    let message = DeliveryMessage { v: VERSION, user: user(item)?, endpoint, delivery, tries };
    Ok(Due { message, due_at: read.time(name::DUE_AT)? })
}

fn read<T>(item: &Item, read: impl Fn(&Item) -> Result<T, ItemError>) -> Result<T, StoreError> {
    read(item).map_err(|problem| StoreError::unreadable(item, &problem))
}
