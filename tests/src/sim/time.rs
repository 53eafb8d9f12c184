//! A simulation's clock and random source: the runtime's paused clock, and a generator that a seed determines.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use darkroom_aws::{Source, simulate};
use darkroom_core::time::Timestamp;
use tokio::time::Instant;

/// When every simulation begins: 2027-01-15, 08:00 UTC.
const START_MS: u64 = 1_800_000_000_000;

thread_local! {
    /// By how much the clock of whoever runs now is wrong, in milliseconds.
    static WRONG_BY: Cell<i64> = const { Cell::new(0) };
    /// The same of what a process has spawned, by its number as Tokio counts.
    static SPAWNED: RefCell<BTreeMap<tokio::task::Id, i64>> = const { RefCell::new(BTreeMap::new()) };
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
    static RANDOM: RefCell<Random> = const { RefCell::new(Random(0)) };
}

/// Begins on this thread, inside a runtime whose clock is paused.
pub(crate) fn begin(seed: u64) {
    simulate(Source { clock_ms, fill });
    STARTED.set(Some(Instant::now()));
    RANDOM.with_borrow_mut(|random| *random = Random(seed));
    SPAWNED.with_borrow_mut(BTreeMap::clear);
    // The SDK spreads its retries by this one.
    fastrand::seed(seed);
}

/// Lets time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Since the beginning.
pub(crate) fn elapsed() -> Duration {
    STARTED.get().map(|started| started.elapsed()).unwrap_or_default()
}

/// When every simulation begins.
pub(crate) const fn started_at() -> Timestamp {
    Timestamp::from_millis(START_MS)
}

/// The time by a clock that is right: the stores', and that of whoever looks at a run.
pub(crate) fn right_now() -> Timestamp {
    Timestamp::from_millis(START_MS + u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn clock_ms() -> u64 {
    let right = right_now().as_millis();
    let of_spawned = || {
        let id = tokio::task::try_id()?;
        SPAWNED.with_borrow(|spawned| spawned.get(&id).copied())
    };
    let wrong_by = match WRONG_BY.get() {
        0 => of_spawned().unwrap_or_default(),
        wrong_by => wrong_by,
    };
    right.saturating_add_signed(wrong_by)
}

/// Whoever calls this goes by a clock that is wrong by so much from now on: what a process has spawned is found out by its
/// first call.
pub(crate) fn belongs_to(wrong_by: i64) {
    if let Some(id) = tokio::task::try_id() {
        SPAWNED.with_borrow_mut(|spawned| spawned.insert(id, wrong_by));
    }
}

/// What comes of this work, by a clock that is wrong by so many milliseconds.
pub(crate) async fn wrong<F: Future>(work: F, by_ms: i64) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let before = WRONG_BY.replace(by_ms);
        let polled = work.as_mut().poll(context);
        WRONG_BY.set(before);
        polled
    })
    .await
}

/// Fills with the run's random bytes.
pub(crate) fn fill(bytes: &mut [u8]) {
    RANDOM.with_borrow_mut(|random| {
        for chunk in bytes.chunks_mut(8) {
            let word = random.next().to_le_bytes();
            chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or_default());
        }
    });
}

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}
