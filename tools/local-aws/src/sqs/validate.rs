//! What a message, a batch and the numbers of a request may be.

use std::collections::HashSet;
use std::time::Duration;

use data_encoding::BASE64;

use super::attributes::{MAX_MESSAGE_BYTES, QueueSettings};
use super::digest;
use super::error::{Code, SqsError};
use super::wire::{Entry, MessageAttribute, MessageAttributes, NewMessage};

/// Entries per batch, and messages per receive.
const MAX_BATCH: usize = 10;
/// Attributes per message.
const MAX_ATTRIBUTES: usize = 10;
const MAX_WAIT_SECONDS: i64 = 20;
const MAX_VISIBILITY_SECONDS: i64 = 43_200;
const MAX_DELAY_SECONDS: i64 = 900;

/// A message that SQS takes.
#[derive(Debug)]
pub(super) struct ValidMessage {
    pub(super) body: String,
    pub(super) attributes: MessageAttributes,
    pub(super) system_attributes: MessageAttributes,
    pub(super) group_id: Option<String>,
    pub(super) delay: Duration,
}

impl ValidMessage {
    pub(super) fn check(message: NewMessage, queue: &QueueSettings) -> Result<Self, SqsError> {
        let attributes = message.message_attributes.unwrap_or_default();
        let system_attributes = message.message_system_attributes.unwrap_or_default();
        if message.message_deduplication_id.is_some() {
            let reason = "The request includes a parameter that is not valid for this queue type.";
            return Err(SqsError::value("MessageDeduplicationId", "given", reason));
        }
        let body = message
            .message_body
            .filter(|body| !body.is_empty())
            .ok_or_else(|| SqsError::missing("MessageBody"))?;
        check_text(&body)?;
        check_attributes(&attributes)?;
        check_system_attributes(&system_attributes)?;
        check_size(digest::message_bytes(&body, &attributes), queue.max_message_bytes)?;
        if let Some(group) = &message.message_group_id {
            check_group(group)?;
        }
        let delay = match message.delay_seconds {
            None => queue.delay,
            Some(delay) => seconds("DelaySeconds", delay, MAX_DELAY_SECONDS)?,
        };
        Ok(Self { body, attributes, system_attributes, group_id: message.message_group_id, delay })
    }
}

fn check_size(bytes: usize, limit: usize) -> Result<(), SqsError> {
    if bytes <= limit {
        return Ok(());
    }
    let message =
        format!("One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes.");
    Err(SqsError::new(Code::InvalidParameterValue, message))
}

/// Message text is XML's: `#x9 | #xA | #xD | #x20-#xD7FF | #xE000-#xFFFD | #x10000-#x10FFFF`.
fn check_text(text: &str) -> Result<(), SqsError> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(allowed) {
        return Ok(());
    }
    Err(SqsError::new(
        Code::InvalidMessageContents,
        "The message contains characters outside the allowed set.",
    ))
}

fn check_attributes(attributes: &MessageAttributes) -> Result<(), SqsError> {
    if attributes.len() > MAX_ATTRIBUTES {
        let message =
            format!("Number of message attributes [{}] exceeds the allowed maximum [10].", attributes.len());
        return Err(SqsError::new(Code::InvalidParameterValue, message));
    }
    for (name, attribute) in attributes {
        check_attribute_name(name)?;
        check_attribute(name, attribute)?;
    }
    Ok(())
}

fn check_attribute_name(name: &str) -> Result<(), SqsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let lower = name.to_ascii_lowercase();
    let good = (1..=256).contains(&name.len())
        && name.chars().all(allowed)
        && !lower.starts_with("aws.")
        && !lower.starts_with("amazon.")
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..");
    if good {
        return Ok(());
    }
    Err(SqsError::value(
        "MessageAttributes",
        name,
        "The message attribute name breaks the rules for such names.",
    ))
}

fn check_attribute(name: &str, attribute: &MessageAttribute) -> Result<(), SqsError> {
    let refused = |reason: &str| Err(SqsError::value("MessageAttributes", name, reason));
    let kind = attribute.data_type.split('.').next().unwrap_or_default();
    match (kind, &attribute.string_value, &attribute.binary_value) {
        ("String", Some(text), None) if !text.is_empty() => check_text(text),
        ("Number", Some(text), None) if text.parse::<f64>().is_ok_and(f64::is_finite) => Ok(()),
        ("Binary", None, Some(value)) if !value.is_empty() && BASE64.decode(value.as_bytes()).is_ok() => {
            Ok(())
        }
        ("String" | "Number" | "Binary", ..) => refused("The value does not match the type."),
        _ => refused("The message attribute type is not one of String, Number or Binary."),
    }
}

