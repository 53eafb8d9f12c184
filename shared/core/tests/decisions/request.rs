//! Whatever a caller sends is parsed or refused, with a pointer to each thing that is wrong.

use crate::common::{cases, fewer_cases, seconds};
use darkroom_core::id::{ConversationId, ModelName};
use darkroom_core::limits::{DEADLINE_MIN, METADATA_BYTES_MAX, PROMPT_CHARS_MAX};
use darkroom_core::request::{AspectRatio, ImageSize, JobRequest, Prompt, Violation};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use unicode_normalization::{UnicodeNormalization, is_nfc};

const LONGEST: std::time::Duration = std::time::Duration::from_secs(3_600);

const UPLOAD: &str = "upl_agrpjafoqqaqeayeauaqdifobq";

fn parse(body: &Value) -> Result<JobRequest, Vec<Violation>> {
    JobRequest::parse(body, LONGEST)
}

fn violations(body: &Value) -> Vec<Violation> {
    parse(body).err().unwrap_or_default()
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..5_000_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        proptest::sample::select(vec!["x", "1:1", "21:9", "1K", "2K", "m-1", UPLOAD]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(vec![
            "prompt", "model", "aspect_ratio", "size", "reference_upload_id", "conversation_id", "metadata",
            "deadline_seconds",
        ]).prop_map(str::to_owned),
        2 => any::<String>(),
        1 => "[~/a]{0,6}",
        1 => "[a-z~/]{60,200}",
    ]
}

fn bodies() -> impl Strategy<Value = Value> {
    let fields = proptest::collection::vec((names(), values()), 0..8);
    prop_oneof![9 => fields.prop_map(Value::from_iter), 1 => values()]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_body_is_parsed_or_each_fault_is_pointed_to(body in bodies()) {
        match parse(&body) {
            Ok(request) => {
                prop_assert!(is_nfc(request.prompt.reveal()));
                prop_assert!(request.deadline.is_none_or(|deadline| (DEADLINE_MIN..=LONGEST).contains(&deadline)));
                prop_assert_eq!(request.hash().len(), 26);
            }
            Err(violations) => {
                prop_assert!(!violations.is_empty());
                for violation in violations {
                    prop_assert!(!violation.reason.is_empty());
                    let missing = violation.reason == "is required";
                    prop_assert!(missing || body.pointer(&violation.pointer).is_some(), "{:?}", violation);
                    // The answer is bounded, however long the caller's names are.
                    prop_assert!(violation.pointer.len() <= 2 * 4 * 64 + 1 && violation.reason.len() < 500);
                }
            }
        }
    }

    #[test]
    fn a_prompt_is_in_normal_form_and_bounded(text in any::<String>()) {
        match Prompt::parse(&text) {
            Ok(prompt) => {
                prop_assert_eq!(prompt.reveal(), text.nfc().collect::<String>());
                prop_assert!(!prompt.reveal().trim().is_empty());
                prop_assert!(!prompt.reveal().chars().any(char::is_control));
                // Parsed again it is the same.
                prop_assert!(Prompt::parse(prompt.reveal()).is_ok_and(|again| again == prompt));
            }
            Err(reason) => {
                prop_assert!(text.trim().is_empty() || text.chars().any(char::is_control), "{}", reason);
            }
        }
    }
}

proptest! {
    #![proptest_config(fewer_cases(5_000))]

    #[test]
    fn every_field_alone_is_judged_alike_beside_others(body in bodies()) {
        let Some(object) = body.as_object() else { return Ok(()) };
        let together: Vec<Violation> = violations(&body);
        for (name, value) in object {
            let mut alone = Map::from_iter([("prompt".to_owned(), json!("x"))]);
            alone.insert(name.clone(), value.clone());
            for violation in violations(&Value::Object(alone)) {
                prop_assert!(together.contains(&violation), "{:?}", violation);
            }
        }
    }
}

