//! Transactions, and the one layer that tries them again.
//!
//! A transaction cancelled for conflict or throttling says nothing about the data: it is sent again with jitter,
//! at most six times in all. One cancelled by a condition is an outcome, with the items that refused it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use darkroom_core::retry::{CONFLICT_TRIES_MAX, conflict_pause};

use crate::attributes::Item;
use crate::clock::random_fraction;
use crate::error::{StoreError, is_throttling};
use crate::expression::Expression;

/// What a transaction came to.
pub(crate) enum Outcome {
    /// All of it was written.
    Applied,
    /// Nothing was; per action whether its condition refused it, with the item as it was.
    Refused(Vec<Refusal>),
}

/// One action's part in a refusal.
#[derive(Clone, Default)]
pub(crate) struct Refusal {
    /// This action's condition did not hold.
    pub(crate) failed: bool,
    /// The item as it was; absent items have none.
    pub(crate) item: Option<Item>,
}

/// Writes all actions or none.
pub(crate) async fn write(
    client: &Client,
    operation: &'static str,
    actions: Vec<TransactWriteItem>,
) -> Result<Outcome, StoreError> {
    let mut tries = 1;
    loop {
        let sent = client.transact_write_items().set_transact_items(Some(actions.clone())).send().await;
        let Err(error) = sent else { return Ok(Outcome::Applied) };
        let Some(reasons) = cancellation_reasons(&error) else {
            return Err(StoreError::from_sdk("DynamoDB", operation, error));
        };
        let code = |wanted: fn(&str) -> bool| reasons.iter().any(|reason| reason.code().is_some_and(wanted));
        if code(|code| code == "ConditionalCheckFailed") {
            return Ok(Outcome::Refused(reasons.iter().map(refusal).collect()));
        }
        if !code(is_throttling) {
            return Err(StoreError::from_sdk("DynamoDB", operation, error));
        }
        if tries >= CONFLICT_TRIES_MAX {
            return Err(StoreError::Throttled { store: "DynamoDB", operation });
        }
        pause(tries).await;
        tries += 1;
    }
}

/// The pause before a call that met a conflict or throttling is made again.
#[expect(clippy::disallowed_methods, reason = "a retry's pause, at the one layer that retries")]
pub(crate) async fn pause(tries: u32) {
    tokio::time::sleep(conflict_pause(tries, random_fraction())).await;
}

fn cancellation_reasons<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Vec<CancellationReason>> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(cancelled.cancellation_reasons().to_vec())
        }
        _ => None,
    }
}

fn refusal(reason: &CancellationReason) -> Refusal {
    Refusal { failed: reason.code() == Some("ConditionalCheckFailed"), item: reason.item().cloned() }
}

/// A conditional update as an action.
pub(crate) fn update(table: &str, key: Item, write: Expression) -> Result<TransactWriteItem, StoreError> {
    Update::builder()
        .table_name(table)
        .set_key(Some(key))
        .update_expression(write.update())
        .condition_expression(write.condition())
        .set_expression_attribute_names(Some(write.names))
        .set_expression_attribute_values(Some(write.values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map(|update| TransactWriteItem::builder().update(update).build())
        .map_err(|error| not_built(&error))
}

/// A put of an item that must be absent, as an action.
pub(crate) fn put_if_absent(table: &str, item: Item) -> Result<TransactWriteItem, StoreError> {
    Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map(|put| TransactWriteItem::builder().put(put).build())
        .map_err(|error| not_built(&error))
}

/// A put beside a condition that another action of the same transaction carries.
pub(crate) fn put(table: &str, item: Item) -> Result<TransactWriteItem, StoreError> {
    Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .build()
        .map(|put| TransactWriteItem::builder().put(put).build())
        .map_err(|error| not_built(&error))
}

fn not_built(error: &aws_sdk_dynamodb::error::BuildError) -> StoreError {
    StoreError::Refused {
        store: "DynamoDB",
        operation: "TransactWriteItems",
        code: "not built".to_owned(),
        message: error.to_string(),
    }
}
