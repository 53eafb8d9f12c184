//! What must be true after every write (the invariants' numbers are those of ARCHITECTURE.md).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use darkroom::audit::Audit;
use darkroom_aws::{Accounts, Entry, JobTable, KeyTable, LedgerTable, Records};
use darkroom_core::batch::Batch;
use darkroom_core::breaker::State;
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::job::{Job, Outcome, Processing, Settled, Stage, Status, Tombstone};
use darkroom_core::limits::{CALLS_MAX, SLOT_WAIT_MAX};
use darkroom_core::model::ProviderName;
use darkroom_core::time::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::process::Process;
use super::stores::Stores;
use super::time::right_now;
use super::writes::Writes;
use crate::keys::MODEL;

/// A worker that has seen a job within this time does not look again before a call.
const LOOK: Duration = Duration::from_secs(3);
/// A call may have had its slot when the breaker opened.
const LAST_SLOT: Duration = Duration::from_secs(SLOT_WAIT_MAX.as_secs() + 2);

/// Looks at the stores after every write, and whenever a call arrives.
pub(crate) struct Check {
    jobs: JobTable,
    /// Its name.
    jobs_table: String,
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
    batches: BTreeMap<String, Batch>,
    /// Deleted jobs whose pictures are gone.
    buried: BTreeSet<String>,
    /// Calls that have arrived, by prompt.
    calls: BTreeMap<String, u32>,
    /// Calls that have arrived while a breaker was half open, by epoch.
    probes: BTreeMap<u64, u32>,
    /// The process that made each job's last claim.
    holders: BTreeMap<String, u16>,
    /// The ledger as it was after so many writes.
    ledger: Option<(u64, Arc<Accounts>)>,
    /// Invariants that did not hold, in words.
    broken: Vec<String>,
}

impl Check {
    pub(crate) fn new(own: &Writes, stores: Arc<Stores>, skew: Duration) -> Self {
        let Writes { jobs, ledger, keys, names, .. } = own;
        Self {
            jobs: jobs.clone(),
            jobs_table: names.jobs.clone(),
            ledger: ledger.clone(),
            keys: keys.clone(),
            stores,
            skew,
            seen: Mutex::default(),
        }
    }

