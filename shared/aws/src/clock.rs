//! The one place that reads the clock and the random source; everything else takes them as arguments.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

use darkroom_core::id::Stamp;
use darkroom_core::time::Timestamp;

/// What is added to this machine's clock.
static CORRECTION_MS: AtomicI64 = AtomicI64::new(0);

/// Now: by this machine's clock, and where DynamoDB's answers prove that wrong, by theirs (ADR 23). It may step, so a wait
/// for a moment looks again when it is over.
pub fn now() -> Timestamp {
    let millis = machine_now().as_millis();
    Timestamp::from_millis(millis.saturating_add_signed(CORRECTION_MS.load(Ordering::Relaxed)))
}

/// Now, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn machine_now() -> Timestamp {
    let millis =
        std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis());
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// From here on this much is added to this machine's clock. Gives what was added before.
pub(crate) fn correct(correction_ms: i64) -> i64 {
    CORRECTION_MS.swap(correction_ms, Ordering::Relaxed)
}

/// A fresh stamp for one conditional write: 128 random bits.
pub fn random_stamp() -> Stamp {
    Stamp::from_random(random_bytes())
}

/// A uniform number in 0..1, for jitter.
pub fn random_fraction() -> f64 {
    let bits = u64::from_be_bytes(random_bytes()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the random source")]
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // Without randomness no write could tell itself from another's: go no further.
        tracing::error!(error = %error, "the system's random source failed; the function ends here");
        std::process::abort();
    }
    bytes
}
