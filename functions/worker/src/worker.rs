//! From a message to a claimed job: slot, then claim. Waiting lives on the record: a message is never given back in
//! order to wait, since each receive counts towards the dead-letter queue.

use std::time::Duration;

use darkroom_aws::config::WorkerRules;
use darkroom_aws::{Catalogue, Commit, ImageStore, JobTable, KeyTable, StoreError, now, random_stamp};
use darkroom_core::job::{Job, Stage, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::key::KeyState;
use darkroom_core::lifecycle::{Command, End, Ending, RefusedClaim, Seen, expires_at, refused_claim};
use darkroom_core::limits::{AFTER_CALL, LEASE_MARGIN, LEASE_MAX, SLOT_WAIT_MAX};
use darkroom_core::message::JobMessage;
use darkroom_core::model::Model;
use darkroom_core::time::Timestamp;
use darkroom_providers::Providers;

use crate::pool::{Asked, Pool, Slot, SpareSlots};

/// Opening connections ahead of the first message may take this long of Lambda's ten seconds of initialisation.
const WARM_TIMEOUT: Duration = Duration::from_secs(2);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It has done its work.
    Acknowledge,
    /// A store failed before anything was decided: SQS shows it again.
    Return,
}

/// The worker of one process.
pub(crate) struct Worker {
    pub(crate) jobs: JobTable,
    pub(crate) images: ImageStore,
    pub(crate) keys: KeyTable,
    pub(crate) pool: Pool,
    pub(crate) catalogue: Catalogue,
    pub(crate) providers: Providers,
    pub(crate) rules: WorkerRules,
}

/// A claimed job in this worker's hands.
pub(crate) struct Held<'a> {
    pub(crate) job: Job,
    pub(crate) model: &'a Model,
    pub(crate) slot: Option<Slot>,
    /// The invocation ends then.
    pub(crate) ends_at: Timestamp,
}

impl Worker {
    /// Opens the connections during initialisation; to the providers only when there are keys for them.
    pub(crate) async fn warm(&self) {
        let (models, keys) = tokio::join!(self.catalogue.models(now()), self.keys.keys());
        if let Some(error) = models.err() {
            tracing::warn!(error = %error, "the connection to DynamoDB could not be opened ahead of the first message");
        }
        if !keys.is_ok_and(|keys| keys.iter().any(|key| key.state == KeyState::Active)) {
            return;
        }
        match tokio::time::timeout(WARM_TIMEOUT, self.providers.warm()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the provider could not be reached ahead of the first call");
            }
            Err(_) => tracing::warn!("the provider did not answer ahead of the first call"),
        }
    }

    /// Does what a message asks for, whatever its job's state.
    pub(crate) async fn draw(&self, message: &JobMessage, ends_at: Timestamp, spare: &SpareSlots) -> Done {
        match Box::pin(self.try_draw(message, ends_at, spare)).await {
            Ok(()) => Done::Acknowledge,
            Err(error) => {
                tracing::error!(job.id = %message.job_id, error = %error, "the message goes back: a store failed");
                Done::Return
            }
        }
    }

    async fn try_draw(
        &self,
        message: &JobMessage,
        ends_at: Timestamp,
        spare: &SpareSlots,
    ) -> Result<(), StoreError> {
        let models = self.catalogue.models(now()).await?;
        let Some(model) = models.iter().find(|model| model.name == message.model) else {
            let detail = format!("the catalogue has no model {}", message.model);
            return self.end_pending(message, JobFailure::new(JobErrorCode::ModelRetired, detail)).await;
        };
        let slot = if model.provider.needs_key() {
            match self.pool.slot(model.provider, &model.provider_model, SLOT_WAIT_MAX, spare).await? {
                Asked::Slot(slot) => Some(*slot),
                Asked::FreeAt(at) => return self.defer(message, at, WaitReason::Quota).await,
                Asked::NoneUsable => {
                    let failure =
                        JobFailure::new(JobErrorCode::NoUsableKey, "no key of the pool may be used");
                    return self.end_pending(message, failure).await;
                }
            }
        } else {
            None
        };
        if let Some(slot) = &slot {
            sleep_until(slot.at).await;
        }
        if !self.has_time_for_a_call(ends_at) {
            return self.defer(message, now(), WaitReason::Capacity).await;
        }
        if let Some(job) = self.claim(message, ends_at).await? {
            return self.attempt(Held { job, model, slot, ends_at }, spare).await;
        }
        if let Some(slot) = slot {
            spare.put(slot);
        }
        Ok(())
    }

    /// Whether a call that starts now can end, be stored and settled before the invocation does.
    pub(crate) fn has_time_for_a_call(&self, ends_at: Timestamp) -> bool {
        ends_at.since(now()) >= self.rules.call_timeout + AFTER_CALL
    }

    /// Takes the job and counts its first call; `None` when it is not to be drawn by this message.
    async fn claim(&self, message: &JobMessage, ends_at: Timestamp) -> Result<Option<Job>, StoreError> {
        let (at, op) = (now(), random_stamp());
        let lease_until = ends_at.plus(LEASE_MARGIN).min(at.plus(LEASE_MAX));
        let claim = Command::Claim { now: at, lease_until, bounds: self.rules.bounds };
        let job = match self.jobs.update(&message.job_id, &claim, &op).await? {
            Commit::Applied(job) if job.is_cancel_requested() => {
                return self.cancel_held(&job).await.map(|()| None);
            }
            Commit::Applied(job) => return Ok(Some(job)),
            Commit::Absent => return Ok(None),
            Commit::Refused(job) => job,
        };
        match refused_claim(&job, &claim, &op, at, self.rules.bounds) {
            RefusedClaim::Won => Ok(Some(job)),
            RefusedClaim::WonButCancelled => self.cancel_held(&job).await.map(|()| None),
            RefusedClaim::Leave(reason) => {
                tracing::debug!(job.id = %job.id, reason = %reason, "not claimed");
                Ok(None)
            }
            RefusedClaim::End(seen, failure) => self.end_as_seen(&job, seen, failure).await.map(|()| None),
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
        let command = Command::defer(&job, not_before, reason);
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
        match self.jobs.commit(job, command, &random_stamp(), at).await? {
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

#[expect(clippy::disallowed_methods, reason = "the wait for a slot's second")]
async fn sleep_until(at: Timestamp) {
    let wait = at.since(now());
    if wait > Duration::ZERO {
        tokio::time::sleep(wait).await;
    }
}
