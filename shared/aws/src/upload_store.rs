//! What callers put into the bucket themselves: below `uploads/`, each under its owner's folder.
//!
//! There is no record of an upload. Its object is the record: the key names purpose, owner, id, hash and format, S3 takes no
//! other bytes than those that were promised, and its lifecycle rules end it (ADR 30).

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{BuildError, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Object, Tag, Tagging};
use aws_smithy_types::byte_stream::error::Error as ByteStreamError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::{Bytes, BytesMut};
use darkroom_core::id::{UploadId, UserId};
use darkroom_core::image::ImageFormat;
use darkroom_core::job::Job;
use darkroom_core::limits::BATCH_UPLOAD_BYTES_MAX;
use darkroom_core::time::Timestamp;
use darkroom_core::upload::{Reference, UploadKind, UploadRequest, is_sha256};
use data_encoding::{BASE64, HEXLOWER};

use crate::clients::OPERATION_TIMEOUT;
use crate::clock::random_bytes;
use crate::error::StoreError;
use crate::image_store::{LINK_LIFE, link_config, not_built};

/// The tag by which the bucket tells what may go soon (template).
const USE_TAG: &str = "use";
/// No job has named it.
const UNUSED: &str = "none";
/// A job has.
const USED: &str = "job";

/// What is to be sent along, and what pages may set (template). `host` and `content-length` are signed too: HTTP clients send these
/// themselves. The SDK has more to say, such as the trace of the request that it signs for, which is nobody else's.
const SENT_ALONG: [&str; 4] = ["content-type", "if-none-match", "x-amz-checksum-sha256", "x-amz-tagging"];

/// The image bucket, as far as uploads go.
#[derive(Clone, Debug)]
pub struct UploadStore {
    client: Client,
    bucket: String,
}

/// A place for a caller's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Where to put them.
    pub url: String,
    /// What to send along, as it is: all of it is signed.
    pub headers: BTreeMap<String, String>,
    /// Until when.
    pub expires_at: Timestamp,
}

impl UploadStore {
    /// The bucket of this name.
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Makes a place for what a caller promises, without asking S3. Nothing but these bytes can be put there, by whoever has the
    /// link and within 15 minutes, and only once: a second put would set the tag back.
    pub async fn begin(
        &self,
        user: &UserId,
        promised: &UploadRequest,
        at: Timestamp,
    ) -> Result<Upload, StoreError> {
        const OPERATION: &str = "presign PutObject";
        let id = UploadId::new(at, random_bytes());
        let hash = HEXLOWER.decode(promised.sha256.as_bytes()).unwrap_or_default();
        let extension = promised.format.extension();
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(format!("{}{}.{extension}", folder(user, promised.kind, &id), promised.sha256))
            .content_type(promised.format.content_type())
            .content_length(i64::try_from(promised.bytes).unwrap_or(i64::MAX))
            .checksum_sha256(BASE64.encode(&hash))
            .if_none_match("*")
            .tagging(format!("{USE_TAG}={UNUSED}"))
            .presigned(link_config(OPERATION)?)
            .await
            .map_err(|error| StoreError::from_sdk("S3", OPERATION, error))?;
        let headers = request.headers().filter(|(name, _)| SENT_ALONG.contains(name));
        Ok(Upload {
            id,
            url: request.uri().to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            expires_at: at.plus(LINK_LIFE),
        })
    }

    /// The lines that this user's upload holds; `None` when none of the user's has this id, nothing was put there, or it is gone. Ends
    /// within 27 seconds.
    pub async fn read_batch(&self, user: &UserId, id: &UploadId) -> Result<Option<Bytes>, StoreError> {
        const OPERATION: &str = "GetObject upload";
        let Some(object) = self.find(&folder(user, UploadKind::Batch, id)).await? else { return Ok(None) };
        let key = object.key().unwrap_or_default();
        let call = self.client.get_object().bucket(&self.bucket).key(key);
        match call.send().await {
            Ok(answer) => body(OPERATION, answer.body, BATCH_UPLOAD_BYTES_MAX).await.map(Some),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            Err(error) => Err(StoreError::from_sdk("S3", OPERATION, error)),
        }
    }

    /// The picture that this user's upload holds; `None` when none of the user's has this id, nothing was put there, or it is gone.
    /// A list answers that for sure: S3 answers the reading of an absent key with 403 to whoever may not list the whole
    /// bucket, as it does when we are not let in.
    pub async fn find_reference(
        &self,
        user: &UserId,
        id: &UploadId,
    ) -> Result<Option<Reference>, StoreError> {
        let prefix = folder(user, UploadKind::Reference, id);
        Ok(self.find(&prefix).await?.and_then(|object| reference(&object, &prefix, id)))
    }

