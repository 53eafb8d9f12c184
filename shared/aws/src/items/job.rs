//! A job as an item of the jobs table.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::id::{ConversationId, JobId, ModelName, Stamp, UserId};
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{Job, Order, Outcome, Pending, Processing, Settled, Stage, Status, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::limits::INDEX_SHARDS;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, ItemError, Reader, millis, number, text};
use crate::keys::{Key, PK};

/// Names of the record's attributes.
pub(crate) mod name {
    pub(crate) const SHARD: &str = "shard";
    pub(crate) const USER: &str = "user";
    pub(crate) const STATUS: &str = "status";
    pub(crate) const VERSION: &str = "ver";
    pub(crate) const OP: &str = "op";
    pub(crate) const ATTEMPT: &str = "attempt";
    pub(crate) const TRIES: &str = "tries";
    pub(crate) const CALLS: &str = "calls";
    pub(crate) const COST: &str = "cost";
    pub(crate) const MODEL: &str = "model";
    pub(crate) const PROMPT: &str = "prompt";
    pub(crate) const ASPECT_RATIO: &str = "ratio";
    pub(crate) const SIZE: &str = "size";
    pub(crate) const CONVERSATION: &str = "conversation_id";
    pub(crate) const REQUEST_HASH: &str = "request_hash";
    pub(crate) const CREATED_AT: &str = "created_at";
    pub(crate) const DEADLINE_AT: &str = "deadline_at";
    pub(crate) const STARTED_AT: &str = "started_at";
    pub(crate) const LAST_FAILURE: &str = "last_failure";
    pub(crate) const WAIT_AT: &str = "wait_at";
    pub(crate) const NOT_BEFORE: &str = "not_before";
    pub(crate) const DUE_AT: &str = "due_at";
    pub(crate) const WAKES: &str = "wakes";
    pub(crate) const WAIT_REASON: &str = "wait_reason";
    pub(crate) const LEASE_UNTIL: &str = "lease_until";
    pub(crate) const CLAIMED_AT: &str = "claimed_at";
    pub(crate) const HEARTBEAT_AT: &str = "hb_at";
    pub(crate) const PROGRESS: &str = "progress";
    pub(crate) const CANCEL_REQUESTED: &str = "cancel_req";
    pub(crate) const SETTLED: &str = "settled";
    pub(crate) const FINISHED_AT: &str = "finished_at";
    pub(crate) const TTL: &str = "ttl";
    pub(crate) const RESULT: &str = "result";
    pub(crate) const DRAWN_BY: &str = "drawn_by";
    pub(crate) const ERROR_CODE: &str = "error_code";
    pub(crate) const ERROR_DETAIL: &str = "error_detail";
}

/// The index shard of a job: its place in the sharded indexes `due` and `waiting`.
pub(crate) fn shard(id: &JobId) -> String {
    (id.number() % INDEX_SHARDS).to_string()
}

/// The item of a job.
pub fn to_item(job: &Job) -> Item {
    let order = &job.order;
    let mut item = Key::Job(&job.id).attributes();
    let mut put = |name: &str, value: AttributeValue| {
        item.insert(name.to_owned(), value);
    };
    put(name::SHARD, text(shard(&job.id)));
    put(name::USER, text(job.user.as_str()));
    put(name::STATUS, text(job.status().as_str()));
    put(name::VERSION, number(job.version));
    put(name::OP, text(job.op.as_str()));
    put(name::ATTEMPT, number(job.attempt));
    put(name::TRIES, number(job.tries));
    put(name::CALLS, number(job.calls));
    put(name::COST, number(order.cost));
    put(name::MODEL, text(order.model.as_str()));
    put(name::ASPECT_RATIO, text(order.shape.aspect_ratio.as_str()));
    put(name::SIZE, text(order.shape.size.as_str()));
    put(name::REQUEST_HASH, text(&order.request_hash));
    put(name::CREATED_AT, millis(order.created_at));
    put(name::DEADLINE_AT, millis(order.deadline_at));
    if let Some(prompt) = &order.prompt {
        put(name::PROMPT, text(prompt.reveal()));
    }
    if let Some(conversation) = &order.conversation_id {
        put(name::CONVERSATION, text(conversation.as_str()));
    }
    if let Some(at) = job.started_at {
        put(name::STARTED_AT, millis(at));
    }
    if let Some(code) = job.last_failure {
        put(name::LAST_FAILURE, text(code.as_str()));
    }
    match &job.stage {
        Stage::Pending(pending) => put_pending(put, pending),
        Stage::Processing(processing) => put_processing(put, processing),
        Stage::Settled(settled) => put_settled(put, settled),
    }
    item
}

