//! SQS as the real SDK meets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use common::{Local, eventually};

async fn send(client: &Client, url: &str, body: &str) {
    client.send_message().queue_url(url).message_body(body).send().await.unwrap();
}

async fn receive(client: &Client, url: &str, wait_seconds: i32) -> Vec<Message> {
    let receive =
        client.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(wait_seconds);
    let received =
        receive.message_system_attribute_names(MessageSystemAttributeName::All).send().await.unwrap();
    received.messages.unwrap_or_default()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

fn attribute<'a>(message: &'a Message, name: MessageSystemAttributeName) -> &'a str {
    message.attributes().unwrap()[&name].as_str()
}

async fn counts(client: &Client, url: &str) -> [String; 3] {
    let all =
        client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
    let all = all.unwrap().attributes.unwrap();
    [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ]
    .map(|name| all[&name].clone())
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    error.code().unwrap_or("none").to_owned()
}

fn redrive(arn: &str, max_receive_count: u32) -> String {
    format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{max_receive_count}}}"#)
}

#[tokio::test]
async fn a_message_comes_back_with_what_was_sent() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let text = MessageAttributeValue::builder().data_type("String").string_value("gemini").build().unwrap();
    let blob = aws_sdk_sqs::primitives::Blob::new(vec![0, 255]);
    let blob = MessageAttributeValue::builder().data_type("Binary").binary_value(blob).build().unwrap();
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body("grüße")
        .message_attributes("model", text.clone())
        .message_attributes("blob", blob)
        .message_group_id("user_1")
        .send()
        .await
        .unwrap();
    assert_eq!(sent.md5_of_message_body(), Some("fee40dc24d0ad6a90c608052aa4e9e66"));
    let received = client
        .receive_message()
        .queue_url(&url)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All")
        .send()
        .await
        .unwrap();
    let message = &received.messages()[0];
    assert_eq!(message.message_id(), sent.message_id());
    assert_eq!(message.body(), Some("grüße"));
    assert_eq!(message.md5_of_body(), sent.md5_of_message_body());
    assert_eq!(message.md5_of_message_attributes(), sent.md5_of_message_attributes());
    assert_eq!(message.message_attributes().unwrap()["model"], text);
    assert_eq!(message.message_attributes().unwrap().len(), 2);
    assert_eq!(attribute(message, MessageSystemAttributeName::MessageGroupId), "user_1");
    assert_eq!(attribute(message, MessageSystemAttributeName::ApproximateReceiveCount), "1");
    assert_eq!(attribute(message, MessageSystemAttributeName::SenderId), "000000000000");
    let sent_at: i64 = attribute(message, MessageSystemAttributeName::SentTimestamp).parse().unwrap();
    let first: i64 =
        attribute(message, MessageSystemAttributeName::ApproximateFirstReceiveTimestamp).parse().unwrap();
    assert!(sent_at > 1_700_000_000_000 && first >= sent_at);
}

#[tokio::test]
async fn the_older_name_of_system_attributes_is_heard_too_and_nothing_comes_unasked() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[("VisibilityTimeout", "0")]).await;
    send(&client, &url, "m").await;
    #[allow(deprecated, reason = "Lambda's event source mapping still says it so")]
    let older = client
        .receive_message()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await
        .unwrap();
    assert_eq!(attribute(&older.messages()[0], MessageSystemAttributeName::ApproximateReceiveCount), "1");
    let bare = client.receive_message().queue_url(&url).send().await.unwrap();
    assert!(bare.messages()[0].attributes().is_none());
}

#[tokio::test]
async fn a_received_message_hides_and_returns_with_a_higher_count() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[("VisibilityTimeout", "1")]).await;
    send(&client, &url, "m").await;
    assert_eq!(receive(&client, &url, 0).await.len(), 1);
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);
    assert!(receive(&client, &url, 0).await.is_empty());
    let before = Instant::now();
    let again = receive(&client, &url, 5).await;
    assert_eq!(attribute(&again[0], MessageSystemAttributeName::ApproximateReceiveCount), "2");
    assert!(before.elapsed() < Duration::from_secs(3), "the wait ended when the message showed");
    let handle = again[0].receipt_handle().unwrap();
    client.delete_message().queue_url(&url).receipt_handle(handle).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
}

