//! Proves the books: money is conserved per user (I1), and each job settled at most once, as its entry says (I2).

use std::collections::BTreeMap;

use darkroom_aws::{Entry, JobTable, LedgerTable, Records, StoreError};
use darkroom_core::batch::BatchStage;
use darkroom_core::batch_record::BatchRecord;
use darkroom_core::id::{BatchId, JobId, UserId};
use darkroom_core::job::Job;
use darkroom_core::ledger::{Balance, Books, Settlement, Tokens};
use serde::Serialize;

/// What the audit found.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    /// The books of each user.
    pub users: BTreeMap<String, Books>,
    /// Jobs that are on record and can be read.
    pub jobs: u64,
    /// Tombstones: what is left of deleted jobs.
    pub deleted: u64,
    /// Batches that are on record and can be read.
    pub batches: u64,
    /// Settle entries.
    pub settled: u64,
    /// Everything that does not add up, in words.
    pub faults: Vec<String>,
}

/// Reads the whole ledger, every job and every batch. Exact on a system at rest; while jobs settle, a job read before and a
/// balance read after can seem to disagree, so a fault is to be looked at twice.
pub async fn audit(jobs: &JobTable, ledger: &LedgerTable) -> Result<Audit, StoreError> {
    let records = jobs.scan().await?;
    let (balances, entries) = ledger.scan().await?;
    Ok(Audit::of(&records, &balances, &entries))
}

impl Audit {
    /// What these records, balances and entries, which are all there are, come to.
    pub fn of(records: &Records, balances: &[(UserId, Balance)], entries: &[Entry]) -> Self {
        let Records { jobs, tombstones, batches, unreadable } = records;
        let (jobs_on_record, deleted) = (jobs.len() as u64, tombstones.len() as u64);
        let mut audit =
            Self { jobs: jobs_on_record, deleted, batches: batches.len() as u64, ..Self::default() };
        audit.faults.extend(unreadable.iter().map(ToString::to_string));
        for (user, balance) in balances {
            audit.books(user).balance = *balance;
        }
        let mut settlements: BTreeMap<(&UserId, &JobId), Vec<Settlement>> = BTreeMap::new();
        for entry in entries {
            audit.add(entry);
            if let Entry::Settle { user, job, settlement, .. } = entry {
                audit.settled += 1;
                settlements.entry((user, job)).or_default().push(*settlement);
            }
        }
        let of = |user, id| settlements.get(&(user, id)).map_or(&[][..], Vec::as_slice);
        for job in jobs {
            audit.compare(job, of(&job.user, &job.id));
        }
        for tombstone in tombstones {
            let settled = of(&tombstone.user, &tombstone.id);
            audit.settled_as(&tombstone.id, "deleted", tombstone.settlement, settled);
        }
        let mut refunds: BTreeMap<(&UserId, &BatchId), Tokens> = BTreeMap::new();
        for entry in entries {
            if let Entry::BatchRefund { user, batch, tokens, .. } = entry {
                let refunded = refunds.entry((user, batch)).or_default();
                *refunded = refunded.saturating_add(*tokens);
            }
        }
        for batch in batches {
            audit.of_batch(batch, refunds.get(&(&batch.user, &batch.id)).copied());
        }
        for (user, books) in &audit.users {
            audit.faults.extend(books.faults().into_iter().map(|fault| format!("{user}: {fault}")));
        }
        audit
    }

    fn books(&mut self, user: &UserId) -> &mut Books {
        self.users.entry(user.to_string()).or_default()
    }

    fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Grant { user, tokens, .. } => {
                let books = self.books(user);
                books.grants = books.grants.saturating_add(*tokens);
            }
            Entry::Settle { user, tokens, settlement: Settlement::Captured, .. } => {
                let books = self.books(user);
                books.captures = books.captures.saturating_add(*tokens);
            }
            Entry::Settle { settlement: Settlement::Refunded, .. } | Entry::BatchRefund { .. } => {}
        }
    }

    /// An entry outlives its job, and a key used again after that makes a new job of the same id, so a live job may
    /// stand beside older entries; a settled one has at least its own.
    fn compare(&mut self, job: &Job, settlements: &[Settlement]) {
        match job.settlement() {
            None => {
                let books = self.books(&job.user);
                books.unsettled = books.unsettled.saturating_add(job.order.cost);
                books.unsettled_jobs += u64::from(job.order.batch.is_none());
            }
            Some(settlement) => self.settled_as(&job.id, job.status().as_str(), settlement, settlements),
        }
    }

    /// An open batch holds what is left of it. One that ended early has an entry that gave it back, of which an older batch of the
    /// same key may have one, too.
    fn of_batch(&mut self, batch: &BatchRecord, refunded: Option<Tokens>) {
        let books = self.books(&batch.user);
        books.unsettled = books.unsettled.saturating_add(batch.state.remaining);
        if matches!(batch.state.stage, BatchStage::Ended(_)) && refunded.is_none() {
            self.faults.push(format!("{}: it has ended, but no entry says what was given back", batch.id));
        }
    }

    fn settled_as(&mut self, id: &JobId, status: &str, settlement: Settlement, settlements: &[Settlement]) {
        if !settlements.contains(&settlement) {
            self.faults.push(format!("{id}: {status}, but no entry says {}", settlement.as_str()));
        }
    }
}
