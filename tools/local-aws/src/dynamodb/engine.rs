//! DynamoDB without a server.

use dynoxide::actions::{
    batch_get_item::BatchGetItemRequest, delete_item::DeleteItemRequest, get_item::GetItemRequest,
    put_item::PutItemRequest, query::QueryRequest, scan::ScanRequest,
    transact_get_items::TransactGetItemsRequest, transact_write_items::TransactWriteItemsRequest,
    update_item::UpdateItemRequest,
};
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tables;
use crate::{EnsureError, StartError};

/// Tables in memory that answer at once, on the caller's thread: for simulations, whose time stands still meanwhile.
#[derive(Clone)]
pub struct Engine(Database);

impl Engine {
    /// No tables yet.
    ///
    /// # Errors
    /// When SQLite has no memory for it.
    pub fn in_memory() -> Result<Self, StartError> {
        Database::memory().map(Self).map_err(|error| StartError::storage(super::SERVICE, error))
    }

    /// See [`crate::LocalAws::ensure_table`].
    ///
    /// # Errors
    /// When the definition is refused.
    pub fn ensure_table(&self, definition: Value, ttl_attribute: Option<&str>) -> Result<(), EnsureError> {
        tables::ensure(&self.0, definition, ttl_attribute)
    }

    /// The status and JSON body that answer this operation on items with this JSON body.
    pub fn answer(&self, operation: &str, body: &[u8]) -> (u16, String) {
        match self.run(operation, body) {
            Ok(answer) => (200, answer),
            Err(error) => (error.status_code(), error.to_json()),
        }
    }

    fn run(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        let Self(database) = self;
        match operation {
            "GetItem" => write(&database.get_item(read::<GetItemRequest>(body)?)?),
            "PutItem" => write(&database.put_item(read::<PutItemRequest>(body)?)?),
            "UpdateItem" => write(&database.update_item(read::<UpdateItemRequest>(body)?)?),
            "DeleteItem" => write(&database.delete_item(read::<DeleteItemRequest>(body)?)?),
            "Query" => write(&database.query(read::<QueryRequest>(body)?)?),
            "Scan" => write(&database.scan(read::<ScanRequest>(body)?)?),
            "BatchGetItem" => write(&database.batch_get_item(read::<BatchGetItemRequest>(body)?)?),
            "TransactGetItems" => {
                write(&database.transact_get_items(read::<TransactGetItemsRequest>(body)?)?)
            }
            "TransactWriteItems" => {
                write(&database.transact_write_items(read::<TransactWriteItemsRequest>(body)?)?)
            }
            other => Err(DynoxideError::InternalServerError(format!("no operation on items: {other}"))),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, DynoxideError> {
    serde_json::from_slice(body).map_err(|error| DynoxideError::SerializationException(error.to_string()))
}

fn write<T: Serialize>(answer: &T) -> Result<String, DynoxideError> {
    serde_json::to_string(answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}
