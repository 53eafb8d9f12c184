//! The operations of S3 that are spoken here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, IfMatch, IfNoneMatch, ListObjectsV2Input, ListObjectsV2Output,
    ListPartsInput, ListPartsOutput, PutObjectInput, PutObjectOutput, PutObjectTaggingInput,
    PutObjectTaggingOutput, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::checksum::{Checksums, Declared};
use super::index::{Condition, Entry, Headers};
use super::store::{Store, no_such_bucket};
use super::uploads::UploadName;
use super::{list, multipart, tags};

/// The largest object that one PutObject may send.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
const MAX_OBJECT_BYTES: i64 = 5 * 1024 * 1024 * 1024;

pub(super) struct Service {
    pub(super) store: Store,
    pub(super) region: String,
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        if !self.store.create_bucket(&bucket).await? {
            return Err(s3_error!(BucketAlreadyOwnedByYou, "The bucket exists and is yours: go on."));
        }
        let location = Some(format!("/{bucket}"));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&request.input.bucket).await?;
        let bucket_region = Some(self.region.clone());
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..Default::default() }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let S3Request { mut input, headers, trailing_headers, .. } = request;
        if input.content_length.is_some_and(|bytes| bytes > MAX_OBJECT_BYTES) {
            return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
        }
        let condition = write_condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let tags = tags::of_header(input.tagging.as_deref())?;
        let declared = Declared::read(&input, &headers)?;
        let body = input.body.take().unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        // The body is read to its end even when the condition cannot hold: a client answered in the middle of
        // its body sees a broken connection instead of the answer.
        let received = self.store.receive(body, input.content_length, declared, trailing_headers).await?;
        let checksums = received.digests.checksums.clone();
        let headers = Headers { checksums, tags, ..put_headers(&input) };
        let entry = self.store.publish((input.bucket, input.key), received, headers, condition).await?;
        let Checksums { crc32, crc32c, crc64nvme, sha1, sha256 } = entry.headers.checksums;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(entry.etag)),
            checksum_crc32: crc32,
            checksum_crc32c: crc32c,
            checksum_crc64nvme: crc64nvme,
            checksum_sha1: sha1,
            checksum_sha256: sha256,
            checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            ..Default::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let wanted = input.range;
        let conditions = (input.if_match, input.if_none_match);
        let select = move |entry: &Entry| {
            check_read(conditions, entry)?;
            select_bytes(wanted, entry.bytes)
        };
        let (entry, range, pieces) = self.store.get(&input.bucket, &input.key, select).await?;
        // A checksum is of the whole object; a client that asked for a part could not verify it.
        let checksums = if wanted.is_none() && input.checksum_mode.is_some() {
            entry.headers.checksums
        } else {
            Checksums::default()
        };
        let Headers {
            content_type,
            content_encoding,
            content_language,
            content_disposition,
            cache_control,
            metadata,
            ..
        } = entry.headers;
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(pieces)),
            content_length: Some(length(range.end - range.start)),
            content_range: wanted.map(|_| content_range(&range, entry.bytes)),
            content_type: Some(content_type.unwrap_or_else(default_type)),
            content_encoding,
            content_language,
            content_disposition,
            cache_control,
            e_tag: Some(ETag::Strong(entry.etag)),
            last_modified: Some(modified(entry.modified_at_ms)),
            metadata: Some(metadata.into_iter().collect()),
            checksum_crc32: checksums.crc32,
            checksum_crc32c: checksums.crc32c,
            checksum_crc64nvme: checksums.crc64nvme,
            checksum_sha1: checksums.sha1,
            checksum_sha256: checksums.sha256,
            ..Default::default()
        };
        let status = if wanted.is_some() { http::StatusCode::PARTIAL_CONTENT } else { http::StatusCode::OK };
        Ok(S3Response::with_status(output, status))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let entry = self.store.head(&input.bucket, &input.key).await?;
        check_read((input.if_match, input.if_none_match), &entry)?;
        let checksums = input.checksum_mode.map(|_| entry.headers.checksums).unwrap_or_default();
        let Headers {
            content_type,
            content_encoding,
            content_language,
            content_disposition,
            cache_control,
            metadata,
            ..
        } = entry.headers;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(length(entry.bytes)),
            content_type: Some(content_type.unwrap_or_else(default_type)),
            content_encoding,
            content_language,
            content_disposition,
            cache_control,
            e_tag: Some(ETag::Strong(entry.etag)),
            last_modified: Some(modified(entry.modified_at_ms)),
            metadata: Some(metadata.into_iter().collect()),
            checksum_crc32: checksums.crc32,
            checksum_crc32c: checksums.crc32c,
            checksum_crc64nvme: checksums.crc64nvme,
            checksum_sha1: checksums.sha1,
            checksum_sha256: checksums.sha256,
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let condition = write_condition(input.if_match.as_ref(), None)?;
        self.store.remove(&input.bucket, &input.key, condition).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = request.input;
        let tags = tags::of_set(input.tagging.tag_set)?;
        self.store.tag(&input.bucket, &input.key, tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let entry = self.store.head(&request.input.bucket, &request.input.key).await?;
        let tag_set = tags::to_set(entry.headers.tags);
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let headers = Headers { tags: tags::of_header(input.tagging.as_deref())?, ..upload_headers(&input) };
        let id = multipart::begin(&self.store, input.bucket.clone(), input.key.clone(), headers).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let S3Request { input, headers, trailing_headers, .. } = request;
        let part = multipart::take_part(&self.store, input, &headers, trailing_headers).await?;
        let Checksums { crc32, crc32c, crc64nvme, sha1, sha256 } = part.checksums;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag)),
            checksum_crc32: crc32,
            checksum_crc32c: crc32c,
            checksum_crc64nvme: crc64nvme,
            checksum_sha1: sha1,
            checksum_sha256: sha256,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let condition = write_condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let entry = multipart::complete(&self.store, input, condition).await?;
        let Checksums { crc32, crc32c, crc64nvme, sha1, sha256 } = entry.headers.checksums;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(entry.etag)),
            checksum_crc32: crc32,
            checksum_crc32c: crc32c,
            checksum_crc64nvme: crc64nvme,
            checksum_sha1: sha1,
            checksum_sha256: sha256,
            checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id: id, .. } = request.input;
        multipart::abort(&self.store, UploadName { bucket, key, id }).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        Ok(S3Response::new(multipart::list(&self.store, request.input).await?))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.bucket(&request.input.bucket).await?;
        Ok(S3Response::new(list::page(&self.store, request.input).await?))
    }
}

