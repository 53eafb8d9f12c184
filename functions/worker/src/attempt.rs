//! One attempt of a claimed job: call, store, settle. Exactly one HTTP attempt per counted call.

use std::time::Duration;

use bytes::Bytes;
use darkroom_aws::{Commit, StoreError, image_key, now, random_fraction, random_stamp};
use darkroom_core::answer::{JobEffect, Refusal};
use darkroom_core::image::StoredImage;
use darkroom_core::job::{Job, Stage};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::lifecycle::{Command, Ending, Rejection, apply, exhausted};
use darkroom_core::limits::{PROGRESS_EVERY, SLOT_WAIT_MAX};
use darkroom_core::request::Prompt;
use darkroom_core::retry::backoff;
use darkroom_core::time::Timestamp;
use darkroom_providers::{DrawError, DrawRequest, DrawnImage};

use crate::pool::{Asked, SpareSlots};
use crate::worker::{Held, Worker};

/// What follows a call.
enum Next {
    /// The attempt is over.
    Over,
    /// Another scope may be tried in the same attempt.
    OtherScope,
}

impl Worker {
    /// Draws a claimed job, with another key after a refusal that was the key's or scope's own.
    pub(crate) async fn attempt(&self, mut held: Held<'_>, spare: &SpareSlots) -> Result<(), StoreError> {
        let Some(prompt) = self.prompt(&held.job).await? else {
            let failure = JobFailure::new(JobErrorCode::Internal, "the prompt is missing from the store");
            return self.fail(&held.job, failure).await;
        };
        loop {
            let answer = self.call(&held, &prompt).await;
            let next = match answer {
                Ok(image) => self.deliver(&held.job, image).await.map(|()| Next::Over),
                Err(error) => self.refused(&held, error).await,
            };
            match next? {
                Next::Over => return Ok(()),
                Next::OtherScope => {}
            }
            match self.other_slot(&mut held, spare).await? {
                Some(job) => held.job = job,
                None => return Ok(()),
            }
        }
    }

    async fn prompt(&self, job: &Job) -> Result<Option<Prompt>, StoreError> {
        match &job.order.prompt {
            Some(prompt) => Ok(Some(prompt.clone())),
            None => self.jobs.long_prompt(&job.id).await,
        }
    }

    /// The one call, with a sign of life every few seconds when it lasts.
    async fn call(&self, held: &Held<'_>, prompt: &Prompt) -> Result<DrawnImage, DrawError> {
        let started_at = now();
        let request = DrawRequest {
            model: &held.model.provider_model,
            prompt,
            shape: held.job.order.shape,
            seed: held.job.id.number(),
            secret: held.slot.as_ref().map(|slot| &slot.secret),
        };
        let call = self.providers.get(held.model.provider).draw(request, self.rules.call_timeout);
        tokio::pin!(call);
        let answer = loop {
            #[expect(clippy::disallowed_methods, reason = "the pause between two signs of life")]
            let pause = tokio::time::sleep(PROGRESS_EVERY);
            tokio::select! {
                answer = &mut call => break answer,
                () = pause => self.show_progress(held, started_at).await,
            }
        };
        let outcome = match &answer {
            Ok(_) => "image",
            Err(DrawError::Refused(refusal)) => refusal.as_str(),
            Err(DrawError::NotSent { .. }) => "not_sent",
        };
        tracing::info!(
            job.id = %held.job.id, job.attempt = held.job.attempt, job.calls = held.job.calls,
            provider.name = held.model.provider.as_str(), provider.outcome = outcome,
            provider.seconds = now().since(started_at).as_secs_f64(),
            key.id = held.slot.as_ref().map(|slot| slot.key.id.as_str()), "called"
        );
        answer
    }

    /// Providers do not tell how far they are: progress is the share of the model's usual time, up to 90 %.
    async fn show_progress(&self, held: &Held<'_>, started_at: Timestamp) {
        let at = now();
        let typical = held.model.typical().as_secs_f64().max(1.0);
        let share = at.since(started_at).as_secs_f64() / typical * 90.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 90")]
        let progress = share.clamp(0.0, 90.0) as u8;
        let command = Command::Progress { attempt: held.job.attempt, now: at, progress };
        if let Err(error) = self.jobs.update(&held.job.id, &command, &random_stamp()).await {
            tracing::warn!(job.id = %held.job.id, error = %error, "progress was not stored");
        }
    }

