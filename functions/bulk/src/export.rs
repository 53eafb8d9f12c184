//! One export: claimed, written page by page into parts of one object, and made known as ready.
//!
//! What is done stands in the record after each part. Whoever takes the export up goes on behind the last part, from the last row
//! in it; what was read since is read again and is in no part. So each row is there once, whoever dies when.

use bytes::Bytes;
use darkroom_aws::{RowPage, Sent, StoreError, now, random_stamp};
use darkroom_core::export::{Export, ExportFailure, ExportFile, ExportKind, Place, Progress, Unclaimable};
use darkroom_core::export_file::{FileError, add, write_head, write_rows, write_totals};
use darkroom_core::id::ExportId;
use darkroom_core::limits::{
    EXPORT_HANDOVER, EXPORT_PAGE_EVERY, EXPORT_PART_BYTES, EXPORT_PARTS_MAX, EXPORT_RENEW,
};
use darkroom_core::time::Timestamp;
use thiserror::Error;

use crate::Bulk;
use crate::event::Done;

/// Why nobody goes on here.
#[derive(Debug, Error)]
enum Stop {
    /// Somebody else has it.
    #[error("somebody else has taken it up, or ended it")]
    Overtaken,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row or a sum cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What an invocation came to.
enum End {
    /// The export is over.
    Over,
    /// There was no more time: it is given back.
    Released,
}

impl Bulk {
    /// Works on an export until it is over or the invocation's time is. Its message is done in any case once the export was
    /// claimed: whatever is left to do the sweeper sends again, when the lease is over.
    pub(crate) async fn export(&self, id: &ExportId, ends_at: Timestamp) -> Done {
        let export = match self.claim(id).await {
            Ok(Some(export)) => export,
            Ok(None) => return Done::Acknowledge,
            Err(error) => {
                tracing::error!(export.id = %id, error = %error, "the export could not be claimed");
                return Done::Return;
            }
        };
        let attempt = export.attempt;
        match Box::pin(Writing::new(self, export).run(ends_at)).await {
            Ok(End::Over) => {}
            Ok(End::Released) => {
                tracing::info!(export.id = %id, export.attempt = attempt, "goes on in the next invocation");
            }
            Err(error) => {
                tracing::error!(export.id = %id, export.attempt = attempt, error = %error,
                    "the export was left: the sweeper sees to it");
            }
        }
        Done::Acknowledge
    }

    /// The export, if it is there and may be worked on.
    async fn claim(&self, id: &ExportId) -> Result<Option<Export>, StoreError> {
        let Some(seen) = self.exports.get(id).await? else {
            tracing::warn!(export.id = %id, "there is no such export");
            return Ok(None);
        };
        match seen.claim(now(), random_stamp()) {
            Ok(next) => Ok(self.exports.replace(&seen, &next).await?.then_some(next)),
            // Another message was first, or the sweeper ends it.
            Err(Unclaimable::Over | Unclaimable::Held | Unclaimable::NothingLeft) => Ok(None),
        }
    }
}

/// An export in this process's hands.
struct Writing<'a> {
    bulk: &'a Bulk,
    /// As it was last written.
    export: Export,
    /// What has been written down as done, and what is beyond it: read, and in no part.
    done: Progress,
    place: Place,
    rows: u64,
    unsent: Vec<u8>,
    renewed_at: Timestamp,
}

impl<'a> Writing<'a> {
    fn new(bulk: &'a Bulk, export: Export) -> Self {
        let done = export.progress().cloned().unwrap_or_default();
        let (place, rows) = (done.place.clone(), done.rows);
        Self { bulk, export, done, place, rows, unsent: Vec::new(), renewed_at: now() }
    }

    async fn run(mut self, ends_at: Timestamp) -> Result<End, Stop> {
        loop {
            let read_at = now();
            self.begin_file()?;
            if self.place == Place::End {
                if self.finish().await? {
                    return Ok(End::Over);
                }
                continue;
            }
            let page = self.read().await?;
            self.take(page)?;
            if self.unsent.len() >= EXPORT_PART_BYTES {
                if self.parts_sent() >= EXPORT_PARTS_MAX {
                    return self.fail(ExportFailure::TooLarge).await;
                }
                self.send_part().await?;
            } else if now().since(self.renewed_at) >= EXPORT_RENEW {
                self.renew().await?;
            }
            if now().plus(EXPORT_HANDOVER) >= ends_at {
                return self.release().await;
            }
            #[expect(clippy::disallowed_methods, reason = "the pace at which exports read")]
            tokio::time::sleep(EXPORT_PAGE_EVERY.saturating_sub(now().since(read_at))).await;
        }
    }

    /// What stands before the first row, if nothing has been written.
    fn begin_file(&mut self) -> Result<(), FileError> {
        let is_new = self.done.upload.is_none() && self.unsent.is_empty();
        if is_new && self.export.request.group_by.is_none() {
            write_head(&self.export.request, &mut self.unsent)?;
        }
        Ok(())
    }