impl Service {
    async fn bucket(&self, name: &str) -> S3Result<()> {
        if self.store.has_bucket(name).await? { Ok(()) } else { Err(no_such_bucket()) }
    }
}

/// `If-Match` and `If-None-Match` of a write. AWS accepts `*` alone for the latter, and not both.
fn write_condition(if_match: Option<&IfMatch>, if_none_match: Option<&IfNoneMatch>) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (None, Some(IfNoneMatch::Any)) => Ok(Condition::Absent),
        (Some(IfMatch::Any), None) => Ok(Condition::Present),
        (Some(IfMatch::ETag(tag)), None) => Ok(Condition::Matches(tag.value().to_owned())),
        _ => Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented"
        )),
    }
}

/// `If-Match` and `If-None-Match` of a read.
fn check_read(
    (if_match, if_none_match): (Option<IfMatch>, Option<IfNoneMatch>),
    entry: &Entry,
) -> S3Result<()> {
    let names = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == entry.etag,
    };
    if if_match.as_ref().is_some_and(|condition| !names(condition)) {
        return Err(s3_error!(
            PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold"
        ));
    }
    if if_none_match.as_ref().is_some_and(names) {
        return Err(s3_error!(NotModified, "Not Modified"));
    }
    Ok(())
}

fn select_bytes(wanted: Option<s3s::dto::Range>, bytes: u64) -> S3Result<Range<u64>> {
    match wanted {
        None => Ok(0..bytes),
        Some(wanted) => wanted
            .check(bytes)
            .map_err(|error| s3_error!(error, InvalidRange, "The requested range is not satisfiable")),
    }
}

fn put_headers(input: &PutObjectInput) -> Headers {
    Headers {
        content_type: input.content_type.clone(),
        content_encoding: input.content_encoding.as_deref().and_then(without_transfer_coding),
        content_language: input.content_language.clone(),
        content_disposition: input.content_disposition.clone(),
        cache_control: input.cache_control.clone(),
        metadata: stored_metadata(input.metadata.as_ref()),
        checksums: Checksums::default(),
        tags: tags::Tags::default(),
    }
}

fn upload_headers(input: &CreateMultipartUploadInput) -> Headers {
    Headers {
        content_type: input.content_type.clone(),
        content_encoding: input.content_encoding.clone(),
        content_language: input.content_language.clone(),
        content_disposition: input.content_disposition.clone(),
        cache_control: input.cache_control.clone(),
        metadata: stored_metadata(input.metadata.as_ref()),
        checksums: Checksums::default(),
        tags: tags::Tags::default(),
    }
}

fn stored_metadata(metadata: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `aws-chunked` is how the body travelled, not what the object is.
fn without_transfer_coding(encoding: &str) -> Option<String> {
    let kept: Vec<&str> =
        encoding.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

fn default_type() -> String {
    "binary/octet-stream".to_owned()
}

fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn content_range(range: &Range<u64>, bytes: u64) -> String {
    format!("bytes {}-{}/{bytes}", range.start, range.end.saturating_sub(1))
}

pub(super) fn modified(at_ms: u64) -> Timestamp {
    // HTTP dates have whole seconds, and S3 keeps no more.
    Timestamp::from(UNIX_EPOCH + Duration::from_secs(at_ms / 1_000))
}
