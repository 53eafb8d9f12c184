//! Exports.

use darkroom_aws::{StoreError, read_clock};
use darkroom_core::id::ExportId;
use darkroom_core::time::Timestamp;

use crate::Bulk;
use crate::event::Done;

impl Bulk {
    /// On this branch: nothing is recorded yet that could be exported, so no message names an export.
    pub(crate) async fn export(&self, id: &ExportId, _ends_at: Timestamp) -> Done {
        match read_clock(&self.keys).await {
            Ok(()) => Done::Acknowledge,
            Err(error) => failed(id, &error),
        }
    }
}

fn failed(id: &ExportId, error: &StoreError) -> Done {
    tracing::error!(export.id = %id, error = %error, "a store failed");
    Done::Return
}
