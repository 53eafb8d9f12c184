//! A message's body: the same meaning when it is written again, or given up alone.

use darkroom_core::message::{Message, VERSION};
use serde_json::Value;

use super::Verdict;
use super::functions::with;

/// The longest message of ours: every identifier at its longest, twice as long in JSON.
const BODY_BYTES_MAX: usize = 1_024;

/// An error's text is our own words and a few numbers.
const ERROR_BYTES_MAX: usize = 128;

pub(super) fn run(body: &[u8]) -> Verdict {
    // SQS takes texts alone.
    let body = String::from_utf8_lossy(body);
    let verdict = match Message::parse(&body) {
        Ok(message) => {
            means_the_same(&message, &body);
            Verdict::Taken
        }
        Err(error) => {
            // It is logged: it repeats nothing of what somebody sent.
            let told = error.to_string();
            assert!(told.len() <= ERROR_BYTES_MAX, "{told}");
            Verdict::Refused
        }
    };
    let kept = with(|functions| functions.deliver(&body));
    assert_eq!(
        kept,
        verdict == Verdict::Refused,
        "what is no message stays in the queue, what is one is done"
    );
    verdict
}

fn means_the_same(message: &Message, body: &str) {
    let written = message.body();
    assert!(written.len() <= BODY_BYTES_MAX, "{} bytes", written.len());
    assert_eq!(&Message::parse(&written).expect("what was written is read"), message);
    let (came, ours): (Value, Value) =
        (serde_json::from_str(body).expect("JSON"), serde_json::from_str(&written).expect("JSON"));
    assert_eq!(came, ours, "nothing was passed over");
    assert_eq!(ours["v"], VERSION);
    // SQS: up to 128 letters, digits and punctuation.
    let group = message.group();
    assert!((1..=128).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_graphic()), "{group}");
}
