//! What a function's answer says about each message or record of its batch.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>, "Success and failure
//! conditions".

use std::collections::BTreeSet;

use serde_json::Value;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// All messages but these are done. Empty: all are.
    AllBut(BTreeSet<String>),
    /// No message is done; with the reason.
    Failed(&'static str),
}

/// Reads the answer of a function whose mapping has `ReportBatchItemFailures`.
///
/// All succeeded: no answer, `null`, an empty object, an empty or null `batchItemFailures`. All failed: no JSON, an
/// `itemIdentifier` that is empty, null, missing, or of nothing in the batch. An answer or a list of another
/// type is documented as neither; it counts as failed, because then nothing is lost.
pub(crate) fn read(answer: &[u8], message_ids: &BTreeSet<&str>) -> Report {
    if answer.is_empty() {
        return Report::AllBut(BTreeSet::new());
    }
    let failures = match serde_json::from_slice::<Value>(answer) {
        Err(_) => return Report::Failed("the answer is not JSON"),
        Ok(Value::Null) => return Report::AllBut(BTreeSet::new()),
        Ok(Value::Object(mut answer)) => answer.remove("batchItemFailures").unwrap_or(Value::Null),
        Ok(_) => return Report::Failed("the answer is not an object"),
    };
    let failures = match failures {
        Value::Null => return Report::AllBut(BTreeSet::new()),
        Value::Array(failures) => failures,
        _ => return Report::Failed("batchItemFailures is not a list"),
    };
    let mut failed = BTreeSet::new();
    for failure in &failures {
        match failure.get("itemIdentifier").and_then(Value::as_str) {
            Some(id) if message_ids.contains(id) => failed.insert(id.to_owned()),
            Some(_) => return Report::Failed("an itemIdentifier is not of this batch"),
            None => return Report::Failed("a failure has no itemIdentifier"),
        };
    }
    Report::AllBut(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn batch(answer: &str) -> Report {
        read(answer.as_bytes(), &BTreeSet::from(["a", "b"]))
    }

    fn all_but(ids: &[&str]) -> Report {
        Report::AllBut(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn an_answer_without_failures_means_all_succeeded() {
        for answer in
            ["", "null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#, r#"{"x":1}"#]
        {
            assert_eq!(batch(answer), all_but(&[]), "{answer}");
        }
    }

    #[test]
    fn named_messages_failed_and_the_others_succeeded() {
        assert_eq!(batch(r#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#), all_but(&["b"]));
        let twice = r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"a"}]}"#;
        assert_eq!(batch(twice), all_but(&["a"]));
    }

    #[test]
    fn an_answer_that_cannot_be_trusted_fails_the_whole_batch() {
        let answers = [
            "{",
            r#""done""#,
            "[]",
            r#"{"batchItemFailures":{}}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":7}]}"#,
            r#"{"batchItemFailures":[{"itemidentifier":"a"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"c"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"c"}]}"#,
            r#"{"batchItemFailures":["a"]}"#,
        ];
        for answer in answers {
            assert!(matches!(batch(answer), Report::Failed(_)), "{answer}");
        }
    }
}
