//! The one place that reads the clock and the random source; everything else takes them as arguments.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use darkroom_core::id::Stamp;
use darkroom_core::time::Timestamp;

/// What is added to this machine's clock, and the clock's lead over the time that this process runs when that was decided.
#[derive(Clone, Copy)]
struct Correction {
    millis: i64,
    lead_ms: i64,
}

static CORRECTION: Mutex<Correction> = Mutex::new(Correction { millis: 0, lead_ms: 0 });
/// A lead that has changed by more than this tells that the clock was set, or the machine suspended.
const SET_MS: u64 = 100;

/// Now: by this machine's clock, and where DynamoDB's answers prove that wrong, by theirs (ADR 23). It may step, so a wait
/// for a moment looks again when it is over.
pub fn now() -> Timestamp {
    let machine = MachineTime::now();
    let correction = *CORRECTION.lock().unwrap_or_else(PoisonError::into_inner);
    if correction.millis == 0 || machine.was_set_since(correction) {
        return machine.at;
    }
    Timestamp::from_millis(machine.at.as_millis().saturating_add_signed(correction.millis))
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
        let start = START.get_or_init(Instant::now);
        // Both at one moment: a thread that is held up between the two would see a clock that was set.
        let mut tries = 0;
        loop {
            let runs = start.elapsed();
            let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            tries += 1;
            if tries < 5 && start.elapsed().saturating_sub(runs) > HELD_UP {
                continue;
            }
            let signed = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            let at = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            return Self { at, lead_ms: signed(since).saturating_sub(signed(runs)) };
        }
    }

    fn was_set_since(&self, correction: Correction) -> bool {
        self.lead_ms.abs_diff(correction.lead_ms) > SET_MS
    }

    /// Whether the clock was set since it was last corrected: the correction is not about it any more.
    pub(crate) fn was_set(&self) -> bool {
        self.was_set_since(*CORRECTION.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on this much is added to the clock. Gives what was added before.
    pub(crate) fn correct(&self, millis: i64) -> i64 {
        let mut correction = CORRECTION.lock().unwrap_or_else(PoisonError::into_inner);
        let before = correction.millis;
        *correction = Correction { millis, lead_ms: self.lead_ms };
        before
    }
}

/// Two readings of the clocks that are further apart than this are made anew.
const HELD_UP: Duration = Duration::from_millis(5);

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
