//! Carries out what `core::export` decides about exports that are due.

use darkroom_core::bulk_message::{BulkId, BulkMessage};
use darkroom_core::export::{Export, ExportSweep};
use darkroom_core::time::{Timestamp, readable};

use crate::clock::random_stamp;
use crate::error::StoreError;
use crate::{BulkQueue, ExportTable};

/// The sweeper of exports.
#[derive(Clone, Debug)]
pub struct ExportSweeper {
    exports: ExportTable,
    queue: BulkQueue,
}

/// How many exports a pass sent again and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportsSwept {
    /// Their messages were sent.
    pub sent: u64,
    /// They have failed.
    pub ended: u64,
}

impl ExportSweeper {
    /// A sweeper of these exports.
    pub const fn new(exports: ExportTable, queue: BulkQueue) -> Self {
        Self { exports, queue }
    }

    /// Looks at every export that is due and does what is due. Safe at any time and beside any other: each act is conditional on
    /// what was read. What fails is logged, and the next pass tries again.
    pub async fn pass(&self, now: Timestamp) -> Result<ExportsSwept, StoreError> {
        let mut swept = ExportsSwept::default();
        for export in self.exports.due(now).await? {
            let (next, sends) = match export.sweep(now, random_stamp()) {
                ExportSweep::Leave => continue,
                ExportSweep::Send(next) => (next, true),
                ExportSweep::End(next) => (next, false),
            };
            match self.act(&export, &next, sends).await {
                Ok(false) => {}
                Ok(true) => {
                    swept.sent += u64::from(sends);
                    swept.ended += u64::from(!sends);
                    tracing::info!(
                        export.id = %export.id,
                        export.status = export.status(),
                        export.age = readable(now.since(export.asked_at)),
                        sweep.action = if sends { "send" } else { "fail" },
                        "swept"
                    );
                }
                Err(error) => {
                    tracing::error!(export.id = %export.id, error = %error, "sweep: the export was not seen to");
                }
            }
        }
        Ok(swept)
    }

    /// Writes, then sends: a message that is sent without its mark would be sent again each pass.
    async fn act(&self, seen: &Export, next: &Export, sends: bool) -> Result<bool, StoreError> {
        if !self.exports.replace(seen, next).await? {
            return Ok(false);
        }
        if sends {
            self.queue.send(&BulkMessage::new(BulkId::Export(next.id.clone())), &next.user).await?;
        }
        Ok(true)
    }
}
