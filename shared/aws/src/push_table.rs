//! The push table: tickets that open connections, and who is connected.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use darkroom_core::id::{ConnectionId, UserId};
use darkroom_core::limits::{CLIENT_MESSAGE_EVERY, TICKET_LIFE};
use darkroom_core::push::{ConnectTicket, Connection, Connections};
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, ItemError, Reader, json, millis, number, text};
use crate::batch_get::batch_get;
use crate::clock::random_stamp;
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::push::{
    Watcher, connection_item, connections, name, ticket as read_ticket, ticket_item, watcher,
};
use crate::job_table::readable;
use crate::keys::{Key, PK};
use crate::transaction::{self, Outcome, Refusal};
use crate::tries::Tries;

/// The push table.
#[derive(Clone, Debug)]
pub struct PushTable {
    client: Client,
    table: String,
}

/// What a ticket came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connected {
    /// The connection is its user's.
    Open {
        /// Had to make room, and are known no more: the gateway may still hold them.
        evicted: Vec<ConnectionId>,
    },
    /// The ticket was used meanwhile, or the connection is there already.
    Refused,
}

/// What a message of a connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is this one's.
    Of(Watcher),
    /// The one before was less than a second ago.
    TooSoon,
    /// There is no such connection.
    Unknown,
}

