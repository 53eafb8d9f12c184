//! Signs of life of the functions, in the keys table.

use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use darkroom_core::limits::HEARTBEAT_EVERY;
use darkroom_core::time::Timestamp;

use crate::attributes::{Reader, millis};
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::key::name;
use crate::key_table::KeyTable;
use crate::keys::Key;

/// One process's sign of life of its function.
#[derive(Debug)]
pub struct Heartbeat {
    keys: KeyTable,
    function: &'static str,
    beat_at: Mutex<Timestamp>,
}

impl Heartbeat {
    /// Of this function.
    pub fn new(keys: KeyTable, function: &'static str) -> Self {
        Self { keys, function, beat_at: Mutex::new(Timestamp::EPOCH) }
    }

    /// Notes that the function is alive, unless this process or another did less than half a minute ago.
    pub async fn beat(&self, now: Timestamp) -> Result<(), StoreError> {
        {
            let mut beat_at = self.beat_at.lock().unwrap_or_else(PoisonError::into_inner);
            if now.finds_fresh(*beat_at, HEARTBEAT_EVERY) {
                return Ok(());
            }
            *beat_at = now;
        }
        self.keys.beat(self.function, now).await
    }
}

impl KeyTable {
    /// Notes that `function` is alive, unless that was noted less than half a minute ago.
    async fn beat(&self, function: &str, now: Timestamp) -> Result<(), StoreError> {
        let write = Expression::default().set(name::AT, millis(now)).require_absent_or(
            name::AT,
            "<",
            millis(now.minus(HEARTBEAT_EVERY)),
        );
        match self.write(Key::Heartbeat(function), write).await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
                _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem heartbeat", error)),
            },
        }
    }

    /// When `function` last noted that it is alive.
    pub async fn last_beat(&self, function: &str) -> Result<Option<Timestamp>, StoreError> {
        let item = self.get(Key::Heartbeat(function)).await?;
        Ok(item.as_ref().and_then(|item| Reader(item).time(name::AT).ok()))
    }
}
