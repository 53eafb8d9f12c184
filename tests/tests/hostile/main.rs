//! Hostile input: every target over its corpus, over mutations of it that a seed determines, and against bombs whose memory is
//! counted.
//!
//! A corpus is in `corpora/<target>`. A file whose name begins with `good` has to be taken, one with `bad` to be refused; what a
//! fuzzer found may have any name. `DARKROOM_SEEDS=17..18` asks for other mutations than those of a usual run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

mod bombs;
mod exports;
mod mutate;
mod mutate_image;
mod mutate_json;
mod pictures;

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use darkroom_tests::hostile::{
    FORGE_ANSWER, GEMINI_ANSWER, IMAGE, LIST_QUERY, METADATA_PATCH, OPENAI_ANSWER, QUEUE_MESSAGE,
    SUBMIT_BODY, TARGETS, Target, UPLOAD_BODY, Verdict, WEBHOOK_BODY,
};
use peak_alloc::PeakAlloc;

use crate::mutate::mutated;

/// Counts what is allocated.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Held for writing while memory is counted: nothing else may allocate then.
static QUIET: RwLock<()> = RwLock::new(());

/// All corpora together, in bytes: they are read by people too.
const CORPORA_BYTES_MAX: usize = 256 * 1024;
/// Of each verdict, in a corpus: a target that refuses everything tests nothing.
const OF_EACH_MIN: usize = 5;

/// A file of a corpus.
struct Seed {
    name: String,
    bytes: Vec<u8>,
}

/// A target's corpus, by name.
fn corpus(target: Target) -> Vec<Seed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| Seed {
            name: entry.file_name().into_string().unwrap(),
            bytes: fs::read(entry.path()).unwrap(),
        })
        .collect();
    seeds.sort_by(|one, other| one.name.cmp(&other.name));
    seeds
}

/// Runs a target; a panic says which input it was.
fn verdict(target: Target, input: &[u8], what: &str) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_| {
        let shown: String = input.escape_ascii().map(char::from).take(2_000).collect();
        panic!("{}, {what}: {} bytes: {shown}", target.name, input.len());
    })
}

#[test]
fn each_file_of_a_corpus_is_taken_or_refused_as_its_name_says() {
    let _shared = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = 0;
    for target in TARGETS {
        let seeds = corpus(target);
        let (mut taken, mut refused) = (0, 0);
        for seed in &seeds {
            bytes += seed.bytes.len();
            let verdict = verdict(target, &seed.bytes, &seed.name);
            match verdict {
                Verdict::Taken => taken += 1,
                Verdict::Refused => refused += 1,
            }
            let expected = [("good", Verdict::Taken), ("bad", Verdict::Refused)];
            let expected = expected.into_iter().find(|(prefix, _)| seed.name.starts_with(prefix));
            assert!(
                expected.is_none_or(|(_, expected)| verdict == expected),
                "{}/{}: {verdict:?}",
                target.name,
                seed.name
            );
        }
        assert!(taken >= OF_EACH_MIN && refused >= OF_EACH_MIN, "{}: {taken}, {refused}", target.name);
    }
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes");
}

/// The seeds to run, these unless others are asked for.
fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("DARKROOM_SEEDS") else { return usual };
    let (from, to) = text.split_once("..").expect("DARKROOM_SEEDS is like 0..2000");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Of the mutations, too, some are taken and some refused: one in fifty at least.
fn mutations(target: Target, usual: Range<u64>) {
    let _shared = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let (corpus, runs) = (corpus(target), seeds(usual.clone()));
    let mut taken = 0;
    for seed in runs.clone() {
        let again = format!("DARKROOM_SEEDS={seed}..{}", seed + 1);
        if verdict(target, &mutated(target, &corpus, seed), &again) == Verdict::Taken {
            taken += 1;
        }
    }
    let count = runs.end.saturating_sub(runs.start);
    println!("{}: {count} mutations, {taken} taken", target.name);
    assert!(
        runs != usual || (taken * 50 >= count && taken * 50 <= count * 49),
        "{taken} of {count} were taken"
    );
}

#[test]
fn mutations_of_submit_body() {
    mutations(SUBMIT_BODY, 0..3_000);
}

#[test]
fn mutations_of_list_query() {
    mutations(LIST_QUERY, 0..3_000);
}

#[test]
fn mutations_of_metadata_patch() {
    mutations(METADATA_PATCH, 0..3_000);
}

#[test]
fn mutations_of_upload_body() {
    mutations(UPLOAD_BODY, 0..3_000);
}

#[test]
fn mutations_of_webhook_body() {
    mutations(WEBHOOK_BODY, 0..3_000);
}

#[test]
fn mutations_of_queue_message() {
    mutations(QUEUE_MESSAGE, 0..3_000);
}

#[test]
fn mutations_of_gemini_answer() {
    mutations(GEMINI_ANSWER, 0..2_000);
}

#[test]
fn mutations_of_openai_answer() {
    mutations(OPENAI_ANSWER, 0..2_000);
}

#[test]
fn mutations_of_forge_answer() {
    mutations(FORGE_ANSWER, 0..2_000);
}

#[test]
fn mutations_of_image() {
    mutations(IMAGE, 0..30_000);
}
