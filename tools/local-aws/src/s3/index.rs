//! The index: which buckets and objects there are, and which file holds each object's bytes.
//!
//! An object exists exactly when its row does. A row is written in one transaction after the file it names is
//! complete, so that bytes, type, length, checksums and metadata of an object appear, change and vanish
//! together, whatever dies when. Keys are values in a table and never part of a path.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::tags::Tags;
use crate::sqlite::OpenError;

/// Counts the changes of this schema and of the one for uploads.
const LAYOUT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE buckets (
        name TEXT PRIMARY KEY,
        created_at INTEGER NOT NULL  -- milliseconds since 1970, like every time here
    ) WITHOUT ROWID;
    CREATE TABLE objects (
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key TEXT NOT NULL,
        file TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified_at INTEGER NOT NULL,
        headers TEXT NOT NULL,
        PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID;";

/// What is known of an object besides its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The name of its file in the folder of objects.
    pub(super) file: String,
    pub(super) bytes: u64,
    /// Without quotes.
    pub(super) etag: String,
    pub(super) modified_at_ms: u64,
    pub(super) headers: Headers,
}

/// What the writer said about an object, and the checksum that was verified or computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) metadata: std::collections::BTreeMap<String, String>,
    pub(super) checksums: super::checksum::Checksums,
    pub(super) tags: super::tags::Tags,
}

/// When a write may take effect.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match: "etag"`
    Matches(String),
}

/// What became of a write.
#[derive(Debug, PartialEq)]
pub(super) enum Written {
    /// It took effect; the file of the object it replaced, if any, is nobody's now.
    Done {
        replaced: Option<String>,
    },
    /// The condition does not hold; nothing changed.
    Refused,
    /// There is no object for `If-Match` to match.
    NoSuchKey,
    NoSuchBucket,
}

pub(super) struct Index(Mutex<Connection>);

impl Index {
    pub(super) fn open(file: &Path) -> Result<Self, OpenError> {
        let schema = format!("{SCHEMA}{}", super::uploads::SCHEMA);
        Ok(Self(Mutex::new(crate::sqlite::open(file, &schema, LAYOUT)?)))
    }

    /// The lock. A panic while it was held rolled its transaction back, so the connection is sound.
    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a bucket; false when it was there.
    pub(super) fn create_bucket(&self, name: &str, now_ms: u64) -> rusqlite::Result<bool> {
        let insert = "INSERT INTO buckets (name, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        Ok(self.lock().execute(insert, params![name, now_ms])? == 1)
    }

    pub(super) fn has_bucket(&self, name: &str) -> rusqlite::Result<bool> {
        has_bucket(&self.lock(), name)
    }

    /// Looks an object up and lets `then` open its file before anybody can remove it. `None` when absent.
    pub(super) fn find<T>(
        &self,
        bucket: &str,
        key: &str,
        then: impl FnOnce(Entry) -> T,
    ) -> rusqlite::Result<Option<T>> {
        let connection = self.lock();
        let select =
            "SELECT file, bytes, etag, modified_at, headers FROM objects WHERE bucket = ?1 AND key = ?2";
        let found = connection.prepare_cached(select)?.query_row([bucket, key], entry).optional()?;
        Ok(found.map(then))
    }

