//! A job as its owner sees it, whoever shows it: an answer over HTTP, or a push.

use crate::error_code::Language;
use crate::job::{Job, Outcome, Stage, WaitReason};
use crate::metadata::Metadata;
use crate::outlook::Outlook;
use crate::position::Position;
use crate::request::Prompt;
use crate::time::Timestamp;
use serde_json::{Value, json};

/// What is shown beside the record itself.
#[derive(Clone, Default)]
pub struct JobView {
    /// The prompt, when it is kept beside the record.
    pub long_prompt: Option<Prompt>,
    /// What the app keeps with it.
    pub metadata: Metadata,
    /// The place in the queue, while it waits.
    pub position: Option<Position>,
    /// When the picture is expected, while it is.
    pub outlook: Option<Outlook>,
    /// A link to the picture.
    pub image_url: Option<String>,
}

impl JobView {
    /// The JSON of the job. Texts in the caller's language; times in RFC 3339, UTC.
    pub fn render(&self, job: &Job, language: Language) -> Value {
        let order = &job.order;
        let prompt = order.prompt.as_ref().or(self.long_prompt.as_ref()).map(Prompt::reveal);
        let outcome = match &job.stage {
            Stage::Settled(settled) => Some((&settled.outcome, settled.finished_at)),
            Stage::Pending(_) | Stage::Processing(_) => None,
        };
        let drawn_by = match outcome {
            Some((Outcome::Drawn { drawn_by, .. }, _)) => Some(drawn_by),
            _ => None,
        };
        json!({
            "id": job.id,
            "status": job.status().as_str(),
            "version": job.version,
            "progress": progress(job),
            "queue_position": self.position.map(|position| position.place),
            "queue_position_exact": self.position.is_some_and(|position| position.exact),
            "eta_seconds": self.outlook.map(|outlook| outlook.eta.as_millis().div_ceil(1000)),
            "eta_reason": wait_reason(job, self.outlook).map(WaitReason::as_str),
            "prompt": prompt,
            "model": order.model,
            "aspect_ratio": order.shape.aspect_ratio.as_str(),
            "size": order.shape.size.as_str(),
            "reference": order.reference.as_ref().map(|reference| json!({
                "upload_id": reference.upload,
                "sha256": reference.sha256,
                "bytes": reference.bytes,
                "content_type": reference.format.content_type(),
            })),
            "drawn_by": drawn_by,
            "retry_of": order.retry_of,
            "conversation_id": order.conversation_id,
            "batch_id": order.batch.as_ref().map(|line| &line.batch),
            "batch_line": order.batch.as_ref().map(|line| line.number),
            "metadata": self.metadata.members(),
            "cost": order.cost,
            "attempts": job.tries,
            "provider_calls": job.calls,
            "image_url": self.image_url,
            "image": job.image().map(|image| json!({
                "sha256": image.sha256,
                "bytes": image.bytes,
                "width": image.width,
                "height": image.height,
                "content_type": image.format.content_type(),
            })),
            "error": outcome.and_then(|(outcome, _)| error(outcome, language)),
            "settled": job.settlement().map(crate::ledger::Settlement::as_str),
            "cancel_requested": job.is_cancel_requested(),
            "created_at": order.created_at.rfc3339(),
            "started_at": job.started_at.map(Timestamp::rfc3339),
            "finished_at": outcome.map(|(_, at)| at.rfc3339()),
            "deadline_at": order.deadline_at.rfc3339(),
        })
    }
}

fn progress(job: &Job) -> u8 {
    match &job.stage {
        Stage::Pending(_) => 0,
        Stage::Processing(processing) => processing.progress,
        Stage::Settled(settled) => match settled.outcome {
            Outcome::Drawn { .. } => 100,
            Outcome::Failed(_) | Outcome::Cancelled => 0,
        },
    }
}

fn wait_reason(job: &Job, outlook: Option<Outlook>) -> Option<WaitReason> {
    match &job.stage {
        Stage::Pending(pending) => outlook.and_then(|outlook| outlook.reason).or(Some(pending.reason)),
        Stage::Processing(_) | Stage::Settled(_) => None,
    }
}

fn error(outcome: &Outcome, language: Language) -> Option<Value> {
    match outcome {
        Outcome::Failed(failure) => Some(json!({
            "code": failure.code.as_str(),
            "message": failure.code.message(language),
            "detail": failure.detail,
            "retryable": failure.code.is_retryable(),
            "refunded": true,
        })),
        Outcome::Drawn { .. } | Outcome::Cancelled => None,
    }
}
