//! What a claimed job is drawn from: its prompt, and its reference if it has one.

use darkroom_aws::StoreError;
use darkroom_core::job::Job;
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::request::Prompt;
use darkroom_core::upload::Reference;
use darkroom_providers::image_check::CheckedImage;
use darkroom_providers::{ReferenceFault, check_reference};

use crate::worker::Worker;

/// All of it, read once for an attempt.
pub(crate) struct Content {
    pub(crate) prompt: Prompt,
    pub(crate) reference: Option<CheckedImage>,
}

impl Worker {
    /// Reads it, wherever it is kept, and looks at a reference's bytes: this is where it shows what they are. What cannot be drawn
    /// however often it is tried is the inner failure.
    pub(crate) async fn content(&self, job: &Job) -> Result<Result<Content, JobFailure>, StoreError> {
        let prompt = match &job.order.prompt {
            Some(prompt) => Some(prompt.clone()),
            None => self.jobs.long_prompt(&job.id).await?,
        };
        let Some(prompt) = prompt else {
            return Ok(Err(JobFailure::new(JobErrorCode::Internal, "the prompt is missing from the store")));
        };
        let Some(promised) = &job.order.reference else {
            return Ok(Ok(Content { prompt, reference: None }));
        };
        let reference = self.reference(job, promised).await?;
        Ok(reference.map(|image| Content { prompt, reference: Some(image) }))
    }

    async fn reference(
        &self,
        job: &Job,
        promised: &Reference,
    ) -> Result<Result<CheckedImage, JobFailure>, StoreError> {
        let Some(bytes) = self.uploads.read(&job.user, promised).await? else {
            let detail = format!("{} is gone", promised.upload);
            return Ok(Err(JobFailure::new(JobErrorCode::ReferenceMissing, detail)));
        };
        let checked = check_reference(bytes, promised).await;
        Ok(checked.map_err(|fault| JobFailure::new(code(fault), fault.to_string())))
    }
}

/// Whose fault it is: only the owner's pictures are called invalid.
const fn code(fault: ReferenceFault) -> JobErrorCode {
    match fault {
        ReferenceFault::OtherBytes | ReferenceFault::OtherFormat { .. } | ReferenceFault::Image(_) => {
            JobErrorCode::InvalidReference
        }
        ReferenceFault::Unchecked => JobErrorCode::Internal,
    }
}