    /// Makes `entry` the object at `key` if `condition` holds. Of racing writers that demand absence, one is
    /// `Done`.
    pub(super) fn publish(
        &self,
        bucket: &str,
        key: &str,
        entry: &Entry,
        condition: &Condition,
    ) -> rusqlite::Result<Written> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = write(&transaction, bucket, key, entry, condition)?;
        transaction.commit()?;
        Ok(written)
    }

    /// Removes an object. `Done` also when it was absent.
    pub(super) fn remove(&self, bucket: &str, key: &str, condition: &Condition) -> rusqlite::Result<Written> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let decided = decide(&transaction, bucket, key, condition)?;
        if matches!(decided, Written::Done { .. }) {
            let delete = "DELETE FROM objects WHERE bucket = ?1 AND key = ?2";
            transaction.prepare_cached(delete)?.execute([bucket, key])?;
        }
        transaction.commit()?;
        Ok(decided)
    }

    /// Gives an object these tags in the place of those it has; false when it is absent. Its bytes and its time stay.
    pub(super) fn tag(&self, bucket: &str, key: &str, tags: Tags) -> rusqlite::Result<bool> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let select = "SELECT headers FROM objects WHERE bucket = ?1 AND key = ?2";
        let found: Option<String> =
            transaction.prepare_cached(select)?.query_row([bucket, key], |row| row.get(0)).optional()?;
        let Some(found) = found else { return Ok(false) };
        let headers = to_json(&Headers { tags, ..from_json(&found)? })?;
        let update = "UPDATE objects SET headers = ?3 WHERE bucket = ?1 AND key = ?2";
        transaction.prepare_cached(update)?.execute([bucket, key, &headers])?;
        transaction.commit()?;
        Ok(true)
    }

    /// Up to `limit` objects of a bucket whose keys are `from` or later, in the order of their bytes.
    pub(super) fn range(
        &self,
        bucket: &str,
        from: &str,
        limit: usize,
    ) -> rusqlite::Result<Vec<(String, Entry)>> {
        let connection = self.lock();
        let select = "SELECT file, bytes, etag, modified_at, headers, key FROM objects
            WHERE bucket = ?1 AND key >= ?2 ORDER BY key LIMIT ?3";
        let mut select = connection.prepare_cached(select)?;
        let rows = select.query_map(params![bucket, from, limit], |row| Ok((row.get(5)?, entry(row)?)))?;
        rows.collect()
    }

    /// Whether bytes of an object, or of a part of one to be, are in `file`.
    pub(super) fn names(&self, file: &str) -> rusqlite::Result<bool> {
        let connection = self.lock();
        let select = "SELECT 1 FROM objects WHERE file = ?1 UNION ALL SELECT 1 FROM parts WHERE file = ?1";
        connection.prepare_cached(select)?.exists([file])
    }
}

pub(super) fn has_bucket(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM buckets WHERE name = ?1")?.exists([name])
}

/// Writes the row of an object if `condition` holds.
pub(super) fn write(
    transaction: &Transaction<'_>,
    bucket: &str,
    key: &str,
    entry: &Entry,
    condition: &Condition,
) -> rusqlite::Result<Written> {
    let decided = decide(transaction, bucket, key, condition)?;
    if matches!(decided, Written::Done { .. }) {
        let upsert = "INSERT INTO objects (bucket, key, file, bytes, etag, modified_at, headers)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            ON CONFLICT DO UPDATE SET file = excluded.file, bytes = excluded.bytes, etag = excluded.etag,
                modified_at = excluded.modified_at, headers = excluded.headers";
        let headers = to_json(&entry.headers)?;
        let row = params![bucket, key, entry.file, entry.bytes, entry.etag, entry.modified_at_ms, headers];
        transaction.prepare_cached(upsert)?.execute(row)?;
    }
    Ok(decided)
}

fn decide(
    transaction: &Transaction<'_>,
    bucket: &str,
    key: &str,
    condition: &Condition,
) -> rusqlite::Result<Written> {
    if !has_bucket(transaction, bucket)? {
        return Ok(Written::NoSuchBucket);
    }
    let select = "SELECT file, etag FROM objects WHERE bucket = ?1 AND key = ?2";
    let present: Option<(String, String)> = transaction
        .prepare_cached(select)?
        .query_row([bucket, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match (condition, present) {
        (Condition::Absent, Some(_)) => Written::Refused,
        (Condition::Present | Condition::Matches(_), None) => Written::NoSuchKey,
        (Condition::Matches(wanted), Some((_, etag))) if *wanted != etag => Written::Refused,
        (_, present) => Written::Done { replaced: present.map(|(file, _)| file) },
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let headers = from_json(&row.get::<_, String>(4)?)?;
    Ok(Entry {
        file: row.get(0)?,
        bytes: row.get(1)?,
        etag: row.get(2)?,
        modified_at_ms: row.get(3)?,
        headers,
    })
}

pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
