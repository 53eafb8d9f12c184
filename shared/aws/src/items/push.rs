//! Tickets and connections as items of the push table.

use darkroom_core::error_code::Language;
use darkroom_core::id::UserId;
use darkroom_core::push::{ConnectTicket, Connection, Connections};
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, ItemError, Reader, json, millis, number, text};
use crate::keys::Key;

/// Names of the push table's attributes.
pub(crate) mod name {
    pub(crate) const USER: &str = "user";
    pub(crate) const LANGUAGE: &str = "language";
    /// A user's connections, as JSON.
    pub(crate) const CONNECTIONS: &str = "connections";
    pub(crate) const VERSION: &str = "ver";
    /// When the client was last heard.
    pub(crate) const HEARD_AT: &str = "heard_at";
    pub(crate) const EXPIRES_AT: &str = "expires_at";
    pub(crate) const OP: &str = "op";
    pub(crate) const TTL: &str = "ttl";
}

/// Who is behind a connection, and in which language they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// The user.
    pub user: UserId,
    /// The language of what the connection is told.
    pub language: Language,
}

/// The item of a ticket.
pub(crate) fn ticket_item(ticket: &ConnectTicket, user: &UserId, expires_at: Timestamp) -> Item {
    let mut item = Key::ConnectTicket(&ticket.hash()).attributes();
    item.insert(name::USER.to_owned(), text(user.as_str()));
    item.insert(name::EXPIRES_AT.to_owned(), millis(expires_at));
    item.insert(name::TTL.to_owned(), number(expires_at.as_seconds()));
    item
}

/// Whose ticket an item is, and until when.
pub(crate) fn ticket(item: &Item) -> Result<(UserId, Timestamp), ItemError> {
    let read = Reader(item);
    Ok((read.parsed(name::USER, |text| UserId::parse(text).ok())?, read.time(name::EXPIRES_AT)?))
}

/// The item of a connection that is not heard yet.
pub(crate) fn connection_item(connection: &Connection, user: &UserId) -> Item {
    let mut item = Key::Connection(&connection.id).attributes();
    item.insert(name::USER.to_owned(), text(user.as_str()));
    item.insert(name::LANGUAGE.to_owned(), json(&connection.language));
    item.insert(name::TTL.to_owned(), number(connection.ends_at().as_seconds()));
    item
}

/// Who is behind the connection of an item.
pub(crate) fn watcher(item: &Item) -> Result<Watcher, ItemError> {
    let read = Reader(item);
    Ok(Watcher {
        user: read.parsed(name::USER, |text| UserId::parse(text).ok())?,
        language: read.json(name::LANGUAGE)?,
    })
}

/// The connections of an item.
pub(crate) fn connections(item: &Item) -> Result<Connections, ItemError> {
    let read = Reader(item);
    let list: Vec<Connection> = read.json(name::CONNECTIONS)?;
    Ok(Connections { version: read.number(name::VERSION)?, list })
}
