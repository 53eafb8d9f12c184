//! Buckets and objects: the index and the files together.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::Stream;
use futures::stream::{self, StreamExt};
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};

use super::checksum::Declared;
use super::files::{CHUNK_BYTES, Files, NewFile, Received, blocking, read_some, seek};
use super::index::{Condition, Entry, Headers, Index, Written};
use super::tags::Tags;
use crate::error::Source;

/// Everything stored. Cloning shares it.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

pub(super) struct Inner {
    pub(super) index: Index,
    pub(super) files: Files,
}

/// Bytes of an object, in pieces.
pub(super) type Pieces = std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send + Sync>>;

impl Store {
    /// Opens the folder, removing what a killed process left half-written.
    pub(super) fn open(folder: &Path) -> Result<Self, Source> {
        let files = Files::open(&folder.join("objects"))?;
        let index = Index::open(&folder.join("index.sqlite"))?;
        files.remove_unnamed(|name| Ok::<_, Source>(index.names(name)?))?;
        Ok(Self(Arc::new(Inner { index, files })))
    }

    /// Makes a bucket; false when it was there.
    pub(super) async fn create_bucket(&self, name: &str) -> S3Result<bool> {
        let name = name.to_owned();
        self.run(move |inner| inner.index.create_bucket(&name, now_ms())).await
    }

    pub(super) async fn has_bucket(&self, name: &str) -> S3Result<bool> {
        let name = name.to_owned();
        self.run(move |inner| inner.index.has_bucket(&name)).await
    }

    /// Receives a body to its end and checks it against everything that was declared about it.
    ///
    /// # Errors
    /// `IncompleteBody`, `BadDigest` and whatever else the body broke; then nothing of it stays.
    pub(super) async fn receive(
        &self,
        body: impl Stream<Item = Result<Bytes, s3s::StdError>> + Send,
        length: Option<i64>,
        mut declared: Declared,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Received> {
        let mut incoming = self.0.files.incoming(declared.digester());
        let mut body = std::pin::pin!(body);
        while let Some(piece) = body.next().await {
            incoming.push(piece.map_err(broken_body)?).await.map_err(internal)?;
        }
        let mut received = incoming.finish().await.map_err(internal)?;
        if length.is_some_and(|length| u64::try_from(length) != Ok(received.bytes)) {
            let message =
                "You did not provide the number of bytes specified by the Content-Length HTTP header";
            return Err(s3_error!(IncompleteBody, "{message}"));
        }
        let trailers = trailers.and_then(|trailers| trailers.take());
        declared.complete(trailers.as_ref())?;
        declared.verify(&mut received.digests)?;
        Ok(received)
    }

    /// Makes a received file the object at `key` if `condition` holds; removes what it replaces.
    ///
    /// # Errors
    /// `PreconditionFailed`, `NoSuchKey` or `NoSuchBucket`; then the file is gone and nothing changed.
    pub(super) async fn publish(
        &self,
        (bucket, key): (String, String),
        received: Received,
        headers: Headers,
        condition: Condition,
    ) -> S3Result<Entry> {
        let entry = Entry {
            file: received.file.name().to_owned(),
            bytes: received.bytes,
            etag: HEXLOWER.encode(&received.digests.md5),
            modified_at_ms: now_ms(),
            headers,
        };
        let publish =
            move |index: &Index, entry: &Entry| index.publish(&bucket, &key, entry, &condition).map(Some);
        self.keep(received.file, entry, publish).await
    }

    /// Lets `publish` write the row that names `file`; then the file stays and the one it replaces goes.
    /// `None` from it means that the upload is unknown.
    pub(super) async fn keep<T: Send + 'static>(
        &self,
        file: NewFile,
        row: T,
        publish: impl FnOnce(&Index, &T) -> rusqlite::Result<Option<Written>> + Send + 'static,
    ) -> S3Result<T> {
        self.block(move |inner| {
            let written = publish(&inner.index, &row).map_err(internal)?.ok_or_else(no_such_upload)?;
            let replaced = outcome(written)?;
            file.keep();
            if let Some(replaced) = replaced {
                inner.files.remove(&replaced);
            }
            Ok(row)
        })
        .await?
    }

    /// Removes files that no row names any more.
    pub(super) async fn remove_files(&self, names: Vec<String>) -> S3Result<()> {
        self.block(move |inner| names.iter().for_each(|name| inner.files.remove(name))).await
    }

