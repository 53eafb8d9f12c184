//! Wakes the deliveries that are due: the sweeper's other half.

use darkroom_core::limits::WEBHOOK_WAKE;
use darkroom_core::time::Timestamp;
use futures::StreamExt as _;

use crate::error::StoreError;
use crate::webhook_queue::WebhookQueue;
use crate::webhook_table::{Due, WebhookTable};

/// Deliveries woken at a time.
const CONCURRENCY: usize = 16;

/// What wakes deliveries.
#[derive(Clone, Debug)]
pub struct WebhookWake {
    table: WebhookTable,
    queue: WebhookQueue,
}

impl WebhookWake {
    /// Those of this table, through this queue.
    pub const fn new(table: WebhookTable, queue: WebhookQueue) -> Self {
        Self { table, queue }
    }

    /// Sends a message for everything that is due by `now`, at most some hundreds; how many were sent. One that cannot be written
    /// or sent is logged, and due again. Safe at any time and beside any other.
    ///
    /// # Errors
    /// When what is due cannot be read.
    pub async fn pass(&self, now: Timestamp) -> Result<u64, StoreError> {
        let due = self.table.due(now).await?;
        let woken = futures::stream::iter(due).map(|due| self.wake(due, now)).buffer_unordered(CONCURRENCY);
        Ok(woken.fold(0, |count, sent| async move { count + u64::from(sent) }).await)
    }

    /// Writes, then sends: a message that is sent without its mark would be sent again each pass. One whose sending broke off is
    /// due again in five minutes.
    async fn wake(&self, due: Due, now: Timestamp) -> bool {
        let sent = match self.table.mark(&due, now.plus(WEBHOOK_WAKE)).await {
            Ok(true) => self.queue.send(&due.message).await,
            Ok(false) => return false,
            Err(error) => Err(error),
        };
        if let Err(error) = &sent {
            tracing::error!(delivery.id = %due.message.delivery, error = %error, "a delivery could not be woken; it is due again");
        }
        sent.is_ok()
    }
}
