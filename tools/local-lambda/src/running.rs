//! What a gateway, a mapping and a schedule have in common: they run until told to stop, and can be waited for.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// The owner's end. Dropping it stops the others without waiting for them.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    /// Closed when the last [`StopSignal`] is dropped.
    ended: mpsc::Receiver<Infallible>,
}

/// The end that is held by everything that runs, for as long as it runs.
#[derive(Clone)]
pub(crate) struct StopSignal {
    stop: watch::Receiver<bool>,
    _held: mpsc::Sender<Infallible>,
}

impl Running {
    pub(crate) fn new() -> (Self, StopSignal) {
        let (stop, stopping) = watch::channel(false);
        let (held, ended) = mpsc::channel(1);
        (Self { stop, ended }, StopSignal { stop: stopping, _held: held })
    }

    /// Tells everything to stop and waits up to `grace` until it has.
    pub(crate) async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(grace, self.ended.recv()).await;
    }
}

impl StopSignal {
    /// Whether it is time to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Returns when it is time to stop.
    pub(crate) async fn stopped(&mut self) {
        // An owner that was dropped wants the same.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}