#[tokio::test]
async fn an_older_receipt_neither_deletes_nor_hides_what_was_received_again() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    send(&client, &url, "m").await;
    let first = receive(&client, &url, 0).await;
    let old = first[0].receipt_handle().unwrap();
    let show = client.change_message_visibility().queue_url(&url).visibility_timeout(0);
    show.receipt_handle(old).send().await.unwrap();
    let again = client.change_message_visibility().queue_url(&url).visibility_timeout(9).receipt_handle(old);
    assert!(again.send().await.unwrap_err().into_service_error().is_message_not_inflight());
    let second = receive(&client, &url, 0).await;
    client.delete_message().queue_url(&url).receipt_handle(old).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"], "the newer receiver keeps it");
    let hide = client.change_message_visibility().queue_url(&url).visibility_timeout(0).receipt_handle(old);
    assert_eq!(code(&hide.send().await.unwrap_err()), "InvalidParameterValue");
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);
    let newest = second[0].receipt_handle().unwrap();
    for _ in 0..2 {
        client.delete_message().queue_url(&url).receipt_handle(newest).send().await.unwrap();
    }
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    let nonsense =
        client.delete_message().queue_url(&url).receipt_handle("nonsense").send().await.unwrap_err();
    assert!(nonsense.into_service_error().is_receipt_handle_is_invalid());
}

#[tokio::test]
async fn a_receipt_outlives_its_visibility_until_somebody_else_receives() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[("VisibilityTimeout", "0")]).await;
    send(&client, &url, "m").await;
    let received = receive(&client, &url, 0).await;
    let handle = received[0].receipt_handle().unwrap();
    client.delete_message().queue_url(&url).receipt_handle(handle).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
}

#[tokio::test]
async fn delays_hold_messages_back_and_wake_a_waiting_receiver() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[("DelaySeconds", "900")]).await;
    send(&client, &url, "of the queue").await;
    let soon = client.send_message().queue_url(&url).message_body("of its own").delay_seconds(1);
    soon.send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "2"]);
    let before = Instant::now();
    let received = receive(&client, &url, 10).await;
    assert_eq!(bodies(&received), ["of its own"]);
    let waited = before.elapsed();
    assert!(waited > Duration::from_millis(700) && waited < Duration::from_secs(4), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_wakes_the_longest_waiting_receiver_and_only_that() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (client, url) = (client.clone(), url.clone());
        waiting.push(tokio::spawn(async move { (receive(&client, &url, 3).await, Instant::now()) }));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let sent_at = Instant::now();
    send(&client, &url, "m").await;
    let mut results = Vec::new();
    for one in waiting {
        results.push(one.await.unwrap());
    }
    let got: Vec<usize> = results.iter().map(|(messages, _)| messages.len()).collect();
    assert_eq!(got, [1, 0, 0]);
    assert!(results[0].1 - sent_at < Duration::from_secs(1));
    assert_eq!(local.aws.requests()[&("sqs", "ReceiveMessage".to_owned())], 3, "nobody polled again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hung_up_gets_nothing() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let gone = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { receive(&client, &url, 20).await }
    });
    let asked = || async { local.aws.requests().get(&("sqs", "ReceiveMessage".to_owned())).copied() };
    eventually("the long poll", asked).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    // The server hears of the closed connection on its own; it takes a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    send(&client, &url, "m").await;
    assert_eq!(counts(&client, &url).await, ["1", "0", "0"]);
    assert_eq!(bodies(&receive(&client, &url, 0).await), ["m"]);
}

