//! The files of exports, below `exports/` in the image bucket.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;
use darkroom_core::export::{Export, Parts};
use darkroom_core::limits::EXPORT_LINK_LIFE;

use crate::error::StoreError;
use crate::image_store::not_built;

/// The image bucket, as far as exports go.
#[derive(Clone, Debug)]
pub struct ExportStore {
    client: Client,
    bucket: String,
}

/// What came of a part, or of the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent<T> {
    /// S3 has it.
    Done(T),
    /// There is no such upload any more, or a part of it is not the one that was noted: what was done of it is lost.
    Lost,
}

/// The object's key for what this attempt begins. It holds the attempt, so that no two attempts write the same object; and the
/// time, so that neither do two exports of one key that is used again after its record expired.
pub fn export_key(export: &Export) -> String {
    let (id, asked_at, attempt) = (&export.id, export.asked_at.as_millis(), export.attempt);
    format!("exports/{id}/{asked_at}/{attempt}.{}", export.request.format.as_str())
}

impl ExportStore {
    /// The bucket of this name.
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Stores a file that is whole.
    pub async fn put(&self, export: &Export, bytes: Bytes) -> Result<String, StoreError> {
        let key = export_key(export);
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(&key)
            .content_type(export.request.format.content_type())
            .content_disposition(disposition(export))
            .cache_control("private, no-store")
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map(|_| key)
            .map_err(|error| StoreError::from_sdk("S3", "PutObject export", error))
    }

    /// Begins a file that comes in parts.
    pub async fn begin(&self, export: &Export) -> Result<Parts, StoreError> {
        let key = export_key(export);
        let answer = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&key)
            .content_type(export.request.format.content_type())
            .content_disposition(disposition(export))
            .cache_control("private, no-store")
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("S3", "CreateMultipartUpload", error))?;
        Ok(Parts { key, upload_id: answer.upload_id.unwrap_or_default(), etags: Vec::new() })
    }

    /// Stores the next part behind those noted; what S3 calls its bytes.
    pub async fn part(&self, parts: &Parts, bytes: Bytes) -> Result<Sent<String>, StoreError> {
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&parts.key)
            .upload_id(&parts.upload_id)
            .part_number(number(parts.etags.len()))
            .body(ByteStream::from(bytes))
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Sent::Done(answer.e_tag.unwrap_or_default())),
            Err(error) => lost_or("UploadPart", error),
        }
    }

    /// Makes the noted parts one object of this length, with these very bytes; how long it is. An upload that is over was ended by
    /// this same call, or lost: then its object tells. Whoever began the upload may have made it, of the same rows.
    pub async fn complete(&self, parts: &Parts, bytes: u64) -> Result<Sent<u64>, StoreError> {
        let part = |(at, etag): (usize, &String)| {
            CompletedPart::builder().part_number(number(at)).e_tag(etag).build()
        };
        let named = parts.etags.iter().enumerate().map(part).collect();
        let sent = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&parts.key)
            .upload_id(&parts.upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(named)).build())
            .send()
            .await;
        let Err(error) = sent else { return Ok(Sent::Done(bytes)) };
        match lost_or::<u64, _>("CompleteMultipartUpload", error)? {
            Sent::Lost => Ok(self.length(&parts.key).await?.map_or(Sent::Lost, Sent::Done)),
            done @ Sent::Done(_) => Ok(done),
        }
    }

    /// Ends an upload that nobody will complete. S3 does so itself a day after it was begun.
    pub async fn abort(&self, parts: &Parts) -> Result<(), StoreError> {
        let sent = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&parts.key)
            .upload_id(&parts.upload_id)
            .send()
            .await;
        sent.map(drop).or_else(|error| lost_or("AbortMultipartUpload", error).map(|_: Sent<()>| ()))
    }

    /// How long an object is; `None` when it is not there. A list answers for sure: S3 answers a look at an absent key with 403 to
    /// whoever may not list the whole bucket.
    async fn length(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(key)
            .max_keys(1)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("S3", "ListObjectsV2 exports", error))?;
        let object = answer.contents().iter().find(|object| object.key() == Some(key));
        Ok(object.and_then(|object| u64::try_from(object.size()?).ok()))
    }

    /// A link to a file that lives an hour, and not longer than the function's own credentials. What it opens is kept, not shown.
    pub async fn link(&self, key: &str) -> Result<String, StoreError> {
        const OPERATION: &str = "presign GetObject export";
        let config =
            PresigningConfig::expires_in(EXPORT_LINK_LIFE).map_err(|error| not_built(OPERATION, &error))?;
        self.client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .presigned(config)
            .await
            .map(|request| request.uri().to_owned())
            .map_err(|error| StoreError::from_sdk("S3", OPERATION, error))
    }
}

fn disposition(export: &Export) -> String {
    format!("attachment; filename=\"{}\"", export.request.file_name())
}

/// S3 counts parts from 1.
fn number(at: usize) -> i32 {
    i32::try_from(at + 1).unwrap_or(i32::MAX)
}

fn lost_or<T, E>(operation: &'static str, error: SdkError<E>) -> Result<Sent<T>, StoreError>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match error.code() {
        Some("NoSuchUpload" | "InvalidPart") => Ok(Sent::Lost),
        _ => Err(StoreError::from_sdk("S3", operation, error)),
    }
}