    /// What was found so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).broken.clone()
    }

    /// Every record as it is.
    pub(crate) async fn records(&self) -> anyhow::Result<Records> {
        Ok(self.jobs.scan().await?)
    }

    /// Calls that probed a breaker.
    pub(crate) fn probes(&self) -> u32 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).probes.values().sum()
    }

    /// Looks at everything after a write of this process.
    pub(crate) async fn look(&self, process: &Process) {
        let found = self
            .found(process)
            .await
            .unwrap_or_else(|error| vec![format!("the stores do not answer: {error}")]);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.broken.extend(found);
    }

    /// Looks at what is recorded when a call of this process arrives at a provider.
    pub(crate) async fn arrived(&self, process: &Process, prompt: &str) {
        let found = match self.found_of_call(process, prompt).await {
            Ok(found) => found,
            Err(error) => vec![format!("the stores do not answer: {error}")],
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).broken.extend(found);
    }

    async fn found_of_call(&self, process: &Process, prompt: &str) -> anyhow::Result<Vec<String>> {
        let jobs = self.records().await?.jobs;
        let is_it = |job: &&Job| job.order.prompt.as_ref().is_some_and(|asked| asked.reveal() == prompt);
        let breaker = self.keys.breaker(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = seen.calls.entry(prompt.to_owned()).or_default();
        *calls += 1;
        let calls = *calls;
        // A job that is tried again has another of the same prompt; a deleted one is as it was last seen.
        let is_gone = |job: &&Job| jobs.iter().all(|there| there.id != job.id);
        let asked: Vec<_> = jobs.iter().chain(seen.jobs.values().filter(is_gone)).filter(is_it).collect();
        let counted: u32 = asked.iter().map(|job| job.calls).sum();
        let mut found = Vec::new();
        if asked.is_empty() {
            found.push(format!("I3: a call for {prompt:?}, which is no job"));
        } else if calls > counted {
            found.push(format!("I4: call {calls} for {prompt:?}, which has counted {counted}"));
        }
        let faults = asked.iter().map(|job| {
            let holder = seen.holders.get(job.id.as_str());
            self.of_call(job, holder == Some(&process.number))
        });
        // It may be for any of them.
        found.extend(faults.min().flatten());
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

    /// What is wrong with a call for this job.
    fn of_call(&self, job: &Job, is_holder: bool) -> Option<String> {
        let what = match &job.stage {
            Stage::Pending(_) => "waits",
            Stage::Processing(_) if !is_holder => "somebody else holds",
            // An older attempt's picture may have come in the moment before.
            Stage::Settled(settled) if right_now().since(settled.finished_at) > LOOK + self.skew * 2 => {
                "is over"
            }
            Stage::Processing(_) | Stage::Settled(_) => return None,
        };
        Some(format!("I5: a call for {}, which {what}", job.id))
    }

    async fn found(&self, process: &Process) -> anyhow::Result<Vec<String>> {
        // I1, I2: the books.
        let (records, ledger) = self.at_one_moment().await?;
        let (balances, entries) = &*ledger;
        let mut found = Audit::of(&records, balances, entries).faults;
        let mut settled: BTreeMap<&JobId, u32> = BTreeMap::new();
        for entry in entries {
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
        found.extend(self.of_deleted(&records, &mut seen));
        found.extend(of_batches(&records, &mut seen));
        found.extend(self.of_what_lies_beside(&records));
        for job in records.jobs {
            if seen.jobs.get(job.id.as_str()) == Some(&job) {
                continue;
            }
            found.extend(self.of_job(&job));
            let id = job.id.to_string();
            let before = seen.jobs.insert(id.clone(), job.clone());
            if let Some(before) = &before {
                let is_holder = seen.holders.get(&id) == Some(&process.number);
                found.extend(of_step(before, &job, is_holder, right_now().plus(self.skew)));
            }
            let was_claimed = job.attempt > before.map_or(0, |before| before.attempt);
            if was_claimed {
                seen.holders.insert(id, process.number);
            }
        }
        Ok(found)
    }

    /// Every record and the ledger, between two writes: of many records the stores give a page at a time.
    async fn at_one_moment(&self) -> anyhow::Result<(Records, Arc<Accounts>)> {
        loop {
            let writes = self.stores.writes();
            let read = (self.records().await?, self.ledger().await?);
            if self.stores.writes() == writes {
                return Ok(read);
            }
        }
    }

    /// The ledger, read anew when it may have been written.
    async fn ledger(&self) -> anyhow::Result<Arc<Accounts>> {
        let writes = self.stores.ledger_writes();
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen().ledger.clone().filter(|(at, _)| *at == writes);
        if let Some((_, ledger)) = known {
            return Ok(ledger);
        }
        let ledger = Arc::new(self.ledger.scan().await?);
        seen().ledger = Some((writes, Arc::clone(&ledger)));
        Ok(ledger)
    }

    /// What is wrong with deleted jobs: each was settled, and leaves a tombstone that says how; and when that no longer names
    /// a picture, there is none.
    fn of_deleted(&self, records: &Records, seen: &mut Seen) -> Vec<String> {
        let ids = records.jobs.iter().map(|job| &job.id);
        let there: BTreeSet<_> = ids.chain(records.tombstones.iter().map(|left| &left.id)).collect();
        let gone = seen.jobs.values().filter(|job| !there.contains(&job.id));
        let mut found: Vec<_> = gone.map(|job| format!("I7: {} is gone without a trace", job.id)).collect();
        for Tombstone { id, settlement, image_key, .. } in &records.tombstones {
            let Some(job) = seen.jobs.get(id.as_str()) else { continue };
            if job.settlement() != Some(*settlement) {
                found.push(format!("I7: {id} was {:?} and is deleted as {settlement:?}", job.stage));
            }
            let picture = job.image().and_then(|image| self.stores.picture(&image.key));
            if image_key.is_none() && seen.buried.insert(id.to_string()) && picture.is_some() {
                found.push(format!("{id} is deleted, and its picture is there"));
            }
        }
        found
    }

    /// What is wrong beside the records: it outlives each, and beside a tombstone there is nothing.
    fn of_what_lies_beside(&self, records: &Records) -> Vec<String> {
        let mut found = Vec::new();
        for item in self.stores.tables().items(&self.jobs_table) {
            let text = |at: &str| item.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let (id, sort_key, ttl) = (text("/pk/S"), text("/sk/S"), text("/ttl/N"));
            // A batch, and its invalid lines, lie beside no job.
            if sort_key == "JOB" || id.starts_with("bat_") {
                continue;
            }
            match records.jobs.iter().find(|job| job.id.as_str() == id).map(|job| &job.stage) {
                Some(Stage::Settled(Settled { expires_at, .. }))
                    if ttl.parse().is_ok_and(|ttl: u64| ttl > expires_at.as_seconds()) => {}
                Some(Stage::Pending(_) | Stage::Processing(_)) => {}
                Some(Stage::Settled(_)) => found.push(format!("{id} outlives its {sort_key}")),
                None => found.push(format!("{sort_key} of {id}, which is no job")),
            }
        }
        found
    }

    /// What is wrong with a job as it is.
    pub(crate) fn of_job(&self, job: &Job) -> Option<String> {
        if job.calls > CALLS_MAX {
            return Some(format!("I4: {} has {} calls", job.id, job.calls));
        }
        let image = job.image()?;
        let picture = self.stores.picture(&image.key);
        let hash = picture.map(|bytes| data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)));
        (hash.as_deref() != Some(&image.sha256))
            .then(|| format!("I6: {} has no picture {}", job.id, image.key))
    }
}

