//! Queues of SQS as the real SDK meets them: attributes, batches, limits, move tasks, callers.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::sqs::{attribute, code, counts, receive, redrive, send};
use crate::common::{Local, eventually};
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageAttributeValue,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};

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
    let stranger = crate::common::sqs_client(local.aws.sqs_endpoint(), "AKIASTRANGER");
    let refused = stranger.list_queues().send().await.unwrap_err();
    assert_eq!(code(&refused), "InvalidClientTokenId");
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
    let unsigned =
        crate::common::http().post(local.aws.sqs_endpoint()).header("x-amz-target", "AmazonSQS.ListQueues");
    assert_eq!(unsigned.body("{}").send().await.unwrap().status(), 403);
    assert!(local.aws.requests().is_empty());
}