    async fn read(&self) -> Result<RowPage, StoreError> {
        let (user, span, place) = (&self.export.user, self.export.span(), &self.place);
        match self.export.request.kind {
            ExportKind::Jobs => self.bulk.jobs.rows(user, span, place).await,
            ExportKind::Ledger => self.bulk.ledger.rows(user, span, place).await,
        }
    }

    /// Adds a page to what is not in a part yet, or to the sums.
    fn take(&mut self, page: RowPage) -> Result<(), FileError> {
        if let Some(group_by) = self.export.request.group_by {
            add(&mut self.done.totals, group_by, &page.rows)?;
        } else {
            write_rows(&self.export.request, &page.rows, &mut self.unsent)?;
            self.rows += page.rows.len() as u64;
        }
        self.place = page.next;
        if self.is_noted_by_place() {
            self.done.place.clone_from(&self.place);
        }
        Ok(())
    }

    /// Whether everything that was read is in the record as soon as its place is: sums are, and so is nothing at all.
    fn is_noted_by_place(&self) -> bool {
        self.export.request.group_by.is_some() || self.rows == self.done.rows
    }

    fn parts_sent(&self) -> usize {
        self.done.upload.as_ref().map_or(0, |parts| parts.etags.len())
    }

    /// Sends what is not in a part, and writes down that it is.
    async fn send_part(&mut self) -> Result<(), Stop> {
        let bytes = Bytes::from(std::mem::take(&mut self.unsent));
        let length = bytes.len() as u64;
        let mut parts = match &self.done.upload {
            Some(parts) => parts.clone(),
            None => self.bulk.files.begin(&self.export).await?,
        };
        let Sent::Done(etag) = self.bulk.files.part(&parts, bytes).await? else {
            return self.restart().await;
        };
        parts.etags.push(etag);
        self.done = Progress {
            place: self.place.clone(),
            rows: self.rows,
            bytes: self.done.bytes + length,
            upload: Some(parts),
            totals: std::mem::take(&mut self.done.totals),
        };
        self.renew().await
    }

    async fn renew(&mut self) -> Result<(), Stop> {
        let at = now();
        let next = self.export.renewed(self.done.clone(), at, random_stamp());
        self.renewed_at = at;
        self.write(next).await
    }

    /// What S3 had is gone: from the beginning, in another object than before.
    async fn restart(&mut self) -> Result<(), Stop> {
        tracing::warn!(export.id = %self.export.id, "the parts of the file are gone; it is begun anew");
        let next = self.export.restarted(now(), random_stamp());
        self.write(next).await?;
        (self.done, self.place, self.rows) = (Progress::default(), Place::Start, 0);
        self.unsent.clear();
        Ok(())
    }

    async fn release(mut self) -> Result<End, Stop> {
        let next = self.export.released(self.done.clone(), now(), random_stamp());
        self.write(next).await?;
        Ok(End::Released)
    }

    async fn fail(mut self, failure: ExportFailure) -> Result<End, Stop> {
        let next = self.export.failed(failure, now(), random_stamp());
        self.write(next).await?;
        tracing::warn!(export.id = %self.export.id, export.failure = failure.as_str(), "an export failed");
        if let Some(parts) = &self.done.upload
            && let Err(error) = self.bulk.files.abort(parts).await
        {
            tracing::warn!(export.id = %self.export.id, error = %error, "the bucket ends its upload tomorrow");
        }
        Ok(End::Over)
    }

    /// Makes the file whole and known; `false` when it has to be begun anew.
    async fn finish(&mut self) -> Result<bool, Stop> {
        if self.export.request.group_by.is_some() {
            write_head(&self.export.request, &mut self.unsent)?;
            write_totals(&self.export.request, &self.done.totals, &mut self.unsent)?;
            self.rows = self.done.totals.len() as u64;
        }
        let Some(file) = self.whole().await? else { return Ok(false) };
        let next = self.export.ready(file, self.rows, now(), random_stamp());
        self.write(next).await?;
        tracing::info!(export.id = %self.export.id, export.rows = self.rows, "an export is ready");
        Ok(true)
    }

    /// The whole file: of one piece, or of the parts and what is behind them.
    async fn whole(&mut self) -> Result<Option<ExportFile>, Stop> {
        let length = self.done.bytes + self.unsent.len() as u64;
        if self.done.upload.is_none() {
            let bytes = Bytes::from(std::mem::take(&mut self.unsent));
            let key = self.bulk.files.put(&self.export, bytes).await?;
            return Ok(Some(ExportFile { key, bytes: length }));
        }
        if !self.unsent.is_empty() {
            self.send_part().await?;
        }
        // Begun anew meanwhile.
        let Some(parts) = self.done.upload.clone() else { return Ok(None) };
        match self.bulk.files.complete(&parts, length).await? {
            Sent::Done(bytes) => Ok(Some(ExportFile { key: parts.key, bytes })),
            Sent::Lost => self.restart().await.map(|()| None),
        }
    }

    /// Writes the record if nobody else has.
    async fn write(&mut self, next: Export) -> Result<(), Stop> {
        if !self.bulk.exports.replace(&self.export, &next).await? {
            return Err(Stop::Overtaken);
        }
        self.export = next;
        Ok(())
    }
}
