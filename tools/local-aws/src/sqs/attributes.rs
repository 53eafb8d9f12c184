//! Attributes of queues: which there are, which values they take, and what they mean.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::error::{Code, SqsError};
use super::wire::Attributes;

/// The most that a message and its attributes may count, and a batch of them: 1 MiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 1_048_576;

/// Attributes that are whole numbers: the name, the default, and the values allowed.
const NUMBERS: [(&str, u64, RangeInclusive<u64>); 6] = [
    ("DelaySeconds", 0, 0..=900),
    ("MaximumMessageSize", 1_048_576, 1_024..=1_048_576),
    ("MessageRetentionPeriod", 345_600, 60..=1_209_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 0..=20),
    ("VisibilityTimeout", 30, 0..=43_200),
    ("KmsDataKeyReusePeriodSeconds", 300, 60..=86_400),
];

/// Attributes that are kept as they are and mean nothing here: nothing is encrypted, and every caller may do
/// everything.
const KEPT: [&str; 4] = ["KmsMasterKeyId", "Policy", "RedriveAllowPolicy", "SqsManagedSseEnabled"];

/// Attributes that are computed.
pub(super) const COMPUTED: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// How often a receiver may fail before a message goes to the dead-letter queue, and which that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redrive {
    pub(super) target_arn: String,
    pub(super) max_receive_count: i64,
}

/// What a queue's attributes mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueueSettings {
    pub(super) delay: Duration,
    pub(super) visibility_timeout: Duration,
    pub(super) retention: Duration,
    pub(super) wait: Duration,
    pub(super) max_message_bytes: usize,
    pub(super) redrive: Option<Redrive>,
}

impl QueueSettings {
    /// Reads attributes that [`check`] has passed; what is absent has its default.
    pub(super) fn of(attributes: &Attributes) -> Result<Self, SqsError> {
        let seconds = |name| Ok::<_, SqsError>(Duration::from_secs(number(attributes, name)?));
        Ok(Self {
            delay: seconds("DelaySeconds")?,
            visibility_timeout: seconds("VisibilityTimeout")?,
            retention: seconds("MessageRetentionPeriod")?,
            wait: seconds("ReceiveMessageWaitTimeSeconds")?,
            max_message_bytes: usize::try_from(number(attributes, "MaximumMessageSize")?)
                .unwrap_or(MAX_MESSAGE_BYTES),
            redrive: attributes.get("RedrivePolicy").map(|policy| redrive(policy)).transpose()?,
        })
    }
}

/// Checks names and values, and drops those that are empty: an empty value takes an attribute away.
///
/// # Errors
/// `InvalidAttributeName` and `InvalidAttributeValue`.
pub(super) fn check(attributes: &Attributes) -> Result<(), SqsError> {
    for (name, value) in attributes {
        check_one(name, value)?;
    }
    Ok(())
}

fn check_one(name: &str, value: &str) -> Result<(), SqsError> {
    if let Some((_, _, allowed)) = NUMBERS.iter().find(|(number, ..)| *number == name) {
        return match value.parse::<u64>() {
            Ok(number) if allowed.contains(&number) => Ok(()),
            _ => Err(invalid(name, value)),
        };
    }
    match name {
        "RedrivePolicy" if !value.is_empty() => redrive(value).map(drop),
        "RedrivePolicy" => Ok(()),
        "FifoQueue" | "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit" => {
            Err(SqsError::new(
                Code::UnsupportedOperation,
                format!("{name} belongs to FIFO queues, and there are only standard queues here."),
            ))
        }
        _ if KEPT.contains(&name) => Ok(()),
        _ => Err(SqsError::new(Code::InvalidAttributeName, format!("Unknown Attribute {name}."))),
    }
}

