//! Messages of SQS as the real SDK meets them: sending, receiving, waiting, hiding, dying.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::common::sqs::{attribute, bodies, code, counts, receive, redrive, send};
use crate::common::{Local, eventually};
use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName};

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
    let again = receive(&client, &url, 20).await;
    assert_eq!(attribute(&again[0], MessageSystemAttributeName::ApproximateReceiveCount), "2");
    assert!(before.elapsed() < Duration::from_secs(15), "the wait ended when the message showed");
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
    let received = receive(&client, &url, 20).await;
    assert_eq!(bodies(&received), ["of its own"]);
    let waited = before.elapsed();
    assert!(waited > Duration::from_millis(700) && waited < Duration::from_secs(15), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_wakes_the_longest_waiting_receiver_and_only_that() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let mut waiting = Vec::new();
    for number in 1..=3 {
        let (client, url) = (client.clone(), url.clone());
        waiting.push(tokio::spawn(async move { (receive(&client, &url, 5).await, Instant::now()) }));
        let asked = || async { local.aws.requests().get(&("sqs", "ReceiveMessage".to_owned())).copied() };
        eventually("its long poll", || async { (asked().await == Some(number)).then_some(()) }).await;
    }
    let sent_at = Instant::now();
    send(&client, &url, "m").await;
    let mut results = Vec::new();
    for one in waiting {
        results.push(one.await.unwrap());
    }
    let got: Vec<usize> = results.iter().map(|(messages, _)| messages.len()).collect();
    assert_eq!(got, [1, 0, 0]);
    assert!(results[0].1 < results[1].1, "it woke when the message came");
    assert!(results[0].1 - sent_at < Duration::from_secs(4));
    assert_eq!(local.aws.requests()[&("sqs", "ReceiveMessage".to_owned())], 3, "nobody polled again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hung_up_gets_nothing() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    // The server hears of a closed connection when it hears of it, so it has some tries, each with more time.
    for pause in [50, 100, 200, 400, 800, 1_600, 3_200] {
        let gone = tokio::spawn({
            let (client, url) = (client.clone(), url.clone());
            async move { receive(&client, &url, 20).await }
        });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        gone.abort();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        send(&client, &url, "m").await;
        if counts(&client, &url).await == ["1", "0", "0"] {
            return;
        }
        client.purge_queue().queue_url(&url).send().await.unwrap();
    }
    panic!("a message went to a receiver that had hung up");
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
    let sent_at = attribute(&first[0], MessageSystemAttributeName::SentTimestamp);
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
async fn a_dead_letter_queue_with_its_own_gives_up_after_its_own_receives() {
    let local = Local::start().await;
    let client = local.sqs();
    local.queue("b", &[]).await;
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let a = local.queue("a", &[("VisibilityTimeout", "0"), ("RedrivePolicy", &redrive(&arn("b"), 1))]).await;
    let b = local.queue("b", &[("VisibilityTimeout", "0"), ("RedrivePolicy", &redrive(&arn("a"), 1))]).await;
    send(&client, &a, "m").await;
    for (url, count) in [(&a, "1"), (&b, "2"), (&a, "3"), (&b, "4")] {
        let received = tokio::select! {
            received = receive(&client, url, 20) => received,
            // Looking at the queue where it is moves it on to where somebody waits.
            () = async { loop { receive(&client, if url == &a { &b } else { &a }, 0).await; } } => unreachable!(),
        };
        assert_eq!(bodies(&received), ["m"]);
        assert_eq!(attribute(&received[0], MessageSystemAttributeName::ApproximateReceiveCount), count);
    }
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

#[tokio::test]
async fn a_quiet_group_goes_before_the_backlog_of_a_noisy_one() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    let send = async |group: Option<&str>, body: &str| {
        let send = client
            .send_message()
            .queue_url(&url)
            .message_body(body)
            .set_message_group_id(group.map(str::to_owned));
        send.send().await.unwrap();
    };
    for _ in 0..40 {
        send(Some("noisy"), "noisy").await;
    }
    let flood = receive(&client, &url, 0).await;
    assert_eq!(bodies(&flood), ["noisy"; 10]);
    send(Some("quiet"), "quiet").await;
    send(Some("other"), "other").await;
    send(None, "nobody").await;
    let next = receive(&client, &url, 0).await;
    assert_eq!(bodies(&next)[..4], ["quiet", "other", "nobody", "noisy"]);
    for message in flood.iter().chain(&next) {
        let handle = message.receipt_handle().unwrap();
        client.delete_message().queue_url(&url).receipt_handle(handle).send().await.unwrap();
    }
    send(Some("quiet"), "quiet again").await;
    let settled = receive(&client, &url, 0).await;
    assert_eq!(
        bodies(&settled),
        ["noisy"; 10],
        "with nothing in flight nobody is noisy, and the oldest comes first"
    );
}

#[tokio::test]
async fn groups_share_what_is_in_flight() {
    let local = Local::start().await;
    let client = local.sqs();
    let url = local.queue("jobs", &[]).await;
    for group in ["a", "b", "c"] {
        for _ in 0..20 {
            let send = client.send_message().queue_url(&url).message_body(group).message_group_id(group);
            send.send().await.unwrap();
        }
    }
    let mut in_flight: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..3 {
        for message in receive(&client, &url, 0).await {
            *in_flight.entry(message.body.unwrap()).or_default() += 1;
        }
    }
    assert_eq!(
        in_flight,
        BTreeMap::from([("a", 10), ("b", 10), ("c", 10)].map(|(group, n)| (group.to_owned(), n)))
    );
}