    /// What lies in an upload's folder.
    async fn find(&self, prefix: &str) -> Result<Option<Object>, StoreError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .max_keys(1)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("S3", "ListObjectsV2 uploads", error))?;
        Ok(answer.contents.and_then(|objects| objects.into_iter().next()))
    }

    /// Has the bucket keep it for as long as a job may need it; `false` when it is gone. Idempotent.
    pub async fn keep(&self, user: &UserId, reference: &Reference) -> Result<bool, StoreError> {
        const OPERATION: &str = "PutObjectTagging";
        let refused = |error: BuildError| not_built(OPERATION, &error);
        let tag = Tag::builder().key(USE_TAG).value(USED).build().map_err(refused)?;
        let tagging = Tagging::builder().tag_set(tag).build().map_err(refused)?;
        let call = self
            .client
            .put_object_tagging()
            .bucket(&self.bucket)
            .key(object_key(user, reference))
            .tagging(tagging);
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) => self.gone_or(OPERATION, user, reference, error).await.map(|Gone| false),
        }
    }

    /// Has the bucket keep what a job is drawn from, now that it holds the price: nobody keeps anything for nothing. The job stands
    /// whether this works or not, and is over before its reference could go; what does not work takes the time away in which it can
    /// be tried again.
    pub async fn keep_reference(&self, job: &Job) {
        let Some(reference) = &job.order.reference else { return };
        match self.keep(&job.user, reference).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(job.id = %job.id, "the reference is gone: the job fails"),
            Err(error) => {
                tracing::warn!(job.id = %job.id, error = %error, "the reference is kept for a few days only");
            }
        }
    }

    /// Its bytes, as far as they were promised; `None` when it is gone. Ends within 18 seconds.
    pub async fn read(&self, user: &UserId, reference: &Reference) -> Result<Option<Bytes>, StoreError> {
        const OPERATION: &str = "GetObject upload";
        let call = self.client.get_object().bucket(&self.bucket).key(object_key(user, reference));
        match call.send().await {
            Ok(answer) => body(OPERATION, answer.body, reference.bytes).await.map(Some),
            Err(error) => self.gone_or(OPERATION, user, reference, error).await.map(|Gone| None),
        }
    }

    /// What an error says of the object: that it is gone, also when S3 may not tell us that.
    async fn gone_or<E>(
        &self,
        operation: &'static str,
        user: &UserId,
        reference: &Reference,
        error: SdkError<E>,
    ) -> Result<Gone, StoreError>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let code = error.code().unwrap_or_default().to_owned();
        let error = StoreError::from_sdk("S3", operation, error);
        let is_gone = match code.as_str() {
            "NoSuchKey" => true,
            "AccessDenied" => self.find_reference(user, &reference.upload).await?.is_none(),
            _ => false,
        };
        if is_gone { Ok(Gone) } else { Err(error) }
    }
}

/// There is no object where one was.
struct Gone;

/// `uploads/<kind>/<owner>/<upload id>/`. Below it lies one object at most.
fn folder(user: &UserId, kind: UploadKind, id: &UploadId) -> String {
    format!("uploads/{}/{}/{id}/", kind.as_str(), user.upload_folder())
}

/// The folder, then `<SHA-256>.<extension>`.
fn object_key(user: &UserId, reference: &Reference) -> String {
    let folder = folder(user, UploadKind::Reference, &reference.upload);
    format!("{folder}{}.{}", reference.sha256, reference.format.extension())
}

/// What an object in an upload's folder is; `None` when its name is not one that is given here.
fn reference(object: &Object, prefix: &str, id: &UploadId) -> Option<Reference> {
    let (sha256, extension) = object.key()?.strip_prefix(prefix)?.split_once('.')?;
    Some(Reference {
        upload: id.clone(),
        sha256: is_sha256(sha256).then(|| sha256.to_owned())?,
        bytes: u64::try_from(object.size()?).ok()?,
        format: ImageFormat::from_extension(extension)?,
    })
}

/// A body's first memory: the longest reference has its place, and a short list does not have the longest one's.
const BODY_CAPACITY: usize = 8 * 1024 * 1024;

/// A body to its end, or one byte longer than it should be: the rest would tell no more.
pub(crate) async fn body(
    operation: &'static str,
    mut body: ByteStream,
    bytes: u64,
) -> Result<Bytes, StoreError> {
    let broken = |code: &str, source| StoreError::Unavailable {
        store: "S3",
        operation,
        code: code.to_owned(),
        source,
    };
    let enough = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(1);
    let reading = async {
        let mut read = BytesMut::with_capacity(enough.min(BODY_CAPACITY));
        while read.len() < enough
            && let Some(piece) = body.try_next().await?
        {
            let room = enough - read.len();
            read.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        }
        Ok::<_, ByteStreamError>(read.freeze())
    };
    tokio::time::timeout(OPERATION_TIMEOUT, reading).await.map_err(|_| broken("timeout", None))?.map_err(
        |error: aws_smithy_types::byte_stream::error::Error| broken("the body broke off", Some(error.into())),
    )
}
