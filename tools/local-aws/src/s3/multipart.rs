//! Multipart uploads: large objects that come in parts, each kept as soon as it is acknowledged, and made one
//! object at the end.

use std::ops::RangeInclusive;

use data_encoding::HEXLOWER;
use http::HeaderMap;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    CompleteMultipartUploadInput, CompletedPart, ETag, ListPartsInput, ListPartsOutput, StreamingBlob,
    UploadPartInput,
};
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};

use super::checksum::{Checksums, Declared};
use super::files::random_name;
use super::index::{Condition, Entry, Headers, Index};
use super::service::modified;
use super::store::{Store, internal, no_such_bucket, no_such_upload, now_ms};
use super::uploads::{Part, UploadName};

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const PART_NUMBERS: RangeInclusive<i32> = 1..=10_000;
/// Of every part but the last.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
/// Parts per page of a listing.
const PAGE: usize = 1_000;

/// Begins an upload; its id.
pub(super) async fn begin(store: &Store, bucket: String, key: String, headers: Headers) -> S3Result<String> {
    let id = random_name().map_err(internal)?;
    let upload = UploadName { bucket, key, id: id.clone() };
    let begun = store.run(move |inner| inner.index.begin_upload(&upload, &headers, now_ms())).await?;
    if begun { Ok(id) } else { Err(no_such_bucket()) }
}

/// Takes a part: all of it, verified, or nothing.
pub(super) async fn take_part(
    store: &Store,
    mut input: UploadPartInput,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> S3Result<Part> {
    if !PART_NUMBERS.contains(&input.part_number) {
        return Err(s3_error!(
            InvalidArgument,
            "Part number must be an integer between 1 and 10000, inclusive"
        ));
    }
    let declared = Checksums {
        crc32: input.checksum_crc32.take(),
        crc32c: input.checksum_crc32c.take(),
        crc64nvme: input.checksum_crc64nvme.take(),
        sha1: input.checksum_sha1.take(),
        sha256: input.checksum_sha256.take(),
    };
    let declared = Declared::of(input.content_md5.as_deref(), declared, headers)?;
    let body = input.body.take().unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
    let received = store.receive(body, input.content_length, declared, trailers).await?;
    let part = Part {
        number: input.part_number,
        file: received.file.name().to_owned(),
        bytes: received.bytes,
        etag: HEXLOWER.encode(&received.digests.md5),
        checksums: received.digests.checksums,
        modified_at_ms: now_ms(),
    };
    let upload = UploadName { bucket: input.bucket, key: input.key, id: input.upload_id };
    let publish = move |index: &Index, part: &Part| index.put_part(&upload, part);
    store.keep(received.file, part, publish).await
}

/// Makes the parts one object and ends the upload.
///
/// # Errors
/// `InvalidPartOrder`, `InvalidPart`, `EntityTooSmall`, `NoSuchUpload`, and what the condition says; then the
/// upload goes on.
pub(super) async fn complete(
    store: &Store,
    input: CompleteMultipartUploadInput,
    condition: Condition,
) -> S3Result<Entry> {
    let upload = UploadName { bucket: input.bucket, key: input.key, id: input.upload_id };
    let declared = Checksums {
        crc32: input.checksum_crc32,
        crc32c: input.checksum_crc32c,
        crc64nvme: input.checksum_crc64nvme,
        sha1: input.checksum_sha1,
        sha256: input.checksum_sha256,
    };
    let mut declared = Declared::of(None, declared, &HeaderMap::new())?;
    let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let (headers, parts) = begun(store, &upload).await?;
    let (parts, unused) = select(&named, parts)?;
    let etag = etag_of(&parts)?;
    let files: Vec<String> = parts.into_iter().map(|part| part.file).collect();
    let (digester, sources) = (declared.digester(), files.clone());
    let joined =
        store.block(move |inner| inner.files.concatenate(sources.iter().map(String::as_str), digester));
    let mut received = joined.await?.map_err(internal)?;
    declared.verify(&mut received.digests)?;
    let entry = Entry {
        file: received.file.name().to_owned(),
        bytes: received.bytes,
        etag,
        modified_at_ms: now_ms(),
        headers: Headers { checksums: received.digests.checksums, ..headers },
    };
    let publish = move |index: &Index, entry: &Entry| index.complete_upload(&upload, entry, &condition);
    let entry = store.keep(received.file, entry, publish).await?;
    store.remove_files(unused.into_iter().chain(files).collect()).await?;
    Ok(entry)
}

/// Ends an upload and removes its parts.
pub(super) async fn abort(store: &Store, upload: UploadName) -> S3Result<()> {
    let (_, parts) = begun(store, &upload).await?;
    let ended = store.run(move |inner| inner.index.abort_upload(&upload)).await?;
    if !ended {
        return Err(no_such_upload());
    }
    store.remove_files(parts.into_iter().map(|part| part.file).collect()).await
}

/// The parts that have come, a page at a time.
pub(super) async fn list(store: &Store, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let upload =
        UploadName { bucket: input.bucket.clone(), key: input.key.clone(), id: input.upload_id.clone() };
    let after = input.part_number_marker.unwrap_or(0);
    let wanted = input.max_parts.and_then(|parts| usize::try_from(parts).ok()).unwrap_or(PAGE).clamp(1, PAGE);
    headers(store, &upload).await?;
    let mut parts = store.run(move |inner| inner.index.parts(&upload, after, wanted + 1)).await?;
    let truncated = parts.len() > wanted;
    parts.truncate(wanted);
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(truncated),
        max_parts: i32::try_from(wanted).ok(),
        part_number_marker: input.part_number_marker,
        next_part_number_marker: parts.last().filter(|_| truncated).map(|part| part.number),
        parts: Some(parts.into_iter().map(listed).collect()),
        ..Default::default()
    })
}

