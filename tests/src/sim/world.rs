//! One run's system: its stores, its functions, and what is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use darkroom::catalogue;
use darkroom_aws::{Records, random_fraction, random_stamp};
use darkroom_core::id::{IdempotencyKey, JobId, UserId};
use darkroom_core::job::{Job, Stage};
use darkroom_core::limits::{BULK_VISIBILITY_TIMEOUT, INDEX_SHARDS, LEASE_MAX, SWEEP, VISIBILITY_TIMEOUT};
use darkroom_core::model::ProviderName;
use serde_json::json;
use worker::Worker;

use super::check::Check;
use super::client::Client;
use super::fault::{Fault, LATE, Plan};
use super::network::Network;
use super::process::Process;
use super::stack::simulated;
use super::stores::{Step, Stores};
use super::tables::{Seen, Tables};
use super::time::{begin, pass, right_now, started_at};
use super::writes::Writes;
use crate::keys::{MODEL, add_to};
use crate::stand_in_gemini::{Call, Gemini, Limits, Outcome, Settings as GeminiSettings};

/// How often a run looks whether it is over.
const LOOK: Duration = Duration::from_secs(5);

/// What a run is determined by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of everything random.
    pub seed: u64,
    /// Which calls meet a fault.
    pub plan: Plan,
    /// The tables' indexes follow a write so much later.
    pub index_lag: Duration,
    /// Worker processes at a time.
    pub workers: usize,
    /// Sweeps at a time.
    pub sweepers: usize,
    /// How long a sweep may last: the function's time-out, or less, which makes a run shorter.
    pub sweep_time: Duration,
    /// Each process's clock is wrong by no more than this.
    pub skew: Duration,
    /// The image API.
    pub gemini: GeminiSettings,
}

/// One run's system.
#[derive(Clone)]
pub struct World(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) stores: Arc<Stores>,
    pub(crate) check: Arc<Check>,
    pub(crate) network: Network,
    pub(crate) gemini: Gemini,
    pub(crate) settings: BTreeMap<String, &'static BTreeMap<String, String>>,
    /// The tables, to which nothing happens on this way.
    own: Writes,
    pub(crate) workers: usize,
    pub(crate) sweepers: usize,
    pub(crate) sweep_time: Duration,
    skew: Duration,
    pub(crate) idle: Mutex<Vec<(Process, Arc<Worker>)>>,
    /// The number of the next process.
    pub(crate) next: AtomicU16,
    /// Whether messages are received.
    pub(crate) consuming: AtomicBool,
    /// Whether the schedule is on.
    pub(crate) scheduled: AtomicBool,
    /// The ids of the jobs that were accepted.
    accepted: Mutex<BTreeSet<String>>,
}

