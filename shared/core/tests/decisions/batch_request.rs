//! A batch's request: which lines can be drawn, what is told of the others, and how they are kept.

use std::collections::BTreeMap;

use crate::common::at;
use darkroom_core::batch_request::{
    BatchRequest, Judged, Line, judge, kept_lines, read_list, read_upload, spacing, write_lines,
};
use darkroom_core::id::{ModelName, UploadId};
use darkroom_core::image::ImageFormat;
use darkroom_core::ledger::Tokens;
use darkroom_core::limits::{BATCH_INLINE_MAX, BATCH_LINES_MAX, BATCH_REASON_CHARS, BODY_BYTES_MAX};
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::upload::Reference;
use serde_json::{Value, json};

const DAY: &str = "2026-12-01";

fn model(name: &str, provider: ProviderName, price: Tokens) -> Model {
    Model {
        name: ModelName::parse(name).unwrap(),
        provider,
        provider_model: ModelName::parse(name).unwrap(),
        price,
        description: String::new(),
        typical_milliseconds: 1_000,
        default: name == "local",
        retired_on: (name == "old").then(|| DAY.to_owned()),
        fallback: None,
        replacement: None,
    }
}

fn catalogue() -> Vec<Model> {
    vec![
        model("local", ProviderName::Local, 1),
        model("paid", ProviderName::OpenAi, 5),
        model("old", ProviderName::Gemini, 1),
        model("dear", ProviderName::Gemini, Tokens::MAX),
    ]
}

fn upload(number: u8) -> UploadId {
    UploadId::new(at(1), [number; 10])
}

fn references() -> BTreeMap<UploadId, Reference> {
    let reference =
        Reference { upload: upload(1), sha256: "0f".repeat(32), bytes: 70, format: ImageFormat::Png };
    BTreeMap::from([(upload(1), reference)])
}

fn judged(text: &str) -> Judged {
    judge(read_upload(text.as_bytes()).unwrap(), &catalogue(), DAY, &references())
}

/// Number, code and a part of the reason.
fn told(judged: &Judged) -> Vec<(u32, &str, &str)> {
    judged.invalid.iter().map(|line| (line.line, line.code.as_str(), line.reason.as_str())).collect()
}

#[test]
fn a_body_has_either_jobs_or_an_upload() {
    let pointers = |body: &Value| -> Vec<String> {
        let violations = BatchRequest::parse(body).err().unwrap_or_default();
        violations.into_iter().map(|violation| violation.pointer).collect()
    };
    let upload = upload(1).to_string();
    for (body, expected) in [
        (json!({"jobs": [{}]}), vec![]),
        (json!({"jobs": vec![json!(7); BATCH_INLINE_MAX]}), vec![]),
        (json!({"upload_id": upload}), vec![]),
        (json!({"upload_id": upload, "jobs": null}), vec![]),
        (json!({"jobs": []}), vec!["/jobs"]),
        (json!({"jobs": vec![json!({}); BATCH_INLINE_MAX + 1]}), vec!["/jobs"]),
        (json!({"jobs": {}}), vec!["/jobs"]),
        (json!({"upload_id": "upl_x"}), vec!["/upload_id"]),
        (json!({"upload_id": upload, "jobs": [{}]}), vec![""]),
        (json!({}), vec![""]),
        (json!([]), vec![""]),
        (json!({"jobs": [{}], "n": 1}), vec!["/n"]),
    ] {
        assert_eq!(pointers(&body), expected, "{body}");
    }
}

#[test]
fn a_hash_is_of_all_that_is_asked_for() {
    let hash = |body: Value| BatchRequest::parse(&body).unwrap().hash();
    let base = hash(json!({"jobs": [{"prompt": "a", "size": "1K"}, {"prompt": "b"}]}));
    assert_eq!(base, hash(json!({"jobs": [{"size": "1K", "prompt": "a"}, {"prompt": "b"}]})));
    for other in [
        json!({"jobs": [{"prompt": "b"}, {"prompt": "a", "size": "1K"}]}),
        json!({"jobs": [{"prompt": "a", "size": "1K"}]}),
        json!({"jobs": [{"prompt": "a", "size": "1K"}, {"prompt": "b"}, 7]}),
        json!({"upload_id": upload(1)}),
    ] {
        assert_ne!(base, hash(other.clone()), "{other}");
    }
    assert_ne!(hash(json!({"upload_id": upload(1)})), hash(json!({"upload_id": upload(2)})));
}