fn check_system_attributes(attributes: &MessageAttributes) -> Result<(), SqsError> {
    match attributes.iter().find(|(name, _)| *name != "AWSTraceHeader") {
        None => attributes.iter().try_for_each(|(name, attribute)| check_attribute(name, attribute)),
        Some((name, _)) => Err(SqsError::value(
            "MessageSystemAttributes",
            name,
            "The only one that can be sent is AWSTraceHeader.",
        )),
    }
}

/// 1 to 128 letters, digits and punctuation. On a standard queue a group asks for a fair share, not for
/// order.
fn check_group(group: &str) -> Result<(), SqsError> {
    if (1..=128).contains(&group.len()) && group.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    let reason =
        "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.";
    Err(SqsError::value("MessageGroupId", group, reason))
}

/// Checks the form of a batch: 1 to 10 entries with ids of their own.
pub(super) fn check_batch<T>(entries: &[Entry<T>]) -> Result<(), SqsError> {
    if entries.is_empty() {
        let message = "There should be at least one entry in the request.";
        return Err(SqsError::new(Code::EmptyBatchRequest, message));
    }
    if entries.len() > MAX_BATCH {
        let message =
            format!("Maximum number of entries per request are 10. You have sent {}.", entries.len());
        return Err(SqsError::new(Code::TooManyEntriesInBatchRequest, message));
    }
    let mut seen = HashSet::new();
    for entry in entries {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=80).contains(&entry.id.len()) || !entry.id.chars().all(allowed) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                           It can be at most 80 letters long.";
            return Err(SqsError::new(Code::InvalidBatchEntryId, message));
        }
        if !seen.insert(entry.id.as_str()) {
            let message = format!("Id {} repeated.", entry.id);
            return Err(SqsError::new(Code::BatchEntryIdsNotDistinct, message));
        }
    }
    Ok(())
}

/// Checks what the messages of a batch count together.
pub(super) fn check_batch_size(entries: &[Entry<NewMessage>]) -> Result<(), SqsError> {
    let none = MessageAttributes::new();
    let counted = entries.iter().map(|Entry { body: message, .. }| {
        let body = message.message_body.as_deref().unwrap_or_default();
        digest::message_bytes(body, message.message_attributes.as_ref().unwrap_or(&none))
    });
    let bytes: usize = counted.sum();
    if bytes <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    let message = format!(
        "Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes. You have sent {bytes} bytes."
    );
    Err(SqsError::new(Code::BatchRequestTooLong, message))
}

/// 1 to 10 messages per receive.
pub(super) fn max_messages(asked: Option<i64>) -> Result<usize, SqsError> {
    let asked = asked.unwrap_or(1);
    match usize::try_from(asked) {
        Ok(count) if (1..=MAX_BATCH).contains(&count) => Ok(count),
        _ => Err(SqsError::value("MaxNumberOfMessages", asked, "Must be between 1 and 10, if provided.")),
    }
}

/// 0 to 20 seconds.
pub(super) fn wait(asked: i64) -> Result<Duration, SqsError> {
    seconds("WaitTimeSeconds", asked, MAX_WAIT_SECONDS)
}

/// 0 seconds to 12 hours.
pub(super) fn visibility(asked: i64) -> Result<Duration, SqsError> {
    seconds("VisibilityTimeout", asked, MAX_VISIBILITY_SECONDS)
}

fn seconds(parameter: &str, asked: i64, most: i64) -> Result<Duration, SqsError> {
    match u64::try_from(asked) {
        Ok(seconds) if asked <= most => Ok(Duration::from_secs(seconds)),
        _ => Err(SqsError::value(parameter, asked, &format!("Must be >= 0 and <= {most}, if provided."))),
    }
}

/// 1 to 80 letters, digits, hyphens and underscores.
pub(super) fn check_queue_name(name: &str) -> Result<(), SqsError> {
    if name.strip_suffix(".fifo").is_some() {
        let message = "There are only standard queues here, no FIFO queues.";
        return Err(SqsError::new(Code::UnsupportedOperation, message));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=80).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let message = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
    Err(SqsError::new(Code::InvalidParameterValue, message))
}