fn put_pending(mut put: impl FnMut(&str, AttributeValue), pending: &Pending) {
    put(name::WAIT_AT, millis(pending.wait_at));
    put(name::NOT_BEFORE, millis(pending.not_before));
    put(name::DUE_AT, millis(pending.due_at));
    put(name::WAKES, number(pending.wakes));
    put(name::WAIT_REASON, text(pending.reason.as_str()));
}

fn put_processing(mut put: impl FnMut(&str, AttributeValue), processing: &Processing) {
    put(name::LEASE_UNTIL, millis(processing.lease_until));
    put(name::DUE_AT, millis(processing.lease_until));
    put(name::CLAIMED_AT, millis(processing.claimed_at));
    put(name::PROGRESS, number(processing.progress));
    if let Some(at) = processing.heartbeat_at {
        put(name::HEARTBEAT_AT, millis(at));
    }
    if processing.cancel_requested {
        put(name::CANCEL_REQUESTED, AttributeValue::Bool(true));
    }
}

fn put_settled(mut put: impl FnMut(&str, AttributeValue), settled: &Settled) {
    put(name::FINISHED_AT, millis(settled.finished_at));
    put(name::TTL, number(settled.expires_at.as_seconds()));
    put(name::SETTLED, text(settled.outcome.settlement().as_str()));
    match &settled.outcome {
        Outcome::Draft { image, drawn_by } => {
            put(name::RESULT, stored_image(image));
            put(name::DRAWN_BY, text(drawn_by));
        }
        Outcome::Failed(failure) => {
            put(name::ERROR_CODE, text(failure.code.as_str()));
            put(name::ERROR_DETAIL, text(&failure.detail));
        }
        Outcome::Cancelled => {}
    }
}

/// The job of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn from_item(item: &Item) -> Result<Job, ItemError> {
    let read = Reader(item);
    let status = read.parsed(name::STATUS, Status::parse)?;
    Ok(Job {
        id: read.parsed(PK, |text| JobId::parse(text).ok())?,
        user: read.parsed(name::USER, |text| UserId::parse(text).ok())?,
        order: order(read)?,
        version: read.number(name::VERSION)?,
        op: Stamp::from_stored(read.text(name::OP)?.to_owned()),
        attempt: read.small(name::ATTEMPT)?,
        // Records of before the two were told apart count every attempt.
        tries: read.small(if read.has(name::TRIES) { name::TRIES } else { name::ATTEMPT })?,
        calls: read.small(name::CALLS)?,
        started_at: read.optional_time(name::STARTED_AT)?,
        last_failure: read.optional_text(name::LAST_FAILURE)?.map(JobErrorCode::from_stored),
        stage: match status {
            Status::Pending => Stage::Pending(pending(read)?),
            Status::Processing => Stage::Processing(processing(read)?),
            Status::Draft | Status::Failed | Status::Cancelled => Stage::Settled(settled(read, status)?),
        },
    })
}