    /// Removes an object, if there is one.
    pub(super) async fn remove(&self, bucket: &str, key: &str, condition: Condition) -> S3Result<()> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.block(move |inner| {
            let removed = inner.index.remove(&bucket, &key, &condition).map_err(internal)?;
            if let Some(file) = outcome(removed)? {
                inner.files.remove(&file);
            }
            Ok(())
        })
        .await?
    }

    /// Gives an object these tags in the place of those it has.
    pub(super) async fn tag(&self, bucket: &str, key: &str, tags: Tags) -> S3Result<()> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.run(move |inner| {
            let is_there = inner.index.tag(&bucket, &key, tags)?;
            Ok(if is_there { Ok(()) } else { Err(missing(&inner.index, &bucket)?) })
        })
        .await?
    }

    /// What is known of an object.
    pub(super) async fn head(&self, bucket: &str, key: &str) -> S3Result<Entry> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.run(move |inner| found(&inner.index, &bucket, &key, |entry| entry)).await?
    }

    /// An object and the bytes of it that `range` selects. The bytes are those of the entry, whatever is
    /// written meanwhile.
    pub(super) async fn get<R>(
        &self,
        bucket: &str,
        key: &str,
        range: R,
    ) -> S3Result<(Entry, std::ops::Range<u64>, Pieces)>
    where
        R: FnOnce(&Entry) -> S3Result<std::ops::Range<u64>> + Send + 'static,
    {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let opened = self
            .run(move |inner| {
                let opened = found(&inner.index, &bucket, &key, |entry| {
                    let range = range(&entry)?;
                    let file = inner.files.open_file(&entry.file).map_err(internal)?;
                    Ok((entry, range, file))
                })?;
                Ok(opened.flatten().and_then(|(entry, range, mut file)| {
                    seek(&mut file, range.start).map_err(internal)?;
                    let first =
                        read_some(&mut file, piece_bytes(range.end - range.start)).map_err(internal)?;
                    Ok((entry, range, file, first))
                }))
            })
            .await?;
        let (entry, range, file, first) = opened?;
        let left = range.end.saturating_sub(range.start).saturating_sub(first.len() as u64);
        let pieces = stream::once(std::future::ready(Ok(first))).chain(rest(file, left));
        Ok((entry, range, Box::pin(pieces)))
    }

    /// Up to `limit` objects whose keys are `from` or later, in the order of their bytes.
    pub(super) async fn range(
        &self,
        bucket: &str,
        from: &str,
        limit: usize,
    ) -> S3Result<Vec<(String, Entry)>> {
        let (bucket, from) = (bucket.to_owned(), from.to_owned());
        self.run(move |inner| inner.index.range(&bucket, &from, limit)).await
    }

    /// Does something with the index on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> rusqlite::Result<T> + Send + 'static,
    ) -> S3Result<T> {
        self.block(work).await?.map_err(internal)
    }

    /// Does something on a thread that may block.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> S3Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await.map_err(internal)
    }
}

/// The rest of an open file, `left` bytes, in pieces.
fn rest(file: std::fs::File, left: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync {
    stream::try_unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let (file, piece) = blocking(move || {
            let piece = read_some(&mut file, piece_bytes(left));
            (file, piece)
        })
        .await?;
        let piece = piece?;
        if piece.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let left = left.saturating_sub(piece.len() as u64);
        Ok(Some((piece, (file, left))))
    })
}

fn piece_bytes(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
}

fn found<T>(
    index: &Index,
    bucket: &str,
    key: &str,
    then: impl FnOnce(Entry) -> T,
) -> rusqlite::Result<S3Result<T>> {
    if let Some(found) = index.find(bucket, key, then)? {
        return Ok(Ok(found));
    }
    missing(index, bucket).map(Err)
}

/// What is not there of an object that was not found.
fn missing(index: &Index, bucket: &str) -> rusqlite::Result<S3Error> {
    Ok(if index.has_bucket(bucket)? { no_such_key() } else { no_such_bucket() })
}

fn outcome(written: Written) -> S3Result<Option<String>> {
    match written {
        Written::Done { replaced } => Ok(replaced),
        Written::Refused => Err(s3_error!(
            PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold"
        )),
        Written::NoSuchKey => Err(no_such_key()),
        Written::NoSuchBucket => Err(no_such_bucket()),
    }
}

pub(super) fn no_such_bucket() -> S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist")
}

pub(super) fn no_such_upload() -> S3Error {
    let message = "The specified multipart upload does not exist. It may have been aborted or completed.";
    s3_error!(NoSuchUpload, "{message}")
}

fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

pub(super) fn internal(error: impl std::error::Error + Send + Sync + 'static) -> S3Error {
    S3Error::internal_error(error)
}

/// What a body that ended in an error means. `s3s` checks the signed digest of the body and the signatures of
/// its chunks while they pass; its error types are private, their texts are not.
fn broken_body(error: s3s::StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let code = s3s::S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut refused = S3Error::with_source(code, error);
        refused.set_message("The provided 'x-amz-content-sha256' header does not match what was computed.");
        refused.set_status_code(http::StatusCode::BAD_REQUEST);
        return refused;
    }
    if text.contains("SignatureMismatch") {
        return S3Error::with_source(s3s::S3ErrorCode::SignatureDoesNotMatch, error);
    }
    S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error)
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
