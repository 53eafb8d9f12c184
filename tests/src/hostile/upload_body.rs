//! A promise of bytes: a place for them in the caller's own folder, or a refusal.

use darkroom_core::id::{UploadId, UserId};
use darkroom_core::limits::{BATCH_UPLOAD_BYTES_MAX, REFERENCE_BYTES_MAX};
use darkroom_core::upload::is_sha256;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;

use super::Verdict;
use super::functions::{ALICE, Answer, with};
use super::submit_body::is_refused;

pub(super) fn run(body: &[u8]) -> Verdict {
    with(|functions| {
        let answer = functions.begin_upload(ALICE, body);
        match answer.status {
            201 => {
                is_of_the_promise(&answer, &serde_json::from_slice(body).expect("what was taken is JSON"));
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

/// Nothing was asked of a store, and what is signed is what was promised: no word of the caller's makes up the key.
fn is_of_the_promise(answer: &Answer, promise: &Value) {
    assert!(answer.asked.is_empty(), "{:?}", answer.asked);
    let text = |name: &str| promise[name].as_str().expect("a text");
    let (sha256, bytes) = (text("sha256"), promise["bytes"].as_u64().expect("a number"));
    assert!(is_sha256(sha256), "{promise}");
    let kind = text("kind");
    let (extension, bytes_max) = match (kind, text("content_type")) {
        ("reference", "image/png") => ("png", REFERENCE_BYTES_MAX),
        ("reference", "image/jpeg") => ("jpg", REFERENCE_BYTES_MAX),
        ("reference", "image/webp") => ("webp", REFERENCE_BYTES_MAX),
        ("batch", "application/x-ndjson") => ("jsonl", BATCH_UPLOAD_BYTES_MAX),
        (kind, other) => panic!("{other} for {kind} was taken"),
    };
    assert!((1..=bytes_max).contains(&bytes), "{promise}");
    let id = answer.json["upload_id"].as_str().expect("an id");
    assert!(UploadId::parse(id).is_ok(), "{id}");
    let folder = UserId::parse(ALICE).expect("a user").upload_folder();
    let url: http::Uri = answer.json["url"].as_str().expect("a link").parse().expect("a URI");
    let key = format!("/uploads/{kind}/{folder}/{id}/{sha256}.{extension}");
    assert!(url.path().ends_with(&key), "{url} is no link to {key}");
    let headers = &answer.json["headers"];
    assert_eq!(headers["content-type"], promise["content_type"]);
    let hash = HEXLOWER.decode(sha256.as_bytes()).expect("digits");
    assert_eq!(headers["x-amz-checksum-sha256"], BASE64.encode(&hash));
    assert_eq!(headers.as_object().map(serde_json::Map::len), Some(4), "{headers}");
}
