//! The index of multipart uploads: what was begun, and which parts of it have come.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::checksum::Checksums;
use super::index::{Condition, Entry, Headers, Index, Written, from_json, has_bucket, to_json, write};

pub(super) const SCHEMA: &str = "
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY,
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key TEXT NOT NULL,
        headers TEXT NOT NULL,
        started_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE parts (
        upload TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        file TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL,
        etag TEXT NOT NULL,
        checksums TEXT NOT NULL,
        modified_at INTEGER NOT NULL,
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;";

/// Which upload a request means: an id is good for its own bucket and key only.
#[derive(Clone, Debug)]
pub(super) struct UploadName {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) id: String,
}

/// A part that has come.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) number: i32,
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) etag: String,
    pub(super) checksums: Checksums,
    pub(super) modified_at_ms: u64,
}

impl Index {
    /// Begins an upload; false without such a bucket.
    pub(super) fn begin_upload(
        &self,
        upload: &UploadName,
        headers: &Headers,
        now_ms: u64,
    ) -> rusqlite::Result<bool> {
        let connection = self.lock();
        if !has_bucket(&connection, &upload.bucket)? {
            return Ok(false);
        }
        let insert = "INSERT INTO uploads (id, bucket, key, headers, started_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = params![upload.id, upload.bucket, upload.key, to_json(headers)?, now_ms];
        connection.execute(insert, row)?;
        Ok(true)
    }

    /// What was said of the object when the upload began; `None` when there is no such upload.
    pub(super) fn upload_headers(&self, upload: &UploadName) -> rusqlite::Result<Option<Headers>> {
        headers_of(&self.lock(), upload)
    }

    /// Adds a part, or puts it in the place of the one with its number, whose file is returned. `None` when
    /// there is no such upload (any more).
    pub(super) fn put_part(&self, upload: &UploadName, part: &Part) -> rusqlite::Result<Option<Written>> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if headers_of(&transaction, upload)?.is_none() {
            return Ok(None);
        }
        let select = "SELECT file FROM parts WHERE upload = ?1 AND number = ?2";
        let replaced =
            transaction.query_row(select, params![upload.id, part.number], |row| row.get(0)).optional()?;
        let insert =
            "INSERT OR REPLACE INTO parts (upload, number, file, bytes, etag, checksums, modified_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let checksums = to_json(&part.checksums)?;
        transaction.execute(
            insert,
            params![upload.id, part.number, part.file, part.bytes, part.etag, checksums, part.modified_at_ms],
        )?;
        transaction.commit()?;
        Ok(Some(Written::Done { replaced }))
    }

    /// The parts behind number `after`, by number.
    pub(super) fn parts(&self, upload: &UploadName, after: i32, limit: usize) -> rusqlite::Result<Vec<Part>> {
        let connection = self.lock();
        let select = "SELECT number, file, bytes, etag, checksums, modified_at FROM parts
            WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
        let mut select = connection.prepare_cached(select)?;
        let rows = select.query_map(params![upload.id, after, limit], part)?;
        rows.collect()
    }

    /// Makes `entry` the object if `condition` holds, and ends the upload, at once. `None` when there is no
    /// such upload (any more); refused, it goes on.
    pub(super) fn complete_upload(
        &self,
        upload: &UploadName,
        entry: &Entry,
        condition: &Condition,
    ) -> rusqlite::Result<Option<Written>> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if headers_of(&transaction, upload)?.is_none() {
            return Ok(None);
        }
        let written = write(&transaction, &upload.bucket, &upload.key, entry, condition)?;
        if matches!(written, Written::Done { .. }) {
            transaction.execute("DELETE FROM uploads WHERE id = ?1", [&upload.id])?;
        }
        transaction.commit()?;
        Ok(Some(written))
    }

    /// Forgets an upload and its parts; false when there is none.
    pub(super) fn abort_upload(&self, upload: &UploadName) -> rusqlite::Result<bool> {
        let delete = "DELETE FROM uploads WHERE id = ?1 AND bucket = ?2 AND key = ?3";
        Ok(self.lock().execute(delete, [&upload.id, &upload.bucket, &upload.key])? == 1)
    }
}

fn headers_of(connection: &Connection, upload: &UploadName) -> rusqlite::Result<Option<Headers>> {
    let select = "SELECT headers FROM uploads WHERE id = ?1 AND bucket = ?2 AND key = ?3";
    let found = connection
        .prepare_cached(select)?
        .query_row([&upload.id, &upload.bucket, &upload.key], |row| row.get::<_, String>(0))
        .optional()?;
    found.map(|text| from_json(&text)).transpose()
}

fn part(row: &Row<'_>) -> rusqlite::Result<Part> {
    Ok(Part {
        number: row.get(0)?,
        file: row.get(1)?,
        bytes: row.get(2)?,
        etag: row.get(3)?,
        checksums: from_json(&row.get::<_, String>(4)?)?,
        modified_at_ms: row.get(5)?,
    })
}
