//! Small things that unfold, and large ones that look small: what they cost is counted.
//!
//! No time is asserted, but each answer has to be read within the time of a call.

mod answers;
mod files;

use std::sync::PoisonError;
use std::time::Instant;

use darkroom_core::limits::BODY_BYTES_MAX;
use darkroom_tests::hostile::{METADATA_PATCH, SUBMIT_BODY, Verdict};

use crate::{HEAP, QUIET};

const MB: usize = 1024 * 1024;
/// A submission of 16 KB with everything that is asked of the stores for it, and they are in this process.
const SUBMIT_HEAP_MAX: usize = 8 * MB;

/// The most that was allocated while this was done, beside what was there before. Nothing else runs meanwhile.
pub(crate) fn counted<T>(what: &str, heap_max: usize, work: impl FnOnce() -> T) -> T {
    let (before, started) = (HEAP.current_usage(), Instant::now());
    HEAP.reset_peak_usage();
    let done = work();
    let (peak, took) = (HEAP.peak_usage().saturating_sub(before), started.elapsed());
    println!("{what:<58} {:>10} KB {:>8.1} ms", peak / 1024, took.as_secs_f64() * 1e3);
    assert!(peak <= heap_max, "{what}: {peak} bytes were allocated, {heap_max} are allowed");
    done
}

#[test]
fn a_submission_is_judged_in_little() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let names = (0..1_900).map(|at| format!("\"{at:x}\":0,")).collect::<Vec<_>>().concat();
    let prompt = |text: &str| format!(r#"{{"prompt":"{text}"}}"#);
    let marks = |mark: &str| prompt(&format!("a{}", mark.repeat((BODY_BYTES_MAX - 20) / mark.len())));
    let metadata = |members: &str| format!(r#"{{"prompt":"x","metadata":{members}}}"#);
    // The functions' own start is not counted.
    assert_eq!((SUBMIT_BODY.run)(b"{}"), Verdict::Refused);
    for (what, body, expected) in [
        ("16,000 levels", "[".repeat(BODY_BYTES_MAX), Verdict::Refused),
        ("as deep as JSON may be", format!("{}{}", "[".repeat(127), "]".repeat(127)), Verdict::Refused),
        ("1,900 unknown fields", format!("{{{names}\"prompt\":\"x\"}}"), Verdict::Refused),
        ("8,000 marks on one letter", marks("\u{301}"), Verdict::Refused),
        ("marks in the worst order", marks("\u{301}\u{327}"), Verdict::Refused),
        (
            "3,900 marks in the worst order",
            prompt(&format!("a{}", "\u{301}\u{327}".repeat(1_950))),
            Verdict::Taken,
        ),
        ("letters of which each becomes three", marks("\u{1d160}"), Verdict::Refused),
        ("1,300 of them", prompt(&"\u{1d160}".repeat(1_300)), Verdict::Taken),
        ("one that an Arabic ligature is not", prompt(&"\u{fdfa}".repeat(4_000)), Verdict::Taken),
        ("one byte too many", prompt(&"x".repeat(BODY_BYTES_MAX - 12)), Verdict::Refused),
        ("a megabyte", prompt(&"x".repeat(MB)), Verdict::Refused),
        ("3,000 numbers that are longer when written", metadata(&numbers(3_000)), Verdict::Refused),
    ] {
        let told =
            counted(&format!("submission: {what}"), SUBMIT_HEAP_MAX, || (SUBMIT_BODY.run)(body.as_bytes()));
        assert_eq!(told, expected, "{what}");
    }
}

/// Each number is of four bytes, and of eighteen when it is written as it is kept.
fn numbers(count: usize) -> String {
    format!("{{\"a\":[{}0]}}", "1e15,".repeat(count))
}

#[test]
fn a_patch_is_judged_in_little() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let levels = |count: usize| "{\"a\":".repeat(count) + "1" + &"}".repeat(count);
    let members = |value: &str| {
        let members: Vec<_> = (0..1_500).map(|at| format!("\"{at:x}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!((METADATA_PATCH.run)(b"[]"), Verdict::Refused);
    for (what, patch, expected) in [
        ("16,000 levels", "[".repeat(BODY_BYTES_MAX), Verdict::Refused),
        ("2,700 levels of objects", "{\"a\":".repeat(2_700), Verdict::Refused),
        ("as deep as JSON may be", levels(127), Verdict::Refused),
        ("as deep as metadata may be", levels(8), Verdict::Taken),
        ("1,500 members", members("0"), Verdict::Taken),
        ("1,500 members to delete", members("null"), Verdict::Taken),
        ("1,500 empty objects", members("{}"), Verdict::Taken),
        ("one name 1,500 times", format!("{{{}\"a\":1}}", "\"a\":0,".repeat(1_500)), Verdict::Taken),
        ("800 numbers that are longer when written", numbers(800), Verdict::Taken),
        ("3,000 of them", numbers(3_000), Verdict::Refused),
        ("a name of 16,000 letters, deleted", format!("{{\"{}\":null}}", "x".repeat(16_000)), Verdict::Taken),
        ("one byte too many", format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX - 7)), Verdict::Refused),
        ("a megabyte", format!("{{\"a\":\"{}\"}}", "x".repeat(MB)), Verdict::Refused),
    ] {
        let told =
            counted(&format!("patch: {what}"), SUBMIT_HEAP_MAX, || (METADATA_PATCH.run)(patch.as_bytes()));
        assert_eq!(told, expected, "{what}");
    }
}
