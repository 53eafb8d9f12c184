//! An export as an item of the jobs table.
//!
//! Its time is `asked_at`, not `created_at`: so it has no entry in `by_user`, which lists jobs. Its entry in `due` stands in a
//! shard of its own, which nobody reads who looks for jobs.

use darkroom_core::export::{Export, ExportFailure, ExportStage, Progress};
use darkroom_core::id::{ExportId, Stamp, UserId};
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, ItemError, Reader, json, millis, number, text};
use crate::keys::{Key, PK};

/// Names of the record's attributes.
pub(crate) mod name {
    pub(crate) const SHARD: &str = "shard";
    pub(crate) const USER: &str = "user";
    pub(crate) const STATUS: &str = "status";
    pub(crate) const VERSION: &str = "ver";
    pub(crate) const OP: &str = "op";
    pub(crate) const REQUEST: &str = "request";
    pub(crate) const ASKED_AT: &str = "asked_at";
    pub(crate) const DEADLINE_AT: &str = "deadline_at";
    pub(crate) const ATTEMPT: &str = "attempt";
    pub(crate) const TRIES: &str = "tries";
    pub(crate) const ROWS: &str = "rows";
    pub(crate) const DUE_AT: &str = "due_at";
    pub(crate) const PROGRESS: &str = "progress";
    pub(crate) const FILE: &str = "file";
    pub(crate) const ERROR_CODE: &str = "error_code";
    pub(crate) const FINISHED_AT: &str = "finished_at";
    pub(crate) const TTL: &str = "ttl";
    /// What a record has only while it lives.
    pub(crate) const OF_LIVE: [&str; 3] = [SHARD, DUE_AT, PROGRESS];
    /// How many of a user's exports are under way, in an item of its own.
    pub(crate) const LIVE: &str = "live";
}

/// The shard of the index `due` in which exports are.
pub(crate) const SHARD: &str = "exports";

/// The item of an export.
pub fn export_item(export: &Export) -> Item {
    let mut item = Key::Export(&export.id).attributes();
    item.extend(
        [
            (name::USER, text(export.user.as_str())),
            (name::STATUS, text(export.status())),
            (name::VERSION, number(export.version)),
            (name::OP, text(export.op.as_str())),
            (name::REQUEST, json(&export.request)),
            (name::ASKED_AT, millis(export.asked_at)),
            (name::DEADLINE_AT, millis(export.deadline_at)),
            (name::ATTEMPT, number(export.attempt)),
            (name::TRIES, number(export.tries)),
            (name::ROWS, number(export.rows)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut put = |name: &str, value| drop(item.insert(name.to_owned(), value));
    let (due_at, progress) = match &export.stage {
        ExportStage::Pending { due_at, progress } => (due_at, progress),
        ExportStage::Processing { lease_until, progress } => (lease_until, progress),
        ExportStage::Ready { file, finished_at, expires_at } => {
            put(name::FILE, json(file));
            put(name::FINISHED_AT, millis(*finished_at));
            put(name::TTL, number(expires_at.as_seconds()));
            return item;
        }
        ExportStage::Failed { failure, finished_at, expires_at } => {
            put(name::ERROR_CODE, text(failure.as_str()));
            put(name::FINISHED_AT, millis(*finished_at));
            put(name::TTL, number(expires_at.as_seconds()));
            return item;
        }
    };
    put(name::SHARD, text(SHARD));
    put(name::DUE_AT, millis(*due_at));
    put(name::PROGRESS, json(progress));
    item
}

/// The export of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn export(item: &Item) -> Result<Export, ItemError> {
    let read = Reader(item);
    Ok(Export {
        id: read.parsed(PK, |text| ExportId::parse(text).ok())?,
        user: read.parsed(name::USER, |text| UserId::parse(text).ok())?,
        request: read.json(name::REQUEST)?,
        asked_at: read.time(name::ASKED_AT)?,
        deadline_at: read.time(name::DEADLINE_AT)?,
        version: read.number(name::VERSION)?,
        op: Stamp::from_stored(read.text(name::OP)?.to_owned()),
        attempt: read.small(name::ATTEMPT)?,
        tries: read.small(name::TRIES)?,
        rows: read.number(name::ROWS)?,
        stage: stage(read)?,
    })
}

fn stage(read: Reader<'_>) -> Result<ExportStage, ItemError> {
    let progress = || read.json::<Progress>(name::PROGRESS);
    let expires_at = || Ok(Timestamp::from_millis(read.number(name::TTL)?.saturating_mul(1000)));
    Ok(match read.text(name::STATUS)? {
        "pending" => ExportStage::Pending { due_at: read.time(name::DUE_AT)?, progress: progress()? },
        "processing" => {
            ExportStage::Processing { lease_until: read.time(name::DUE_AT)?, progress: progress()? }
        }
        "ready" => ExportStage::Ready {
            file: read.json(name::FILE)?,
            finished_at: read.time(name::FINISHED_AT)?,
            expires_at: expires_at()?,
        },
        "failed" => ExportStage::Failed {
            failure: ExportFailure::from_stored(read.text(name::ERROR_CODE)?),
            finished_at: read.time(name::FINISHED_AT)?,
            expires_at: expires_at()?,
        },
        _ => return Err(ItemError { attribute: name::STATUS, problem: "has an unknown value" }),
    })
}
