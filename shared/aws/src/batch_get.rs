//! Many items of one table at once.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemError;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use darkroom_core::retry::Patience;

use crate::attributes::Item;
use crate::error::StoreError;
use crate::tries::Tries;

/// Keys of one BatchGetItem (DynamoDB's limit).
pub(crate) const BATCH_GET_MAX: usize = 100;

/// BatchGetItem in chunks, strongly consistent; keys that the store left unprocessed are asked again with jitter. Each
/// key once: DynamoDB refuses a call that names one twice.
pub(crate) async fn batch_get(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(BATCH_GET_MAX) {
        let (mut left, mut tries) = (chunk.to_vec(), Tries::new(Patience::Tries));
        loop {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(true)
                .build()
                .map_err(|error| StoreError::from_sdk("DynamoDB", "BatchGetItem", not_built(error)))?;
            let call = client.batch_get_item().request_items(table, request).send();
            let answer = tries
                .send(Box::pin(call))
                .await
                .map_err(|error| StoreError::from_sdk("DynamoDB", "BatchGetItem", error))?;
            items.extend(answer.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default());
            left = answer
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(table))
                .map(|unprocessed| unprocessed.keys)
                .unwrap_or_default();
            if left.is_empty() {
                break;
            }
            if !tries.pause().await {
                return Err(StoreError::Throttled { store: "DynamoDB", operation: "BatchGetItem" });
            }
        }
    }
    Ok(items)
}

fn not_built(error: BuildError) -> SdkError<BatchGetItemError> {
    SdkError::construction_failure(error)
}
