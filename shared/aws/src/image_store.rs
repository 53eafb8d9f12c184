//! The pictures.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use darkroom_core::id::JobId;
use darkroom_core::image::{ImageFormat, StoredImage};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use crate::error::StoreError;

/// The image bucket.
#[derive(Clone, Debug)]
pub struct ImageStore {
    client: Client,
    bucket: String,
}

/// A picture is served under a link that lives this long.
const LINK_LIFE: Duration = Duration::from_secs(900);

/// The object's key: it contains the attempt, so that attempts never overwrite each other, and the hash,
/// so that an object that is there already is this one.
pub fn image_key(job: &JobId, attempt: u32, sha256: &str, format: ImageFormat) -> String {
    let extension = match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpg",
        ImageFormat::Webp => "webp",
    };
    format!("images/{job}/{attempt}/{sha256}.{extension}")
}

impl ImageStore {
    /// The bucket of this name.
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Stores a picture under `image.key`, never over another. Idempotent: the key holds the hash, so an
    /// object that is there already has these bytes. The store checks the hash.
    pub async fn put(&self, image: &StoredImage, bytes: Bytes) -> Result<(), StoreError> {
        let hash = HEXLOWER_PERMISSIVE.decode(image.sha256.as_bytes()).unwrap_or_default();
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&image.key)
            .if_none_match("*")
            .content_type(image.format.content_type())
            .cache_control("private, max-age=31536000, immutable")
            .checksum_sha256(BASE64.encode(&hash))
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(bytes))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_response().map(|response| response.status().as_u16()) {
                Some(412) => Ok(()),
                _ => Err(StoreError::from_sdk("S3", "PutObject", error)),
            },
        }
    }

    /// A link to the picture that lives 15 minutes, and not longer than the function's own credentials.
    pub async fn link(&self, key: &str) -> Result<String, StoreError> {
        let config = PresigningConfig::expires_in(LINK_LIFE).map_err(|error| StoreError::Refused {
            store: "S3",
            operation: "presign GetObject",
            code: "not built".to_owned(),
            message: error.to_string(),
        })?;
        self.client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .presigned(config)
            .await
            .map(|request| request.uri().to_owned())
            .map_err(|error| StoreError::from_sdk("S3", "presign GetObject", error))
    }
}
