//! A job's metadata as an item of the jobs table.

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::job::Job;
use darkroom_core::metadata::{JobMetadata, Metadata};
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, ItemError, Reader, millis, number, text};
use crate::items::job::name::{CREATED_AT, TTL, VERSION};
use crate::keys::Key;

/// The object as JSON. Not a map of DynamoDB's: that one knows other numbers.
pub(crate) const METADATA: &str = "metadata";

/// What a new item says, but for its key. `CREATED_AT` is the submission's that it belongs to: another job of the same key has
/// another.
pub(crate) fn attributes(
    job: &Job,
    metadata: &Metadata,
    expires_at: Timestamp,
) -> [(&'static str, AttributeValue); 4] {
    [
        (METADATA, text(metadata.text())),
        (VERSION, number(1_u64)),
        (CREATED_AT, millis(job.order.created_at)),
        (TTL, number(expires_at.as_seconds())),
    ]
}

/// The item of a new job's metadata.
pub(crate) fn to_item(job: &Job, metadata: &Metadata, expires_at: Timestamp) -> Item {
    let mut item = Key::Metadata(&job.id).attributes();
    item.extend(attributes(job, metadata, expires_at).map(|(name, value)| (name.to_owned(), value)));
    item
}

/// The metadata of an item, and when the job was submitted that they belong to.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub(crate) fn from_item(item: &Item) -> Result<(Timestamp, JobMetadata), ItemError> {
    let read = Reader(item);
    let value = read.parsed(METADATA, Metadata::from_stored)?;
    Ok((read.time(CREATED_AT)?, JobMetadata { version: read.number(VERSION)?, value }))
}
