//! How far a call is.

use std::sync::atomic::{AtomicU8, Ordering};

/// No provider has told anything.
const UNKNOWN: u8 = u8::MAX;

/// How far one call is, as its provider tells while the call runs. Never falls.
#[derive(Debug)]
pub struct Progress(AtomicU8);

impl Progress {
    /// Nothing is known yet.
    pub const fn unknown() -> Self {
        Self(AtomicU8::new(UNKNOWN))
    }

    /// The last that was told, 0 to 99; `None` when the provider does not tell.
    pub fn percent(&self) -> Option<u8> {
        Some(self.0.load(Ordering::Relaxed)).filter(|percent| *percent != UNKNOWN)
    }

    /// Tells a share from 0 to 1. All of it is 99: the picture is not here yet.
    pub(crate) fn tell(&self, share: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 99")]
        let percent = (share * 100.0).clamp(0.0, 99.0) as u8;
        // One call tells, one after the other.
        if self.percent().is_none_or(|known| percent > known) {
            self.0.store(percent, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_unknown_until_told_and_never_falls() {
        let progress = Progress::unknown();
        assert_eq!(progress.percent(), None);
        for (share, percent) in
            [(0.0, 0), (0.355, 35), (0.2, 35), (-1.0, 35), (f64::NAN, 35), (1.0, 99), (7.0, 99)]
        {
            progress.tell(share);
            assert_eq!(progress.percent(), Some(percent), "{share}");
        }
    }
}
