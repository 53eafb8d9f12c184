//! What tests of SQS do again and again.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};

pub(crate) async fn send(client: &Client, url: &str, body: &str) {
    client.send_message().queue_url(url).message_body(body).send().await.unwrap();
}

/// Receives up to ten messages with all their system attributes.
pub(crate) async fn receive(client: &Client, url: &str, wait_seconds: i32) -> Vec<Message> {
    let receive =
        client.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(wait_seconds);
    let received =
        receive.message_system_attribute_names(MessageSystemAttributeName::All).send().await.unwrap();
    received.messages.unwrap_or_default()
}

pub(crate) fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "callers name it in place")]
pub(crate) fn attribute(message: &Message, name: MessageSystemAttributeName) -> String {
    message.attributes.as_ref().unwrap().get(&name).cloned().unwrap()
}

/// How many messages are visible, in flight and delayed.
pub(crate) async fn counts(client: &Client, url: &str) -> [String; 3] {
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

pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    error.code().unwrap_or("none").to_owned()
}

pub(crate) fn redrive(arn: &str, max_receive_count: u32) -> String {
    format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{max_receive_count}}}"#)
}
