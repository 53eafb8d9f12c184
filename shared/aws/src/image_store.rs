//! The pictures.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::Job;
use darkroom_core::retry::Patience;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use crate::clients::OPERATION_TIMEOUT;
use crate::error::{StoreError, is_conflict};
use crate::tries::Tries;

/// The image bucket.
#[derive(Clone, Debug)]
pub struct ImageStore {
    client: Client,
    bucket: String,
}

/// A picture is served under a link that lives this long, and so is one put.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(900);

/// The object's key for a picture that the job's attempt drew. It contains the job's time of creation, so that a key that
/// is used again after years never shares an object that expires before its record; the attempt, so that attempts never
/// overwrite each other; and the hash, so that an object that is there already is this one.
pub fn image_key(job: &Job, sha256: &str, format: ImageFormat) -> String {
    let extension = format.extension();
    let (id, attempt, created_at) = (&job.id, job.attempt, job.order.created_at.as_millis());
    format!("images/{id}/{created_at}/{attempt}/{sha256}.{extension}")
}

impl ImageStore {
    /// The bucket of this name.
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Stores a picture under `image.key`, never over another. Idempotent: the key holds the hash, so an
    /// object that is there already has these bytes. The store checks the hash. Ends within 9 seconds, the tries after
    /// another put of the same key that was under way included.
    pub async fn put(&self, image: &StoredImage, bytes: Bytes) -> Result<(), StoreError> {
        let mut tries = Tries::new(Patience::For(OPERATION_TIMEOUT));
        loop {
            let call = self.put_object(image, bytes.clone()).send();
            let Err(error) = tries.send(Box::pin(call)).await else { return Ok(()) };
            if error.raw_response().is_some_and(|response| response.status().as_u16() == 412) {
                return Ok(());
            }
            let conflict = error.code().is_some_and(is_conflict);
            if !(conflict && tries.pause().await) {
                return Err(StoreError::from_sdk("S3", "PutObject", error));
            }
        }
    }

    fn put_object(&self, image: &StoredImage, bytes: Bytes) -> PutObjectFluentBuilder {
        let hash = HEXLOWER_PERMISSIVE.decode(image.sha256.as_bytes()).unwrap_or_default();
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(&image.key)
            .if_none_match("*")
            .content_type(image.format.content_type())
            .cache_control("private, max-age=31536000, immutable")
            .checksum_sha256(BASE64.encode(&hash))
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(bytes))
    }

    /// Deletes a picture, there or not.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let call = self.client.delete_object().bucket(&self.bucket).key(key).send();
        call.await.map(drop).map_err(|error| StoreError::from_sdk("S3", "DeleteObject", error))
    }

    /// A link to the picture that lives 15 minutes, and not longer than the function's own credentials.
    pub async fn link(&self, key: &str) -> Result<String, StoreError> {
        const OPERATION: &str = "presign GetObject";
        self.client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .presigned(link_config(OPERATION)?)
            .await
            .map(|request| request.uri().to_owned())
            .map_err(|error| StoreError::from_sdk("S3", OPERATION, error))
    }
}

/// How a link is signed.
pub(crate) fn link_config(operation: &'static str) -> Result<PresigningConfig, StoreError> {
    PresigningConfig::expires_in(LINK_LIFE).map_err(|error| not_built(operation, &error))
}

/// A request that could not be written down.
pub(crate) fn not_built(operation: &'static str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Refused { store: "S3", operation, code: "not built".to_owned(), message: error.to_string() }
}
