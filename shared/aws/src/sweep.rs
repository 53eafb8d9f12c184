//! Carries out what `core::sweep` decides. The schedule, `darkroom sweep` and the list of drafts run exactly this.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use darkroom_core::batch::BatchEnding;
use darkroom_core::batch_record::{BatchRecord, BatchSweep};
use darkroom_core::bulk_message::{BulkId, BulkMessage};
use darkroom_core::id::{ModelName, UserId};
use darkroom_core::job::{Job, Stage, Status};
use darkroom_core::lifecycle::Command;
use darkroom_core::limits::{LIST_SWEEP_JOBS, SETTLE_PATIENCE};
use darkroom_core::pace::Pace;
use darkroom_core::sweep::{AgeAction, Rules, SweepAction, paced, sweep_action, sweep_by_age, sweep_own};
use darkroom_core::time::{Timestamp, readable};
use tokio::task::JoinSet;

use crate::clock::random_stamp;
use crate::error::StoreError;
use crate::{BatchCommit, BatchTime, BulkQueue, Catalogue, Commit, JobQueue, JobTable, KeyTable, Pacer};

/// The sweeper: dispatcher of what is due and undertaker of what is lost.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The jobs.
    pub jobs: JobTable,
    /// Where due jobs are sent.
    pub queue: JobQueue,
    /// Where due batches are sent. `None` where no pass is made: then nothing of theirs is looked at.
    bulk: Option<BulkQueue>,
    catalogue: Arc<Catalogue>,
    /// A backlog is woken no faster than it allows.
    pacer: Pacer,
    /// What to do with which.
    pub rules: Rules,
    promised: Promised,
}

/// The moments for which jobs were woken, by model: until a worker has reserved them, no table shows them.
#[derive(Clone, Debug, Default)]
struct Promised(Arc<Mutex<HashMap<ModelName, Vec<Timestamp>>>>);

impl Promised {
    fn of(&self, model: &ModelName, now: Timestamp) -> Vec<Timestamp> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(moments) = all.get_mut(model) else { return Vec::new() };
        moments.retain(|at| *at > now);
        moments.clone()
    }

    fn add(&self, model: &ModelName, at: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(model.clone()).or_default().push(at);
    }
}

/// What a sweep did, or would do, with one job or batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The job, or the batch.
    pub id: String,
    /// Its owner.
    pub user: UserId,
    /// As it was read.
    pub status: &'static str,
    /// Since its submission.
    pub age: Duration,
    /// `send`, `wait`, `requeue`, `fail`, `cancel` or `request_cancel`; of a batch `send_batch` or `expire_batch`.
    pub action: &'static str,
    /// Why, in words, where it fails.
    pub detail: Option<String>,
    /// What came of it.
    pub result: SweepResult,
}

/// What came of one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepResult {
    /// It was done.
    Done,
    /// Somebody else changed the job first; nothing was done.
    LostRace,
    /// A store failed; the next sweep tries again.
    Failed,
    /// Nothing was tried: a dry run.
    DryRun,
}

impl SweepResult {
    /// A stable word for tables and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::LostRace => "lost race",
            Self::Failed => "failed",
            Self::DryRun => "dry run",
        }
    }
}

/// What one pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Each job and batch that had something to do.
    pub swept: Vec<Swept>,
    /// How long the oldest of what is due has been due.
    pub oldest_due: Option<Duration>,
    /// Whether all that is due was read; otherwise the rest is the next pass's.
    pub complete: bool,
}

impl SweepReport {
    /// Jobs and batches per action that was done (or, in a dry run, would be tried).
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for swept in &self.swept {
            if matches!(swept.result, SweepResult::Done | SweepResult::DryRun) {
                *counts.entry(swept.action).or_insert(0) += 1;
            }
        }
        counts
    }
}

/// Jobs acted upon at a time.
const CONCURRENCY: usize = 16;

impl Sweep {
    /// A sweep of these jobs.
    pub fn new(
        jobs: JobTable,
        keys: KeyTable,
        queue: JobQueue,
        bulk: Option<BulkQueue>,
        quota_minute: Duration,
        rules: Rules,
    ) -> Self {
        let catalogue = Arc::new(Catalogue::new(keys.clone()));
        let pacer = Pacer::new(keys, quota_minute);
        Self { jobs, queue, bulk, catalogue, pacer, rules, promised: Promised::default() }
    }

