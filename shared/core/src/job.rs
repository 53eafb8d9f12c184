//! What a job is. Live and settled are two types, so that no live job can have a settlement and no
//! settled one a due time: status is pending or processing ⇔ due ⇔ not settled ⇔ kept for ever. Only a drawn job can be
//! published, and what is left of a deleted one is no job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{BatchId, ConversationId, JobId, ModelName, Stamp, Ticket, UserId};
use crate::image::StoredImage;
use crate::job_error::{JobErrorCode, JobFailure};
use crate::ledger::{Settlement, Tokens};
use crate::limits::SLOT_EARLY;
use crate::message::{JobMessage, Message};
use crate::request::{Prompt, Shape};
use crate::time::Timestamp;
use crate::upload::Reference;

/// A job's record.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// Derived from owner and idempotency key.
    pub id: JobId,
    /// Who pays and owns.
    pub user: UserId,
    /// What was asked for and when. Never changes.
    pub order: Order,
    /// Rises with every write. 1 is the submission.
    pub version: u64,
    /// The last write's stamp.
    pub op: Stamp,
    /// How often it was claimed: the fence. Every write of a worker names it.
    pub attempt: u32,
    /// Attempts that count against their bound: begun, and not given back for want of quota, of a closed breaker or of time.
    pub tries: u32,
    /// Provider calls counted so far, each before it is made.
    pub calls: u32,
    /// The first claim.
    pub started_at: Option<Timestamp>,
    /// Why the last attempt failed, once one has.
    pub last_failure: Option<JobErrorCode>,
    /// Where it stands.
    pub stage: Stage,
}

/// The part of a job that never changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Order {
    /// What to draw; `None` when it is kept beside the record because it is long.
    pub prompt: Option<Prompt>,
    /// The catalogue's model.
    pub model: ModelName,
    /// Aspect ratio and size.
    pub shape: Shape,
    /// The picture that it is drawn from.
    pub reference: Option<Reference>,
    /// The app's own grouping.
    pub conversation_id: Option<ConversationId>,
    /// The job without a picture that this one tries again.
    pub retry_of: Option<JobId>,
    /// The line of a batch that it is. Then the batch's hold paid for it, and it is not in flight.
    pub batch: Option<BatchLine>,
    /// Hash of the request as it came.
    pub request_hash: String,
    /// What a picture costs.
    pub cost: Tokens,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it must be done.
    pub deadline_at: Timestamp,
}

/// A line of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLine {
    /// The batch.
    pub batch: BatchId,
    /// Its number in what the owner has sent, from 1.
    pub number: u32,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits.
    Pending(Pending),
    /// Is being drawn.
    Processing(Processing),
    /// Is over.
    Settled(Settled),
}

/// A waiting job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its place in the queue.
    pub wait_at: Timestamp,
    /// Its turn. After a failed attempt it is not claimed before then; another wait is over for whoever has what it waits for.
    pub not_before: Timestamp,
    /// The sweeper looks at it then.
    pub due_at: Timestamp,
    /// Messages sent again for this wait.
    pub wakes: u32,
    /// What it waits for.
    pub reason: WaitReason,
}

/// What a waiting job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A free worker.
    Capacity,
    /// A slot of the provider's quota.
    Quota,
    /// The breaker of its model.
    BreakerOpen,
    /// The pause after a failed attempt.
    Retry,
}

impl WaitReason {
    /// When a job that waits for this until `until` is woken.
    pub fn wakes_at(self, until: Timestamp) -> Timestamp {
        match self {
            Self::Quota => until.minus(SLOT_EARLY),
            Self::Capacity | Self::BreakerOpen | Self::Retry => until,
        }
    }

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Quota => "quota",
            Self::BreakerOpen => "breaker_open",
            Self::Retry => "retry",
        }
    }

    /// Parses the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Capacity, Self::Quota, Self::BreakerOpen, Self::Retry]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }

    /// The reason as it was stored. One that a newer release wrote reads as [`Self::Capacity`]: it is shown and decides
    /// nothing, so two releases can work off the same jobs.
    pub fn from_stored(text: &str) -> Self {
        Self::parse(text).unwrap_or(Self::Capacity)
    }
}

/// A job in a worker's hands. It is due when its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processing {
    /// The worker may act until then; fixed at the claim.
    pub lease_until: Timestamp,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// The worker's last sign of life since.
    pub heartbeat_at: Option<Timestamp>,
    /// 0 to 99.
    pub progress: u8,
    /// Its owner wants it ended: no new call starts.
    pub cancel_requested: bool,
}

/// A job that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// When it ended.
    pub finished_at: Timestamp,
    /// The record may be deleted then.
    pub expires_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a picture, which was paid for.
    Drawn {
        /// The picture.
        image: StoredImage,
        /// The provider's model that drew it.
        drawn_by: String,
        /// Whether its owner has published it; a draft until then.
        published: bool,
    },
    /// Without one; the tokens went back.
    Failed(JobFailure),
    /// By its owner; the tokens went back.
    Cancelled,
}

impl Outcome {
    /// What became of the tokens.
    pub const fn settlement(&self) -> Settlement {
        match self {
            Self::Drawn { .. } => Settlement::Captured,
            Self::Failed(_) | Self::Cancelled => Settlement::Refunded,
        }
    }
}