proptest! {
    #![proptest_config(fewer_cases(300))]

    /// Characters of every width, composed and not, around the longest length.
    #[test]
    fn the_longest_prompt_is_measured_in_normal_form(
        unit in proptest::sample::select(vec!["x", "é", "e\u{301}", "ᾂ", "\u{3b1}\u{313}\u{300}\u{345}", "각", "\u{1100}\u{1161}\u{11a8}", "🦊"]),
        length in PROMPT_CHARS_MAX - 2..PROMPT_CHARS_MAX + 3,
    ) {
        prop_assert_eq!(unit.nfc().count(), 1);
        prop_assert_eq!(Prompt::parse(&unit.repeat(length)).is_ok(), length <= PROMPT_CHARS_MAX);
    }
}

#[test]
fn no_character_decomposes_into_more_than_four() {
    // What the bound before normalising rests on.
    let longest = ('\0'..=char::MAX).map(|c| std::iter::once(c).nfd().count()).max();
    assert_eq!(longest, Some(4));
}

#[test]
fn pointers_escape_and_never_point_to_another_field() {
    let pointers = |body: &Value| -> Vec<String> {
        violations(body).into_iter().map(|violation| violation.pointer).collect()
    };
    assert_eq!(pointers(&json!({"prompt": "x", "~1": 1})), ["/~01"]);
    assert_eq!(pointers(&json!({"prompt": "x", "": 1})), ["/"]);
    assert_eq!(pointers(&json!({})), ["/prompt"]);
    let long = "n".repeat(65);
    let unknown = violations(&json!({"prompt": "x", long.as_str(): 1}));
    assert_eq!((unknown[0].pointer.as_str(), unknown[0].unknown_field), ("", true));
    assert!(unknown[0].reason.contains(&"n".repeat(64)) && !unknown[0].reason.contains(&long));
    let shown = "n".repeat(64);
    assert_eq!(pointers(&json!({"prompt": "x", shown.as_str(): 1})), [format!("/{shown}")]);
    let mut many = json!({"prompt": "x"});
    for number in 0..1_000 {
        many[format!("f{number}")] = json!(0);
    }
    let unknown = violations(&many);
    assert_eq!((unknown.len(), unknown[16].reason.as_str()), (17, "984 more unknown fields"));
    assert!(unknown.iter().all(|violation| violation.unknown_field));
}

#[test]
fn what_is_not_asked_for_has_a_default() {
    let request = parse(&json!({"prompt": "x", "model": null, "deadline_seconds": null})).ok().unwrap();
    assert_eq!((request.shape.aspect_ratio, request.shape.size), (AspectRatio::R1x1, ImageSize::K1));
    assert_eq!((request.model, request.conversation_id, request.deadline), (None, None, None));
}

#[test]
fn everything_asked_for_arrives() {
    let body = json!({"prompt": "e\u{301}", "model": "m", "aspect_ratio": "21:9", "size": "2K",
                      "conversation_id": "c", "deadline_seconds": 60});
    let request = parse(&body).ok().unwrap();
    assert_eq!(request.prompt.reveal(), "é");
    assert_eq!(request.model.as_ref().map(ModelName::as_str), Some("m"));
    assert_eq!((request.shape.aspect_ratio, request.shape.size), (AspectRatio::R21x9, ImageSize::K2));
    assert_eq!(request.conversation_id.as_ref().map(ConversationId::as_str), Some("c"));
    assert_eq!(request.deadline, Some(seconds(60)));
}