impl PushTable {
    /// The table of this name.
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Gives a fresh ticket out, which opens one connection of this user within a minute; until when. Idempotent.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it is somebody's already.
    pub async fn issue(
        &self,
        ticket: &ConnectTicket,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let expires_at = now.plus(TICKET_LIFE);
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(ticket_item(ticket, user, expires_at)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        let Err(error) = put.await else { return Ok(expires_at) };
        let there = match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refused)) => refused.item(),
            _ => None,
        };
        match there.map(|item| read(item, read_ticket)).transpose()? {
            // The answer to our first try was lost.
            Some((whose, until)) if whose == *user && until == expires_at => Ok(expires_at),
            _ => Err(StoreError::from_sdk("DynamoDB", "PutItem ticket", error)),
        }
    }

    /// Whose ticket this is; `None` of one that was never given out, was used, or is too old.
    pub async fn ticket(&self, ticket: &ConnectTicket, now: Timestamp) -> Result<Option<UserId>, StoreError> {
        let Some(item) = self.get(Key::ConnectTicket(&ticket.hash()), "GetItem ticket").await? else {
            return Ok(None);
        };
        let (user, expires_at) = read(&item, read_ticket)?;
        Ok((expires_at > now).then_some(user))
    }

    /// Uses this user's ticket up for a connection, in one transaction with the connection's own items: a ticket opens one
    /// connection, and one that has opened none can be used again. The user's connections were `seen` so.
    ///
    /// # Errors
    /// [`StoreError::Throttled`] when the user's other connections are in the way for too long.
    pub async fn open(
        &self,
        ticket: &ConnectTicket,
        user: &UserId,
        mut seen: Connections,
        connection: &Connection,
    ) -> Result<Connected, StoreError> {
        let mut tries = Tries::new(Patience::Race);
        loop {
            let (next, gone) = seen.with(connection);
            let evicted: Vec<_> = gone.into_iter().map(|gone| gone.id).collect();
            let mut actions = vec![
                transaction::delete_if(
                    &self.table,
                    Key::ConnectTicket(&ticket.hash()).attributes(),
                    Expression::default().require(name::USER, "=", text(user.as_str())),
                )?,
                transaction::put_if_absent(&self.table, connection_item(connection, user))?,
                self.list_as_seen(user, &seen, &next)?,
            ];
            for id in &evicted {
                actions.push(transaction::delete(&self.table, Key::Connection(id).attributes())?);
            }
            let operation = "TransactWriteItems connect";
            let refusals = match transaction::write_in(&self.client, operation, actions, &mut tries).await? {
                Outcome::Applied => return Ok(Connected::Open { evicted }),
                Outcome::Refused(refusals) => refusals,
            };
            let [spent, there, list] = [0, 1, 2].map(|action| refusals.get(action));
            let failed = |refusal: Option<&Refusal>| refusal.is_some_and(|refusal| refusal.failed);
            match (failed(spent), failed(there)) {
                // The gateway gives no id twice: the answer to our own success was lost.
                (true, true) => return Ok(Connected::Open { evicted: Vec::new() }),
                (true, false) | (false, true) => return Ok(Connected::Refused),
                (false, false) => seen = now_there(list)?,
            }
            if !tries.pause().await {
                return Err(StoreError::Throttled { store: "DynamoDB", operation });
            }
        }
    }

    /// The connections of these users, strongly consistent: a change that is written after a client has synchronised finds
    /// it here. Users without any are left out. What cannot be read is logged and left out.
    pub async fn connections(&self, users: &[UserId]) -> Result<HashMap<UserId, Connections>, StoreError> {
        let users: BTreeSet<_> = users.iter().collect();
        let keys = users.iter().map(|user| Key::Connections(user).attributes()).collect();
        let items = batch_get(&self.client, &self.table, keys).await?;
        let by_key: HashMap<_, _> = items
            .iter()
            .filter_map(|item| {
                Some((Reader(item).text(PK).ok()?.to_owned(), readable(read(item, connections))?))
            })
            .collect();
        let of_user = |user: &UserId| {
            let pk = Key::Connections(user).attributes().remove(PK)?;
            by_key.get(pk.as_s().ok()?).cloned()
        };
        Ok(users.into_iter().filter_map(|user| Some((user.clone(), of_user(user)?))).collect())
    }

    /// Notes that a connection was heard now, if it is open and was not heard within the last second.
    pub async fn hear(&self, id: &ConnectionId, now: Timestamp) -> Result<Heard, StoreError> {
        let op = random_stamp();
        let write = Expression::default()
            .set(name::HEARD_AT, millis(now))
            .set(name::OP, text(op.as_str()))
            .require_present(name::USER)
            .require_absent_or(name::HEARD_AT, "<=", millis(now.minus(CLIENT_MESSAGE_EVERY)));
        let key = Key::Connection(id).attributes();
        let update =
            write.update_item(&self.client, &self.table, key).return_values(ReturnValue::AllNew).send();
        let error = match update.await {
            Ok(answer) => {
                return answer
                    .attributes
                    .map_or(Ok(Heard::Unknown), |item| read(&item, watcher).map(Heard::Of));
            }
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => match refused.item() {
                Some(item) if Reader(item).text(name::OP) == Ok(op.as_str()) => {
                    read(item, watcher).map(Heard::Of)
                }
                Some(_) => Ok(Heard::TooSoon),
                None => Ok(Heard::Unknown),
            },
            _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem connection", error)),
        }
    }

    /// Forgets a connection that has ended, known by its id alone. Idempotent.
    pub async fn forget(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let Some(item) = self.get(Key::Connection(id), "GetItem connection").await? else { return Ok(()) };
        let user = read(&item, watcher)?.user;
        let seen = self.connections(std::slice::from_ref(&user)).await?.remove(&user).unwrap_or_default();
        self.forget_of(&user, seen, id).await
    }

    /// Forgets a connection of this user that has ended; the user's connections were `seen` so. Idempotent; others that come
    /// and go meanwhile are kept.
    ///
    /// # Errors
    /// [`StoreError::Throttled`] when they are in the way for too long.
    pub async fn forget_of(
        &self,
        user: &UserId,
        mut seen: Connections,
        id: &ConnectionId,
    ) -> Result<(), StoreError> {
        let mut tries = Tries::new(Patience::Race);
        loop {
            let Some(next) = seen.without(id) else { return self.delete(user, id).await };
            let actions = vec![
                self.list_as_seen(user, &seen, &next)?,
                transaction::delete(&self.table, Key::Connection(id).attributes())?,
            ];
            let operation = "TransactWriteItems disconnect";
            match transaction::write_in(&self.client, operation, actions, &mut tries).await? {
                Outcome::Applied => return Ok(()),
                Outcome::Refused(refusals) => seen = now_there(refusals.first())?,
            }
            if !tries.pause().await {
                return Err(StoreError::Throttled { store: "DynamoDB", operation });
            }
        }
    }

    /// A connection that its user's list does not name.
    async fn delete(&self, user: &UserId, id: &ConnectionId) -> Result<(), StoreError> {
        let of_user = Expression::default().require(name::USER, "=", text(user.as_str()));
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(Key::Connection(id).attributes()))
            .condition_expression(of_user.condition())
            .set_expression_attribute_names(Some(of_user.names))
            .set_expression_attribute_values(Some(of_user.values))
            .send();
        match delete.await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
                _ => Err(StoreError::from_sdk("DynamoDB", "DeleteItem connection", error)),
            },
        }
    }

    /// A user's connections as an action, if nobody wrote them since they were read.
    fn list_as_seen(
        &self,
        user: &UserId,
        seen: &Connections,
        next: &Connections,
    ) -> Result<TransactWriteItem, StoreError> {
        let all = seen.list.iter().chain(&next.list);
        let end = all.map(Connection::ends_at).max().unwrap_or_default();
        let write = Expression::default()
            .set(name::CONNECTIONS, json(&next.list))
            .set(name::VERSION, number(next.version))
            .set(name::TTL, number(end.as_seconds()));
        let write = match seen.version {
            0 => write.require_absent(name::VERSION),
            version => write.require(name::VERSION, "=", number(version)),
        };
        transaction::update(&self.table, Key::Connections(user).attributes(), write)
    }

    async fn get(&self, key: Key<'_>, operation: &'static str) -> Result<Option<Item>, StoreError> {
        self.client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .consistent_read(true)
            .send()
            .await
            .map(|answer| answer.item)
            .map_err(|error| StoreError::from_sdk("DynamoDB", operation, error))
    }
}

/// A user's connections as they are, which a refusal brings.
fn now_there(refusal: Option<&Refusal>) -> Result<Connections, StoreError> {
    let item = refusal.and_then(|refusal| refusal.item.as_ref());
    item.map_or(Ok(Connections::default()), |item| read(item, connections))
}

fn read<T>(item: &Item, read: impl Fn(&Item) -> Result<T, ItemError>) -> Result<T, StoreError> {
    read(item).map_err(|problem| StoreError::unreadable(item, &problem))
}