#[tokio::test]
async fn a_message_received_too_often_goes_to_the_dead_letter_queue_as_it_was() {
    let local = Local::start().await;
    let client = local.sqs();
    let dead = local.aws.ensure_queue("jobs-dead", &BTreeMap::new()).await.unwrap();
    let policy = redrive(&dead.arn, 2);
    let url = local.queue("jobs", &[("VisibilityTimeout", "0"), ("RedrivePolicy", &policy)]).await;
    let kind = MessageAttributeValue::builder().data_type("String").string_value("v").build().unwrap();
    let sent =
        client.send_message().queue_url(&url).message_body("poison").message_attributes("a", kind.clone());
    let sent = sent.message_group_id("user_1").send().await.unwrap();
    let first = receive(&client, &url, 0).await;
    let sent_at = attribute(&first[0], MessageSystemAttributeName::SentTimestamp).to_owned();
    assert_eq!(receive(&client, &url, 0).await.len(), 1);
    assert_eq!(counts(&client, &url).await, ["1", "0", "0"], "it moves on the next receive, not before");
    assert!(receive(&client, &url, 0).await.is_empty());
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    let dead_letters = client
        .receive_message()
        .queue_url(&dead.url)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All")
        .send()
        .await
        .unwrap();
    let letter = &dead_letters.messages()[0];
    assert_eq!(letter.body(), Some("poison"));
    assert_eq!(letter.message_id(), sent.message_id());
    assert_eq!(letter.message_attributes().unwrap()["a"], kind);
    assert_eq!(attribute(letter, MessageSystemAttributeName::SentTimestamp), sent_at);
    assert_eq!(attribute(letter, MessageSystemAttributeName::MessageGroupId), "user_1");
    let source = attribute(letter, MessageSystemAttributeName::DeadLetterQueueSourceArn);
    assert_eq!(source, "arn:aws:sqs:us-east-1:000000000000:jobs");
    let sources = client.list_dead_letter_source_queues().queue_url(&dead.url).send().await.unwrap();
    assert_eq!(sources.queue_urls(), [url]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_waiting_at_the_dead_letter_queue_wakes_when_a_message_dies() {
    let local = Local::start().await;
    let client = local.sqs();
    let dead = local.aws.ensure_queue("jobs-dead", &BTreeMap::new()).await.unwrap();
    let policy = redrive(&dead.arn, 1);
    let url = local.queue("jobs", &[("VisibilityTimeout", "0"), ("RedrivePolicy", &policy)]).await;
    let waiting = tokio::spawn({
        let (client, url) = (client.clone(), dead.url.clone());
        async move { receive(&client, &url, 20).await }
    });
    send(&client, &url, "poison").await;
    assert_eq!(receive(&client, &url, 0).await.len(), 1);
    assert!(receive(&client, &url, 0).await.is_empty());
    let letters = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(bodies(&letters), ["poison"]);
}

#[tokio::test]
async fn a_move_task_brings_dead_letters_home_as_new_messages() {
    let local = Local::start().await;
    let client = local.sqs();
    let dead = local.aws.ensure_queue("jobs-dead", &BTreeMap::new()).await.unwrap();
    let policy = redrive(&dead.arn, 1);
    let url = local.queue("jobs", &[("VisibilityTimeout", "0"), ("RedrivePolicy", &policy)]).await;
    for number in 0..25 {
        send(&client, &url, &number.to_string()).await;
    }
    eventually("the dying of all", || async {
        receive(&client, &url, 0).await;
        (counts(&client, &dead.url).await[0] == "25").then_some(())
    })
    .await;
    client
        .set_queue_attributes()
        .queue_url(&url)
        .attributes(QueueAttributeName::VisibilityTimeout, "30")
        .send()
        .await
        .unwrap();
    client.start_message_move_task().source_arn(&dead.arn).send().await.unwrap();
    let task = eventually("the move", || async {
        let tasks = client.list_message_move_tasks().source_arn(&dead.arn).send().await.unwrap();
        tasks.results.unwrap().into_iter().find(|task| task.status() == Some("COMPLETED"))
    })
    .await;
    assert_eq!(task.approximate_number_of_messages_moved(), 25);
    assert_eq!(task.approximate_number_of_messages_to_move(), Some(25));
    assert_eq!(counts(&client, &dead.url).await, ["0", "0", "0"]);
    let mut home = BTreeSet::new();
    while home.len() < 25 {
        let messages = receive(&client, &url, 0).await;
        assert!(!messages.is_empty());
        for message in messages {
            assert_eq!(attribute(&message, MessageSystemAttributeName::ApproximateReceiveCount), "1");
            home.insert(message.body.unwrap());
        }
    }
}

#[tokio::test]
async fn a_move_task_can_be_slow_is_alone_and_can_be_cancelled() {
    let local = Local::start().await;
    let client = local.sqs();
    let dead = local.aws.ensure_queue("dead", &BTreeMap::new()).await.unwrap();
    let elsewhere = local.aws.ensure_queue("elsewhere", &BTreeMap::new()).await.unwrap();
    let missing_queue = client.start_message_move_task().source_arn(&elsewhere.arn).send().await.unwrap_err();
    assert_eq!(code(&missing_queue), "InvalidParameterValue", "it is no dead-letter queue");
    local.queue("jobs", &[("RedrivePolicy", &redrive(&dead.arn, 5))]).await;
    for number in 0..20 {
        send(&client, &dead.url, &number.to_string()).await;
    }
    let slow = || {
        let start = client.start_message_move_task().source_arn(&dead.arn).destination_arn(&elsewhere.arn);
        start.max_number_of_messages_per_second(2)
    };
    let task = slow().send().await.unwrap();
    assert!(slow().send().await.unwrap_err().into_service_error().is_unsupported_operation());
    eventually("the first message", || async {
        (counts(&client, &elsewhere.url).await[0] != "0").then_some(())
    })
    .await;
    let handle = task.task_handle().unwrap();
    let cancelled = client.cancel_message_move_task().task_handle(handle).send().await.unwrap();
    let moved = cancelled.approximate_number_of_messages_moved();
    assert!((1..10).contains(&moved), "{moved}");
    assert_eq!(counts(&client, &elsewhere.url).await[0], moved.to_string());
    let again = client.cancel_message_move_task().task_handle(handle).send().await.unwrap_err();
    assert!(again.into_service_error().is_resource_not_found_exception());
    // Sent to the dead-letter queue directly, so they came from nowhere.
    client.start_message_move_task().source_arn(&dead.arn).send().await.unwrap();
    let failed = eventually("the failure", || async {
        let tasks =
            client.list_message_move_tasks().source_arn(&dead.arn).max_results(10).send().await.unwrap();
        tasks.results.unwrap().into_iter().find(|task| task.status() == Some("FAILED"))
    })
    .await;
    assert_eq!(failed.failure_reason(), Some("CouldNotDetermineMessageSource"));
}

#[tokio::test]
async fn a_batch_fails_entry_by_entry() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[("MaximumMessageSize", "1024")]).await;
    let entry = |id: &str, body: &str| SendMessageBatchRequestEntry::builder().id(id).message_body(body);
    let sent = client
        .send_message_batch()
        .queue_url(&url)
        .entries(entry("good", "g").build().unwrap())
        .entries(entry("long", &"x".repeat(1025)).build().unwrap())
        .entries(entry("late", "l").delay_seconds(901).build().unwrap())
        .entries(entry("binary", "\u{1}").build().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(sent.successful().len(), 1);
    let failed: BTreeMap<&str, (&str, bool)> =
        sent.failed().iter().map(|entry| (entry.id(), (entry.code(), entry.sender_fault()))).collect();
    let expected = [
        ("binary", ("InvalidMessageContents", true)),
        ("late", ("InvalidParameterValue", true)),
        ("long", ("InvalidParameterValue", true)),
    ];
    assert_eq!(failed, BTreeMap::from(expected));

    let received = receive(&client, &url, 0).await;
    let handle = received[0].receipt_handle().unwrap();
    let change = |id: &str, handle: &str, seconds| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(id)
            .receipt_handle(handle)
            .visibility_timeout(seconds)
            .build()
            .unwrap()
    };
    let changed = client
        .change_message_visibility_batch()
        .queue_url(&url)
        .entries(change("good", handle, 60))
        .entries(change("too-long", handle, 43_201))
        .entries(change("nonsense", "nonsense", 1))
        .send()
        .await
        .unwrap();
    assert_eq!(changed.successful().len(), 1);
    assert_eq!(changed.failed().len(), 2);
    let delete = |id: &str, handle: &str| {
        DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle).build().unwrap()
    };
    let deleted = client
        .delete_message_batch()
        .queue_url(&url)
        .entries(delete("good", handle))
        .entries(delete("nonsense", "nonsense"))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.successful()[0].id(), "good");
    assert_eq!(deleted.failed()[0].code(), "ReceiptHandleIsInvalid");
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
}

