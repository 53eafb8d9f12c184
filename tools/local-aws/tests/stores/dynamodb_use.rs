//! What counting says of DynamoDB's requests, held against what DynamoDB charges for them.

use crate::common::items::{due_table, number, put, text};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use darkroom_local_aws::{DynamoDbUse, LocalAws, OperationUse};

/// A table with an index on `due_at`, counted.
async fn start(count_dynamodb: bool) -> (LocalAws, Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = crate::common::settings(folder.path());
    settings.count_dynamodb = count_dynamodb;
    let aws = LocalAws::start(settings).await.unwrap();
    aws.ensure_table(due_table("jobs", false), None).await.unwrap();
    let client = crate::common::dynamodb(aws.dynamodb_endpoint());
    (aws, client, folder)
}

async fn update(client: &Client, pk: &str, expression: &str, value: Option<u32>) {
    let mut update =
        client.update_item().table_name("jobs").key("pk", text(pk)).update_expression(expression);
    if let Some(value) = value {
        update = update.expression_attribute_values(":v", number(value));
    }
    update.send().await.unwrap();
}

/// The one operation since the last look.
fn written(aws: &LocalAws) -> OperationUse {
    let used = aws.take_dynamodb_use().unwrap();
    assert_eq!(used.operations.len(), 1, "{used:?}");
    *used.operations.values().next().unwrap()
}

/// One request that was not refused.
fn one(write_units: f64) -> OperationUse {
    OperationUse { requests: 1, refused: 0, read_units: 0.0, write_units }
}

#[tokio::test]
async fn a_write_costs_its_item_and_each_index_entry_that_changes() {
    let (aws, client, _folder) = start(true).await;
    put(&client, "a", &[]).await;
    assert_eq!(written(&aws), one(1.0));
    put(&client, "b", &[("large", text(&"x".repeat(1_500)))]).await;
    assert_eq!(written(&aws), one(2.0), "1 KB steps");
    put(&client, "c", &[("due_shard", number(1)), ("due_at", number(1))]).await;
    assert_eq!(written(&aws), one(2.0), "a new entry");
    update(&client, "c", "SET due_at = :v", Some(2)).await;
    assert_eq!(written(&aws), one(3.0), "an entry that moves is deleted and put");
    update(&client, "c", "SET attempt = :v", Some(1)).await;
    assert_eq!(written(&aws), one(1.0), "the index does not know this attribute");
    update(&client, "c", "REMOVE due_at", None).await;
    assert_eq!(written(&aws), one(2.0), "an entry that goes");
    aws.shutdown().await;
}

#[tokio::test]
async fn a_refused_write_costs_the_item_it_found_and_a_transaction_costs_double() {
    let (aws, client, _folder) = start(true).await;
    put(&client, "a", &[("large", text(&"x".repeat(1_500)))]).await;
    put(&client, "b", &[]).await;
    aws.take_dynamodb_use();
    let refused = client
        .update_item()
        .table_name("jobs")
        .key("pk", text("a"))
        .update_expression("SET n = :v")
        .condition_expression("attribute_not_exists(pk)")
        .expression_attribute_values(":v", number(1))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(refused.is_conditional_check_failed_exception(), "passed on as it came: {refused:?}");
    assert_eq!(written(&aws), OperationUse { requests: 1, refused: 1, read_units: 0.0, write_units: 2.0 });
    for (condition, refused) in [("attribute_exists(pk)", 0), ("attribute_not_exists(pk)", 1)] {
        let update = |pk| {
            let update = Update::builder()
                .table_name("jobs")
                .key("pk", text(pk))
                .update_expression("SET n = :v")
                .condition_expression(condition)
                .expression_attribute_values(":v", number(1))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            TransactWriteItem::builder().update(update.build().unwrap()).build()
        };
        let transaction =
            client.transact_write_items().transact_items(update("a")).transact_items(update("b"));
        assert_eq!(transaction.send().await.is_err(), refused == 1);
        let expected = OperationUse { requests: 1, refused, read_units: 0.0, write_units: 6.0 };
        assert_eq!(written(&aws), expected, "{condition}: (2 + 1) KB, twice");
    }
    aws.shutdown().await;
}

#[tokio::test]
async fn reads_are_told_from_writes_and_requests_by_operation_and_table() {
    let (aws, client, _folder) = start(true).await;
    put(&client, "a", &[]).await;
    for consistent in [true, false] {
        client
            .get_item()
            .table_name("jobs")
            .key("pk", text("a"))
            .consistent_read(consistent)
            .send()
            .await
            .unwrap();
    }
    client.describe_table().table_name("jobs").send().await.unwrap();
    let used = aws.take_dynamodb_use().unwrap();
    let operation =
        |requests, read_units, write_units| OperationUse { requests, refused: 0, read_units, write_units };
    let expected = [
        ("DescribeTable jobs".to_owned(), operation(1, 0.0, 0.0)),
        ("GetItem jobs".to_owned(), operation(2, 1.5, 0.0)),
        ("PutItem jobs".to_owned(), operation(1, 0.0, 1.0)),
    ];
    assert_eq!(used.operations, expected.into());
    assert_eq!(used.hottest.unwrap().item, "jobs a");
    assert_eq!(aws.requests()[&("dynamodb", "GetItem".to_owned())], 2);
    assert_eq!(aws.take_dynamodb_use(), Some(DynamoDbUse::default()), "counting began anew");
    aws.shutdown().await;
}

#[tokio::test]
async fn a_caller_that_asks_for_its_capacity_itself_gets_what_it_asked_for() {
    let (aws, client, _folder) = start(true).await;
    let put = client.put_item().table_name("jobs").item("pk", text("a")).item("due_shard", number(1));
    let put = put.item("due_at", number(1)).return_consumed_capacity(ReturnConsumedCapacity::Indexes);
    let capacity = put.send().await.unwrap().consumed_capacity.unwrap();
    assert_eq!(capacity.global_secondary_indexes.unwrap()["due"].capacity_units, Some(1.0));
    assert_eq!(written(&aws), one(2.0));
    aws.shutdown().await;
}

#[tokio::test]
async fn what_goes_to_the_engine_directly_is_not_counted_nor_is_anything_by_default() {
    let (aws, _, _folder) = start(true).await;
    put(&crate::common::dynamodb(aws.dynamodb_uncounted_endpoint()), "a", &[]).await;
    assert_eq!(aws.take_dynamodb_use(), Some(DynamoDbUse::default()));
    aws.shutdown().await;
    let (aws, client, _folder) = start(false).await;
    put(&client, "a", &[]).await;
    assert_eq!(aws.dynamodb_uncounted_endpoint(), aws.dynamodb_endpoint());
    assert!(aws.take_dynamodb_use().is_none());
    assert!(aws.requests().is_empty());
    aws.shutdown().await;
}
