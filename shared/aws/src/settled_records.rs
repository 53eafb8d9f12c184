//! What their owners do to settled jobs' records: publish them, take that back, delete them.

use darkroom_core::id::Stamp;
use darkroom_core::job::{Job, Record, Tombstone};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::retry::Patience;
use darkroom_core::settled::{Publication, tombstone};

use crate::error::StoreError;
use crate::job_table::read;
use crate::job_write::{image_gone_write, publication_write, tombstone_write};
use crate::keys::Key;
use crate::metadata_table::keys_beside;
use crate::transaction::{self, Outcome, Refusal};
use crate::{Commit, JobTable, Kept};

/// What a deletion came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The job is deleted, now or before; what is left of it.
    Done(Tombstone),
    /// It is not settled, or is another one of the same key.
    Refused,
    /// There is no such job.
    Absent,
}

impl JobTable {
    /// Publishes a draft, or takes that back. What is kept beside the record, as it was found, is kept as long as that is. The
    /// record is answered as it is afterwards. Idempotent by `op`. Refused also when something beside it has come or gone since.
    pub async fn publish(
        &self,
        job: &Job,
        publication: &Publication,
        kept: &Kept,
        op: &Stamp,
    ) -> Result<Commit, StoreError> {
        let (table, id) = (&self.table, &job.id);
        let record = publication_write(publication, op);
        let mut actions = vec![transaction::update(table, Key::Job(id).attributes(), record)?];
        actions.extend(kept.keep_until(table, job, publication.beside_expires_at())?);
        let operation = "TransactWriteItems publish";
        let patience = Patience::For(SETTLE_PATIENCE);
        match transaction::write(&self.client, operation, actions, patience).await? {
            Outcome::Applied => Ok(self.get(id).await?.map_or(Commit::Absent, Commit::Applied)),
            Outcome::Refused(refusals) => match refusals.first() {
                Some(Refusal { failed: true, item: Some(item) }) => Ok(match read(item)? {
                    Record::Job(job) if job.op == *op && publication.has_made(&job) => Commit::Applied(*job),
                    Record::Job(job) => Commit::Refused(*job),
                    Record::Tombstone(_) => Commit::Absent,
                }),
                Some(Refusal { failed: true, item: None }) => Ok(Commit::Absent),
                // The record is as it was seen, and what lies beside it is not.
                _ => Ok(Commit::Refused(job.clone())),
            },
        }
    }

    /// Leaves of a settled job a tombstone, and deletes what is kept beside it, in one transaction. The picture is still there:
    /// the tombstone names it until [`JobTable::image_is_gone`]. Idempotent.
    pub async fn delete(&self, job: &Job, op: &Stamp) -> Result<Deleted, StoreError> {
        let Ok(tombstone) = tombstone(job) else { return Ok(Deleted::Refused) };
        let record = tombstone_write(&tombstone, job.order.created_at, op);
        let mut actions = vec![transaction::update(&self.table, Key::Job(&job.id).attributes(), record)?];
        for key in keys_beside(job) {
            actions.push(transaction::delete(&self.table, key)?);
        }
        let patience = Patience::For(SETTLE_PATIENCE);
        match transaction::write(&self.client, "TransactWriteItems delete", actions, patience).await? {
            Outcome::Applied => Ok(Deleted::Done(tombstone)),
            Outcome::Refused(refusals) => {
                let Some(item) = refusals.first().and_then(|refusal| refusal.item.as_ref()) else {
                    return Ok(Deleted::Absent);
                };
                Ok(match read(item)? {
                    Record::Tombstone(tombstone) => Deleted::Done(tombstone),
                    Record::Job(_) => Deleted::Refused,
                })
            }
        }
    }

    /// Takes down that a deleted job's picture is gone. Idempotent: somebody may have done so before.
    pub async fn image_is_gone(&self, tombstone: &Tombstone, op: &Stamp) -> Result<(), StoreError> {
        let Some(image_key) = &tombstone.image_key else { return Ok(()) };
        let record = image_gone_write(image_key, op);
        let actions = vec![transaction::update(&self.table, Key::Job(&tombstone.id).attributes(), record)?];
        let patience = Patience::For(SETTLE_PATIENCE);
        transaction::write(&self.client, "TransactWriteItems image gone", actions, patience).await.map(drop)
    }
}