/// What is wrong with batches: each line is one job, in the order of the lines, and none becomes one after the end.
fn of_batches(records: &Records, seen: &mut Seen) -> Vec<String> {
    let mut found = Vec::new();
    for batch in &records.batches {
        let of = |job: &&Job| job.order.batch.as_ref().is_some_and(|line| line.batch == batch.id);
        let ids: BTreeSet<_> = records.jobs.iter().filter(of).map(|job| job.id.clone()).collect();
        if ids != batch.job_ids().collect() {
            found.push(format!(
                "I12: {} has made {} jobs, and there are {}",
                batch.id,
                batch.state.made,
                ids.len()
            ));
        }
        let Some(before) = seen.batches.insert(batch.id.to_string(), batch.state) else { continue };
        if before.due_at().is_none() && before != batch.state {
            found.push(format!("I7: {} changed after its end: {:?}", batch.id, batch.state));
        }
        if batch.state.made < before.made {
            found.push(format!("I12: {} went back", batch.id));
        }
    }
    found
}

/// What is wrong with a change, when every clock shows this or less. While a lease lasts, others than its holder may ask to end
/// the job, or bring an older attempt's picture, and nothing else.
fn of_step(before: &Job, after: &Job, is_holder: bool, latest: Timestamp) -> Option<String> {
    let is_leased = matches!(&before.stage, Stage::Processing(held) if held.lease_until > latest);
    let is_asked = after.attempt == before.attempt && is_but_asked(&before.stage, &after.stage);
    let is_drawn = after.status() == Status::Draft;
    if is_leased && !is_holder && !is_asked && !is_drawn {
        return Some(format!("I8: {} was taken from a worker that lives: {:?}", after.id, after.stage));
    }
    if after.attempt < before.attempt || after.version < before.version {
        return Some(format!("I5: {} went back", after.id));
    }
    let is_over = matches!(before.stage, Stage::Settled(_));
    (is_over && !is_but_published(before, after)).then(|| format!("I7: {} changed after its end", after.id))
}

/// Whether nothing is other than before but that its owner has published it, or no longer does.
fn is_but_published(before: &Job, after: &Job) -> bool {
    let (Stage::Settled(was), Stage::Settled(is)) = (&before.stage, &after.stage) else { return false };
    let (Outcome::Drawn { image, drawn_by, .. }, Outcome::Drawn { published, .. }) =
        (&was.outcome, &is.outcome)
    else {
        return false;
    };
    let (image, drawn_by, published) = (image.clone(), drawn_by.clone(), *published);
    let outcome = Outcome::Drawn { image, drawn_by, published };
    let stage = Stage::Settled(Settled { outcome, expires_at: is.expires_at, ..was.clone() });
    *after == Job { version: after.version, op: after.op.clone(), stage, ..before.clone() }
}

/// Whether nothing is other than before but that its end is asked for, perhaps once more.
fn is_but_asked(before: &Stage, after: &Stage) -> bool {
    let (Stage::Processing(before), Stage::Processing(after)) = (before, after) else { return false };
    *after == Processing { cancel_requested: true, ..before.clone() }
}
