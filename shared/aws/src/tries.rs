//! The one layer that sends a write again which met another write of the same item.
//!
//! The SDK repeats a call that broke off or was throttled. A conflict it does not repeat: that is done here, with the
//! pauses and bounds of [`Patience`].

use std::time::Duration;

use aws_smithy_runtime_api::client::result::SdkError;
use darkroom_core::retry::Patience;
use tokio::time::{Instant, timeout};

use crate::clients::OPERATION_TIMEOUT;
use crate::clock::random_fraction;

/// The tries of one write.
pub(crate) struct Tries {
    patience: Patience,
    made: u32,
    started: Instant,
}

impl Tries {
    /// Before the first try.
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, made: 0, started: Instant::now() }
    }

    /// One try. With a patience that is a time it is cut off when that is over, though never before a single call's own
    /// time-out: so all tries end within the longer of the two. Whether a write that was cut off happened is unknown.
    /// Give it a boxed call: the SDK's futures are large, and every caller's future would hold two of them.
    pub(crate) async fn send<T, E, R>(
        &mut self,
        call: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<T, SdkError<E, R>> {
        self.made += 1;
        let Patience::For(patience) = self.patience else { return call.await };
        let left = patience.max(OPERATION_TIMEOUT).saturating_sub(self.started.elapsed());
        timeout(left, call).await.unwrap_or_else(|cut| Err(SdkError::timeout_error(cut)))
    }

    /// Pauses before the next try; `false`, at once, when there is none.
    pub(crate) async fn pause(&self) -> bool {
        let pause = self.patience.pause(self.made, self.started.elapsed(), random_fraction());
        match pause {
            Some(pause) => sleep(pause).await,
            None => return false,
        }
        true
    }
}

#[expect(clippy::disallowed_methods, reason = "a retry's pause, at the one layer that retries")]
async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_try_is_cut_off_when_patience_and_the_calls_own_time_are_over() {
        let mut tries = Tries::new(Patience::For(Duration::ZERO));
        let answered = tries.send::<_, (), ()>(std::future::ready(Ok(1))).await;
        assert!(answered.is_ok());
        if let Some(earlier) = tries.started.checked_sub(OPERATION_TIMEOUT) {
            tries.started = earlier;
            let hanging = tries.send::<(), (), ()>(std::future::pending()).await;
            assert!(matches!(hanging, Err(SdkError::TimeoutError(_))));
        }
    }
}
