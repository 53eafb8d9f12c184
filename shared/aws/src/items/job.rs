//! A job as an item of the jobs table.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::id::{BatchId, ConversationId, JobId, ModelName, Stamp, UploadId, UserId};
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{
    BatchLine, Job, Order, Outcome, Pending, Processing, Record, Settled, Stage, Status, Tombstone,
    WaitReason,
};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::ledger::Settlement;
use darkroom_core::limits::INDEX_SHARDS;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::time::Timestamp;
use darkroom_core::upload::Reference;

use crate::attributes::{Item, ItemError, Reader, millis, number, text};
use crate::keys::{Key, PK};

/// Names of the record's attributes.
pub(crate) mod name {
    macro_rules! names {
        ($($constant:ident = $name:literal,)+) => {
            $(pub(crate) const $constant: &str = $name;)+
            /// Every attribute beside the key: what a deletion takes away unless it is to stay.
            pub(crate) const ALL: &[&str] = &[$($name),+];
        };
    }

    names! {
        SHARD = "shard",
        USER = "user",
        STATUS = "status",
        VERSION = "ver",
        OP = "op",
        ATTEMPT = "attempt",
        TRIES = "tries",
        CALLS = "calls",
        COST = "cost",
        MODEL = "model",
        PROMPT = "prompt",
        ASPECT_RATIO = "ratio",
        SIZE = "size",
        REFERENCE = "reference",
        CONVERSATION = "conversation_id",
        RETRY_OF = "retry_of",
        BATCH = "batch_id",
        BATCH_LINE = "batch_line",
        REQUEST_HASH = "request_hash",
        CREATED_AT = "created_at",
        DEADLINE_AT = "deadline_at",
        STARTED_AT = "started_at",
        LAST_FAILURE = "last_failure",
        WAIT_AT = "wait_at",
        NOT_BEFORE = "not_before",
        DUE_AT = "due_at",
        WAKES = "wakes",
        WAIT_REASON = "wait_reason",
        LEASE_UNTIL = "lease_until",
        CLAIMED_AT = "claimed_at",
        HEARTBEAT_AT = "hb_at",
        PROGRESS = "progress",
        CANCEL_REQUESTED = "cancel_req",
        SETTLED = "settled",
        FINISHED_AT = "finished_at",
        TTL = "ttl",
        RESULT = "result",
        DRAWN_BY = "drawn_by",
        ERROR_CODE = "error_code",
        ERROR_DETAIL = "error_detail",
        IMAGE_KEY = "image_key",
    }
}

/// The status of what is left of a deleted job.
pub(crate) const DELETED: &str = "deleted";

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
    if let Some(reference) = &order.reference {
        put(name::REFERENCE, reference_map(reference));
    }
    if let Some(conversation) = &order.conversation_id {
        put(name::CONVERSATION, text(conversation.as_str()));
    }
    if let Some(failed) = &order.retry_of {
        put(name::RETRY_OF, text(failed.as_str()));
    }
    if let Some(line) = &order.batch {
        put(name::BATCH, text(line.batch.as_str()));
        put(name::BATCH_LINE, number(line.number));
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
        Outcome::Drawn { image, drawn_by, .. } => {
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

/// What an item holds: a job, or what is left of one.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn record(item: &Item) -> Result<Record, ItemError> {
    if Reader(item).text(name::STATUS)? == DELETED {
        tombstone(item).map(Record::Tombstone)
    } else {
        from_item(item).map(|job| Record::Job(Box::new(job)))
    }
}

fn tombstone(item: &Item) -> Result<Tombstone, ItemError> {
    let read = Reader(item);
    Ok(Tombstone {
        id: read.parsed(PK, |text| JobId::parse(text).ok())?,
        user: read.parsed(name::USER, |text| UserId::parse(text).ok())?,
        request_hash: read.text(name::REQUEST_HASH)?.to_owned(),
        settlement: read.parsed(name::SETTLED, Settlement::parse)?,
        expires_at: expires_at(read)?,
        image_key: read.optional_text(name::IMAGE_KEY)?.map(str::to_owned),
    })
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
            Status::Draft | Status::Published | Status::Failed | Status::Cancelled => {
                Stage::Settled(settled(read, status)?)
            }
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
        reference: reference(read)?,
        conversation_id: read.optional_parsed(name::CONVERSATION, |text| ConversationId::parse(text).ok())?,
        retry_of: read.optional_parsed(name::RETRY_OF, |text| JobId::parse(text).ok())?,
        batch: match read.optional_parsed(name::BATCH, |text| BatchId::parse(text).ok())? {
            Some(batch) => Some(BatchLine { batch, number: read.small(name::BATCH_LINE)? }),
            None => None,
        },
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
        Status::Draft | Status::Published => Outcome::Drawn {
            image: image(read)?,
            drawn_by: read.text(name::DRAWN_BY)?.to_owned(),
            published: status == Status::Published,
        },
        Status::Failed => Outcome::Failed(JobFailure {
            code: JobErrorCode::from_stored(read.text(name::ERROR_CODE)?),
            detail: read.text(name::ERROR_DETAIL)?.to_owned(),
        }),
        Status::Cancelled | Status::Pending | Status::Processing => Outcome::Cancelled,
    };
    if read.text(name::SETTLED)? != outcome.settlement().as_str() {
        return Err(ItemError { attribute: name::SETTLED, problem: "contradicts the status" });
    }
    Ok(Settled { finished_at: read.time(name::FINISHED_AT)?, expires_at: expires_at(read)?, outcome })
}

fn expires_at(read: Reader<'_>) -> Result<Timestamp, ItemError> {
    Ok(Timestamp::from_millis(read.number(name::TTL)?.saturating_mul(1000)))
}

/// What a job is drawn from as the `reference` attribute.
fn reference_map(reference: &Reference) -> AttributeValue {
    AttributeValue::M(HashMap::from([
        ("upload_id".to_owned(), text(reference.upload.as_str())),
        ("sha256".to_owned(), text(&reference.sha256)),
        ("bytes".to_owned(), number(reference.bytes)),
        ("content_type".to_owned(), text(reference.format.content_type())),
    ]))
}

fn reference(read: Reader<'_>) -> Result<Option<Reference>, ItemError> {
    let Some(value) = read.0.get(name::REFERENCE) else { return Ok(None) };
    let AttributeValue::M(map) = value else {
        return Err(ItemError { attribute: name::REFERENCE, problem: "is not a map" });
    };
    let read = Reader(map);
    Ok(Some(Reference {
        upload: read.parsed("upload_id", |text| UploadId::parse(text).ok())?,
        sha256: read.text("sha256")?.to_owned(),
        bytes: read.number("bytes")?,
        format: read.parsed("content_type", ImageFormat::from_content_type)?,
    }))
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
