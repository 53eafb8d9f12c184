//! One attempt of a claimed job: call, store, settle. Exactly one HTTP attempt per counted call.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use darkroom_aws::{Commit, StoreError, image_key, now, random_fraction, random_stamp};
use darkroom_core::answer::{Answer, BreakerEffect, Effect, JobEffect};
use darkroom_core::image::StoredImage;
use darkroom_core::job::{Job, Stage, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::lifecycle::{Command, Ending, Rejection, apply, exhausted};
use darkroom_core::limits::{AFTER_CALL, PROGRESS_EVERY, SWEEP_READ, WAIT_LOOK};
use darkroom_core::retry::backoff;
use darkroom_core::time::Timestamp;
use darkroom_providers::{DrawError, DrawRequest, DrawnImage, Progress};

use crate::breakers::Told;
use crate::content::Content;
use crate::invocation::Invocation;
use crate::pool::{Ahead, Pool};
use crate::worker::{Held, Way, Worker, sleep, sleep_until};

/// Calls of one attempt that are refused for their quota. More would use up a job's calls on a pool that is exhausted.
const QUOTA_REFUSALS_MAX: u32 = 2;

/// A record that was seen longer ago is looked at once more before a call.
const CANCEL_LOOK: Duration = Duration::from_secs(2);

/// What follows a call.
enum Next {
    /// The attempt is over.
    Over,
    /// Another scope may be tried in the same attempt.
    OtherScope,
}

impl Worker {
    /// Draws a claimed job, with another key after a refusal that was the key's or scope's own.
    pub(crate) async fn attempt(
        &self,
        mut held: Held<'_>,
        invocation: &Invocation,
    ) -> Result<(), StoreError> {
        let content = match self.content(&held.job).await {
            Ok(Ok(content)) => content,
            Ok(Err(failure)) => {
                self.leave(held.way, invocation).await;
                return self.fail(&held.job, failure).await;
            }
            Err(error) => {
                self.leave_slot(&mut held, invocation).await;
                tracing::error!(job.id = %held.job.id, error = %error, "what it is drawn from could not be read");
                return self.release(&held, now().plus(SWEEP_READ), WaitReason::Capacity).await;
            }
        };
        // The way was chosen for the model before the job was known: its fallback may take no reference.
        let fits = held.way.model.can_draw(held.job.order.reference.as_ref());
        if !fits {
            // Nobody else makes a first call while this one waits for its own model.
            let trial = held.way.slot.take_if(|slot| slot.is_trial());
            self.pool.end_trials(trial.as_slice()).await;
            self.leave_slot(&mut held, invocation).await;
        }
        if (held.way.promise.is_some() || !fits) && !self.other_way(&mut held, invocation).await? {
            return Ok(());
        }
        if !self.in_time(&mut held, invocation).await? {
            return Ok(());
        }
        loop {
            held.uncalled = 0;
            let answer = self.call(&held, &content, invocation).await;
            match self.answered(&mut held, answer, invocation).await? {
                Next::Over => return Ok(()),
                Next::OtherScope => {}
            }
            if !self.other_way(&mut held, invocation).await?
                || !Box::pin(self.count(&mut held, invocation)).await?
            {
                return Ok(());
            }
        }
    }

    /// Waits for the slot's second. A slot that was missed is given up for another; the call that was counted for it was not
    /// made and stays counted for that. `false` when the attempt ends here.
    async fn in_time(&self, held: &mut Held<'_>, invocation: &Invocation) -> Result<bool, StoreError> {
        loop {
            let Some(slot) = &held.way.slot else { return Ok(true) };
            sleep_until(Pool::claims_at(slot)).await;
            if !self.is_still_wanted(held, invocation).await? {
                return Ok(false);
            }
            // Looked at last: nothing may come between this and the call.
            let Some(slot) = &held.way.slot else { return Ok(true) };
            sleep_until(slot.at).await;
            if now() <= slot.until {
                return Ok(true);
            }
            tracing::debug!(job.id = %held.job.id, late.seconds = now().since(slot.at).as_secs_f64(), "a slot was missed");
            self.pool.end_trials(std::slice::from_ref(slot)).await;
            self.not_reached(held.way.model, held.way.pass.take(), now()).await;
            if !self.other_way(held, invocation).await? {
                return Ok(false);
            }
        }
    }

    /// Whether the call may still be made. After a longer wait the record tells: the owner may have asked to end the job since.
    async fn is_still_wanted(
        &self,
        held: &mut Held<'_>,
        invocation: &Invocation,
    ) -> Result<bool, StoreError> {
        if now().since(held.seen_at) < CANCEL_LOOK {
            return Ok(true);
        }
        let job = self.jobs.get(&held.job.id).await;
        held.seen_at = now();
        if let Ok(Some(job)) = &job
            && job.attempt == held.job.attempt
            && !job.is_cancel_requested()
            && matches!(job.stage, Stage::Processing(_))
        {
            return Ok(true);
        }
        self.leave_slot(held, invocation).await;
        match job? {
            Some(job) => self.not_counted(held, &job).await.map(|()| false),
            None => Ok(false),
        }
    }

    /// The one call, with a sign of life every few seconds when it lasts.
    async fn call(
        &self,
        held: &Held<'_>,
        content: &Content,
        invocation: &Invocation,
    ) -> Result<DrawnImage, DrawError> {
        let started_at = now();
        let Held { job, way, .. } = held;
        let (provider, progress) = (way.model.provider, Progress::unknown());
        let request = DrawRequest {
            job: &job.id,
            call: job.calls,
            model: &way.model.provider_model,
            prompt: &content.prompt,
            reference: content.reference.as_ref(),
            shape: job.order.shape,
            seed: job.id.number(),
            secret: way.slot.as_ref().map(|slot| &slot.secret),
            progress: &progress,
        };
        let left = invocation.ends_at.since(started_at).saturating_sub(AFTER_CALL);
        let timeout = self.rules.call_timeout(provider).min(left);
        let answer = tokio::select! {
            // An answer that is there is never kept waiting.
            biased;
            answer = self.providers.get(provider).draw(request, timeout) => answer,
            never = self.keep_showing(held, &progress) => match never {},
        };
        let outcome = match &answer {
            Ok(_) => "image",
            Err(DrawError::Refused(refusal)) => refusal.as_str(),
            Err(DrawError::NotSent { .. }) => "not_sent",
        };
        tracing::info!(
            job.id = %job.id, job.attempt = job.attempt, job.calls = job.calls,
            provider.name = provider.as_str(), provider.outcome = outcome,
            provider.seconds = now().since(started_at).as_secs_f64(),
            key.id = way.slot.as_ref().map(|slot| slot.key.id.as_str()), "called"
        );
        answer
    }

    /// Shows progress for as long as it is polled; beside the call, which never waits for it.
    async fn keep_showing(&self, held: &Held<'_>, progress: &Progress) -> Infallible {
        loop {
            #[expect(clippy::disallowed_methods, reason = "the pause between two signs of life")]
            tokio::time::sleep(PROGRESS_EVERY).await;
            self.show_progress(held, progress.percent()).await;
        }
    }

    /// What the provider tells. Most tell nothing: then the share of the model's usual time, up to 90 %.
    async fn show_progress(&self, held: &Held<'_>, told: Option<u8>) {
        let Stage::Processing(processing) = &held.job.stage else { return };
        let at = now();
        let typical = held.way.model.typical().as_secs_f64().max(1.0);
        let share = at.since(processing.claimed_at).as_secs_f64() / typical * 90.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 90")]
        let progress = told.unwrap_or(share.clamp(0.0, 90.0) as u8);
        let command = Command::Progress { attempt: held.job.attempt, now: at, progress };
        if let Err(error) = self.jobs.update(&held.job.id, &command, &random_stamp()).await {
            tracing::warn!(job.id = %held.job.id, error = %error, "progress was not stored");
        }
    }

    /// Stores the picture, then settles. A crash between the two leaves an object that expires, and the job its retry.
    /// The picture is paid for: a store that fails is tried again until the invocation ends.
    async fn deliver(&self, job: &Job, drawn: DrawnImage, ends_at: Timestamp) -> Result<(), StoreError> {
        let image = StoredImage {
            key: image_key(job, &drawn.sha256, drawn.format),
            sha256: drawn.sha256,
            bytes: drawn.bytes.len() as u64,
            width: drawn.width,
            height: drawn.height,
            format: drawn.format,
            attempt: job.attempt,
        };
        patiently(ends_at, || self.images.put(&image, Bytes::clone(&drawn.bytes))).await?;
        let at = now();
        let command = Command::Capture { image, drawn_by: drawn.drawn_by, end: self.end(at) };
        patiently(ends_at, || self.settle(job, &command, at)).await
    }

    /// Carries out what the answer table says. What is learnt of key, scope and breaker is stored first, as well as it can
    /// be: the next call goes by it.
    async fn answered(
        &self,
        held: &mut Held<'_>,
        answer: Result<DrawnImage, DrawError>,
        invocation: &Invocation,
    ) -> Result<Next, StoreError> {
        let effect = match &answer {
            Ok(_) => Answer::Image,
            Err(DrawError::Refused(refusal)) => Answer::Refused(refusal),
            Err(DrawError::NotSent { .. }) => Answer::NotSent,
        }
        .effect(now());
        let is_fallback = held.way.model.name != held.job.order.model;
        self.learn(held, &effect, invocation).await;
        let job = &held.job;
        let refusal = match answer {
            Ok(image) => {
                return self.deliver(job, image, invocation.ends_at).await.map(|()| Next::Over);
            }
            Err(error) => error.into_refusal(),
        };
        match effect.job {
            JobEffect::Deliver => {}
            // The model that was asked for is not the one that has been retired.
            JobEffect::Fail(JobErrorCode::ModelRetired) if is_fallback => return Ok(Next::OtherScope),
            JobEffect::Fail(code) => self.fail(job, JobFailure::new(code, refusal.detail())).await?,
            JobEffect::RetryOnce(code) if job.last_failure == Some(code) => {
                self.fail(job, JobFailure::new(code, refusal.detail())).await?;
            }
            JobEffect::RetryOnce(code) | JobEffect::Retry(code) => {
                self.retry(held, code, refusal.detail()).await?;
            }
            JobEffect::OtherScope if held.refusals >= QUOTA_REFUSALS_MAX => {
                self.release(held, now().plus(SWEEP_READ), WaitReason::Quota).await?;
            }
            JobEffect::OtherScope => return Ok(Next::OtherScope),
        }
        Ok(Next::Over)
    }

    async fn learn(&self, held: &mut Held<'_>, effect: &Effect, invocation: &Invocation) {
        let model = held.way.model;
        let slot = held.way.slot.take();
        let free_at = match &slot {
            Some(slot) => self.pool.learn(model, slot, effect, invocation).await,
            None => None,
        };
        let Some(pass) = held.way.pass.take() else { return };
        let is_probe = pass.probe.is_some();
        let told = match effect.breaker {
            BreakerEffect::Answered => Told::Answered(pass),
            BreakerEffect::NotReached if is_probe => {
                Told::NotReached(pass, now().plus(self.rules.breaker(model.provider).open))
            }
            BreakerEffect::Failed | BreakerEffect::NotReached => Told::Failed(pass),
            BreakerEffect::Refused => {
                held.refusals += 1;
                match free_at {
                    Some(free_at) => Told::Exhausted(pass, free_at),
                    None if is_probe => Told::NotReached(pass, now()),
                    None => return,
                }
            }
        };
        self.breakers.tell(model, told).await;
    }

    /// Another slot in the same attempt; `false` when the attempt ends without one. Waiting for one costs no try.
    async fn other_way(&self, held: &mut Held<'_>, invocation: &Invocation) -> Result<bool, StoreError> {
        let job = &held.job;
        let Some(model) = held.models.iter().find(|model| model.name == job.order.model) else {
            return self.release(held, now().plus(SWEEP_READ), WaitReason::Capacity).await.map(|()| false);
        };
        let ahead = if held.way.promise.is_some() { Ahead::Has } else { Ahead::Not };
        if ahead == Ahead::Not {
            invocation.wants(&model.name);
        }
        let way = match self.way(held.models, model, job.order.reference.as_ref(), invocation, ahead).await {
            Ok(Way::Open(way)) => way,
            Err(error) => {
                tracing::warn!(job.id = %job.id, error = %error, "the pool could not be read; the job waits");
                let until = now().plus(SWEEP_READ);
                return self.release(held, until, WaitReason::Capacity).await.map(|()| false);
            }
            Ok(Way::Wait(until, reason)) => return self.release(held, until, reason).await.map(|()| false),
            Ok(Way::NoneUsable(missing)) => {
                let none_left = JobFailure::new(JobErrorCode::NoUsableKey, missing);
                return self.fail(job, none_left).await.map(|()| false);
            }
        };
        // Kept or not: others go by how many wait for what was promised.
        held.way.promise = None;
        if let Some(slot) = &way.slot {
            sleep_until(Pool::claims_at(slot)).await;
        }
        if !self.has_time_for_a_call(way.model.provider, invocation.ends_at) {
            self.leave(*way, invocation).await;
            return self.release(held, now(), WaitReason::Capacity).await.map(|()| false);
        }
        held.way = *way;
        Ok(true)
    }

    /// Counts the attempt's next call, and waits for its slot's second; `false` when the attempt ends without it.
    async fn count(&self, held: &mut Held<'_>, invocation: &Invocation) -> Result<bool, StoreError> {
        let count = Command::CountCall { attempt: held.job.attempt, calls_max: self.rules.bounds.calls_max };
        let job = match self.jobs.update(&held.job.id, &count, &random_stamp()).await {
            Ok(Commit::Applied(job)) if !job.is_cancel_requested() => {
                held.job = job;
                (held.uncalled, held.seen_at) = (1, now());
                return self.in_time(held, invocation).await;
            }
            Ok(Commit::Applied(job) | Commit::Refused(job)) => Some(job),
            Ok(Commit::Absent) => None,
            Err(error) => {
                self.leave_slot(held, invocation).await;
                return Err(error);
            }
        };
        self.leave_slot(held, invocation).await;
        match job {
            Some(job) => self.not_counted(held, &job).await.map(|()| false),
            None => Ok(false),
        }
    }

    async fn leave_slot(&self, held: &mut Held<'_>, invocation: &Invocation) {
        self.not_reached(held.way.model, held.way.pass.take(), now()).await;
        invocation.leave(held.way.slot.take());
    }

    /// The next call may not be made: the owner asked to end the job, its calls are used, or it is not ours any more.
    async fn not_counted(&self, held: &Held<'_>, job: &Job) -> Result<(), StoreError> {
        if job.attempt != held.job.attempt || !matches!(job.stage, Stage::Processing(_)) {
            return Ok(());
        }
        if job.is_cancel_requested() {
            return self.cancel_held(job).await;
        }
        self.fail(job, JobFailure::new(JobErrorCode::AttemptsExhausted, exhausted(job))).await
    }

    /// Puts the job back for a later attempt after a failure, or ends it when none is left or its time is over by then. While
    /// the breaker is open there is no point in coming earlier.
    async fn retry(&self, held: &Held<'_>, code: JobErrorCode, detail: String) -> Result<(), StoreError> {
        let (job, bounds) = (&held.job, self.rules.bounds);
        let pause = now().plus(backoff(job.tries, random_fraction()));
        let open_until = self.breakers.open_until(held.way.model).await;
        let not_before = open_until.map_or(pause, |open_until| open_until.max(pause));
        let nothing_left = job.tries >= bounds.attempts_max || job.calls >= bounds.calls_max;
        if nothing_left || not_before >= job.order.deadline_at {
            return self.fail(job, JobFailure::new(code, format!("{detail}; {}", exhausted(job)))).await;
        }
        tracing::info!(job.id = %job.id, job.attempt = job.attempt, wait.until = %not_before,
            error.code = code.as_str(), error.detail = detail, "to be tried again");
        self.put_back(job, Command::retry(job, now(), not_before, code)).await
    }

    /// Gives the attempt back: nothing failed, the job has to wait. Its calls are bounded all the same.
    async fn release(&self, held: &Held<'_>, until: Timestamp, reason: WaitReason) -> Result<(), StoreError> {
        let (job, uncalled) = (&held.job, held.uncalled);
        let until = until.min(now().plus(WAIT_LOOK));
        if job.calls - uncalled.min(job.calls) >= self.rules.bounds.calls_max {
            return self.fail(job, JobFailure::new(JobErrorCode::AttemptsExhausted, exhausted(job))).await;
        }
        tracing::info!(job.id = %job.id, job.attempt = job.attempt, wait.reason = reason.as_str(),
            wait.until = %until, "released");
        self.put_back(job, Command::release(job, now(), until, reason, uncalled)).await
    }

    async fn put_back(&self, job: &Job, command: Command) -> Result<(), StoreError> {
        match self.jobs.update(&job.id, &command, &random_stamp()).await? {
            Commit::Applied(_) | Commit::Absent => Ok(()),
            Commit::Refused(now) => match apply(&now, &command, random_stamp()) {
                Err(Rejection::CancelRequested) => self.cancel_held(&now).await,
                _ => Ok(()),
            },
        }
    }

    async fn fail(&self, job: &Job, failure: JobFailure) -> Result<(), StoreError> {
        let at = now();
        let command =
            Command::EndHeld { attempt: job.attempt, ending: Ending::Failed(failure), end: self.end(at) };
        self.settle(job, &command, at).await
    }
}

/// The last try of a store begins this long before the invocation's end.
const LAST_TRY: Duration = Duration::from_secs(10);

/// Does it again after passing faults, until shortly before the invocation ends. What it does must be idempotent.
async fn patiently<F: Future<Output = Result<(), StoreError>>>(
    ends_at: Timestamp,
    doing: impl Fn() -> F,
) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(200);
    loop {
        match doing().await {
            Err(error) if error.is_temporary() && now().plus(pause + LAST_TRY) < ends_at => {
                tracing::warn!(error = %error, "a picture could not be delivered yet; it is tried again");
            }
            done => return done,
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
