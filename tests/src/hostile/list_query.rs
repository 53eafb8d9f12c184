//! The query strings of the lists: whatever a cursor says, a page is the caller's own, and pages end.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Verdict;
use super::functions::{Answer, CAROL, Functions, with};
use crate::sim::Call;

/// Pages of at least one of Carol's three, and one that finds no more.
const PAGES_MAX: usize = 4;

pub(super) fn run(input: &[u8]) -> Verdict {
    let text = sendable(input);
    with(|functions| {
        let (list, query) = text.split_once('?').unwrap_or(("jobs", &text));
        let path = match list {
            "entries" => "/v1/account/entries".to_owned(),
            // Bob's, which is no job to Carol: 404, whatever else is asked.
            "job" => format!("/v1/jobs/{}", functions.bobs_job),
            _ => "/v1/jobs".to_owned(),
        };
        let Some(answer) = functions.get(CAROL, &format!("{path}?{query}")) else { return Verdict::Refused };
        is_carols(functions, &answer);
        match answer.status {
            200 => {
                pages_end(functions, &path, &answer);
                Verdict::Taken
            }
            404 if list == "job" => Verdict::Taken,
            400 | 422 => {
                assert!(answer.asked.is_empty(), "{:?}", answer.asked);
                assert_eq!(answer.headers["content-type"], "application/problem+json");
                assert!(!answer.json["errors"].as_array().expect("what is wrong").is_empty());
                Verdict::Refused
            }
            status => panic!("{status}: {}", answer.text),
        }
    })
}

/// Every page behind this one is taken, and the last comes soon.
fn pages_end(functions: &mut Functions, path: &str, first: &Answer) {
    let mut next = first.json["next_cursor"].clone();
    let mut pages = 0;
    while let Some(cursor) = next.as_str() {
        pages += 1;
        assert!(pages <= PAGES_MAX, "{pages} pages");
        let answer =
            functions.get(CAROL, &format!("{path}?limit=1&cursor={cursor}")).expect("a cursor fits in a URL");
        assert_eq!(answer.status, 200, "{cursor}: {}", answer.text);
        is_carols(functions, &answer);
        next = answer.json["next_cursor"].clone();
    }
}

fn is_carols(functions: &Functions, answer: &Answer) {
    assert!(!answer.text.contains(&functions.bobs_job), "Bob's job: {}", answer.text);
    for asked in answer.asked.iter().filter(|asked| is_of_user(asked)) {
        let values = asked.request["ExpressionAttributeValues"].as_object().expect("values");
        assert!(values.values().any(|value| *value == json!({"S": CAROL})), "{}", asked.request);
        let start = &asked.request["ExclusiveStartKey"];
        if !start.is_null() {
            let owner = start.get("user").or_else(|| start.get("pk")).unwrap_or(&Value::Null);
            assert_eq!(*owner, json!({"S": CAROL}), "{}", asked.request);
        }
    }
}

/// The two queries of one user's partition; the others read the waiting jobs, the catalogue and the quotas.
fn is_of_user(asked: &Call) -> bool {
    asked.operation == "Query"
        && (asked.request["IndexName"] == "by_user"
            || asked.request["TableName"].as_str().is_some_and(|table| table.contains("ledger")))
}

/// Bytes that a URL cannot hold, escaped.
fn sendable(input: &[u8]) -> String {
    let mut text = String::new();
    for byte in input {
        if byte.is_ascii_alphanumeric() || b"-._~%&=+!$'()*,;:@/?".contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").expect("a text takes all");
        }
    }
    text
}