/// Puts `changes` over `attributes`.
pub(super) fn merge(attributes: &mut Attributes, changes: &Attributes) {
    for (name, value) in changes {
        if value.is_empty() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
}

/// Every attribute that was set or has a default.
pub(super) fn with_defaults(attributes: &Attributes) -> Attributes {
    let shown = NUMBERS.iter().filter(|(name, ..)| *name != "KmsDataKeyReusePeriodSeconds");
    let mut all: Attributes =
        shown.map(|(name, default, _)| ((*name).to_owned(), default.to_string())).collect();
    all.insert("SqsManagedSseEnabled".to_owned(), "true".to_owned());
    all.extend(attributes.clone());
    all
}

/// Whether `name` can be asked for.
pub(super) fn is_known(name: &str) -> bool {
    name == "RedrivePolicy"
        || KEPT.contains(&name)
        || COMPUTED.contains(&name)
        || NUMBERS.iter().any(|(number, ..)| *number == name)
}

fn number(attributes: &Attributes, name: &str) -> Result<u64, SqsError> {
    let default = NUMBERS.iter().find(|(number, ..)| *number == name).map_or(0, |(_, default, _)| *default);
    match attributes.get(name) {
        None => Ok(default),
        Some(value) => value.parse().map_err(|_| invalid(name, value)),
    }
}

/// `{"deadLetterTargetArn": "arn:aws:sqs:…", "maxReceiveCount": 5}`; the count may be a string.
fn redrive(policy: &str) -> Result<Redrive, SqsError> {
    let refused = || invalid("RedrivePolicy", policy);
    let policy: Value = serde_json::from_str(policy).map_err(|_| refused())?;
    let target_arn = policy.get("deadLetterTargetArn").and_then(Value::as_str).ok_or_else(refused)?;
    let count = policy.get("maxReceiveCount").ok_or_else(refused)?;
    let count = count.as_i64().or_else(|| count.as_str()?.parse().ok());
    let max_receive_count = count.filter(|count| (1..=1_000).contains(count)).ok_or_else(refused)?;
    Ok(Redrive { target_arn: target_arn.to_owned(), max_receive_count })
}

fn invalid(name: &str, value: &str) -> SqsError {
    SqsError::new(Code::InvalidAttributeValue, format!("Invalid value {value} for the parameter {name}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Attributes {
        Attributes::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn limits_are_those_of_aws() {
        for (name, low, high) in [
            ("DelaySeconds", 0, 900),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("VisibilityTimeout", 0, 43_200),
        ] {
            for good in [low, high] {
                assert_eq!(check(&one(name, &good.to_string())), Ok(()), "{name} {good}");
            }
            for bad in [(low - 1).to_string(), (high + 1).to_string(), "x".to_owned(), String::new()] {
                let refused = check(&one(name, &bad)).unwrap_err();
                assert_eq!(refused.code, Code::InvalidAttributeValue, "{name} {bad}");
            }
        }
    }

    #[test]
    fn a_redrive_policy_needs_a_target_and_a_count_from_1_to_1000() {
        let policy = |count: &str| {
            format!(r#"{{"deadLetterTargetArn":"arn:aws:sqs:r:a:dlq","maxReceiveCount":{count}}}"#)
        };
        for good in ["1", "1000", r#""5""#] {
            assert_eq!(check(&one("RedrivePolicy", &policy(good))), Ok(()), "{good}");
        }
        for bad in ["0", "1001", r#""x""#, "null"] {
            assert!(check(&one("RedrivePolicy", &policy(bad))).is_err(), "{bad}");
        }
        assert!(check(&one("RedrivePolicy", "{}")).is_err());
        assert_eq!(check(&one("RedrivePolicy", "")), Ok(()));
    }

    #[test]
    fn unknown_and_fifo_attributes_are_refused() {
        assert_eq!(check(&one("Colour", "red")).unwrap_err().code, Code::InvalidAttributeName);
        assert_eq!(check(&one("FifoQueue", "true")).unwrap_err().code, Code::UnsupportedOperation);
        assert_eq!(check(&one("QueueArn", "arn")).unwrap_err().code, Code::InvalidAttributeName);
    }

    #[test]
    fn an_empty_value_takes_an_attribute_away() {
        let mut attributes = one("RedrivePolicy", "{}");
        merge(&mut attributes, &one("RedrivePolicy", ""));
        assert!(attributes.is_empty());
    }
}