fn listed(part: Part) -> s3s::dto::Part {
    s3s::dto::Part {
        part_number: Some(part.number),
        e_tag: Some(ETag::Strong(part.etag)),
        size: i64::try_from(part.bytes).ok(),
        last_modified: Some(modified(part.modified_at_ms)),
        checksum_crc32: part.checksums.crc32,
        checksum_crc32c: part.checksums.crc32c,
        checksum_crc64nvme: part.checksums.crc64nvme,
        checksum_sha1: part.checksums.sha1,
        checksum_sha256: part.checksums.sha256,
    }
}

async fn headers(store: &Store, upload: &UploadName) -> S3Result<Headers> {
    let upload = upload.clone();
    store.run(move |inner| inner.index.upload_headers(&upload)).await?.ok_or_else(no_such_upload)
}

/// An upload's headers and all its parts.
async fn begun(store: &Store, upload: &UploadName) -> S3Result<(Headers, Vec<Part>)> {
    let headers = headers(store, upload).await?;
    let upload = upload.clone();
    let parts = store.run(move |inner| inner.index.parts(&upload, 0, usize::from(u16::MAX))).await?;
    Ok((headers, parts))
}

/// The parts named, in their order, and the files of those that were not named.
fn select(named: &[CompletedPart], mut parts: Vec<Part>) -> S3Result<(Vec<Part>, Vec<String>)> {
    if named.is_empty() {
        return Err(s3_error!(InvalidRequest, "You must specify at least one part"));
    }
    let mut selected: Vec<Part> = Vec::with_capacity(named.len());
    for name in named {
        let number = name.part_number.unwrap_or(0);
        if selected.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        let is_named = |part: &Part| part.number == number && agrees(name, part);
        let found = parts.iter().position(is_named).ok_or_else(invalid_part)?;
        selected.push(parts.remove(found));
    }
    let small = selected
        .split_last()
        .is_some_and(|(_, others)| others.iter().any(|part| part.bytes < MIN_PART_BYTES));
    if small {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    Ok((selected, parts.into_iter().map(|part| part.file).collect()))
}

/// Whether everything that a client remembers of a part is so.
fn agrees(name: &CompletedPart, part: &Part) -> bool {
    let same = |named: Option<&String>, stored: &Option<String>| {
        named.is_none_or(|named| Some(named) == stored.as_ref())
    };
    name.e_tag.as_ref().is_none_or(|etag| etag.value() == part.etag)
        && same(name.checksum_crc32.as_ref(), &part.checksums.crc32)
        && same(name.checksum_crc32c.as_ref(), &part.checksums.crc32c)
        && same(name.checksum_crc64nvme.as_ref(), &part.checksums.crc64nvme)
        && same(name.checksum_sha1.as_ref(), &part.checksums.sha1)
        && same(name.checksum_sha256.as_ref(), &part.checksums.sha256)
}

fn invalid_part() -> S3Error {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found, or its ETag does not match."
    )
}

/// As on AWS: the MD5 of the parts' MD5s, and how many they are.
fn etag_of(parts: &[Part]) -> S3Result<String> {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(&HEXLOWER.decode(part.etag.as_bytes()).map_err(internal)?);
    }
    Ok(format!("{}-{}", HEXLOWER.encode(&digest.finalize()), parts.len()))
}
