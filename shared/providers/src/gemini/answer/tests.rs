#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::Reading;

type Answer = Reading<Reader>;

fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<RawImage, Refusal> {
    let mut answer = Answer::new(None);
    for piece in pieces {
        answer.push(piece)?;
    }
    answer.finish()
}

fn read(body: &Value) -> Result<Vec<u8>, Refusal> {
    read_pieces([body.to_string().as_bytes()]).map(|image| image.bytes)
}

fn image(data: &str) -> Value {
    json!({"inlineData": {"mimeType": "image/png", "data": data}})
}

fn draft(data: &str) -> Value {
    json!({"thought": true, "inlineData": {"mimeType": "image/png", "data": data}})
}

fn candidate(parts: &[Value], reason: &str) -> Value {
    json!({"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0})
}

fn answer(candidates: &[Value]) -> Value {
    json!({"candidates": candidates, "usageMetadata": {"totalTokenCount": 3}, "modelVersion": "m-1"})
}

fn blocked(word: &str) -> Refusal {
    Refusal::ContentBlocked { detail: word.to_owned() }
}

fn no_image(word: &str) -> Refusal {
    Refusal::NoImage { detail: word.to_owned() }
}

// "picture", "draft" and "other" in base64.
const PICTURE: &str = "cGljdHVyZQ==";
const DRAFT: &str = "ZHJhZnQ=";
const OTHER: &str = "b3RoZXI=";

#[test]
fn the_picture_is_found_among_other_parts_in_any_order() {
    let text = json!({"text": "Here: {\"inlineData\": {\"data\": \"AAAA\"}}"});
    for parts in [
        vec![image(PICTURE)],
        vec![text.clone(), image(PICTURE)],
        vec![image(PICTURE), text.clone()],
        vec![image(PICTURE), image(OTHER)],
        vec![draft(DRAFT), text, image(PICTURE), draft(OTHER)],
        vec![json!({"inline_data": {"data": PICTURE, "mime_type": "image/png"}, "thoughtSignature": "AAAA"})],
        vec![
            json!({"executableCode": {"data": OTHER}, "unknown": [{"inlineData": {"data": OTHER}}]}),
            image(PICTURE),
        ],
        vec![json!({"functionResponse": {"inlineData": {"data": OTHER}}}), image(PICTURE)],
    ] {
        let body = answer(&[candidate(&parts, "STOP")]);
        assert_eq!(read(&body).unwrap(), b"picture", "{body}");
    }
}

#[test]
fn a_draft_counts_only_when_its_candidate_stopped_without_a_picture() {
    let drafts = [draft(OTHER), draft(DRAFT)];
    assert_eq!(read(&answer(&[candidate(&drafts, "STOP")])).unwrap(), b"draft", "the last one");
    // `thought` may follow the picture that it marks.
    let marked_late = r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"b3RoZXI="},"thought":true},{"inlineData":{"data":"cGljdHVyZQ=="},"thought":false}]}}]}"#;
    assert_eq!(read_pieces([marked_late.as_bytes()]).unwrap().bytes, b"picture");
    assert_eq!(read(&answer(&[candidate(&drafts, "IMAGE_SAFETY")])), Err(blocked("IMAGE_SAFETY")));
    assert_eq!(read(&answer(&[candidate(&drafts, "NO_IMAGE")])), Err(no_image("NO_IMAGE")));
    assert_eq!(read(&answer(&[candidate(&drafts, "SOMETHING_NEW")])), Err(no_image("SOMETHING_NEW")));
}

#[test]
fn of_several_candidates_the_first_with_a_picture_counts() {
    let body = answer(&[
        candidate(&[image(OTHER)], "IMAGE_SAFETY"),
        candidate(&[], "STOP"),
        candidate(&[image(PICTURE)], "STOP"),
        candidate(&[image(OTHER)], "STOP"),
    ]);
    assert_eq!(read(&body).unwrap(), b"picture");
}

