//! The event of an SQS event source mapping.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>, "Example standard queue message event".

use std::collections::{BTreeMap, HashMap};

use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
    message_attributes: BTreeMap<&'a str, Attribute<'a>>,
    md5_of_body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<&'a str>,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    /// Always empty: SQS does not implement lists.
    string_list_values: [(); 0],
    binary_list_values: [(); 0],
    data_type: &'a str,
}

/// What stands around an event's records.
const AROUND: (&[u8], &[u8]) = (b"{\"Records\":[", b"]}");

/// Bytes of an event beside its records and the commas between them.
pub(super) const AROUND_BYTES: usize = AROUND.0.len() + AROUND.1.len();

/// A message as its event has it, as JSON.
pub(super) fn encode(message: &Message, queue_arn: &str) -> Result<Vec<u8>, serde_json::Error> {
    let region = queue_arn.split(':').nth(3).unwrap_or_default();
    serde_json::to_vec(&record(message, queue_arn, region))
}

/// The event with these records, as JSON.
pub(super) fn event<'a>(records: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut event = AROUND.0.to_vec();
    for (index, record) in records.enumerate() {
        if index > 0 {
            event.push(b',');
        }
        event.extend_from_slice(record);
    }
    event.extend_from_slice(AROUND.1);
    Bytes::from(event)
}

fn record<'a>(message: &'a Message, queue_arn: &'a str, region: &'a str) -> Record<'a> {
    let attributes = message.attributes().into_iter().flatten();
    Record {
        message_id: message.message_id().unwrap_or_default(),
        receipt_handle: message.receipt_handle().unwrap_or_default(),
        body: message.body().unwrap_or_default(),
        attributes: attributes.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        message_attributes: message.message_attributes().map(message_attributes).unwrap_or_default(),
        md5_of_body: message.md5_of_body().unwrap_or_default(),
        md5_of_message_attributes: message.md5_of_message_attributes(),
        event_source: "aws:sqs",
        event_source_arn: queue_arn,
        aws_region: region,
    }
}

fn message_attributes(attributes: &HashMap<String, MessageAttributeValue>) -> BTreeMap<&str, Attribute<'_>> {
    let attribute =
        |value: &'_ MessageAttributeValue| value.binary_value().map(|blob| BASE64_STANDARD.encode(blob));
    attributes
        .iter()
        .map(|(name, value)| {
            let attribute = Attribute {
                string_value: value.string_value(),
                binary_value: attribute(value),
                string_list_values: [],
                binary_list_values: [],
                data_type: value.data_type(),
            };
            (name.as_str(), attribute)
        })
        .collect()
}