fn order(read: Reader<'_>) -> Result<Order, ItemError> {
    Ok(Order {
        prompt: read.optional_text(name::PROMPT)?.map(|text| Prompt::from_stored(text.to_owned())),
        model: read.parsed(name::MODEL, |text| ModelName::parse(text).ok())?,
        shape: Shape {
            aspect_ratio: read.parsed(name::ASPECT_RATIO, AspectRatio::parse)?,
            size: read.parsed(name::SIZE, ImageSize::parse)?,
        },
        conversation_id: read.optional_parsed(name::CONVERSATION, |text| ConversationId::parse(text).ok())?,
        request_hash: read.text(name::REQUEST_HASH)?.to_owned(),
        cost: read.number(name::COST)?,
        created_at: read.time(name::CREATED_AT)?,
        deadline_at: read.time(name::DEADLINE_AT)?,
    })
}

fn pending(read: Reader<'_>) -> Result<Pending, ItemError> {
    Ok(Pending {
        wait_at: read.time(name::WAIT_AT)?,
        not_before: read.time(name::NOT_BEFORE)?,
        due_at: read.time(name::DUE_AT)?,
        wakes: read.small(name::WAKES)?,
        reason: WaitReason::from_stored(read.text(name::WAIT_REASON)?),
    })
}

fn processing(read: Reader<'_>) -> Result<Processing, ItemError> {
    let progress = read.number(name::PROGRESS)?;
    Ok(Processing {
        lease_until: read.time(name::LEASE_UNTIL)?,
        claimed_at: read.time(name::CLAIMED_AT)?,
        heartbeat_at: read.optional_time(name::HEARTBEAT_AT)?,
        progress: u8::try_from(progress)
            .map_err(|_| ItemError { attribute: name::PROGRESS, problem: "is too large" })?,
        cancel_requested: read.has(name::CANCEL_REQUESTED),
    })
}

fn settled(read: Reader<'_>, status: Status) -> Result<Settled, ItemError> {
    let outcome = match status {
        Status::Draft => {
            Outcome::Draft { image: image(read)?, drawn_by: read.text(name::DRAWN_BY)?.to_owned() }
        }
        Status::Failed => Outcome::Failed(JobFailure {
            code: JobErrorCode::from_stored(read.text(name::ERROR_CODE)?),
            detail: read.text(name::ERROR_DETAIL)?.to_owned(),
        }),
        Status::Cancelled | Status::Pending | Status::Processing => Outcome::Cancelled,
    };
    if read.text(name::SETTLED)? != outcome.settlement().as_str() {
        return Err(ItemError { attribute: name::SETTLED, problem: "contradicts the status" });
    }
    Ok(Settled {
        finished_at: read.time(name::FINISHED_AT)?,
        expires_at: Timestamp::from_millis(read.number(name::TTL)?.saturating_mul(1000)),
        outcome,
    })
}

/// A picture as the `result` attribute.
pub(crate) fn stored_image(image: &StoredImage) -> AttributeValue {
    AttributeValue::M(HashMap::from([
        ("key".to_owned(), text(&image.key)),
        ("sha256".to_owned(), text(&image.sha256)),
        ("bytes".to_owned(), number(image.bytes)),
        ("width".to_owned(), number(image.width)),
        ("height".to_owned(), number(image.height)),
        ("content_type".to_owned(), text(image.format.content_type())),
        ("attempt".to_owned(), number(image.attempt)),
    ]))
}

fn image(read: Reader<'_>) -> Result<StoredImage, ItemError> {
    let Some(AttributeValue::M(map)) = read.0.get(name::RESULT) else {
        return Err(ItemError { attribute: name::RESULT, problem: "is missing or not a map" });
    };
    let read = Reader(map);
    Ok(StoredImage {
        key: read.text("key")?.to_owned(),
        sha256: read.text("sha256")?.to_owned(),
        bytes: read.number("bytes")?,
        width: read.small("width")?,
        height: read.small("height")?,
        format: read.parsed("content_type", ImageFormat::from_content_type)?,
        attempt: read.small("attempt")?,
    })
}