#[tokio::test]
async fn batches_of_the_wrong_form_are_refused_whole() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let entry = |id: &str, body: &str| {
        SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
    };
    let send = |entries: Vec<SendMessageBatchRequestEntry>| {
        let request = client.send_message_batch().queue_url(&url).set_entries(Some(entries));
        async move { request.send().await.unwrap_err().into_service_error() }
    };
    assert!(send(vec![]).await.is_empty_batch_request());
    assert!(send(vec![entry("a", "x"), entry("a", "y")]).await.is_batch_entry_ids_not_distinct());
    assert!(send(vec![entry("no spaces", "x")]).await.is_invalid_batch_entry_id());
    let eleven = (0..11).map(|number| entry(&number.to_string(), "x")).collect();
    assert!(send(eleven).await.is_too_many_entries_in_batch_request());
    let half = "x".repeat(524_289);
    assert!(send(vec![entry("a", &half), entry("b", &half)]).await.is_batch_request_too_long());
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
}

#[tokio::test]
async fn limits_of_a_message_hold_to_the_byte() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let kind = MessageAttributeValue::builder().data_type("String").string_value("v").build().unwrap();
    // Name, type and value of the attribute count: 1 + 6 + 1.
    let fits = "x".repeat(1_048_576 - 8);
    let message = |body: String| {
        client.send_message().queue_url(&url).message_body(body).message_attributes("a", kind.clone())
    };
    message(fits.clone()).send().await.unwrap();
    assert_eq!(receive(&client, &url, 0).await[0].body().unwrap().len(), fits.len());
    let refused = message(fits + "x").send().await.unwrap_err();
    assert_eq!(code(&refused), "InvalidParameterValue");
    assert!(refused.message().unwrap().contains("shorter than 1048576 bytes"));
}