    /// Looks at every job that is due by `now` (and a little ahead) and does what is due. A `dry_run` writes
    /// nothing. Safe at any time and beside any other sweep: each act is conditional on what was read. A job that cannot
    /// be read is logged and left out.
    pub async fn pass(&self, now: Timestamp, dry_run: bool) -> Result<SweepReport, StoreError> {
        let due = self.jobs.due(now.plus(self.rules.ahead)).await?;
        let (mut jobs, batches) =
            tokio::try_join!(self.jobs.read_many(&due.jobs), self.jobs.batches(&due.batches))?;
        let due_times = jobs.iter().filter_map(Job::due_at);
        let due_times = due_times.chain(batches.iter().filter_map(|batch| batch.state.due_at()));
        let oldest_due = due_times.min().map(|due_at| now.since(due_at));
        jobs.sort_by_key(waits_since);
        let mut paces = self.paces(&jobs, now).await;
        let mut acts = Vec::new();
        for job in jobs {
            let mut action = sweep_action(&job, now, &self.rules);
            match &mut paces {
                Ok(paces) => {
                    if let Some(pace) = paces.get_mut(&job.order.model) {
                        action = paced(&job, action, pace, now, &self.rules);
                        if let SweepAction::Send { delay, .. } = &action
                            && !dry_run
                        {
                            self.promised.add(&job.order.model, now.plus(*delay));
                        }
                    }
                }
                // Nothing is woken without a pace; what is lost or over is seen to all the same.
                Err(_) if matches!(action, SweepAction::Send { .. }) => continue,
                Err(_) => {}
            }
            acts.extend(Act::of(job, action));
        }
        if let Err(error) = paces {
            tracing::error!(error = %error, "sweep: the pool could not be read; no waiting job was sent");
        }
        let mut swept = self.carry_out(acts, now, dry_run).await;
        swept.extend(self.sweep_batches(batches, now, dry_run).await);
        Ok(SweepReport { swept, oldest_due, complete: due.complete })
    }

    async fn sweep_batches(&self, batches: Vec<BatchRecord>, now: Timestamp, dry_run: bool) -> Vec<Swept> {
        let mut swept = Vec::new();
        let Some(bulk) = &self.bulk else { return swept };
        for batch in batches {
            let action = batch.sweep(now, self.rules.wake);
            let result = match action {
                BatchSweep::Leave => continue,
                _ if dry_run => SweepResult::DryRun,
                _ => self.act_on_batch(&batch, &action, bulk, now).await,
            };
            let of_batch = Swept {
                id: batch.id.to_string(),
                user: batch.user,
                status: "open",
                age: now.since(batch.order.created_at),
                action: action.as_str(),
                detail: None,
                result,
            };
            log(&of_batch);
            swept.push(of_batch);
        }
        swept
    }

    /// Writes, then sends, as for a job.
    async fn act_on_batch(
        &self,
        batch: &BatchRecord,
        action: &BatchSweep,
        bulk: &BulkQueue,
        now: Timestamp,
    ) -> SweepResult {
        let (time, op) = (BatchTime { now, ttl_days: self.rules.ttl_days }, random_stamp());
        let written = match action {
            BatchSweep::Leave => return SweepResult::Done,
            BatchSweep::Send(mark) => self.jobs.mark_batch(batch, mark, time, &op, SETTLE_PATIENCE).await,
            BatchSweep::End(_) => {
                self.jobs.end_batch(batch, BatchEnding::Expired, time, &op, SETTLE_PATIENCE).await
            }
        };
        match written {
            Ok(BatchCommit::Applied(_)) => {}
            Ok(BatchCommit::Refused(_) | BatchCommit::Absent) => return SweepResult::LostRace,
            Err(error) => {
                tracing::error!(batch.id = %batch.id, error = %error, "sweep: the batch could not be written");
                return SweepResult::Failed;
            }
        }
        let BatchSweep::Send(_) = action else { return SweepResult::Done };
        match bulk.send(&BulkMessage::new(BulkId::Batch(batch.id.clone())), &batch.user).await {
            Ok(()) => SweepResult::Done,
            Err(error) => {
                tracing::error!(batch.id = %batch.id, error = %error, "sweep: bulk could not be told");
                SweepResult::Failed
            }
        }
    }

    /// The pace of each model that a waiting job of these asks for and whose provider limits calls.
    async fn paces(&self, jobs: &[Job], now: Timestamp) -> Result<HashMap<ModelName, Pace>, StoreError> {
        let mut paces = HashMap::new();
        let waiting: BTreeSet<&ModelName> =
            jobs.iter().filter(|job| job.status() == Status::Pending).map(|job| &job.order.model).collect();
        if waiting.is_empty() {
            return Ok(paces);
        }
        let models = self.catalogue.models(now).await?;
        for model in models.iter().filter(|model| waiting.contains(&model.name)) {
            let promised = self.promised.of(&model.name, now);
            if let Some(pace) = self.pacer.pace(&models, model, now, &promised).await? {
                paces.insert(model.name.clone(), pace);
            }
        }
        Ok(paces)
    }

