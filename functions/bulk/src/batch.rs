//! Batches whose lines are not all jobs yet.

use darkroom_core::id::BatchId;
use darkroom_core::limits::BATCH_BULK_MARGIN;
use darkroom_core::time::Timestamp;

use crate::Bulk;
use crate::event::Done;

impl Bulk {
    /// Makes jobs of what is left of a batch, as far as the invocation's time allows. The message is done whatever comes of it: a batch of
    /// which lines are left is due within two minutes, and the sweeper sends again, sooner than the message would come back.
    pub(crate) async fn make_jobs(&self, id: &BatchId, ends_at: Timestamp) -> Done {
        match self.maker.resume(id, ends_at.minus(BATCH_BULK_MARGIN)).await {
            Ok(Some(batch)) => {
                tracing::info!(batch.id = %id, batch.made = batch.state.made, batch.lines = batch.state.lines, "made what could be made");
            }
            Ok(None) => tracing::warn!(batch.id = %id, "there is no such batch any more"),
            Err(error) => {
                tracing::error!(batch.id = %id, error = %error, "jobs of the batch were not made; the sweeper sends it again");
            }
        }
        Done::Acknowledge
    }
}
