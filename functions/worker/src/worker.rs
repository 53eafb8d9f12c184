//! From a message to a claimed job: slot, then claim. Waiting lives on the record: a message is never given back in
//! order to wait, since each receive counts towards the dead-letter queue.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use darkroom_aws::config::WorkerRules;
use darkroom_aws::{
    Catalogue, Commit, Heartbeat, ImageStore, JobTable, KeyTable, StoreError, UploadStore, now,
    random_fraction, random_stamp, read_clock,
};
use darkroom_core::breaker::Pass;
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::job::{Job, Stage, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::key::KeyState;
use darkroom_core::lifecycle::{
    Command, End, Ending, RefusedClaim, Seen, expires_at, refused_claim, unclaimable,
};
use darkroom_core::limits::{
    AFTER_CALL, LEASE_MARGIN, LEASE_MAX, SWEEP_READ, WAIT_LOOK, WORKER_SETTLE_PATIENCE,
};
use darkroom_core::message::JobMessage;
use darkroom_core::model::{Model, ProviderName, routes};
use darkroom_core::time::Timestamp;
use darkroom_core::upload::Reference;
use darkroom_providers::Providers;
use tokio::sync::{Notify, Semaphore};

use crate::breakers::{Breakers, Entry, Told};
use crate::invocation::{Invocation, Slot};
use crate::pool::{Ahead, Asked, Pool};
use crate::seen::Promise;

/// A step ahead of the messages may take this long: Lambda's initialisation ends after ten seconds, and messages wait.
const WARM_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a job whose model's keys are all out of use fails.
const NO_KEY: &str = "no key of the pool may be used";

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It has done its work.
    Acknowledge,
    /// A store failed before anything was decided: SQS shows it again.
    Return,
}

/// The worker of one process.
pub struct Worker {
    pub(crate) jobs: JobTable,
    pub(crate) images: ImageStore,
    pub(crate) uploads: UploadStore,
    pub(crate) keys: KeyTable,
    pub(crate) beat: Heartbeat,
    pub(crate) pool: Pool,
    pub(crate) breakers: Breakers,
    pub(crate) catalogue: Catalogue,
    pub(crate) providers: Providers,
    pub(crate) rules: WorkerRules,
    /// Claims under way at a time, so that a large batch's do not hold up what was claimed.
    pub(crate) claims: Semaphore,
}

/// The first signs of life of a fleet are spread over so long.
const BEAT_SPREAD: Duration = Duration::from_secs(3);

/// Claims under way at a time.
pub(crate) const CLAIMS: usize = 16;

/// Claims of one message that come too early, before it is left to the sweeper.
const CLAIMS_EARLY_MAX: u32 = 3;

/// What a claim comes to.
enum Claimed {
    /// The job is ours.
    Job(Box<Job>),
    /// It is not to be drawn by this message.
    Not,
    /// It may be claimed then.
    Early(Timestamp),
}

/// A claimed job in this worker's hands.
pub(crate) struct Held<'a> {
    pub(crate) job: Job,
    pub(crate) models: &'a [Model],
    pub(crate) way: Open<'a>,
    /// Calls of this attempt that were refused for their quota.
    pub(crate) refusals: u32,
    /// Calls that were counted for this attempt and have not been made.
    pub(crate) uncalled: u32,
    /// When its record was last read or written.
    pub(crate) seen_at: Timestamp,
}

/// What may be called.
pub(crate) struct Open<'a> {
    /// The model that draws.
    pub(crate) model: &'a Model,
    /// The slot, for a provider with keys.
    pub(crate) slot: Option<Slot>,
    /// In place of the slot: it should come while the job is claimed.
    pub(crate) promise: Option<Promise>,
    /// The breaker's pass, for a provider on the network.
    pub(crate) pass: Option<Pass>,
}

