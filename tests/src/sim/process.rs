//! A function's process, which can be killed between any two instructions that wait.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::time::wrong;

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) function: &'static str,
    /// Tells it apart; the port of its way to the provider.
    pub(crate) number: u16,
    /// By how much its clock is wrong.
    pub(crate) wrong_by_ms: i64,
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Life {
    is_over: AtomicBool,
    ended: Notify,
}

impl Process {
    pub(crate) fn new(function: &'static str, number: u16, wrong_by_ms: i64) -> Self {
        Self { function, number, wrong_by_ms, life: Arc::default() }
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        self.life.is_over.store(true, Ordering::Relaxed);
        self.life.ended.notify_waiters();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life.is_over.load(Ordering::Relaxed)
    }

    /// What becomes of its work; `None` when it was killed, and with it everything that the work was made of.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let ended = self.life.ended.notified();
        if self.is_dead() {
            return None;
        }
        tokio::select! {
            biased;
            () = ended => None,
            done = wrong(work, self.wrong_by_ms) => Some(done),
        }
    }
}
