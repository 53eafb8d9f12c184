//! Transactions.
//!
//! One that is cancelled for conflict or throttling says nothing about the data: it is sent again while the caller's
//! patience lasts. One that is cancelled by a condition is an outcome, with the items that refused it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, number};
use crate::error::{StoreError, is_conflict, is_contention};
use crate::expression::Expression;
use crate::items::job::name::TTL;
use crate::tries::Tries;

/// What a transaction came to.
pub(crate) enum Outcome {
    /// All of it was written.
    Applied,
    /// Nothing was; per action whether its condition refused it, with the item as it was.
    Refused(Vec<Refusal>),
}

/// One action's part in a refusal.
pub(crate) struct Refusal {
    /// This action's condition did not hold.
    pub(crate) failed: bool,
    /// The item that refused it, as it was; absent items have none.
    pub(crate) item: Option<Item>,
}

/// Writes all actions or none. The first action is the record's or entry's own: what the others say about it counts
/// only when nothing else was in the way.
pub(crate) async fn write(
    client: &Client,
    operation: &'static str,
    actions: Vec<TransactWriteItem>,
    patience: Patience,
) -> Result<Outcome, StoreError> {
    write_in(client, operation, actions, &mut Tries::new(patience)).await
}

/// The same within tries that others are counted in, too.
pub(crate) async fn write_in(
    client: &Client,
    operation: &'static str,
    actions: Vec<TransactWriteItem>,
    tries: &mut Tries,
) -> Result<Outcome, StoreError> {
    loop {
        let call = client.transact_write_items().set_transact_items(Some(actions.clone())).send();
        let Err(error) = tries.send(Box::pin(call)).await else { return Ok(Outcome::Applied) };
        match Cancelled::of(&error) {
            Some(Cancelled::Refused(refusals)) => return Ok(Outcome::Refused(refusals)),
            Some(Cancelled::Contended) => {}
            None => return Err(StoreError::from_sdk("DynamoDB", operation, error)),
        }
        if !tries.pause().await {
            return Err(StoreError::Throttled { store: "DynamoDB", operation });
        }
    }
}

/// Why nothing was written, where the call itself was in order.
enum Cancelled {
    /// By conditions.
    Refused(Vec<Refusal>),
    /// By other writes of the same items, or by throttling.
    Contended,
}

impl Cancelled {
    /// Several actions can have a reason each. Beside a conflict, a failed condition of the balance or of a second lock
    /// is not to be believed alone: the write that is in the way may be the one that fills the balance, or that made
    /// the entry and changes the record. Only the first action's own condition decides whatever stands beside it.
    fn of<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Self> {
        let TransactWriteItemsError::TransactionCanceledException(cancelled) = error.as_service_error()?
        else {
            return error.code().is_some_and(is_conflict).then_some(Self::Contended);
        };
        let reasons = cancelled.cancellation_reasons();
        let refusals: Vec<_> = reasons.iter().map(refusal).collect();
        let refused_itself = refusals.first().is_some_and(|refusal| refusal.failed);
        if !refused_itself && reasons.iter().any(|reason| reason.code().is_some_and(is_contention)) {
            return Some(Self::Contended);
        }
        refusals.iter().any(|refusal| refusal.failed).then_some(Self::Refused(refusals))
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

/// A condition of an item that is not written, as an action. A refusal brings the item as it is.
pub(crate) fn check(table: &str, key: Item, condition: Expression) -> Result<TransactWriteItem, StoreError> {
    ConditionCheck::builder()
        .table_name(table)
        .set_key(Some(key))
        .condition_expression(condition.condition())
        .set_expression_attribute_names(Some(condition.names))
        .set_expression_attribute_values(Some(condition.values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map(|check| TransactWriteItem::builder().condition_check(check).build())
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

/// A put of a record that must be absent, or expired by `now`: the store deletes what has expired some time later.
pub(crate) fn put_if_absent_or_expired(
    table: &str,
    item: Item,
    now: Timestamp,
) -> Result<TransactWriteItem, StoreError> {
    Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression("attribute_not_exists(pk) OR #ttl <= :now")
        .expression_attribute_names("#ttl", TTL)
        .expression_attribute_values(":now", number(now.as_seconds()))
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

/// The deletion of an item that is like this, as an action.
pub(crate) fn delete_if(
    table: &str,
    key: Item,
    condition: Expression,
) -> Result<TransactWriteItem, StoreError> {
    Delete::builder()
        .table_name(table)
        .set_key(Some(key))
        .condition_expression(condition.condition())
        .set_expression_attribute_names(Some(condition.names))
        .set_expression_attribute_values(Some(condition.values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map(|delete| TransactWriteItem::builder().delete(delete).build())
        .map_err(|error| not_built(&error))
}

/// The deletion of an item, there or not, beside a condition that another action of the same transaction carries.
pub(crate) fn delete(table: &str, key: Item) -> Result<TransactWriteItem, StoreError> {
    Delete::builder()
        .table_name(table)
        .set_key(Some(key))
        .build()
        .map(|delete| TransactWriteItem::builder().delete(delete).build())
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