/// Whether anything may be called.
pub(crate) enum Way<'a> {
    /// This.
    Open(Box<Open<'a>>),
    /// Nothing until then.
    Wait(Timestamp, WaitReason),
    /// Nothing until a person does something: what.
    NoneUsable(&'static str),
}

impl Worker {
    /// Opens the connections during initialisation, and reads what the first messages will ask for; KMS and the providers only
    /// when there are keys for them. What fails or takes too long is left to the first message.
    pub async fn warm(&self) {
        let Some(keys) = in_time("the table of keys", self.keys.keys()).await else { return };
        self.read_clock().await;
        let active = keys.iter().filter(|key| key.state == KeyState::Active);
        let providers: Vec<_> = active.map(|key| key.provider).collect();
        let pool = in_time("the pool of keys", Box::pin(self.warm_pool(&providers)));
        tokio::join!(pool, in_time("a provider", self.providers.warm(&providers)));
    }

    /// Slots are seconds that all workers agree on.
    pub(crate) async fn read_clock(&self) {
        in_time("DynamoDB's clock", read_clock(&self.keys)).await;
    }

    /// The catalogue, and keys, scopes and first secrets of every model of these providers.
    async fn warm_pool(&self, providers: &[ProviderName]) -> Result<(), StoreError> {
        let models = self.catalogue.models(now()).await?;
        for model in models.iter().filter(|model| providers.contains(&model.provider)) {
            self.pool.look_ahead(model).await?;
        }
        Ok(())
    }

    /// Shows that it lives, beside the messages: some time in their first seconds, since a fleet that starts together writes
    /// one record, or when they are all done before.
    pub(crate) async fn beat_soon(&self, all_done: &Notify) {
        tokio::select! {
            biased;
            () = all_done.notified() => {}
            () = sleep(BEAT_SPREAD.mul_f64(random_fraction())) => {}
        }
        if let Err(error) = self.beat.beat(now()).await {
            tracing::warn!(error = %error, "the worker's sign of life was not stored");
        }
    }

    /// Those of these jobs that cannot be claimed as they are, with what becomes of them. A message may come twice, or after
    /// somebody else has seen to its job: it must use no slot up. The claim decides all the same, so that nothing is lost
    /// when they cannot be read.
    pub(crate) async fn unclaimable(&self, ids: &[JobId]) -> HashMap<JobId, (Job, RefusedClaim)> {
        let jobs = in_time("the table of jobs", self.jobs.read_many(ids)).await.unwrap_or_default();
        let (at, bounds) = (now(), self.rules.bounds);
        let refused = jobs.into_iter().filter_map(|job| match unclaimable(&job, at, bounds)? {
            RefusedClaim::Early(_) => None,
            refused => Some((job.id.clone(), (job, refused))),
        });
        refused.collect()
    }

    /// Does what a message asks for, whatever its job's state: `refused` when it was found [`unclaimable`](Self::unclaimable).
    pub(crate) async fn draw(
        &self,
        message: &JobMessage,
        refused: Option<(Job, RefusedClaim)>,
        invocation: &Invocation,
    ) -> Done {
        let drawn = match refused {
            Some((job, refused)) => self.refused(job, refused).await.map(drop),
            None => Box::pin(self.try_draw(message, invocation)).await,
        };
        match drawn {
            Ok(()) => Done::Acknowledge,
            Err(error) => {
                tracing::error!(job.id = %message.job_id, error = %error, "the message goes back: a store failed");
                Done::Return
            }
        }
    }

    async fn try_draw(&self, message: &JobMessage, invocation: &Invocation) -> Result<(), StoreError> {
        let Some((models, at)) = self.models_with(&message.model).await? else {
            let detail = format!("the catalogue has no model {}", message.model);
            return self.end_pending(message, JobFailure::new(JobErrorCode::ModelRetired, detail)).await;
        };
        let Some(model) = models.get(at) else { return Ok(()) };
        for tries in 1..=CLAIMS_EARLY_MAX {
            let early = Box::pin(self.draw_with(&models, model, message, invocation)).await?;
            match early {
                Some(not_before) if tries < CLAIMS_EARLY_MAX => sleep_until(not_before).await,
                Some(_) | None => break,
            }
            invocation.wants(&model.name);
        }
        Ok(())
    }

    /// Slot, claim, attempt. The moment from which the job may be claimed, when that is still a little ahead: its slot is
    /// another's meanwhile.
    async fn draw_with(
        &self,
        models: &[Model],
        model: &Model,
        message: &JobMessage,
        invocation: &Invocation,
    ) -> Result<Option<Timestamp>, StoreError> {
        let way = match self.way(models, model, None, invocation, Ahead::May).await? {
            Way::Open(way) => way,
            Way::Wait(until, reason) => return self.defer(message, until, reason).await.map(|()| None),
            Way::NoneUsable(missing) => {
                let failure = JobFailure::new(JobErrorCode::NoUsableKey, missing);
                return self.end_pending(message, failure).await.map(|()| None);
            }
        };
        if let Some(slot) = &way.slot {
            sleep_until(Pool::claims_at(slot)).await;
        }
        if !self.has_time_for_a_call(way.model.provider, invocation.ends_at) {
            self.leave(*way, invocation).await;
            return self.defer(message, now(), WaitReason::Capacity).await.map(|()| None);
        }
        let claimed = self.claim(message, invocation.ends_at).await;
        if let Ok(Claimed::Job(job)) = claimed {
            let (refusals, uncalled, seen_at) = (0, 1, now());
            let held = Held { job: *job, models, way: *way, refusals, uncalled, seen_at };
            return Box::pin(self.attempt(held, invocation)).await.map(|()| None);
        }
        self.leave(*way, invocation).await;
        match claimed? {
            Claimed::Early(not_before) => Ok(Some(not_before)),
            Claimed::Job(_) | Claimed::Not => Ok(None),
        }
    }

    /// The catalogue and where this model is in it. What is not in the copy that this process has is looked for anew before
    /// anything is ended for it.
    async fn models_with(&self, name: &ModelName) -> Result<Option<(Arc<[Model]>, usize)>, StoreError> {
        for fresh in [false, true] {
            let models =
                if fresh { self.catalogue.read(now()).await? } else { self.catalogue.models(now()).await? };
            if let Some(at) = models.iter().position(|model| model.name == *name) {
                return Ok(Some((models, at)));
            }
        }
        Ok(None)
    }

    /// The first of the model's routes that is open now and can draw from this; otherwise what there is to wait for. Before the
    /// claim it is not known what the job is drawn from.
    pub(crate) async fn way<'a>(
        &self,
        models: &'a [Model],
        model: &'a Model,
        reference: Option<&Reference>,
        invocation: &Invocation,
        ahead: Ahead,
    ) -> Result<Way<'a>, StoreError> {
        let mut wait: Option<(Timestamp, WaitReason)> = None;
        let mut missing = None;
        let day = now().utc_day();
        for route in routes(models, model, &day).filter(|route| route.can_draw(reference)) {
            match self.route(route, &model.name, invocation, ahead).await? {
                Way::Open(way) => {
                    if way.promise.is_none() {
                        invocation.is_served(&model.name);
                    }
                    return Ok(Way::Open(way));
                }
                Way::Wait(until, reason) if wait.is_none_or(|(earliest, _)| until < earliest) => {
                    wait = Some((until, reason));
                }
                Way::Wait(..) => {}
                Way::NoneUsable(what) => missing = missing.or(Some(what)),
            }
        }
        invocation.is_served(&model.name);
        let none = Way::NoneUsable(missing.unwrap_or(NO_KEY));
        Ok(wait.map_or(none, |(until, reason)| Way::Wait(until, reason)))
    }

    async fn route<'a>(
        &self,
        model: &'a Model,
        asked: &ModelName,
        invocation: &Invocation,
        ahead: Ahead,
    ) -> Result<Way<'a>, StoreError> {
        if let Some(missing) = self.providers.get(model.provider).missing_setting() {
            return Ok(Way::NoneUsable(missing));
        }
        let pass = if model.provider.has_breaker() {
            match self.breakers.enter(model).await? {
                Entry::Go(pass) => Some(pass),
                Entry::Wait(until) => return Ok(Way::Wait(until, WaitReason::BreakerOpen)),
            }
        } else {
            None
        };
        if !model.provider.needs_key() {
            return Ok(Way::Open(Box::new(Open { model, slot: None, promise: None, pass })));
        }
        // The probe is this call: it waits here for its slot, and nobody else makes it meanwhile.
        let is_probe = pass.as_ref().is_some_and(|pass| pass.probe.is_some());
        let ahead = if is_probe { Ahead::Not } else { ahead };
        let (until, way) = match self.pool.slot(model, asked, invocation, ahead).await {
            Ok(Asked::Slot(slot)) => {
                return Ok(Way::Open(Box::new(Open { model, slot: Some(*slot), promise: None, pass })));
            }
            // The pass is asked for again with the slot.
            Ok(Asked::Promised(promise)) => {
                return Ok(Way::Open(Box::new(Open {
                    model,
                    slot: None,
                    promise: Some(promise),
                    pass: None,
                })));
            }
            Ok(Asked::FreeAt(at)) => (at, Ok(Way::Wait(at, WaitReason::Quota))),
            Ok(Asked::NoneUsable) => (now().plus(SWEEP_READ), Ok(Way::NoneUsable(NO_KEY))),
            Err(error) => (now(), Err(error)),
        };
        self.not_reached(model, pass, until).await;
        way
    }

    /// Leaves what a message does not need: its slot for another, its probe for anybody.
    pub(crate) async fn leave(&self, way: Open<'_>, invocation: &Invocation) {
        self.not_reached(way.model, way.pass, now()).await;
        invocation.leave(way.slot);
    }

    /// A probe that was not made gives no verdict.
    pub(crate) async fn not_reached(&self, model: &Model, pass: Option<Pass>, until: Timestamp) {
        if let Some(pass) = pass.filter(|pass| pass.probe.is_some()) {
            self.breakers.tell(model, Told::NotReached(pass, until)).await;
        }
    }

    /// Whether a call that starts now can end, be stored and settled before the invocation does.
    pub(crate) fn has_time_for_a_call(&self, provider: ProviderName, ends_at: Timestamp) -> bool {
        ends_at.since(now()) >= self.rules.call_timeout(provider) + AFTER_CALL
    }

    /// Takes the job and counts its first call.
    async fn claim(&self, message: &JobMessage, ends_at: Timestamp) -> Result<Claimed, StoreError> {
        // The semaphore is never closed.
        let _turn = self.claims.acquire().await;
        let (at, op) = (now(), random_stamp());
        let lease_until = ends_at.plus(LEASE_MARGIN).min(at.plus(LEASE_MAX));
        let claim = Command::Claim { now: at, lease_until, bounds: self.rules.bounds };
        let job = match self.jobs.update(&message.job_id, &claim, &op).await? {
            Commit::Applied(job) if job.is_cancel_requested() => {
                return self.cancel_held(&job).await.map(|()| Claimed::Not);
            }
            Commit::Applied(job) => return Ok(Claimed::Job(Box::new(job))),
            Commit::Absent => return Ok(Claimed::Not),
            Commit::Refused(job) => job,
        };
        let refused = refused_claim(&job, &claim, &op, at, self.rules.bounds);
        self.refused(job, refused).await
    }

    /// What a refused claim comes to.
    async fn refused(&self, job: Job, refused: RefusedClaim) -> Result<Claimed, StoreError> {
        match refused {
            RefusedClaim::Won => Ok(Claimed::Job(Box::new(job))),
            RefusedClaim::WonButCancelled => self.cancel_held(&job).await.map(|()| Claimed::Not),
            RefusedClaim::Early(not_before) => Ok(Claimed::Early(not_before)),
            RefusedClaim::Leave(reason) => {
                tracing::debug!(job.id = %job.id, reason = %reason, "not claimed");
                Ok(Claimed::Not)
            }
            RefusedClaim::End(seen, failure) => {
                self.end_as_seen(&job, seen, failure).await.map(|()| Claimed::Not)
            }
        }
    }

    /// Nothing is free for it: the sweeper sends it again at that second. Costs no attempt.
    async fn defer(
        &self,
        message: &JobMessage,
        not_before: Timestamp,
        reason: WaitReason,
    ) -> Result<(), StoreError> {
        let Some(job) = self.jobs.get(&message.job_id).await? else { return Ok(()) };
        let Stage::Pending(pending) = &job.stage else { return Ok(()) };
        if pending.not_before > now() {
            // Deferred already; a second message of the same job must not move it on.
            return Ok(());
        }
        let command = Command::defer(&job, not_before.min(now().plus(WAIT_LOOK)), reason);
        if let Commit::Applied(job) = self.jobs.update(&job.id, &command, &random_stamp()).await? {
            tracing::info!(job.id = %job.id, wait.reason = reason.as_str(), wait.until = %not_before, "deferred");
        }
        Ok(())
    }

    /// Ends a waiting job that cannot be drawn at all.
    async fn end_pending(&self, message: &JobMessage, failure: JobFailure) -> Result<(), StoreError> {
        let Some(job) = self.jobs.get(&message.job_id).await? else { return Ok(()) };
        match Seen::of(&job) {
            Some(seen @ Seen::Pending { .. }) => self.end_as_seen(&job, seen, failure).await,
            Some(Seen::Processing(_)) | None => Ok(()),
        }
    }

    async fn end_as_seen(&self, job: &Job, seen: Seen, failure: JobFailure) -> Result<(), StoreError> {
        let at = now();
        let command = Command::EndAsSeen { seen, ending: Ending::Failed(failure), end: self.end(at) };
        self.settle(job, &command, at).await
    }

    /// The owner asked to end it before a call was made.
    pub(crate) async fn cancel_held(&self, job: &Job) -> Result<(), StoreError> {
        let at = now();
        let command = Command::EndHeld { attempt: job.attempt, ending: Ending::Cancelled, end: self.end(at) };
        self.settle(job, &command, at).await
    }

    /// Settles a job; a lost race is somebody else's settlement and only logged.
    pub(crate) async fn settle(&self, job: &Job, command: &Command, at: Timestamp) -> Result<(), StoreError> {
        match self.jobs.commit(job, command, &random_stamp(), at, WORKER_SETTLE_PATIENCE).await? {
            Commit::Applied(job) => {
                let outcome = job.status().as_str();
                let seconds = at.since(job.order.created_at).as_secs_f64();
                match command {
                    Command::EndHeld { ending: Ending::Failed(failure), .. }
                    | Command::EndAsSeen { ending: Ending::Failed(failure), .. } => tracing::warn!(
                        job.id = %job.id, job.attempt = job.attempt, job.status = outcome, job.seconds = seconds,
                        error.code = failure.code.as_str(), error.detail = failure.detail, "settled"
                    ),
                    _ => tracing::info!(job.id = %job.id, job.attempt = job.attempt, job.status = outcome,
                        job.seconds = seconds, "settled"),
                }
            }
            Commit::Refused(now) => tracing::warn!(job.id = %job.id, job.attempt = job.attempt,
                job.status = now.status().as_str(), "came too late: the job is settled or in another attempt"),
            Commit::Absent => tracing::warn!(job.id = %job.id, "the job's record is gone"),
        }
        Ok(())
    }

    /// Now and how long the record is kept.
    pub(crate) fn end(&self, at: Timestamp) -> End {
        End { now: at, expires_at: expires_at(at, self.rules.ttl_days) }
    }
}

/// What comes of a step ahead of the messages, if it succeeds in time.
async fn in_time<T, E: Display>(peer: &str, step: impl Future<Output = Result<T, E>>) -> Option<T> {
    match tokio::time::timeout(WARM_TIMEOUT, step).await {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => tracing::warn!(peer, error = %error, "not ready ahead of the messages"),
        Err(_) => tracing::warn!(peer, "did not answer in time ahead of the messages"),
    }
    None
}

/// In a wait the clock is looked at again after so long: it may have been set or corrected.
const CLOCK_TRUSTED: Duration = Duration::from_secs(1);

/// Waits for a moment.
pub(crate) async fn sleep_until(at: Timestamp) {
    loop {
        let wait = at.since(now());
        if wait.is_zero() {
            return;
        }
        sleep(wait.min(CLOCK_TRUSTED)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the few short waits in a process: for a slot, between two looks, after a fault"
)]
pub(crate) async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}