/// A released hash must never change: a key that was used before an upgrade would answer 422.
#[test]
fn hashes_of_requests_stay_what_they_are() {
    let hash = |body: Value| parse(&body).ok().unwrap().hash();
    assert_eq!(
        hash(json!({"prompt": "a lighthouse at dusk", "aspect_ratio": "16:9"})),
        "3atr656eso466kbane626od7tt"
    );
    assert_eq!(
        hash(json!({"prompt": "a lighthouse at dusk", "aspect_ratio": "16:9", "size": "2K", "model": "m",
                    "conversation_id": "c", "deadline_seconds": 60})),
        "sycrws3xp6wamwtxuslfzrtxzq"
    );
    assert_eq!(
        hash(json!({"prompt": "a lighthouse at dusk", "aspect_ratio": "16:9", "metadata": {}})),
        "3atr656eso466kbane626od7tt"
    );
    assert_eq!(
        hash(json!({"prompt": "a lighthouse at dusk",
                    "metadata": {"b": [1, -0.0, 1e21, 0.1, true, null, "é\u{0}"], "": {"a": u64::MAX}}})),
        "ti55axzd6xnj6o5zpioogkdxy7"
    );
}

#[test]
fn ratios_and_sizes_are_read_as_they_are_written() {
    for ratio in AspectRatio::ALL {
        assert_eq!(AspectRatio::parse(ratio.as_str()), Some(ratio));
        assert_eq!(serde_json::to_value(ratio).unwrap(), ratio.as_str());
        let (width, height) = ratio.terms();
        assert_eq!(format!("{width}:{height}"), ratio.as_str());
    }
    for size in ImageSize::ALL {
        assert_eq!(ImageSize::parse(size.as_str()), Some(size));
        assert_eq!(serde_json::to_value(size).unwrap(), size.as_str());
    }
}

#[test]
fn metadata_are_the_same_in_any_order() {
    let hash = |text: &str| parse(&serde_json::from_str(text).unwrap()).ok().unwrap().hash();
    let one = hash(r#"{"prompt": "x", "metadata": {"a": 1, "b": {"c": [1, 2], "d": null}}}"#);
    assert_eq!(one, hash(r#"{"metadata": {"b": {"d":null,"c":[1,2]},"a":1}, "prompt": "x"}"#));
    assert_eq!(
        one,
        hash(r#"{"prompt": "x", "metadata": {"a": 0, "\u0061": 1, "b": {"c": [1, 2], "d": null}}}"#)
    );
    for other in [
        r#"{"prompt": "x"}"#,
        r#"{"prompt": "x", "metadata": {"a": 1, "b": {"c": [2, 1], "d": null}}}"#,
        r#"{"prompt": "x", "metadata": {"a": 1.0, "b": {"c": [1, 2], "d": null}}}"#,
        r#"{"prompt": "x", "metadata": {"a": 1, "b": {"c": [1, 2]}}}"#,
    ] {
        assert_ne!(one, hash(other), "{other}");
    }
}

#[test]
fn metadata_are_an_object_that_is_neither_deep_nor_long() {
    let pointers = |metadata: Value| -> Vec<String> {
        let faults = violations(&json!({"prompt": "x", "metadata": metadata}));
        faults.into_iter().map(|violation| violation.pointer).collect()
    };
    for none in [json!(null), json!({})] {
        assert!(
            parse(&json!({"prompt": "x", "metadata": none})).is_ok_and(|request| request.metadata.is_empty())
        );
    }
    for wrong in [json!([]), json!("{}"), json!(1), json!(false)] {
        assert_eq!(pointers(wrong), ["/metadata"]);
    }
    assert_eq!(pointers(json!({"a": "x".repeat(METADATA_BYTES_MAX - 8)})), [""; 0]);
    assert_eq!(pointers(json!({"a": "x".repeat(METADATA_BYTES_MAX - 7)})), ["/metadata"]);
    let seven = (0..7).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(pointers(json!({"a": seven})), [""; 0]);
    assert_eq!(pointers(json!({"a/b": [0, {"~": seven[0][0]}]})), [""; 0]);
    assert_eq!(pointers(json!({"a/b": [0, {"~": seven[0]}]})), ["/metadata/a~1b/1/~0/0/0/0/0/0"]);
}