    /// Stores the picture, then settles. A crash between the two leaves an object that expires, and the job its retry.
    async fn deliver(&self, job: &Job, drawn: DrawnImage) -> Result<(), StoreError> {
        let image = StoredImage {
            key: image_key(&job.id, job.attempt, &drawn.sha256, drawn.format),
            sha256: drawn.sha256,
            bytes: drawn.bytes.len() as u64,
            width: drawn.width,
            height: drawn.height,
            format: drawn.format,
            attempt: job.attempt,
        };
        self.images.put(&image, Bytes::clone(&drawn.bytes)).await?;
        let at = now();
        let command = Command::Capture { image, drawn_by: drawn.drawn_by, end: self.end(at) };
        self.settle(job, &command, at).await
    }

    /// Carries out what the answer table says.
    async fn refused(&self, held: &Held<'_>, error: DrawError) -> Result<Next, StoreError> {
        let refusal = error.into_refusal();
        let effect = refusal.effect(now());
        if let Some(slot) = &held.slot {
            if let Some(state) = effect.key {
                self.pool.set_key(slot, state).await?;
            }
            if let Some(state) = effect.scope {
                self.pool.set_scope(slot, state).await?;
            }
        }
        match effect.job {
            JobEffect::Fail(code) => self.fail(&held.job, JobFailure::new(code, refusal.detail())).await?,
            JobEffect::RetryOnce(code) if held.job.last_failure == Some(code) => {
                self.fail(&held.job, JobFailure::new(code, refusal.detail())).await?;
            }
            JobEffect::RetryOnce(code) | JobEffect::Retry(code) => {
                let pause = backoff(held.job.attempt, random_fraction());
                self.retry(&held.job, now().plus(pause), code, &refusal).await?;
            }
            JobEffect::OtherScope => return Ok(Next::OtherScope),
        }
        Ok(Next::Over)
    }

    /// Another slot in the same attempt, and its call counted; `None` when the attempt ends without one.
    async fn other_slot(&self, held: &mut Held<'_>, spare: &SpareSlots) -> Result<Option<Job>, StoreError> {
        let model = held.model;
        let none_left = JobFailure::new(JobErrorCode::NoUsableKey, "no key of the pool may be used");
        let slot = match self.pool.slot(model.provider, &model.provider_model, SLOT_WAIT_MAX, spare).await? {
            Asked::Slot(slot) => *slot,
            Asked::NoneUsable => return self.fail(&held.job, none_left).await.map(|()| None),
            Asked::FreeAt(at) => {
                let waiting = Refusal::RateLimited { retry_after: Some(at.since(now())) };
                return self.retry(&held.job, at, JobErrorCode::NoUsableKey, &waiting).await.map(|()| None);
            }
        };
        let wait = slot.at.since(now());
        #[expect(clippy::disallowed_methods, reason = "the wait for a slot's second")]
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        if !self.has_time_for_a_call(held.ends_at) {
            spare.put(slot);
            let waiting = Refusal::RateLimited { retry_after: None };
            return self.retry(&held.job, now(), JobErrorCode::NoUsableKey, &waiting).await.map(|()| None);
        }
        let count = Command::CountCall { attempt: held.job.attempt, calls_max: self.rules.bounds.calls_max };
        match self.jobs.update(&held.job.id, &count, &random_stamp()).await? {
            Commit::Applied(job) if !job.is_cancel_requested() => {
                held.slot = Some(slot);
                Ok(Some(job))
            }
            Commit::Applied(job) | Commit::Refused(job) => {
                spare.put(slot);
                self.not_counted(held, &job).await.map(|()| None)
            }
            Commit::Absent => Ok(None),
        }
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

    /// Puts the job back for a later attempt, or ends it when none is left or its time is over by then.
    async fn retry(
        &self,
        job: &Job,
        not_before: Timestamp,
        code: JobErrorCode,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let bounds = self.rules.bounds;
        let nothing_left = job.attempt >= bounds.attempts_max || job.calls >= bounds.calls_max;
        if nothing_left || not_before >= job.order.deadline_at {
            return self
                .fail(job, JobFailure::new(code, format!("{}; {}", refusal.detail(), exhausted(job))))
                .await;
        }
        let command = Command::retry(job, now(), not_before, code);
        match self.jobs.update(&job.id, &command, &random_stamp()).await? {
            Commit::Applied(job) => {
                tracing::info!(job.id = %job.id, job.attempt = job.attempt, wait.until = %not_before,
                    error.code = code.as_str(), error.detail = refusal.detail(), "to be tried again");
                Ok(())
            }
            Commit::Refused(now) => match apply(&now, &command, random_stamp()) {
                Err(Rejection::CancelRequested) => self.cancel_held(&now).await,
                _ => Ok(()),
            },
            Commit::Absent => Ok(()),
        }
    }

    async fn fail(&self, job: &Job, failure: JobFailure) -> Result<(), StoreError> {
        let at = now();
        let command =
            Command::EndHeld { attempt: job.attempt, ending: Ending::Failed(failure), end: self.end(at) };
        self.settle(job, &command, at).await
    }
}
