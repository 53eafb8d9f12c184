//! A patch of metadata: merged as the RFC says, or refused with nothing changed.

use darkroom_core::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX};
use serde_json::{Value, json};

use super::Verdict;
use super::functions::{ALICE, Answer, Functions, with};
use super::submit_body::{changes, is_refused};

pub(super) fn run(patch: &[u8]) -> Verdict {
    with(|functions| {
        let before = json!({"a": {"b": 1, "c": [1, {"d": null}]}, "e": "text", "": null});
        let id = submitted(functions, &before);
        let answer = functions.patch(ALICE, &id, patch);
        let verdict = match answer.status {
            200 => {
                is_merged(&answer, &before, patch);
                is_merged_once(functions, &id, patch, &answer);
                Verdict::Taken
            }
            400 | 413 | 422 => {
                is_refused(&answer);
                Verdict::Refused
            }
            status => panic!("{status}: {}", answer.text),
        };
        let expected = if verdict == Verdict::Taken { &answer.json["metadata"] } else { &before };
        let shown = functions.get(ALICE, &format!("/v1/jobs/{id}")).expect("a path");
        assert_eq!((shown.status, &shown.json["metadata"]), (200, expected), "{}", shown.text);
        verdict
    })
}

/// A job of Alice's with these metadata.
fn submitted(functions: &mut Functions, metadata: &Value) -> String {
    let body = json!({"prompt": "x", "model": "darkroom-local", "metadata": metadata}).to_string();
    let key = functions.fresh_key();
    let answer = functions.submit(ALICE, &key, body.as_bytes());
    assert_eq!((answer.status, &answer.json["metadata"]), (202, metadata), "{}", answer.text);
    answer.json["id"].as_str().expect("an id").to_owned()
}

/// One write, or none where nothing changes, of what the RFC says, which is neither long nor deep.
fn is_merged(answer: &Answer, before: &Value, patch: &[u8]) {
    let patch: Value = serde_json::from_slice(patch).expect("what was taken is JSON");
    let merged = by_the_rfc(before.clone(), &patch);
    let shown = &answer.json["metadata"];
    assert_eq!(*shown, merged, "{patch}");
    assert!(shown.to_string().len() <= METADATA_BYTES_MAX, "{} bytes", shown.to_string().len());
    assert!(depth(shown) <= METADATA_DEPTH_MAX, "{} levels", depth(shown));
    let writes: Vec<_> = answer.asked.iter().filter(|asked| changes(asked)).collect();
    match writes.as_slice() {
        [] => assert_eq!(merged, *before, "it was not written"),
        [write] => {
            assert_eq!(write.operation, "UpdateItem");
            let written = write.request["ExpressionAttributeValues"].as_object().expect("values");
            let text = shown.to_string();
            let is_it = |value: &Value| value["S"].as_str() == Some(&text);
            assert!(written.values().any(is_it), "{}", write.request);
        }
        more => panic!("{} writes", more.len()),
    }
}

/// The same patch again changes nothing.
fn is_merged_once(functions: &mut Functions, id: &str, patch: &[u8], first: &Answer) {
    let again = functions.patch(ALICE, id, patch);
    assert_eq!((again.status, &again.json["metadata"]), (200, &first.json["metadata"]), "{}", again.text);
    assert!(!again.asked.iter().any(changes), "{:?}", again.asked);
}

/// RFC 7396, section 2, as it stands there.
fn by_the_rfc(target: Value, patch: &Value) -> Value {
    let Value::Object(changed) = patch else { return patch.clone() };
    let mut target = if target.is_object() { target } else { json!({}) };
    for (name, change) in changed {
        if change.is_null() {
            target.as_object_mut().expect("an object").remove(name);
        } else {
            target[name] = by_the_rfc(target[name].take(), change);
        }
    }
    target
}

/// Objects and arrays in one another.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
