//! One scheduled sweep: stays up until shortly before the next and reads the due index every few seconds.

use std::time::Duration;

use darkroom_aws::{
    ExportSweeper, ExportsSwept, Heartbeat, KeyTable, StoreError, Sweep, SweepReport, SweepResult,
    WebhookWake, now, read_clock,
};
use darkroom_core::limits::SWEEP_READ;
use darkroom_core::time::Timestamp;
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// The sweeper and its schedule.
pub struct Sweeper {
    pub(crate) sweep: Sweep,
    pub(crate) exports: ExportSweeper,
    pub(crate) webhooks: WebhookWake,
    pub(crate) keys: KeyTable,
    pub(crate) beat: Heartbeat,
    /// From one scheduled start to the next.
    pub(crate) every: Duration,
}

/// What a pass needs to end before the invocation does.
const LAST_PASS: Duration = Duration::from_secs(3);
/// The next scheduled start finds the function free.
const HANDOVER: Duration = Duration::from_secs(5);

impl Sweeper {
    /// Passes until `HANDOVER` before the next start or `LAST_PASS` before the invocation's end, at least one.
    /// Returns the counts per action. The first pass that succeeds is the invocation's sign of life. A pass that fails is
    /// logged and the next one tries again; when all fail, the invocation fails. Boxed, because who awaits an `async fn`
    /// compiles it anew, with all that it awaits.
    pub fn sweep(&self, deadline_millis: u64) -> BoxFuture<'_, Result<Value, StoreError>> {
        Box::pin(self.passes(deadline_millis))
    }

    async fn passes(&self, deadline_millis: u64) -> Result<Value, StoreError> {
        self.read_clock().await;
        let started = now();
        let stay_until = started
            .plus(self.every.saturating_sub(HANDOVER))
            .min(Timestamp::from_millis(deadline_millis).minus(LAST_PASS));
        let (mut totals, mut has_beaten) = (Totals::default(), false);
        loop {
            let pass_at = now();
            let pass = self.sweep.pass(pass_at, false).await;
            totals.add_exports(self.exports.pass(pass_at).await);
            if !has_beaten && pass.as_ref().is_ok_and(succeeded) {
                self.beat().await;
                has_beaten = true;
            }
            totals.add(pass);
            // Jobs come first: a pass over them waits no longer than this for webhooks, whose table may hang.
            match tokio::time::timeout(SWEEP_READ, self.webhooks.pass(now())).await {
                Ok(woken) => totals.add_woken(woken),
                Err(_) => {
                    tracing::error!("webhooks' deliveries were not woken in time; the next pass goes on");
                }
            }
            let next_at = pass_at.plus(SWEEP_READ);
            if next_at >= stay_until {
                return totals.finish();
            }
            #[expect(clippy::disallowed_methods, reason = "the pause between two passes")]
            tokio::time::sleep(next_at.since(now()).min(SWEEP_READ)).await;
            self.read_clock().await;
        }
    }
}

impl Sweeper {
    /// A pass judges leases and deadlines.
    async fn read_clock(&self) {
        if let Err(error) = read_clock(&self.keys).await {
            tracing::warn!(error = %error, "DynamoDB's clock could not be read; this machine's counts");
        }
    }

    async fn beat(&self) {
        if let Err(error) = self.beat.beat(now()).await {
            tracing::warn!(error = %error, "the sweeper's sign of life was not stored");
        }
    }
}

/// Whether a pass shows that the sweeper does its work: what is due was read, and not everything that it tried failed.
fn succeeded(report: &SweepReport) -> bool {
    report.swept.is_empty() || report.swept.iter().any(|swept| swept.result != SweepResult::Failed)
}

#[derive(Default)]
struct Totals {
    counts: std::collections::BTreeMap<&'static str, u64>,
    passes: u64,
    oldest_due: Duration,
    woken: u64,
    failure: Option<StoreError>,
}

impl Totals {
    fn add(&mut self, pass: Result<SweepReport, StoreError>) {
        match pass {
            Ok(report) => {
                self.passes += 1;
                self.oldest_due = self.oldest_due.max(report.oldest_due.unwrap_or_default());
                for (action, count) in report.counts() {
                    *self.counts.entry(action).or_insert(0) += count;
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "a sweep's pass failed; the next one tries again");
                self.failure = Some(error);
            }
        }
    }

    /// One that fails is logged, and the next one tries again: jobs are seen to all the same.
    fn add_exports(&mut self, pass: Result<ExportsSwept, StoreError>) {
        match pass {
            Ok(swept) => {
                for (action, count) in [("send_export", swept.sent), ("fail_export", swept.ended)] {
                    if count > 0 {
                        *self.counts.entry(action).or_insert(0) += count;
                    }
                }
            }
            Err(error) => tracing::error!(error = %error, "the exports that are due could not be read"),
        }
    }

    /// Webhooks that are late are no reason to call a sweep failed: no job waits for them.
    fn add_woken(&mut self, woken: Result<u64, StoreError>) {
        match woken {
            Ok(count) => self.woken += count,
            Err(error) => {
                tracing::error!(error = %error, "due deliveries could not be read; the next pass tries again");
            }
        }
    }

    fn finish(self) -> Result<Value, StoreError> {
        match self.failure {
            Some(error) if self.passes == 0 => Err(error),
            _ => {
                let oldest_due_seconds = self.oldest_due.as_secs();
                tracing::info!(
                    sweep.passes = self.passes,
                    sweep.oldest_due_seconds = oldest_due_seconds,
                    sweep.deliveries_woken = self.woken,
                    "sweep done"
                );
                Ok(
                    json!({"passes": self.passes, "swept": self.counts, "oldest_due_seconds": oldest_due_seconds, "deliveries_woken": self.woken}),
                )
            }
        }
    }
}