/// A stage's name, as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Status {
    Pending,
    Processing,
    Draft,
    Published,
    Failed,
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Draft, Self::Published, Self::Failed, Self::Cancelled];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Parses the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What is left of a job that its owner deleted. Its key makes no other job until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The job's id.
    pub id: JobId,
    /// Who deleted it, and may ask for that again.
    pub user: UserId,
    /// Tells the deleted request from another one with the same key.
    pub request_hash: String,
    /// What became of the tokens.
    pub settlement: Settlement,
    /// When the record may be deleted, too.
    pub expires_at: Timestamp,
    /// The picture's key in the bucket, until the picture is known to be gone.
    pub image_key: Option<String>,
}

impl Tombstone {
    /// Whether this user may still ask for its deletion at this time.
    pub fn belongs_to(&self, user: &UserId, now: Timestamp) -> bool {
        self.user == *user && self.expires_at > now
    }
}

/// What a job's key holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Record {
    /// The job.
    Job(Box<Job>),
    /// What is left of it.
    Tombstone(Tombstone),
}

impl Record {
    /// Whether this user sees it at this time.
    pub fn belongs_to(&self, user: &UserId, now: Timestamp) -> bool {
        match self {
            Self::Job(job) => job.belongs_to(user, now),
            Self::Tombstone(tombstone) => tombstone.belongs_to(user, now),
        }
    }

    /// The job, unless it was deleted.
    pub fn job(self) -> Option<Job> {
        match self {
            Self::Job(job) => Some(*job),
            Self::Tombstone(_) => None,
        }
    }
}

/// What a new job needs beside its request.
pub struct Submission {
    /// Derived from owner and idempotency key.
    pub id: JobId,
    /// The owner.
    pub user: UserId,
    /// What was asked for.
    pub order: Order,
    /// This write's stamp.
    pub op: Stamp,
}

impl Job {
    /// A job as it is submitted. `wake` is how soon a lost message is made up for.
    pub fn submitted(submission: Submission, wake: Duration) -> Self {
        let wait_at = submission.order.created_at;
        Self::queued(submission, wait_at, wake)
    }

    /// The same, with the place in the queue of a job that is submitted at `wait_at`, which may lie ahead: then it is no place that
    /// could be told for sure. It is looked for when it should have had its turn.
    pub fn queued(submission: Submission, wait_at: Timestamp, wake: Duration) -> Self {
        let created_at = submission.order.created_at;
        let due_at = wait_at.plus(wake).min(submission.order.deadline_at);
        Self {
            id: submission.id,
            user: submission.user,
            version: 1,
            op: submission.op,
            attempt: 0,
            tries: 0,
            calls: 0,
            started_at: None,
            last_failure: None,
            stage: Stage::Pending(Pending {
                wait_at,
                not_before: created_at,
                due_at,
                wakes: 0,
                reason: WaitReason::Capacity,
            }),
            order: submission.order,
        }
    }

    /// The stage's name.
    pub const fn status(&self) -> Status {
        match &self.stage {
            Stage::Pending(_) => Status::Pending,
            Stage::Processing(_) => Status::Processing,
            Stage::Settled(settled) => match settled.outcome {
                Outcome::Drawn { published: false, .. } => Status::Draft,
                Outcome::Drawn { published: true, .. } => Status::Published,
                Outcome::Failed(_) => Status::Failed,
                Outcome::Cancelled => Status::Cancelled,
            },
        }
    }

    /// When the sweeper must look at it; `None` once it is settled.
    pub const fn due_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Pending(pending) => Some(pending.due_at),
            Stage::Processing(processing) => Some(processing.lease_until),
            Stage::Settled(_) => None,
        }
    }

    /// What became of its tokens; `None` while they are held.
    pub const fn settlement(&self) -> Option<Settlement> {
        match &self.stage {
            Stage::Pending(_) | Stage::Processing(_) => None,
            Stage::Settled(settled) => Some(settled.outcome.settlement()),
        }
    }

    /// Whether it is gone for its owner. The store deletes an expired record some time later, so readers compare.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        matches!(&self.stage, Stage::Settled(settled) if settled.expires_at <= now)
    }

    /// Whether this user sees it at this time: to anybody else, and to its owner once it has expired, there is none.
    pub fn belongs_to(&self, user: &UserId, now: Timestamp) -> bool {
        self.user == *user && !self.is_expired(now)
    }

    /// The picture; `None` while there is none, and where none came.
    pub const fn image(&self) -> Option<&StoredImage> {
        match &self.stage {
            Stage::Settled(Settled { outcome: Outcome::Drawn { image, .. }, .. }) => Some(image),
            Stage::Settled(_) | Stage::Pending(_) | Stage::Processing(_) => None,
        }
    }

    /// Whether its owner asked to end it while it was being drawn.
    pub const fn is_cancel_requested(&self) -> bool {
        matches!(&self.stage, Stage::Processing(Processing { cancel_requested: true, .. }))
    }

    /// Unique, and ordered by submission.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.order.created_at, &self.id)
    }

    /// The message that wakes a worker for it.
    pub fn message(&self) -> Message {
        Message::Job(JobMessage::new(self.user.clone(), self.id.clone(), self.order.model.clone()))
    }
}