#[tokio::test]
async fn queues_are_made_found_listed_changed_and_removed() {
    let local = Local::start().await;
    let client = local.sqs();
    let make = |timeout: &str| {
        let create = client.create_queue().queue_name("jobs");
        create.attributes(QueueAttributeName::VisibilityTimeout, timeout)
    };
    let url = make("60").send().await.unwrap().queue_url.unwrap();
    assert_eq!(make("60").send().await.unwrap().queue_url.unwrap(), url);
    assert!(make("61").send().await.unwrap_err().into_service_error().is_queue_name_exists());
    assert!(url.starts_with(local.aws.sqs_endpoint()) && url.ends_with("/000000000000/jobs"), "{url}");
    assert_eq!(client.get_queue_url().queue_name("jobs").send().await.unwrap().queue_url.unwrap(), url);
    for name in ["jobs-a", "jobs-b", "other"] {
        local.queue(name, &[]).await;
    }
    let page = client.list_queues().queue_name_prefix("jobs").max_results(2).send().await.unwrap();
    assert_eq!(page.queue_urls().len(), 2);
    let rest = client.list_queues().queue_name_prefix("jobs").max_results(2);
    let rest = rest.next_token(page.next_token().unwrap()).send().await.unwrap();
    assert_eq!(rest.queue_urls().len(), 1);
    assert!(rest.next_token().is_none());

    let asked = client
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::VisibilityTimeout)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .unwrap()
        .attributes
        .unwrap();
    assert_eq!(asked[&QueueAttributeName::VisibilityTimeout], "60");
    assert_eq!(asked[&QueueAttributeName::QueueArn], "arn:aws:sqs:us-east-1:000000000000:jobs");
    assert_eq!(asked.len(), 2);

    send(&client, &url, "m").await;
    client.purge_queue().queue_url(&url).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    send(&client, &url, "m").await;
    client.delete_queue().queue_url(&url).send().await.unwrap();
    let gone = client.send_message().queue_url(&url).message_body("m").send().await.unwrap_err();
    assert!(gone.into_service_error().is_queue_does_not_exist());
    assert!(
        client
            .get_queue_url()
            .queue_name("jobs")
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_queue_does_not_exist()
    );
    make("61").send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"], "a new queue of the same name is empty");
}

#[tokio::test]
async fn ensuring_a_queue_changes_what_it_names_and_keeps_the_rest() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[("VisibilityTimeout", "60"), ("DelaySeconds", "5")]).await;
    local.queue("jobs", &[("VisibilityTimeout", "90")]).await;
    let all =
        client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::All).send().await;
    let all = all.unwrap().attributes.unwrap();
    assert_eq!(all[&QueueAttributeName::VisibilityTimeout], "90");
    assert_eq!(all[&QueueAttributeName::DelaySeconds], "5");
    assert_eq!(all[&QueueAttributeName::MessageRetentionPeriod], "345600");
    let policy = redrive("arn:aws:sqs:us-east-1:000000000000:absent", 1);
    let refused =
        local.aws.ensure_queue("jobs", &BTreeMap::from([("RedrivePolicy".to_owned(), policy)])).await;
    assert!(refused.unwrap_err().to_string().contains("make the queue"));
    let fifo = local.aws.ensure_queue("jobs.fifo", &BTreeMap::new()).await.unwrap_err();
    assert!(fifo.to_string().contains("no FIFO queues"), "{fifo}");
}

