//! A submission's body: taken whole or refused whole.

use darkroom_core::limits::{
    METADATA_BYTES_MAX, METADATA_DEPTH_MAX, PROMPT_CHARS_MAX, PROMPT_INLINE_BYTES_MAX,
};
use darkroom_core::message::Message;
use darkroom_core::request::Prompt;
use serde_json::{Value, json};

use super::Verdict;
use super::functions::{ALICE, Answer, Functions, with};
use super::metadata_patch::depth;
use crate::sim::Call;

/// A write unit: the record fits in one unless the user's id is unusually long.
const RECORD_BYTES_MAX: usize = 1_024;
/// A refusal names some of the unknown fields, however many there are.
const REFUSAL_BYTES_MAX: usize = 32 * 1024;

pub(super) fn run(body: &[u8]) -> Verdict {
    with(|functions| {
        let key = functions.fresh_key();
        let answer = functions.submit(ALICE, &key, body);
        match answer.status {
            202 => {
                is_whole(&answer);
                is_replayed(functions, &key, body, &answer);
                Verdict::Taken
            }
            400 | 413 | 422 => {
                is_refused(&answer);
                Verdict::Refused
            }
            status => panic!("{status}: {}", answer.text),
        }
    })
}

/// One transaction, one message, and the prompt as the rules want it.
fn is_whole(answer: &Answer) {
    let writes: Vec<_> = answer.asked.iter().filter(|asked| changes(asked)).collect();
    let names: Vec<_> = writes.iter().map(|write| write.operation.as_str()).collect();
    assert_eq!(names, ["TransactWriteItems", "SendMessage"]);
    let puts = writes[0].request["TransactItems"].as_array().expect("actions");
    let put = |sk: &str| puts.iter().map(|put| &put["Put"]["Item"]).find(|item| item["sk"]["S"] == sk);
    let record = put("JOB").expect("a record");
    let (inline, long) =
        (record["prompt"]["S"].as_str(), put("BODY").and_then(|put| put["prompt"]["S"].as_str()));
    let prompt = match (inline, long) {
        (Some(inline), None) => {
            assert!(inline.len() <= PROMPT_INLINE_BYTES_MAX, "{} bytes", inline.len());
            inline
        }
        (None, Some(long)) => long,
        both => panic!("one of two: {both:?}"),
    };
    assert_eq!(answer.json["prompt"], prompt);
    let again = Prompt::parse(prompt).unwrap_or_else(|reason| panic!("{prompt:?} {reason}"));
    assert_eq!(again.reveal(), prompt, "normal form is stable");
    assert!((1..=PROMPT_CHARS_MAX).contains(&prompt.chars().count()));
    assert!(size(record) <= RECORD_BYTES_MAX, "{} bytes: {record}", size(record));
    metadata_are_whole(answer, put("META"));
    let message = writes[1].request["MessageBody"].as_str().expect("a message");
    let Ok(Message::Job(message)) = Message::parse(message) else { panic!("{message}") };
    assert_eq!(
        (message.user.as_str(), message.job_id.as_str(), message.model.as_str()),
        (ALICE, answer.json["id"].as_str().unwrap(), record["model"]["S"].as_str().unwrap())
    );
}

/// What is shown is what is stored, and neither long nor deep; nothing is stored of nothing.
fn metadata_are_whole(answer: &Answer, item: Option<&Value>) {
    let shown = &answer.json["metadata"];
    let Some(item) = item else { return assert_eq!(*shown, json!({})) };
    let stored = item["metadata"]["S"].as_str().expect("a text");
    let text = shown.to_string();
    assert!(text != "{}" && stored == text, "{stored} is not {text}");
    assert!(stored.len() <= METADATA_BYTES_MAX && depth(shown) <= METADATA_DEPTH_MAX, "{stored}");
}

/// A client that was not answered asks again, and gets the same job for no further tokens.
fn is_replayed(functions: &mut Functions, key: &str, body: &[u8], first: &Answer) {
    let again = functions.submit(ALICE, key, body);
    assert_eq!((again.status, &again.json["id"]), (202, &first.json["id"]), "{}", again.text);
    assert_eq!(
        again.headers.get("idempotent-replayed").map(http::HeaderValue::as_bytes),
        Some(b"true".as_slice())
    );
    assert_eq!(again.json["prompt"], first.json["prompt"]);
    assert_eq!(again.json["metadata"], first.json["metadata"]);
    assert!(!again.asked.iter().any(|asked| asked.operation == "SendMessage"));
}

/// Nothing was written, and a problem says why.
pub(super) fn is_refused(answer: &Answer) {
    assert!(!answer.asked.iter().any(changes), "{:?}", answer.asked);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.json["status"], answer.status);
    let code = answer.json["code"].as_str().unwrap_or_default();
    let codes = [
        "malformed_json",
        "unknown_field",
        "invalid_value",
        "unknown_model",
        "model_retired",
        "body_too_large",
    ];
    assert!(codes.contains(&code), "{}", answer.text);
    assert!(answer.text.len() <= REFUSAL_BYTES_MAX, "a refusal of {} bytes", answer.text.len());
}

/// An item's size as DynamoDB counts it (developer guide, "DynamoDB item sizes and formats"): names, texts, and of a number a
/// byte for each two digits and one more.
fn size(item: &Value) -> usize {
    let of = |value: &Value| match (value["S"].as_str(), value["N"].as_str()) {
        (Some(text), _) => text.len(),
        (_, Some(digits)) => digits.len().div_ceil(2) + 1,
        _ => panic!("{value}"),
    };
    item.as_object().expect("an item").iter().map(|(name, value)| name.len() + of(value)).sum()
}

/// Whether anything is other than before when it is done: a table, or the queue.
pub(super) fn changes(call: &Call) -> bool {
    call.is_write() || call.operation == "SendMessage"
}
