//! How fast it is on this machine. Nothing is asserted: `cargo test --release --locked --test stores measure -- --ignored
//! --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::Local;
use crate::common::items::{due_table, number};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry};

const LANES: u32 = 16;

/// Runs `operation` in lanes for three seconds; prints how often a second it was done.
async fn measure<F>(what: &str, each: u32, operation: impl Fn(u32) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let operation = Arc::new(operation);
    let done = Arc::new(AtomicU32::new(0));
    let numbers = Arc::new(AtomicU32::new(0));
    let begin = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|_| {
            let (operation, done, numbers) = (operation.clone(), done.clone(), numbers.clone());
            tokio::spawn(async move {
                while begin.elapsed() < Duration::from_secs(3) {
                    operation(numbers.fetch_add(1, Ordering::Relaxed)).await;
                    done.fetch_add(each, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let rate = f64::from(done.load(Ordering::Relaxed)) / begin.elapsed().as_secs_f64();
    println!("{what:<42} {rate:>8.0} /s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rates() {
    let local = Local::start().await;
    local.aws.ensure_bucket("images").await.unwrap();
    sqs(&local).await;
    s3(&local).await;
    for streamed in [false, true] {
        dynamodb(&local, streamed).await;
    }
    local.aws.shutdown().await;
}

async fn sqs(local: &Local) {
    let url = local.queue("jobs", &[]).await;
    let client = local.sqs();
    let (c, u) = (client.clone(), url.clone());
    measure("SendMessage", 1, move |_| {
        let send = c
            .send_message()
            .queue_url(&u)
            .message_body("{\"v\":1,\"user\":\"u\",\"job_id\":\"job_1\"}")
            .message_group_id("u");
        async move { drop(send.send().await.unwrap()) }
    })
    .await;
    let (c, u) = (client.clone(), url.clone());
    measure("SendMessageBatch of 10 (messages)", 10, move |_| {
        let entries = (0..10).map(|n| {
            SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body("{}").build().unwrap()
        });
        let send = c.send_message_batch().queue_url(&u).set_entries(Some(entries.collect()));
        async move { drop(send.send().await.unwrap()) }
    })
    .await;
    let (c, u) = (client.clone(), url.clone());
    measure("ReceiveMessage of 1 and DeleteMessage", 1, move |_| {
        let (c, u) = (c.clone(), u.clone());
        async move {
            let got = c.receive_message().queue_url(&u).send().await.unwrap();
            let handle = got.messages()[0].receipt_handle().unwrap();
            c.delete_message().queue_url(&u).receipt_handle(handle).send().await.unwrap();
        }
    })
    .await;
    let (c, u) = (client.clone(), url.clone());
    measure("receive and delete batches of 10 (messages)", 10, move |_| {
        let (c, u) = (c.clone(), u.clone());
        async move {
            let got = c.receive_message().queue_url(&u).max_number_of_messages(10).send().await.unwrap();
            let entries = got.messages().iter().enumerate().map(|(n, message)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
                entry.receipt_handle(message.receipt_handle().unwrap()).build().unwrap()
            });
            let entries: Vec<_> = entries.collect();
            if !entries.is_empty() {
                c.delete_message_batch().queue_url(&u).set_entries(Some(entries)).send().await.unwrap();
            }
        }
    })
    .await;
}

async fn s3(local: &Local) {
    for (what, bytes) in [("4 KiB", 4096), ("1 MiB", 1 << 20)] {
        let client = local.s3();
        let image = bytes::Bytes::from(vec![7; bytes]);
        measure(&format!("PutObject of {what}, If-None-Match: *"), 1, move |n| {
            let key = format!("{}/{n}", image.len());
            let put =
                client.put_object().bucket("images").key(key).if_none_match("*").body(image.clone().into());
            async move { drop(put.send().await.unwrap()) }
        })
        .await;
        let client = local.s3();
        measure(&format!("GetObject of {what}"), 1, move |n| {
            let get = client.get_object().bucket("images").key(format!("{bytes}/{}", n % 50));
            async move { drop(get.send().await.unwrap().body.collect().await.unwrap()) }
        })
        .await;
    }
}

async fn dynamodb(local: &Local, streamed: bool) {
    let table = if streamed { "streamed" } else { "plain" };
    local.aws.ensure_table(due_table(table, streamed), Some("ttl")).await.unwrap();
    let client = local.dynamodb();
    measure(&format!("PutItem, one index, {table}"), 1, move |n| {
        let put = client.put_item().table_name(table).item("pk", AttributeValue::S(format!("job_{n}")));
        let put = put
            .item("due_shard", number(n % 8))
            .item("due_at", number(n))
            .item("prompt", AttributeValue::S("x".repeat(300)));
        async move { drop(put.send().await.unwrap()) }
    })
    .await;
    let client = local.dynamodb();
    measure(&format!("UpdateItem, condition, one index, {table}"), 1, move |n| {
        let update =
            client.update_item().table_name(table).key("pk", AttributeValue::S(format!("job_{}", n % 1000)));
        let update = update
            .update_expression("SET due_at = :d, attempt = :d")
            .condition_expression("attribute_exists(pk)");
        let update = update.expression_attribute_values(":d", number(n));
        async move { drop(update.send().await.unwrap()) }
    })
    .await;
    let client = local.dynamodb();
    measure(&format!("GetItem, consistent, {table}"), 1, move |n| {
        let get =
            client.get_item().table_name(table).key("pk", AttributeValue::S(format!("job_{}", n % 1000)));
        async move { drop(get.consistent_read(true).send().await.unwrap()) }
    })
    .await;
    let client = local.dynamodb();
    measure(&format!("TransactWriteItems, put + 2 updates, {table}"), 1, move |n| {
        let put = Put::builder().table_name(table).item("pk", AttributeValue::S(format!("entry_{n}")));
        let put = put.condition_expression("attribute_not_exists(pk)").build().unwrap();
        let update = |pk: String| {
            let update = Update::builder().table_name(table).key("pk", AttributeValue::S(pk));
            let update = update.update_expression("ADD held :c").expression_attribute_values(":c", number(1));
            TransactWriteItem::builder().update(update.build().unwrap()).build()
        };
        let write = client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(put).build())
            .transact_items(update(format!("balance_{}", n % 100)))
            .transact_items(update(format!("job_{}", n % 1000)));
        async move { drop(write.send().await.unwrap()) }
    })
    .await;
}