    /// Ends every live job older than `max_age`; one with a live lease is only asked to end.
    pub async fn by_age(
        &self,
        now: Timestamp,
        max_age: Duration,
        dry_run: bool,
    ) -> Result<SweepReport, StoreError> {
        let jobs = self.jobs.all_live().await?;
        let acts = jobs
            .into_iter()
            .filter_map(|job| match sweep_by_age(&job, now, &self.rules, max_age)? {
                AgeAction::End(action) => Act::of(job, action),
                AgeAction::RequestCancel(command) => Some(Act {
                    job,
                    name: "request_cancel",
                    command,
                    send: None,
                    detail: Some("its worker is asked to end it".to_owned()),
                }),
            })
            .collect();
        Ok(SweepReport { swept: self.carry_out(acts, now, dry_run).await, oldest_due: None, complete: true })
    }

    /// Ends those of a user's newest jobs whose time is over, and gives their tokens back; sends nothing. Safe at any time, as
    /// [`Sweep::pass`] is.
    pub async fn of_user(&self, user: &UserId, now: Timestamp) -> Result<SweepReport, StoreError> {
        let jobs = self.jobs.newest(user, LIST_SWEEP_JOBS).await?;
        let acts: Vec<_> = jobs
            .into_iter()
            .filter_map(|job| {
                let action = sweep_own(&job, now, &self.rules);
                Act::of(job, action)
            })
            .collect();
        Ok(SweepReport { swept: self.carry_out(acts, now, false).await, oldest_due: None, complete: true })
    }

    async fn carry_out(&self, acts: Vec<Act>, now: Timestamp, dry_run: bool) -> Vec<Swept> {
        let mut swept = Vec::with_capacity(acts.len());
        let mut running = JoinSet::new();
        for act in acts {
            if dry_run {
                swept.push(act.swept(now, SweepResult::DryRun));
                continue;
            }
            if running.len() >= CONCURRENCY {
                swept.extend(running.join_next().await.and_then(Result::ok));
            }
            let sweep = self.clone();
            running.spawn(async move {
                let result = sweep.act(&act, now).await;
                let swept = act.swept(now, result);
                log(&swept);
                swept
            });
        }
        swept.extend(running.join_all().await);
        swept
    }

    /// Writes, then sends: a message that is sent without its mark would be sent again each pass.
    async fn act(&self, act: &Act, now: Timestamp) -> SweepResult {
        match self.jobs.commit(&act.job, &act.command, &random_stamp(), now, SETTLE_PATIENCE).await {
            Ok(Commit::Applied(_)) => {}
            Ok(Commit::Refused(_) | Commit::Absent) => return SweepResult::LostRace,
            Err(error) => {
                tracing::error!(job.id = %act.job.id, error = %error, "sweep: the job could not be written");
                return SweepResult::Failed;
            }
        }
        let Some(delay) = act.send else { return SweepResult::Done };
        match self.queue.send(&act.job.message(), delay).await {
            Ok(()) => SweepResult::Done,
            Err(error) => {
                tracing::error!(job.id = %act.job.id, error = %error, "sweep: the message could not be sent");
                SweepResult::Failed
            }
        }
    }
}

struct Act {
    job: Job,
    name: &'static str,
    command: Command,
    send: Option<Duration>,
    detail: Option<String>,
}

impl Act {
    fn of(job: Job, action: SweepAction) -> Option<Self> {
        let name = action.as_str();
        let (command, send, detail) = match action {
            SweepAction::Send { command, delay } => (command, Some(delay), None),
            SweepAction::Requeue { command } => (command, Some(Duration::ZERO), None),
            SweepAction::End { command, failure } => (command, None, failure.map(|failure| failure.detail)),
            SweepAction::Wait { command } => (command, None, None),
            SweepAction::Leave => return None,
        };
        Some(Self { job, name, command, send, detail })
    }

    fn swept(&self, now: Timestamp, result: SweepResult) -> Swept {
        Swept {
            id: self.job.id.to_string(),
            user: self.job.user.clone(),
            status: self.job.status().as_str(),
            age: now.since(self.job.order.created_at),
            action: self.name,
            detail: self.detail.clone(),
            result,
        }
    }
}

/// A waiting job's place in the queue; what nobody waits for goes first.
fn waits_since(job: &Job) -> Timestamp {
    match &job.stage {
        Stage::Pending(pending) => pending.wait_at,
        Stage::Processing(_) | Stage::Settled(_) => Timestamp::EPOCH,
    }
}

fn log(swept: &Swept) {
    tracing::info!(
        sweep.id = %swept.id,
        sweep.status = swept.status,
        sweep.age = readable(swept.age),
        sweep.action = swept.action,
        sweep.result = swept.result.as_str(),
        sweep.detail = swept.detail.as_deref(),
        "swept"
    );
}