impl World {
    /// Stores as the template describes them, with the catalogue, and every function's trigger at work. Has to be called in a
    /// runtime of one thread whose clock is paused.
    ///
    /// # Errors
    /// When the template or the catalogue is broken.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        begin(settings.seed);
        let stack = simulated()?;
        let stores = Arc::new(Stores::new(Tables::new(&stack.tables, settings.index_lag)?, settings.plan));
        let variables: BTreeMap<_, _> =
            stack.functions.iter().map(|function| (function.binary.clone(), &function.environment)).collect();
        let own = Writes::over(Arc::clone(&stores))?;
        catalogue::seed(&own.keys, &catalogue::built_in()?).await?;
        let check = Arc::new(Check::new(&own, Arc::clone(&stores), settings.skew));
        let gemini = Gemini::new(settings.gemini);
        let world = Self(Arc::new(Parts {
            network: Network::begin(gemini.clone(), &stores, &check),
            workers: settings.workers,
            sweepers: settings.sweepers,
            sweep_time: settings.sweep_time,
            skew: settings.skew,
            settings: variables,
            idle: Mutex::default(),
            next: AtomicU16::new(1),
            consuming: AtomicBool::new(true),
            scheduled: AtomicBool::new(true),
            accepted: Mutex::default(),
            stores,
            check,
            gemini,
            own,
        }));
        tokio::spawn(world.clone().map_messages());
        tokio::spawn(world.clone().map_bulk());
        tokio::spawn(world.clone().keep_schedule());
        Ok(world)
    }

    /// Adds a key in a project of its own, with a limit per minute that the API holds it to.
    ///
    /// # Errors
    /// When the table refuses.
    pub async fn add_key(&self, name: &str, requests_per_minute: u32) -> anyhow::Result<()> {
        let Parts { gemini, own, .. } = &*self.0;
        let secret = format!("AIza-{name}");
        gemini.add_key(&secret, name);
        gemini.set_limits(name, Limits { per_minute: Some(requests_per_minute), per_day: None });
        let model = (ProviderName::Gemini, MODEL);
        add_to(&own.keys, &own.secrets, model, &secret, name, requests_per_minute).await?;
        Ok(())
    }

    /// By how much a new process's clock is wrong.
    pub(crate) fn wrong_by_ms(&self) -> i64 {
        let skew_ms = i64::try_from(self.0.skew.as_millis()).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, reason = "below twice the skew")]
        let drawn = (random_fraction() * 2.0 * skew_ms as f64) as i64;
        drawn - skew_ms
    }

    /// The image API.
    pub fn gemini(&self) -> &Gemini {
        &self.0.gemini
    }

    pub(crate) fn accepted(&self) -> &Mutex<BTreeSet<String>> {
        &self.0.accepted
    }

    /// Gives a user tokens.
    ///
    /// # Errors
    /// When the ledger refuses.
    pub async fn grant(&self, user: &str, tokens: u64) -> anyhow::Result<()> {
        let op_id = random_stamp();
        self.0.own.ledger.grant(&UserId::parse(user)?, tokens, op_id.as_str(), right_now()).await?;
        Ok(())
    }

    /// Lets so many more jobs of nobody's wait, since a millisecond each before the beginning: no more of them than their entries
    /// in the index is made.
    ///
    /// # Errors
    /// When the table refuses.
    pub fn let_wait(&self, jobs: usize) -> anyhow::Result<()> {
        let nobody = UserId::parse("nobody")?;
        for number in 0..jobs {
            let id = JobId::derive(&nobody, &IdempotencyKey::parse(&number.to_string())?);
            let shard = id.number() % INDEX_SHARDS;
            let since = started_at().as_millis() - 1 - number as u64;
            let item = json!({
                "pk": {"S": id},
                "sk": {"S": "JOB"},
                "shard": {"S": shard.to_string()},
                "wait_at": {"N": since.to_string()},
                "model": {"S": "darkroom-local"},
            });
            self.0.stores.tables().put("simulated-jobs", &item)?;
        }
        Ok(())
    }

    /// An app's side.
    pub fn client(&self, user: &str) -> Client {
        Client { world: self.clone(), user: user.to_owned() }
    }

    /// Takes every upload away, as the bucket does when their time is over.
    pub fn expire_uploads(&self) {
        self.0.stores.expire_objects("uploads/");
    }

    /// Gives the worker messages, or none.
    pub fn consume(&self, is_on: bool) {
        self.0.consuming.store(is_on, Ordering::Relaxed);
    }

    /// Lets every call whose name begins so meet this, unless another fault is planned for it.
    pub fn always(&self, begins: &str, fault: Fault) {
        self.0.stores.always(begins, fault);
    }

    /// Calls that probed a breaker.
    pub fn probes(&self) -> u32 {
        self.0.check.probes()
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        pass(time).await;
    }

    /// Every job as it is.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        Ok(self.0.check.records().await?.jobs)
    }

    /// Lets time pass until this job is settled, at most so long.
    ///
    /// # Errors
    /// When it is not settled by then.
    pub async fn until_settled(&self, id: &str, at_most: Duration) -> anyhow::Result<()> {
        let until = right_now().plus(at_most);
        loop {
            let is_it = |job: &Job| job.id.as_str() == id && job.settlement().is_some();
            if self.jobs().await?.iter().any(is_it) {
                return Ok(());
            }
            ensure!(right_now() < until, "I3: {id} is not settled in {at_most:?}");
            pass(LOOK).await;
        }
    }

    /// Lets time pass until every job is settled, at most so long, and then until what is late has come and every message is
    /// gone.
    ///
    /// # Errors
    /// When a job was accepted and is not there, or is not settled by then (I3), or when a message was given up.
    pub async fn settle(&self, at_most: Duration) -> anyhow::Result<Vec<Job>> {
        self.settled(at_most).await?;
        if self.steps().iter().any(|step| step.fault == Some(Fault::Late)) {
            pass(LATE).await;
            self.settled(at_most).await?;
        }
        // A message that a killed worker had comes again; nothing is left that a sweep could do.
        self.0.scheduled.store(false, Ordering::Relaxed);
        self.consume(true);
        let longest =
            if self.0.stores.bulk_messages() > 0 { BULK_VISIBILITY_TIMEOUT } else { VISIBILITY_TIMEOUT };
        let until = right_now().plus(longest * 2);
        while self.0.stores.messages() > 0 && right_now() < until {
            pass(SWEEP).await;
        }
        // A sweep that is under way ends, and the SDK's tries of its calls.
        pass(SWEEP).await;
        let (left, given_up) = (self.0.stores.messages(), self.0.stores.dead_letters());
        ensure!(left == 0 && given_up == 0, "{left} messages are left, {given_up} were given up");
        let Records { jobs, tombstones, batches, .. } = self.0.check.records().await?;
        let accepted = self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = jobs.iter().map(|job| &job.id).chain(tombstones.iter().map(|tombstone| &tombstone.id));
        let ids = ids.map(JobId::as_str).chain(batches.iter().map(|batch| batch.id.as_str()));
        let there: BTreeSet<_> = ids.collect();
        let lost: Vec<_> = accepted.iter().filter(|id| !there.contains(id.as_str())).collect();
        ensure!(lost.is_empty(), "I3: accepted and lost: {lost:?}");
        let faulty: Vec<_> = jobs.iter().filter_map(|job| self.0.check.of_job(job)).collect();
        ensure!(faulty.is_empty(), "{}", faulty.join("; "));
        let late: Vec<_> = jobs.iter().filter_map(|job| self.late(job)).collect();
        ensure!(late.is_empty(), "I3: {}", late.join("; "));
        Ok(jobs)
    }

    /// What is wrong with when a job ended: its deadline, or the last fault, a lease and two sweeps are enough.
    fn late(&self, job: &Job) -> Option<String> {
        let Stage::Settled(settled) = &job.stage else { return None };
        let is_late = |step: &Step| matches!(step.fault, Some(Fault::Late | Fault::Delayed));
        let last = |step: &Step| {
            Duration::from_millis(step.at_ms) + if is_late(step) { LATE } else { Duration::ZERO }
        };
        let faults =
            self.steps().iter().filter(|step| step.fault.is_some()).map(last).max().unwrap_or_default();
        let bound = job.order.deadline_at.max(started_at().plus(faults));
        let bound = bound.plus(LEASE_MAX + SWEEP * 2 + self.0.skew * 2);
        let over = settled.finished_at.since(bound);
        (!over.is_zero()).then(|| format!("{} ended {over:?} too late", job.id))
    }

    async fn settled(&self, at_most: Duration) -> anyhow::Result<()> {
        let until = right_now().plus(at_most);
        loop {
            let Records { jobs, tombstones, batches, .. } = self.0.check.records().await?;
            let open = batches.iter().filter(|batch| batch.state.due_at().is_some());
            let open = open.map(|batch| format!("{} open", batch.id));
            let left = jobs.iter().filter(|job| job.settlement().is_none());
            let left = left.map(|job| format!("{} {}", job.id, job.status().as_str()));
            let left: Vec<_> = left.chain(open).collect();
            if left.is_empty() && !(jobs.is_empty() && tombstones.is_empty() && batches.is_empty()) {
                return Ok(());
            }
            ensure!(right_now() < until, "I3: not settled in {at_most:?}: {left:?}");
            pass(LOOK).await;
        }
    }

    /// Every call to a store so far, as a name of what it does.
    pub fn steps(&self) -> Vec<Step> {
        self.0.stores.steps()
    }

    /// What the functions have written.
    pub fn seen(&self) -> Seen {
        self.0.stores.tables().seen()
    }

    /// What did not hold.
    pub fn broken(&self) -> Vec<String> {
        // Seconds are agreed on by clocks that are right.
        let calls = if self.0.skew.is_zero() { self.0.gemini.calls() } else { Vec::new() };
        let is_over =
            |call: &Call| matches!(&call.outcome, Outcome::Answered(429, word) if word == "PER_MINUTE");
        let refused = calls.into_iter().filter(is_over);
        let over =
            refused.map(|call| format!("I9: a call over the limit of {} at {:?}", call.project, call.at));
        self.0.check.broken().into_iter().chain(over).collect()
    }
}
