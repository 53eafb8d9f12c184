//! A batch as an item of the jobs table. Its owner's name is in an attribute of its own: so no list of jobs finds it.

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::batch::{Batch, BatchEnding, BatchStage};
use darkroom_core::batch_record::{BatchOrder, BatchRecord};
use darkroom_core::batch_request::InvalidLine;
use darkroom_core::id::{BatchId, ModelName, Stamp, UserId};
use darkroom_core::limits::INDEX_SHARDS;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, ItemError, Reader, json, millis, number, text};
use crate::items::job::name::{CREATED_AT, DEADLINE_AT, DUE_AT, FINISHED_AT, OP, SHARD, TTL, VERSION};
use crate::keys::{Key, PK};

/// Names of the record's attributes that a job's record has not.
pub(crate) mod name {
    pub(crate) const OWNER: &str = "owner";
    pub(crate) const STAGE: &str = "stage";
    pub(crate) const LINES: &str = "lines";
    pub(crate) const MADE: &str = "made";
    pub(crate) const REMAINING: &str = "remaining";
    pub(crate) const COST: &str = "cost";
    pub(crate) const INVALID: &str = "invalid";
    pub(crate) const MODELS: &str = "models";
    pub(crate) const LINES_SHA256: &str = "lines_sha256";
    pub(crate) const SPACING: &str = "spacing_ms";
    pub(crate) const REQUEST_HASH: &str = "request_hash";
    /// Of the item beside the record.
    pub(crate) const INVALID_LINES: &str = "invalid_lines";
}

/// The stage of a batch of which lines are left.
pub(crate) const OPEN: &str = "open";

/// The stage as it is stored.
pub(crate) const fn stage_word(stage: BatchStage) -> &'static str {
    match stage {
        BatchStage::Open { .. } => OPEN,
        BatchStage::Made => "made",
        BatchStage::Ended(BatchEnding::Cancelled) => "cancelled",
        BatchStage::Ended(BatchEnding::Expired) => "expired",
    }
}

/// The item of a batch.
pub fn to_item(batch: &BatchRecord) -> Item {
    let (order, state) = (&batch.order, &batch.state);
    let mut item = Key::Batch(&batch.id).attributes();
    let mut put = |name: &str, value: AttributeValue| {
        item.insert(name.to_owned(), value);
    };
    put(SHARD, text((batch.id.number() % INDEX_SHARDS).to_string()));
    put(name::OWNER, text(batch.user.as_str()));
    put(VERSION, number(batch.version));
    put(OP, text(batch.op.as_str()));
    put(name::STAGE, text(stage_word(state.stage)));
    put(name::LINES, number(state.lines));
    put(name::MADE, number(state.made));
    put(name::REMAINING, number(state.remaining));
    put(name::COST, number(order.cost));
    put(name::INVALID, number(order.invalid));
    put(name::MODELS, models_map(&order.models));
    put(name::LINES_SHA256, text(&order.lines_sha256));
    put(name::SPACING, number(u64::try_from(order.spacing.as_millis()).unwrap_or(u64::MAX)));
    put(name::REQUEST_HASH, text(&order.request_hash));
    put(CREATED_AT, millis(order.created_at));
    put(DEADLINE_AT, millis(order.deadline_at));
    if let Some(at) = state.due_at() {
        put(DUE_AT, millis(at));
    }
    if let Some(at) = batch.finished_at {
        put(FINISHED_AT, millis(at));
    }
    if let Some(at) = batch.expires_at {
        put(TTL, number(at.as_seconds()));
    }
    item
}

/// The batch of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn from_item(item: &Item) -> Result<BatchRecord, ItemError> {
    let read = Reader(item);
    let stage = match read.text(name::STAGE)? {
        OPEN => BatchStage::Open { due_at: read.time(DUE_AT)? },
        "made" => BatchStage::Made,
        "cancelled" => BatchStage::Ended(BatchEnding::Cancelled),
        "expired" => BatchStage::Ended(BatchEnding::Expired),
        _ => return Err(ItemError { attribute: name::STAGE, problem: "has an unknown value" }),
    };
    let seconds = read.optional_number(TTL)?;
    Ok(BatchRecord {
        id: read.parsed(PK, |text| BatchId::parse(text).ok())?,
        user: read.parsed(name::OWNER, |text| UserId::parse(text).ok())?,
        order: BatchOrder {
            request_hash: read.text(name::REQUEST_HASH)?.to_owned(),
            cost: read.number(name::COST)?,
            invalid: read.small(name::INVALID)?,
            models: models(read)?,
            lines_sha256: read.text(name::LINES_SHA256)?.to_owned(),
            created_at: read.time(CREATED_AT)?,
            deadline_at: read.time(DEADLINE_AT)?,
            spacing: std::time::Duration::from_millis(read.number(name::SPACING)?),
        },
        version: read.number(VERSION)?,
        op: Stamp::from_stored(read.text(OP)?.to_owned()),
        state: Batch {
            lines: read.small(name::LINES)?,
            made: read.small(name::MADE)?,
            remaining: read.number(name::REMAINING)?,
            stage,
        },
        finished_at: read.optional_time(FINISHED_AT)?,
        expires_at: seconds.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1_000))),
    })
}

/// The item beside a batch's record that tells its invalid lines; `None` when there are none.
pub(crate) fn invalid_item(
    batch: &BatchRecord,
    invalid: &[InvalidLine],
    expires_at: Timestamp,
) -> Option<Item> {
    if invalid.is_empty() {
        return None;
    }
    let mut item = Key::InvalidLines(&batch.id).attributes();
    item.insert(name::INVALID_LINES.to_owned(), json(&invalid));
    item.insert(TTL.to_owned(), number(expires_at.as_seconds()));
    Some(item)
}

/// The invalid lines of such an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub(crate) fn invalid_lines(item: &Item) -> Result<Vec<InvalidLine>, ItemError> {
    Reader(item).json(name::INVALID_LINES)
}

fn models_map(models: &[(ModelName, u32)]) -> AttributeValue {
    AttributeValue::M(models.iter().map(|(name, lines)| (name.to_string(), number(*lines))).collect())
}

fn models(read: Reader<'_>) -> Result<Vec<(ModelName, u32)>, ItemError> {
    let problem = ItemError { attribute: name::MODELS, problem: "is not a map of numbers by models" };
    let Some(AttributeValue::M(map)) = read.0.get(name::MODELS) else { return Err(problem) };
    let one = |(name, lines): (&String, &AttributeValue)| {
        let lines = lines.as_n().ok()?.parse().ok()?;
        Some((ModelName::parse(name).ok()?, lines))
    };
    let mut models: Vec<_> = map.iter().map(one).collect::<Option<_>>().ok_or(problem)?;
    models.sort_unstable();
    Ok(models)
}
