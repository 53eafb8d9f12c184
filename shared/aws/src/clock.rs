//! The one place that reads the clock and the random source; everything else takes them as arguments.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use darkroom_core::clock_offset::{ClockOffset, Told};
use darkroom_core::id::{Stamp, WebhookId};
use darkroom_core::push::ConnectTicket;
use darkroom_core::time::Timestamp;

/// What DynamoDB's answers have told of this machine's clock.
struct Known {
    offset: ClockOffset,
    /// The clock's lead over the time that this process runs, at the last answer.
    lead_ms: i64,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { offset: ClockOffset::NOTHING_TOLD, lead_ms: 0 });

/// Another clock and random source than the machine's: a simulation's.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Milliseconds since 1970.
    pub clock_ms: fn() -> u64,
    /// Fills with random bytes.
    pub fill: fn(&mut [u8]),
}

static SOURCE: OnceLock<Source> = OnceLock::new();

/// Takes time and randomness from there, in the whole process and for good. A simulation does this before anything is read;
/// no function and no command ever does.
pub fn simulate(source: Source) {
    SOURCE.get_or_init(|| source);
}

/// Whether the clock is a simulation's: that one is right by definition.
pub(crate) fn is_simulated() -> bool {
    SOURCE.get().is_some()
}

/// A lead that has changed by more than this tells that the clock was set, or the machine suspended.
const SET_MS: u64 = 100;
/// Two readings of the clocks that are further apart than this are made anew.
const HELD_UP: Duration = Duration::from_millis(5);
/// A correction that has changed by less than this is not worth a line in the log.
const WORTH_A_LINE_MS: u64 = 500;

/// Now: by this machine's clock, and where DynamoDB's answers prove that wrong, by theirs (ADR 23). It may step, so a wait
/// for a moment looks again.
pub fn now() -> Timestamp {
    let machine = MachineTime::now();
    let correction_ms = known(&machine).correction_ms();
    Timestamp::from_millis(machine.at.as_millis().saturating_add_signed(correction_ms))
}

/// What is known of this clock as it is now.
pub(crate) fn known(machine: &MachineTime) -> ClockOffset {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).about(machine)
}

/// Takes note of the `date` of an answer to what was `sent` then, by this machine's clock.
pub(crate) fn told(sent: Timestamp, date: Timestamp) {
    let machine = MachineTime::now();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = known.about(&machine);
    let offset = before.with(Told { sent, received: machine.at, date });
    *known = Known { offset, lead_ms: machine.lead_ms };
    drop(known);
    let correction_ms = offset.correction_ms();
    if correction_ms != 0 && correction_ms.abs_diff(before.correction_ms()) >= WORTH_A_LINE_MS {
        tracing::warn!(
            clock.correction_ms = correction_ms,
            "this machine's clock is wrong by DynamoDB's; it is corrected here: see to its time synchronisation"
        );
    }
}

impl Known {
    /// Nothing, once the clock was set: what was told is not about it any more.
    fn about(&self, machine: &MachineTime) -> ClockOffset {
        if machine.lead_ms.abs_diff(self.lead_ms) > SET_MS { ClockOffset::NOTHING_TOLD } else { self.offset }
    }
}

/// What this machine's clocks show.
pub(crate) struct MachineTime {
    /// The time of day.
    pub(crate) at: Timestamp,
    /// Its lead over the time that this process runs.
    lead_ms: i64,
}

impl MachineTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub(crate) fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        if let Some(source) = SOURCE.get() {
            return Self { at: Timestamp::from_millis((source.clock_ms)()), lead_ms: 0 };
        }
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
}

/// A fresh stamp for one conditional write: 128 random bits.
pub fn random_stamp() -> Stamp {
    Stamp::from_random(random_bytes())
}

/// A fresh ticket: 256 random bits.
pub fn random_ticket() -> ConnectTicket {
    ConnectTicket::from_random(random_bytes())
}

/// A fresh id of an endpoint.
pub fn random_webhook_id() -> WebhookId {
    WebhookId::from_random(random_bytes())
}

/// A uniform number in 0..1, for jitter.
pub fn random_fraction() -> f64 {
    let bits = u64::from_be_bytes(random_bytes()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the random source")]
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Some(source) = SOURCE.get() {
        (source.fill)(&mut bytes);
        return bytes;
    }
    if let Err(error) = getrandom::fill(&mut bytes) {
        // Without randomness no write could tell itself from another's: go no further.
        tracing::error!(error = %error, "the system's random source failed; the function ends here");
        std::process::abort();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_void_once_the_clock_is_set() {
        let at = Timestamp::from_millis(1_800_000_000_000);
        let answer = Told { sent: at, received: at, date: at.plus(Duration::from_secs(60)) };
        let offset = ClockOffset::NOTHING_TOLD.with(answer).with(answer);
        assert!(offset.correction_ms() > 59_000, "{offset:?}");
        let known = Known { offset, lead_ms: 1_000 };
        for (lead_ms, is_void) in [(899, true), (900, false), (1_000, false), (1_100, false), (1_101, true)] {
            let about = known.about(&MachineTime { at, lead_ms });
            assert_eq!(about == ClockOffset::NOTHING_TOLD, is_void, "{lead_ms}");
            assert_eq!(about.correction_ms() == 0, is_void, "{lead_ms}");
        }
    }
}
