//! What must be true after every write (the invariants' numbers are those of ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use darkroom::audit::Audit;
use darkroom_aws::{Entry, JobTable, KeyTable, LedgerTable};
use darkroom_core::breaker::State;
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::job::{Job, Outcome, Stage};
use darkroom_core::limits::{CALLS_MAX, SLOT_WAIT_MAX};
use darkroom_core::model::ProviderName;
use darkroom_core::time::Timestamp;
use sha2::{Digest as _, Sha256};

use super::stores::Stores;
use super::time::right_now;
use crate::keys::MODEL;

/// A call may have had its slot when the breaker opened.
const LAST_SLOT: Duration = Duration::from_secs(SLOT_WAIT_MAX.as_secs() + 2);

/// Looks at the stores after every write, and whenever a call arrives.
pub(crate) struct Check {
    jobs: JobTable,
    ledger: LedgerTable,
    keys: KeyTable,
    stores: Arc<Stores>,
    /// A process's clock is wrong by no more than this.
    skew: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    jobs: BTreeMap<String, Job>,
    /// Calls that have arrived, by prompt.
    calls: BTreeMap<String, u32>,
    /// Calls that have arrived while a breaker was half open, by epoch.
    probes: BTreeMap<u64, u32>,
    /// Invariants that did not hold, in words.
    broken: Vec<String>,
}

impl Check {
    pub(crate) fn new(
        jobs: JobTable,
        ledger: LedgerTable,
        keys: KeyTable,
        stores: Arc<Stores>,
        skew: Duration,
    ) -> Self {
        Self { jobs, ledger, keys, stores, skew, seen: Mutex::default() }
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

    /// Looks at what is recorded when a call arrives at a provider.
    pub(crate) async fn arrived(&self, prompt: &str) {
        let found = match self.found_of_call(prompt).await {
            Ok(found) => found,
            Err(error) => vec![format!("the stores do not answer: {error}")],
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).broken.extend(found);
    }

    async fn found_of_call(&self, prompt: &str) -> anyhow::Result<Vec<String>> {
        let jobs = self.jobs().await?;
        let is_asked = |job: &&Job| job.order.prompt.as_ref().is_some_and(|asked| asked.reveal() == prompt);
        let breaker = self.keys.breaker(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = seen.calls.entry(prompt.to_owned()).or_default();
        *calls += 1;
        let mut found = Vec::new();
        match jobs.iter().find(is_asked) {
            None => found.push(format!("I3: a call for {prompt:?}, which is no job")),
            Some(job) if *calls > job.calls => {
                found.push(format!("I4: call {calls} for {}, which has counted {}", job.id, job.calls));
            }
            Some(job) if matches!(job.stage, Stage::Pending(_)) => {
                found.push(format!("I5: a call for {}, which waits", job.id));
            }
            Some(_) => {}
        }
        match breaker.state {
            State::HalfOpen { .. } => {
                let probes = seen.probes.entry(breaker.epoch).or_default();
                *probes += 1;
                if *probes > 1 {
                    found.push(format!("I10: {probes} calls in the half-open epoch {}", breaker.epoch));
                }
            }
            State::Open { at, .. } if right_now().since(at) > LAST_SLOT + self.skew => {
                found.push("I10: a call while the breaker is open".to_owned());
            }
            State::Open { .. } | State::Closed { .. } => {}
        }
        Ok(found)
    }

    async fn found(&self, function: &str) -> anyhow::Result<Vec<String>> {
        // I1, I2: the books.
        let records = self.jobs.scan().await?;
        let (balances, entries) = self.ledger.scan().await?;
        let mut found = Audit::of(&records, &balances, &entries).faults;
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
        for job in records.jobs {
            if seen.jobs.get(job.id.as_str()) == Some(&job) {
                continue;
            }
            found.extend(self.of_job(&job));
            if let Some(before) = seen.jobs.insert(job.id.to_string(), job.clone()) {
                found.extend(of_step(&before, &job, function, right_now().plus(self.skew)));
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

/// What is wrong with a change, when every clock shows this or less.
fn of_step(before: &Job, after: &Job, function: &str, latest: Timestamp) -> Option<String> {
    let is_leased = matches!(&before.stage, Stage::Processing(held) if held.lease_until > latest);
    if function == "sweeper" && is_leased {
        return Some(format!("I8: {} was swept while its worker lived", after.id));
    }
    if after.attempt < before.attempt || after.version < before.version {
        return Some(format!("I5: {} went back", after.id));
    }
    let is_over = matches!(before.stage, Stage::Settled(_));
    is_over.then(|| format!("I7: {} changed after its end", after.id))
}