#[tokio::test]
async fn wrong_parameters_are_refused_as_on_aws() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    for (most, wait, timeout) in [(0, 0, 0), (11, 0, 0), (1, 21, 0), (1, 0, 43_201), (1, -1, 0)] {
        let receive = client.receive_message().queue_url(&url).max_number_of_messages(most);
        let refused = receive.wait_time_seconds(wait).visibility_timeout(timeout).send().await.unwrap_err();
        assert_eq!(code(&refused), "InvalidParameterValue", "{most} {wait} {timeout}");
    }
    let empty = client.send_message().queue_url(&url).message_body("").send().await.unwrap_err();
    assert_eq!(code(&empty), "MissingParameter");
    let unknown = client.get_queue_attributes().queue_url(&url).attribute_names("Colour".into()).send().await;
    assert!(unknown.unwrap_err().into_service_error().is_invalid_attribute_name());
    let elsewhere = url.replace("000000000000", "111111111111");
    let other = client.send_message().queue_url(elsewhere).message_body("m").send().await.unwrap_err();
    assert!(other.into_service_error().is_queue_does_not_exist());
    let nowhere = client.send_message().queue_url("jobs").message_body("m").send().await.unwrap_err();
    assert!(nowhere.into_service_error().is_invalid_address());
}

#[tokio::test]
async fn callers_without_our_key_are_refused_and_not_counted() {
    let local = Local::start().await;
    let stranger = common::sqs(local.aws.sqs_endpoint(), "AKIASTRANGER");
    let refused = stranger.list_queues().send().await.unwrap_err();
    assert_eq!(code(&refused), "InvalidClientTokenId");
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
    let unsigned =
        common::http().post(local.aws.sqs_endpoint()).header("x-amz-target", "AmazonSQS.ListQueues");
    assert_eq!(unsigned.body("{}").send().await.unwrap().status(), 403);
    assert!(local.aws.requests().is_empty());
}

#[tokio::test]
async fn a_restart_keeps_messages_counts_and_receipts() {
    let local = Local::start().await;
    let url = local.queue("jobs", &[("VisibilityTimeout", "600")]).await;
    for body in ["waiting", "received"] {
        send(&local.sqs(), &url, body).await;
    }
    let receive_one = local.sqs().receive_message().queue_url(&url).max_number_of_messages(1);
    let received = receive_one.send().await.unwrap().messages.unwrap();
    let later = local.sqs().send_message().queue_url(&url).message_body("delayed").delay_seconds(900);
    later.send().await.unwrap();
    let local = local.restart().await;
    let client = local.sqs();
    assert_eq!(counts(&client, &url).await, ["1", "1", "1"], "the old URL still names the queue");
    let handle = received[0].receipt_handle().unwrap();
    client.delete_message().queue_url(&url).receipt_handle(handle).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["1", "0", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_long_polls_at_once() {
    let local = Local::start().await;
    let url = local.queue("jobs", &[]).await;
    let waiting = tokio::spawn({
        let client = local.sqs();
        async move { receive(&client, &url, 20).await }
    });
    let asked = || async { local.aws.requests().get(&("sqs", "ReceiveMessage".to_owned())).copied() };
    eventually("the long poll", asked).await;
    let before = Instant::now();
    local.aws.shutdown().await;
    assert!(waiting.await.unwrap().is_empty());
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_and_receivers_lose_and_double_nothing() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let receivers: Vec<_> = (0..8)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                let mut got = Vec::new();
                loop {
                    let messages = receive(&client, &url, 1).await;
                    if messages.is_empty() {
                        return got;
                    }
                    for message in messages {
                        let handle = message.receipt_handle().unwrap();
                        client.delete_message().queue_url(&url).receipt_handle(handle).send().await.unwrap();
                        got.push(message.body.unwrap());
                    }
                }
            })
        })
        .collect();
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                for number in 0..50 {
                    send(&client, &url, &format!("{sender}-{number}")).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let mut got = Vec::new();
    for receiver in receivers {
        got.extend(receiver.await.unwrap());
    }
    assert_eq!(got.len(), 400);
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>().len(), 400);
}