#[test]
fn the_reason_may_come_before_the_content() {
    let body =
        r#"{"candidates":[{"finishReason":"SAFETY","content":{"parts":[{"inlineData":{"data":"AAAA"}}]}}]}"#;
    assert_eq!(read_pieces([body.as_bytes()]).unwrap_err(), blocked("SAFETY"));
}

#[test]
fn a_picture_cut_by_a_limit_of_tokens_is_a_picture() {
    assert_eq!(read(&answer(&[candidate(&[image(PICTURE)], "MAX_TOKENS")])).unwrap(), b"picture");
}

#[test]
fn refusals_of_content_are_told_from_mere_lacks() {
    for reason in [
        "SAFETY",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "RECITATION",
        "IMAGE_RECITATION",
    ] {
        assert_eq!(read(&answer(&[candidate(&[], reason)])), Err(blocked(reason)));
        let both = answer(&[candidate(&[], "STOP"), candidate(&[], reason)]);
        assert_eq!(read(&both), Err(blocked(reason)), "a refusal says more than a lack");
    }
    for reason in ["NO_IMAGE", "IMAGE_OTHER", "OTHER", "STOP", "LANGUAGE", "MAX_TOKENS", "NEVER_SEEN_BEFORE"]
    {
        assert_eq!(read(&answer(&[candidate(&[json!({"text": "Sorry"})], reason)])), Err(no_image(reason)));
    }
    for reason in ["SAFETY", "OTHER", "PROHIBITED_CONTENT", "NEVER_SEEN_BEFORE"] {
        let body =
            json!({"promptFeedback": {"blockReason": reason, "safetyRatings": []}, "modelVersion": "m"});
        assert_eq!(read(&body), Err(blocked(reason)));
    }
}

#[test]
fn feedback_on_a_prompt_that_was_drawn_refuses_nothing() {
    let mut body = answer(&[candidate(&[image(PICTURE)], "STOP")]);
    body["promptFeedback"] = json!({"safetyRatings": [{"category": "X", "blockReason": "SAFETY"}]});
    assert_eq!(read(&body).unwrap(), b"picture");
    body["promptFeedback"] = json!({"blockReason": "SAFETY"});
    assert_eq!(read(&body).unwrap(), b"picture");
}

#[test]
fn free_text_is_never_kept() {
    let secret = "AIzaSyCanaryCanaryCanary";
    let body = answer(&[candidate(&[], &format!("key {secret} is bad"))]);
    assert_eq!(read(&body), Err(no_image("UNRECOGNISED")));
    let body = json!({"promptFeedback": {"blockReason": secret, "blockReasonMessage": secret}});
    assert_eq!(read(&body), Err(blocked("UNRECOGNISED")));
    let body = answer(&[candidate(&[], &"A".repeat(1000))]);
    assert_eq!(read(&body), Err(no_image("UNRECOGNISED")));
}

#[test]
fn what_is_no_answer_has_no_image() {
    for body in [
        json!({}),
        json!([]),
        json!("picture"),
        json!(null),
        json!({"candidates": []}),
        json!({"candidates": {}}),
    ] {
        assert_eq!(read(&body), Err(no_image("the answer has no candidate")), "{body}");
    }
    for body in ["", "<html>", "{\"candidates\":[", "data: {}", "{} {}"] {
        assert_eq!(read_pieces([body.as_bytes()]).unwrap_err(), no_image("the answer is not JSON"), "{body}");
    }
}

#[test]
fn values_of_unexpected_types_are_passed_over() {
    for body in [
        json!({"candidates": [null, 1, "x", [], {"content": null}, {"content": {"parts": {}}}]}),
        json!({"candidates": [{"content": {"parts": [null, {"inlineData": null}, {"inlineData": "AAAA"}]}}]}),
        json!({"candidates": [{"content": {"parts": [{"inlineData": {"data": 7}}, {"inlineData": {"data": {"data": "A"}}}]}}]}),
        json!({"candidates": [{"finishReason": 7}], "promptFeedback": {"blockReason": null}, "modelVersion": {}}),
    ] {
        assert_eq!(read(&body), Err(no_image("the answer has no candidate")), "{body}");
    }
}

