//! A simulation's clock and random source: the runtime's paused clock, and a generator that a seed determines.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use darkroom_aws::{Source, simulate};
use tokio::time::Instant;

/// When every simulation begins: 2027-01-15, 08:00 UTC.
const START_MS: u64 = 1_800_000_000_000;

thread_local! {
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
    static RANDOM: RefCell<Random> = const { RefCell::new(Random(0)) };
}

/// Begins on this thread, inside a runtime whose clock is paused.
pub(crate) fn begin(seed: u64) {
    simulate(Source { clock_ms, fill });
    STARTED.set(Some(Instant::now()));
    RANDOM.with_borrow_mut(|random| *random = Random(seed));
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

fn clock_ms() -> u64 {
    START_MS + u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX)
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
