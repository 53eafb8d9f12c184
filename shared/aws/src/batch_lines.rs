//! The lines of batches, each batch's in one object: as they will be drawn, with the prices that are held for them (ADR 40).

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;
use darkroom_core::batch_record::BatchRecord;
use darkroom_core::batch_request::{Line, kept_lines};
use darkroom_core::id::BatchId;
use darkroom_core::limits::BATCH_UPLOAD_BYTES_MAX;
use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{SHA256, digest};

use crate::error::{StoreError, is_conflict};
use crate::upload_store::body;

/// The image bucket, as far as the lines of batches go.
#[derive(Clone, Debug)]
pub struct BatchLines {
    client: Client,
    bucket: String,
}

/// What was sent grows: a prompt at most threefold in normal form C, metadata at most twofold as a text, and each line by about 350
/// bytes of price, hash and names.
const BYTES_MAX: u64 = BATCH_UPLOAD_BYTES_MAX * 4;

/// Another put of the same bytes was under way: it is asked for once more.
const TRIES: u32 = 3;

impl BatchLines {
    /// The bucket of this name.
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Keeps a batch's lines, before the batch is made of them; their SHA-256. Idempotent: the key holds the hash, so an object that
    /// is there already has these bytes.
    pub async fn put(&self, id: &BatchId, lines: String) -> Result<String, StoreError> {
        let bytes = Bytes::from(lines);
        let hash = digest(&SHA256, &bytes);
        let sha256 = HEXLOWER.encode(hash.as_ref());
        for _ in 1..=TRIES {
            let call = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(object_key(id, &sha256))
                .if_none_match("*")
                .content_type("application/x-ndjson")
                .checksum_sha256(BASE64.encode(hash.as_ref()))
                .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
                .body(ByteStream::from(bytes.clone()));
            let Err(error) = call.send().await else { return Ok(sha256) };
            if error.raw_response().is_some_and(|response| response.status().as_u16() == 412) {
                return Ok(sha256);
            }
            if !error.code().is_some_and(is_conflict) {
                return Err(StoreError::from_sdk("S3", "PutObject lines", error));
            }
        }
        Err(StoreError::Throttled { store: "S3", operation: "PutObject lines" })
    }

    /// The lines that a batch was made of.
    ///
    /// # Errors
    /// Also when they are gone, or are others: then no job is made of them, and the batch's time gives its tokens back.
    pub async fn read(&self, batch: &BatchRecord) -> Result<Vec<Line>, StoreError> {
        const OPERATION: &str = "GetObject lines";
        let key = object_key(&batch.id, &batch.order.lines_sha256);
        let call = self.client.get_object().bucket(&self.bucket).key(&key);
        let answer = call.send().await.map_err(|error| StoreError::from_sdk("S3", OPERATION, error))?;
        let bytes = body(OPERATION, answer.body, BYTES_MAX).await?;
        let unreadable = |problem: String| StoreError::Unreadable { key: key.clone(), problem };
        if HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()) != batch.order.lines_sha256 {
            return Err(unreadable("its hash is another".to_owned()));
        }
        let lines = kept_lines(&bytes).map_err(unreadable)?;
        if lines.len() != batch.state.lines as usize {
            return Err(unreadable(format!("it has {} lines", lines.len())));
        }
        Ok(lines)
    }
}

/// `batches/<batch id>/<SHA-256>.jsonl`. By the content's hash, because two submissions at once may find other prices: each names its own.
fn object_key(id: &BatchId, sha256: &str) -> String {
    format!("batches/{id}/{sha256}.jsonl")
}
