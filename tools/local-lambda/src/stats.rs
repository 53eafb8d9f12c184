//! What a function has done so far.

use std::time::Duration;

use crate::error::InvokeError;

/// How many of the latest starts are remembered.
const INIT_DURATIONS: usize = 1_000;

/// Counts since the function was added, in CloudWatch's sense of the words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Invocations accepted, whatever came of them.
    pub invocations: u64,
    /// Invocations that gave no answer: the next three, and errors of the handler.
    pub errors: u64,
    /// Of these, the ones whose environment did not start.
    pub init_failures: u64,
    /// Of these, the ones that took longer than the function's time-out.
    pub timeouts: u64,
    /// Of these, the ones whose process ended under them.
    pub crashes: u64,
    /// Invocations refused because the reserved concurrency was used up; not among `invocations`.
    pub throttles: u64,
    /// Environments started.
    pub environments_started: u64,
    /// From start to the first request for work, of the latest thousand environments that got there.
    pub init_durations: Vec<Duration>,
}

impl Stats {
    pub(crate) fn count_error(&mut self, error: &InvokeError) {
        self.errors += 1;
        match error {
            InvokeError::InitFailed { .. } => self.init_failures += 1,
            InvokeError::TimedOut { .. } => self.timeouts += 1,
            InvokeError::Crashed { .. } => self.crashes += 1,
            InvokeError::Unhandled { .. }
            | InvokeError::Throttled { .. }
            | InvokeError::PayloadTooLarge { .. }
            | InvokeError::Stopped => {}
        }
    }

    pub(crate) fn add_init(&mut self, took: Duration) {
        if self.init_durations.len() == INIT_DURATIONS {
            self.init_durations.remove(0);
        }
        self.init_durations.push(took);
    }
}
