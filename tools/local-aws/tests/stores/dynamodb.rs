//! DynamoDB as the real SDK meets it: the answers that the protocol of this house stands on.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::items::{due_table, number, put, text};
use crate::common::{Local, eventually};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

async fn start() -> (Local, Client) {
    let local = Local::start().await;
    local.aws.ensure_table(due_table("jobs", true), Some("ttl")).await.unwrap();
    let client = local.dynamodb();
    (local, client)
}

async fn get(client: &Client, pk: &str) -> Option<HashMap<String, AttributeValue>> {
    client.get_item().table_name("jobs").key("pk", text(pk)).consistent_read(true).send().await.unwrap().item
}

#[tokio::test]
async fn a_failed_condition_shows_the_item_as_it_is() {
    let (_local, client) = start().await;
    put(&client, "job_1", &[("op", text("mine")), ("attempt", number(3))]).await;
    let refused = client
        .put_item()
        .table_name("jobs")
        .item("pk", text("job_1"))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(refused) =
        refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.item().unwrap()["op"], text("mine"));
    assert_eq!(refused.item().unwrap()["attempt"], number(3));
}

#[tokio::test]
async fn a_cancelled_transaction_names_each_reason_with_its_item_and_changes_nothing() {
    let (_local, client) = start().await;
    put(&client, "balance", &[("avail", number(2))]).await;
    put(&client, "job_1", &[("op", text("other"))]).await;
    let take = Update::builder()
        .table_name("jobs")
        .key("pk", text("balance"))
        .update_expression("SET avail = avail - :c")
        .condition_expression("avail >= :c")
        .expression_attribute_values(":c", number(1))
        .build()
        .unwrap();
    let make = Put::builder()
        .table_name("jobs")
        .item("pk", text("job_1"))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .unwrap();
    let cancelled = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().update(take).build())
        .transact_items(TransactWriteItem::builder().put(make).build())
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
        cancelled,
    ) = cancelled
    else {
        panic!("{cancelled:?}");
    };
    let reasons = cancelled.cancellation_reasons();
    assert_eq!(reasons[0].code(), Some("None"));
    assert_eq!(reasons[1].code(), Some("ConditionalCheckFailed"));
    assert_eq!(reasons[1].item().unwrap()["op"], text("other"));
    assert_eq!(get(&client, "balance").await.unwrap()["avail"], number(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_conditional_increments_at_once_none_is_lost() {
    let (_local, client) = start().await;
    put(&client, "counter", &[("n", number(0))]).await;
    let adders: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut refused = 0_u32;
                loop {
                    let seen = get(&client, "counter").await.unwrap()["n"].clone();
                    let next: u32 = seen.as_n().unwrap().parse::<u32>().unwrap() + 1;
                    let update = client
                        .update_item()
                        .table_name("jobs")
                        .key("pk", text("counter"))
                        .update_expression("SET n = :next")
                        .condition_expression("n = :seen")
                        .expression_attribute_values(":next", number(next))
                        .expression_attribute_values(":seen", seen);
                    match update.send().await {
                        Ok(_) => return refused,
                        Err(error) => {
                            assert!(error.into_service_error().is_conditional_check_failed_exception());
                            refused += 1;
                        }
                    }
                }
            })
        })
        .collect();
    for adder in adders {
        adder.await.unwrap();
    }
    assert_eq!(get(&client, "counter").await.unwrap()["n"], number(50));
}

#[tokio::test]
async fn a_sparse_index_follows_its_items() {
    let (_local, client) = start().await;
    put(&client, "late", &[("due_shard", number(1)), ("due_at", number(200))]).await;
    put(&client, "early", &[("due_shard", number(1)), ("due_at", number(100))]).await;
    put(&client, "settled", &[]).await;
    let due = async || {
        let query =
            client.query().table_name("jobs").index_name("due").key_condition_expression("due_shard = :s");
        let found = query.expression_attribute_values(":s", number(1)).send().await.unwrap();
        found.items().iter().map(|item| item["pk"].as_s().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(due().await, ["early", "late"]);
    let settle =
        client.update_item().table_name("jobs").key("pk", text("early")).update_expression("REMOVE due_at");
    settle.send().await.unwrap();
    assert_eq!(due().await, ["late"]);
}

#[tokio::test]
async fn items_past_their_time_to_live_are_swept() {
    let (local, client) = start().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    put(&client, "old", &[("ttl", number(now - 10))]).await;
    put(&client, "young", &[("ttl", number(now + 1000))]).await;
    put(&client, "forever", &[]).await;
    local.aws.sweep_expired_items().await.unwrap();
    assert!(get(&client, "old").await.is_none());
    assert!(get(&client, "young").await.is_some());
    assert!(get(&client, "forever").await.is_some());
}

#[tokio::test]
async fn the_sweep_runs_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = crate::common::settings(folder.path());
    settings.ttl_sweep_interval = std::time::Duration::from_millis(50);
    let aws = darkroom_local_aws::LocalAws::start(settings).await.unwrap();
    aws.ensure_table(due_table("jobs", true), Some("ttl")).await.unwrap();
    let client = crate::common::dynamodb(aws.dynamodb_endpoint());
    put(&client, "old", &[("ttl", number(1_000_000_000))]).await;
    eventually("the sweep", || async { get(&client, "old").await.is_none().then_some(()) }).await;
    aws.shutdown().await;
}

#[tokio::test]
async fn a_restart_keeps_items_tables_and_their_settings() {
    let (local, client) = start().await;
    put(&client, "job_1", &[("op", text("mine"))]).await;
    let local = local.restart().await;
    local.aws.ensure_table(due_table("jobs", true), Some("ttl")).await.unwrap();
    let client = local.dynamodb();
    assert_eq!(get(&client, "job_1").await.unwrap()["op"], text("mine"));
    let table = client.describe_table().table_name("jobs").send().await.unwrap().table.unwrap();
    assert!(table.latest_stream_arn().is_some());
    let ttl = client.describe_time_to_live().table_name("jobs").send().await.unwrap();
    assert_eq!(ttl.time_to_live_description().unwrap().attribute_name(), Some("ttl"));
}
