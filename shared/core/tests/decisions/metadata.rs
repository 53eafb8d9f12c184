//! Metadata: what a merge patch makes of them, by RFC 7396, and what of its order and its repetition.

use crate::common::{cases, fewer_cases};
use darkroom_core::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX};
use darkroom_core::metadata::{Metadata, MetadataPatch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn metadata(value: &Value) -> Metadata {
    Metadata::from_stored(&value.to_string()).unwrap()
}

fn patch(value: &Value) -> MetadataPatch {
    MetadataPatch::parse(value.clone()).unwrap_or_else(|violation| panic!("{value}: {}", violation.reason))
}

fn merged(target: &Metadata, by: &Value) -> Metadata {
    target.merged(&patch(by)).unwrap_or_else(|violation| panic!("{}", violation.reason))
}

fn value(metadata: &Metadata) -> Value {
    Value::Object(metadata.members().clone())
}

/// Where the document of the RFC's own examples is no object it stands here under `m`.
#[test]
fn a_patch_merges_objects_deletes_with_null_and_replaces_the_rest() {
    for (before, by, after) in [
        // One member: another value, another member, no member, one of two.
        (json!({"title": "dusk"}), json!({"title": "dawn"}), json!({"title": "dawn"})),
        (json!({"title": "dusk"}), json!({"mood": "calm"}), json!({"mood": "calm", "title": "dusk"})),
        (json!({"title": "dusk"}), json!({"title": null}), json!({})),
        (json!({"mood": "calm", "title": "dusk"}), json!({"title": null}), json!({"mood": "calm"})),
        // A list is a value like a text: replaced whole, in either direction, and never looked into.
        (json!({"tags": ["sea"]}), json!({"tags": "sea"}), json!({"tags": "sea"})),
        (json!({"tags": "sea"}), json!({"tags": ["sea"]}), json!({"tags": ["sea"]})),
        (json!({"tags": [{"name": "sea"}]}), json!({"tags": [1]}), json!({"tags": [1]})),
        (json!({"m": ["sea", "sky"]}), json!({"m": ["fog", "rain"]}), json!({"m": ["fog", "rain"]})),
        (json!({"m": {"tags": 1}}), json!({"m": ["fog"]}), json!({"m": ["fog"]})),
        (json!({"m": [1, 2]}), json!({"m": {"tags": 1, "none": null}}), json!({"m": {"tags": 1}})),
        // Objects are merged at every level.
        (
            json!({"seen": {"by": "ada", "at": 3}}),
            json!({"seen": {"by": "bo", "where": null}}),
            json!({"seen": {"at": 3, "by": "bo"}}),
        ),
        (json!({}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
        // A null of before is a value; one in a list, too.
        (json!({"old": null}), json!({"new": 1}), json!({"new": 1, "old": null})),
        (json!({}), json!({"list": [null, {"a": null}]}), json!({"list": [null, {"a": null}]})),
        // Everything else replaces.
        (json!({"m": {"tags": 1}}), json!({"m": "text"}), json!({"m": "text"})),
        (json!({"m": {"tags": 1}}), json!({"m": false}), json!({"m": false})),
        (json!({"m": "text"}), json!({"m": {}}), json!({"m": {}})),
        (json!({"m": {"tags": 1}}), json!({"m": {}}), json!({"m": {"tags": 1}})),
        // Any text is a name.
        (json!({"": 1, "\u{0}": 2}), json!({"": null, "\u{0}": {"~/": 3}}), json!({"\u{0}": {"~/": 3}})),
        // What changes nothing.
        (json!({"a": 1}), json!({}), json!({"a": 1})),
        (json!({}), json!({"a": null}), json!({})),
    ] {
        assert_eq!(value(&merged(&metadata(&before), &by)), after, "{before} and {by}");
    }
}

#[test]
fn a_patch_is_an_object_no_deeper_than_what_it_changes() {
    for body in [json!(null), json!([]), json!("a"), json!(1), json!(true)] {
        let violation = MetadataPatch::parse(body.clone()).err().unwrap();
        assert_eq!((violation.pointer.as_str(), violation.unknown_field), ("", false), "{body}");
    }
    let nested = |levels: usize, core: Value| (0..levels).fold(core, |inner, _| json!({"a": inner}));
    for core in [json!(null), json!(1), json!([]), json!({})] {
        let own = usize::from(core.is_array() || core.is_object());
        assert!(MetadataPatch::parse(nested(METADATA_DEPTH_MAX - own, core.clone())).is_ok(), "{core}");
        let deep = MetadataPatch::parse(nested(METADATA_DEPTH_MAX - own + 1, core)).err().unwrap();
        assert_eq!(deep.pointer, "/a".repeat(METADATA_DEPTH_MAX));
    }
}

/// As deep as no parser gives it: it is refused before anything goes that deep.
#[test]
fn a_depth_without_end_ends_at_the_ninth_level() {
    let deep = (0..100_000).fold(json!(1), |inner, _| Value::Array(vec![inner]));
    let members = Map::from_iter([("a".to_owned(), deep)]);
    assert!(
        Metadata::parse(&members, "/metadata")
            .is_err_and(|violation| violation.pointer == "/metadata/a/0/0/0/0/0/0/0")
    );
    // Dropping it would overflow the stack: its reader never makes such a value.
    std::mem::forget(members);
}

#[test]
fn a_pointer_is_short_however_long_the_names_are() {
    let long = "~".repeat(3_000);
    let deep = (0..7).fold(json!([]), |inner, _| json!([inner]));
    let body = json!({"a": {long.as_str(): deep}});
    let pointer = MetadataPatch::parse(body.clone()).err().unwrap().pointer;
    assert_eq!((pointer.as_str(), body.pointer(&pointer).is_some()), ("/a", true));
}

#[test]
fn what_would_be_too_long_is_refused_and_what_makes_room_is_not() {
    let half = "x".repeat(METADATA_BYTES_MAX / 2 - 8);
    let one = merged(&Metadata::default(), &json!({"a": half}));
    let full = merged(&one, &json!({"b": half}));
    assert_eq!(full.text().len(), METADATA_BYTES_MAX - 1);
    let refused = full.merged(&patch(&json!({"b": format!("{half}xx")}))).err().unwrap();
    assert!(
        refused.pointer.is_empty() && refused.reason.contains(&(METADATA_BYTES_MAX + 1).to_string()),
        "{refused:?}"
    );
    let moved = merged(&full, &json!({"a": null, "c": half}));
    assert_eq!(moved.text().len(), METADATA_BYTES_MAX - 1);
}

#[test]
fn numbers_are_kept_as_most_readers_of_json_have_them() {
    for (sent, kept) in [
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9007199254740993", "9007199254740993"),
        // Beyond 64 bits, and beyond 17 digits: the nearest that there is.
        ("18446744073709551617", "1.8446744073709552e+19"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("1.0", "1.0"),
        ("-0", "-0.0"),
        ("5e-324", "5e-324"),
        ("1e-400", "0.0"),
    ] {
        let metadata = Metadata::from_stored(&format!("{{\"a\":{sent}}}")).unwrap();
        assert_eq!(metadata.text(), format!("{{\"a\":{kept}}}"), "{sent}");
    }
    assert!(Metadata::from_stored("{\"a\":1e400}").is_none(), "no number at all");
    for other in ["[]", "null", "1", "", "{"] {
        assert!(Metadata::from_stored(other).is_none(), "{other}");
    }
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[abc]", 1 => any::<String>()]
}

/// Few names and values, so that patches meet.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => Just(Value::Null),
        2 => (0..3_u64).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => proptest::collection::vec((names(), inner), 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn objects() -> impl Strategy<Value = Value> {
    proptest::collection::vec((names(), values()), 0..4).prop_map(Value::from_iter)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The RFC's pseudocode.
fn by_the_rfc(target: Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut target = if target.is_object() { target } else { json!({}) };
    for (name, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            target[name] = by_the_rfc(target[name].take(), change);
        }
    }
    target
}

/// A patch whose changes lie in one member alone.
fn in_member(name: &'static str) -> impl Strategy<Value = Value> {
    objects().prop_map(move |changes| json!({"shared": {name: changes}}))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_merge_is_what_the_rfc_says(target in objects(), by in objects()) {
        let after = merged(&metadata(&target), &by);
        prop_assert_eq!(value(&after), by_the_rfc(target.clone(), &by));
        prop_assert!(depth(&value(&after)) <= depth(&target).max(depth(&by)), "no deeper than both");
    }

    /// Why a patch whose answer was lost may be merged once more, whatever came between.
    #[test]
    fn a_patch_again_is_as_if_only_the_last_had_been(target in objects(), by in objects(), other in objects()) {
        let target = metadata(&target);
        let once = merged(&target, &by);
        prop_assert!(merged(&once, &by) == once, "again");
        let again = merged(&merged(&once, &other), &by);
        let last = merged(&merged(&target, &other), &by);
        prop_assert!(again == last, "{} is not {}", again.text(), last.text());
    }

    #[test]
    fn patches_of_different_members_come_to_the_same_in_any_order(
        target in objects(), one in in_member("one"), two in in_member("two"),
    ) {
        let target = metadata(&target);
        prop_assert!(merged(&merged(&target, &one), &two) == merged(&merged(&target, &two), &one));
    }

    #[test]
    fn what_is_stored_is_read_as_it_was(target in objects()) {
        let kept = metadata(&target);
        let read = Metadata::from_stored(kept.text());
        prop_assert!(read.is_some_and(|read| read == kept && read.text() == kept.text()));
    }

    #[test]
    fn any_object_is_taken_or_refused_for_depth_or_length(target in deep_objects()) {
        let members = target.as_object().unwrap();
        let is_short = Value::Object(members.clone()).to_string().len() <= METADATA_BYTES_MAX;
        match Metadata::parse(members, "") {
            Ok(kept) => prop_assert!(value(&kept) == target && depth(&target) <= METADATA_DEPTH_MAX && is_short),
            Err(violation) => {
                prop_assert!(depth(&target) > METADATA_DEPTH_MAX || !is_short);
                let found = target.pointer(&violation.pointer);
                prop_assert!(found.is_some() && violation.pointer.len() <= 512, "{violation:?}");
            }
        }
    }
}

fn deep_objects() -> impl Strategy<Value = Value> {
    (objects(), 0..10_usize, 0..3_usize).prop_map(|(object, levels, lists)| {
        (0..levels).fold(
            object,
            |inner, level| if level < lists { json!({"~": [inner]}) } else { json!({"/": inner}) },
        )
    })
}

proptest! {
    #![proptest_config(fewer_cases(2_000))]

    /// Whoever merges one after the other, all changes are there: what a refused write is merged into is what the others left.
    #[test]
    fn fifty_patches_are_all_there(order in Just((0..50).collect::<Vec<u64>>()).prop_shuffle()) {
        let all = order.iter().fold(Metadata::default(), |metadata, number| {
            merged(&metadata, &json!({"of": {format!("n{}", number % 7): {number.to_string(): number}}}))
        });
        for number in 0..50_u64 {
            let found = &all.members()["of"][format!("n{}", number % 7)][number.to_string()];
            prop_assert_eq!(found, &json!(number));
        }
    }
}
