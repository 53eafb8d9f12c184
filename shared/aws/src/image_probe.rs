//! Whether the image bucket answers, asked with a permission that shows nothing of it.

use aws_sdk_s3::Client;

use crate::error::StoreError;

/// The prefix that the probe lists. Nothing is ever stored below it.
pub const PROBE_PREFIX: &str = "health/";

/// The image bucket, as far as the health check may see it.
#[derive(Clone, Debug)]
pub struct ImageProbe {
    client: Client,
    bucket: String,
}

impl ImageProbe {
    /// A probe of the bucket of this name.
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Answers when the bucket is there and answers. It lists [`PROBE_PREFIX`], since `s3:ListBucket` can be limited to
    /// a prefix; without that permission S3 answers the reading of an absent key with 403, as it does for a bucket that
    /// refuses us.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(PROBE_PREFIX)
            .max_keys(1)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| StoreError::from_sdk("S3", "ListObjectsV2", error))
    }
}
