//! What must be true after every write (the invariants' numbers are those of ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use darkroom::audit::audit;
use darkroom_aws::{Entry, JobTable, LedgerTable, now};
use darkroom_core::id::JobId;
use darkroom_core::job::{Job, Outcome, Stage};
use darkroom_core::limits::CALLS_MAX;
use sha2::{Digest as _, Sha256};

use super::stores::Stores;

/// Looks at the stores after every write.
pub(crate) struct Check {
    jobs: JobTable,
    ledger: LedgerTable,
    stores: Arc<Stores>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    jobs: BTreeMap<String, Job>,
    /// Invariants that did not hold, in words.
    broken: Vec<String>,
}

impl Check {
    pub(crate) fn new(jobs: JobTable, ledger: LedgerTable, stores: Arc<Stores>) -> Self {
        Self { jobs, ledger, stores, seen: Mutex::default() }
    }

    /// What was found so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).broken.clone()
    }

    /// Every job as it is.
    pub(crate) async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        Ok(self.jobs.scan().await?.jobs)
    }

    /// Looks at everything after a write of this function.
    pub(crate) async fn look(&self, function: &str) {
        let found = self
            .found(function)
            .await
            .unwrap_or_else(|error| vec![format!("the stores do not answer: {error}")]);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.broken.extend(found);
    }

    async fn found(&self, function: &str) -> anyhow::Result<Vec<String>> {
        // I1, I2: the books.
        let mut found = audit(&self.jobs, &self.ledger).await?.faults;
        let jobs = self.jobs().await?;
        let (_, entries) = self.ledger.scan().await?;
        let mut settled: BTreeMap<&JobId, u32> = BTreeMap::new();
        for entry in &entries {
            if let Entry::Settle { job, .. } = entry {
                *settled.entry(job).or_default() += 1;
            }
        }
        found.extend(
            settled
                .iter()
                .filter(|(_, times)| **times > 1)
                .map(|(job, times)| format!("I2: {job} was settled {times} times")),
        );
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for job in jobs {
            found.extend(self.of_job(&job));
            if let Some(before) = seen.jobs.insert(job.id.to_string(), job.clone()) {
                found.extend(of_step(&before, &job, function));
            }
        }
        Ok(found)
    }

    fn of_job(&self, job: &Job) -> Option<String> {
        if job.calls > CALLS_MAX {
            return Some(format!("I4: {} has {} calls", job.id, job.calls));
        }
        let Stage::Settled(settled) = &job.stage else { return None };
        let Outcome::Draft { image, .. } = &settled.outcome else { return None };
        let picture = self.stores.picture(&image.key);
        let hash = picture.map(|bytes| data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)));
        (hash.as_deref() != Some(&image.sha256))
            .then(|| format!("I6: {} has no picture {}", job.id, image.key))
    }
}

fn of_step(before: &Job, after: &Job, function: &str) -> Option<String> {
    let is_leased = matches!(&before.stage, Stage::Processing(held) if held.lease_until > now());
    if function == "sweeper" && is_leased && before != after {
        return Some(format!("I8: {} was swept while its worker lived", after.id));
    }
    if after.attempt < before.attempt || after.version < before.version {
        return Some(format!("I5: {} went back", after.id));
    }
    let is_over = matches!(before.stage, Stage::Settled(_));
    (is_over && before != after).then(|| format!("I7: {} changed after its end", after.id))
}