#[test]
fn what_is_wrong_with_a_line_is_told_of_that_line() {
    let long = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    let lines = [
        r#"{"prompt": "a lighthouse"}"#,
        "",
        r#"  {"prompt": "a bridge", "model": "paid"}"#,
        r#"{"prompt": "#,
        r#"{"prompt": "x", "n": 2}"#,
        r#"{"prompt": "x", "model": "nobody"}"#,
        r#"{"prompt": "x", "model": "old"}"#,
        &long,
        r#"{"size": "1K"}"#,
        r#"{"prompt": "a lighthouse", "model": null}"#,
        r#"{"prompt": "x", "deadline_seconds": 60}"#,
        r#"["x"]"#,
        &format!(r#"{{"prompt": "x", "reference_upload_id": "{}"}}"#, upload(1)),
        &format!(r#"{{"prompt": "x", "reference_upload_id": "{}"}}"#, upload(2)),
        &format!(r#"{{"prompt": "x", "model": "paid", "reference_upload_id": "{}"}}"#, upload(1)),
        r#"{"prompt": "a lighthouse", "metadata": {"variant": 2}}"#,
    ];
    let judged = judged(&lines.join("\r\n"));
    let drawn: Vec<_> =
        judged.lines.iter().map(|line| (line.number, line.model.as_str(), line.cost)).collect();
    assert_eq!(drawn, [(1, "local", 1), (3, "paid", 5), (13, "local", 1), (16, "local", 1)]);
    let expected = [
        (4, "malformed_json", "no JSON, column"),
        (5, "unknown_field", "/n: unknown field"),
        (6, "unknown_model", "/model"),
        (7, "model_retired", "/model"),
        (8, "body_too_large", "at most 16384 bytes"),
        (9, "invalid_value", "/prompt: is required"),
        (10, "invalid_value", "the same as line 1"),
        (11, "unknown_field", "/deadline_seconds"),
        (12, "invalid_value", "the body must be a JSON object"),
        (14, "invalid_value", "/reference_upload_id: no upload"),
        (15, "invalid_value", "draws from no reference"),
    ];
    let told = told(&judged);
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((line, code, reason), (number, wanted, part)) in told.into_iter().zip(expected) {
        assert_eq!((line, code), (number, wanted));
        assert!(reason.contains(part), "{line}: {reason}");
    }
    assert_eq!(
        judged.models(),
        [(ModelName::parse("local").unwrap(), 3), (ModelName::parse("paid").unwrap(), 1)]
    );
    assert_eq!(judged.cost(), Some(8));
}

#[test]
fn a_list_is_judged_as_an_upload_is() {
    let list = [
        json!({"prompt": "a"}),
        json!(7),
        json!({"prompt": "x".repeat(BODY_BYTES_MAX)}),
        json!({"prompt": "a"}),
    ];
    let judged = judge(read_list(&list), &catalogue(), DAY, &BTreeMap::new());
    assert_eq!(judged.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1]);
    let told = told(&judged);
    assert_eq!(
        told.iter().map(|(line, code, _)| (*line, *code)).collect::<Vec<_>>(),
        [(2, "invalid_value"), (3, "body_too_large"), (4, "invalid_value"),]
    );
}

#[test]
fn a_third_copy_is_told_of_the_first() {
    let judged = judged("{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}");
    let told: Vec<_> = judged.invalid.iter().map(|line| line.reason.contains("line 1;")).collect();
    assert_eq!(told, [true, true]);
}

#[test]
fn an_upload_has_a_line_and_not_too_many() {
    for empty in ["", "\n", " \r\n\t\n"] {
        assert!(read_upload(empty.as_bytes()).is_err());
    }
    let lines = |count: usize| "{}\n".repeat(count);
    assert_eq!(read_upload(lines(BATCH_LINES_MAX).as_bytes()).map(|lines| lines.len()), Ok(BATCH_LINES_MAX));
    assert!(read_upload(lines(BATCH_LINES_MAX + 1).as_bytes()).is_err());
    // No line is lost behind one that is not UTF-8.
    let judged =
        judge(read_upload(b"\xff\xfe\n{\"prompt\": \"a\"}").unwrap(), &catalogue(), DAY, &BTreeMap::new());
    assert_eq!((judged.lines.len(), judged.invalid[0].code.as_str()), (1, "malformed_json"));
}

#[test]
fn nothing_of_what_was_sent_makes_a_reason_long() {
    let fields: Vec<_> = (0..400).map(|number| format!(r#""{}{number}": 1"#, "ü".repeat(20))).collect();
    let judged = judged(&format!("{{{}}}", fields.join(", ")));
    assert!(judged.invalid[0].reason.chars().count() <= BATCH_REASON_CHARS);
}

#[test]
fn lines_are_kept_as_they_are_drawn() {
    let text = format!(
        "{}\n{}",
        r#"{"prompt": "bir deniz feneri ışığı", "aspect_ratio": "16:9", "size": "2K", "conversation_id": "c", "metadata": {"n": 1.5, "deep": {"a": [1, null]}}}"#,
        json!({"prompt": "x".repeat(600), "reference_upload_id": upload(1)})
    );
    let judged = judged(&text);
    assert_eq!(judged.lines.iter().map(Line::writes).collect::<Vec<_>>(), [2, 2]);
    let kept = write_lines(&judged.lines);
    assert_eq!(kept.lines().count(), 2);
    let read = kept_lines(kept.as_bytes()).unwrap();
    assert!(read == judged.lines);
    assert_eq!(write_lines(&read), kept);
    // What cannot be read is named, and not shown.
    let broken = kept.replace("\"number\":2", "\"number\":\"a secret prompt\"");
    let error = kept_lines(broken.as_bytes()).err().unwrap();
    assert!(error.starts_with("line 2, column ") && !error.contains("secret"), "{error}");
}

#[test]
fn prices_that_cannot_be_counted_are_no_price() {
    let judged = judged("{\"prompt\":\"a\",\"model\":\"dear\"}\n{\"prompt\":\"b\"}");
    assert_eq!((judged.lines.len(), judged.cost()), (2, None));
}

#[test]
fn lines_stand_as_far_apart_as_they_can_be_drawn() {
    assert_eq!(spacing(Some(std::time::Duration::from_secs(100)), 50).as_millis(), 2_000);
    assert_eq!(
        (spacing(None, 50).as_millis(), spacing(Some(std::time::Duration::from_secs(1)), 0).as_secs()),
        (0, 1)
    );
}
