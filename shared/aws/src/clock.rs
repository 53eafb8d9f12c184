//! The one place that reads the clock and the random source; everything else takes them as arguments.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, UNIX_EPOCH};

use darkroom_core::id::Stamp;
use darkroom_core::time::Timestamp;

/// What is added to this machine's clock.
static CORRECTION_MS: AtomicI64 = AtomicI64::new(0);
/// The clock's lead over the time that this process runs, when that was decided.
static LEAD_MS: AtomicI64 = AtomicI64::new(0);
/// A lead that has changed by more than this tells that the clock was set, or the machine suspended.
const SET_MS: u64 = 100;

/// Now: by this machine's clock, and where DynamoDB's answers prove that wrong, by theirs (ADR 23). It may step, so a wait
/// for a moment looks again when it is over.
pub fn now() -> Timestamp {
    let machine = MachineTime::now();
    let correction_ms = CORRECTION_MS.load(Ordering::Relaxed);
    if correction_ms == 0 || machine.was_set() {
        return machine.at;
    }
    Timestamp::from_millis(machine.at.as_millis().saturating_add_signed(correction_ms))
}

/// What this machine's clocks show.
pub(crate) struct MachineTime {
    /// The time of day.
    pub(crate) at: Timestamp,
    lead_ms: i64,
}

impl MachineTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub(crate) fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let millis =
            std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis());
        let at = Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        let runs_ms = START.get_or_init(Instant::now).elapsed().as_millis();
        let signed = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
        Self { at, lead_ms: signed(at.as_millis().into()).saturating_sub(signed(runs_ms)) }
    }

    /// Whether the clock was set since it was last corrected: the correction is not about it any more.
    pub(crate) fn was_set(&self) -> bool {
        self.lead_ms.abs_diff(LEAD_MS.load(Ordering::Relaxed)) > SET_MS
    }

    /// From here on this much is added to the clock. Gives what was added before.
    pub(crate) fn correct(&self, correction_ms: i64) -> i64 {
        LEAD_MS.store(self.lead_ms, Ordering::Relaxed);
        CORRECTION_MS.swap(correction_ms, Ordering::Relaxed)
    }
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