#[test]
fn data_that_is_not_base64_is_told() {
    let body = answer(&[candidate(&[image("not base64!")], "STOP")]);
    assert_eq!(read(&body), Err(no_image("the picture is not base64")));
    // A sound one beside it is taken.
    let body = answer(&[candidate(&[image("not base64!"), image(PICTURE)], "STOP")]);
    assert_eq!(read(&body).unwrap(), b"picture");
}

#[test]
fn a_picture_above_the_limit_is_not_decoded_to_its_end() {
    let mut answer = Answer::new(None);
    answer.push(br#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":""#).unwrap();
    let piece = vec![b'A'; 1024 * 1024];
    for _ in 0..(IMAGE_BYTES_MAX / 3 * 4 / piece.len() + 2) {
        answer.push(&piece).unwrap();
    }
    assert!(
        matches!(answer.reader.image.decoded, Some(Err(Base64Fault::TooLong))),
        "and what was decoded is dropped"
    );
    answer.push(br#""}}]}}]}"#).unwrap();
    assert_eq!(answer.finish().unwrap_err(), no_image("the picture is too large"));
}

#[test]
fn no_more_than_two_pictures_are_held() {
    let body = answer(&[
        candidate(&[draft(OTHER), draft(DRAFT), image(PICTURE), image(OTHER), draft(OTHER)], "STOP"),
        candidate(&[image(OTHER)], "STOP"),
    ]);
    let mut answer = Answer::new(None);
    for byte in body.to_string().as_bytes() {
        answer.push(&[*byte]).unwrap();
        let reader = &answer.reader;
        let held = [
            reader.answer.image.is_some(),
            reader.candidate.image.is_some(),
            reader.candidate.draft.is_some(),
            reader.part.image.is_some(),
            reader.image.decoded.is_some(),
        ];
        assert!(held.iter().filter(|held| **held).count() <= 2, "{reader:?}");
    }
    assert_eq!(answer.finish().unwrap().bytes, b"picture");
}

#[test]
fn escapes_inside_the_picture_are_read() {
    // `+/+/` four times, written in every way that JSON allows.
    let body = r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"+\/\u002b\u002f\u002B\u002F+/+/+/\u003d"}}]}}]}"#;
    assert_eq!(read_pieces([body.as_bytes()]).unwrap_err(), no_image("the picture is not base64"));
    let body = body.replace("\\u003d", "+\\/+\\/");
    assert_eq!(read_pieces([body.as_bytes()]).unwrap().bytes, [0xfb, 0xff, 0xbf].repeat(4));
}

#[test]
fn every_cut_of_a_body_reads_the_same() {
    let body = r#"{ "candidates" : [ {"content":{"parts":[{"text":"a\"\\\u00e9\ud83d\ude00"},{"inlineData":{"mimeType":"image\/png","data":"cGlj\u0064HVyZQ\u003d="}}]},"finishReason":"STOP"}], "modelVersion":"m-\u0031", "n": -1.5e3 }"#;
    let body = body.as_bytes();
    for first in 0..=body.len() {
        for second in first..=body.len() {
            let image = read_pieces([&body[..first], &body[first..second], &body[second..]]).unwrap();
            assert_eq!(image.bytes, b"picture", "cut at {first} and {second}");
            assert_eq!(image.drawn_by.as_deref(), Some("m-1"), "cut at {first} and {second}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_and_alike_in_any_cut(body in prop::collection::vec(any::<u8>(), 0..200), cut in 1_usize..20) {
        let whole = read_pieces([body.as_slice()]).map(|image| image.bytes);
        let pieces = read_pieces(body.chunks(cut)).map(|image| image.bytes);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn a_damaged_body_is_read_without_panic(at: prop::sample::Index, byte: u8, removed in 0_usize..40) {
        let mut body = answer(&[candidate(&[draft(DRAFT), image(PICTURE)], "STOP")]).to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        let end = (at + removed).min(body.len());
        body.drain(at..end);
        drop(read_pieces([body.as_slice()]));
    }
}
