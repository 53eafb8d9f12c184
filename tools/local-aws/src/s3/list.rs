//! ListObjectsV2: keys in the order of their bytes, a page at a time.

use data_encoding::BASE64URL_NOPAD;
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
};
use s3s::{S3Result, s3_error};

use super::index::Entry;
use super::service::modified;
use super::store::Store;

/// The most that one page holds, whatever is asked.
const PAGE: usize = 1_000;

/// One page of the listing that `input` asks for. The bucket exists.
pub(super) async fn page(store: &Store, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let wanted = usize::try_from(input.max_keys.unwrap_or(1_000))
        .map_err(|error| s3_error!(error, InvalidArgument, "max-keys must not be negative"))?;
    let mut listing = Listing {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
        room: wanted.min(PAGE),
        objects: Vec::new(),
        prefixes: Vec::new(),
        last: None,
    };
    let mut from = Some(listing.begin(input.continuation_token.as_deref(), input.start_after.as_deref())?);
    while let Some(start) = from {
        let batch = store.range(&input.bucket, &start, PAGE + 1).await?;
        from = listing.take(batch);
    }
    let truncated = listing.last.is_some();
    let url = input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
    let written = |text: String| if url { encoded(&text) } else { text };
    Ok(ListObjectsV2Output {
        key_count: Some(i32::try_from(listing.objects.len() + listing.prefixes.len()).unwrap_or(i32::MAX)),
        contents: Some(listing.objects.into_iter().map(|(key, entry)| object(written(key), entry)).collect()),
        common_prefixes: Some(
            listing
                .prefixes
                .into_iter()
                .map(|prefix| CommonPrefix { prefix: Some(written(prefix)) })
                .collect(),
        ),
        is_truncated: Some(truncated),
        next_continuation_token: listing.last.map(|last| BASE64URL_NOPAD.encode(last.as_bytes())),
        continuation_token: input.continuation_token,
        delimiter: input.delimiter.map(written),
        encoding_type: input.encoding_type,
        max_keys: Some(input.max_keys.unwrap_or(1_000)),
        name: Some(input.bucket),
        prefix: Some(written(listing.prefix)),
        start_after: input.start_after.map(written),
        ..Default::default()
    })
}

struct Listing {
    prefix: String,
    delimiter: Option<String>,
    /// How many more objects and common prefixes fit the page.
    room: usize,
    objects: Vec<(String, Entry)>,
    prefixes: Vec<String>,
    /// The last thing on the page, once there is more behind it.
    last: Option<String>,
}

impl Listing {
    /// The key to begin at.
    fn begin(&self, token: Option<&str>, start_after: Option<&str>) -> S3Result<String> {
        let after = match token {
            Some(token) => Some(last_of(token)?),
            None => start_after.map(str::to_owned),
        };
        let after =
            after.map(|after| if self.is_common(&after) { behind_all(&after) } else { behind(&after) });
        Ok(after.unwrap_or_default().max(self.prefix.clone()))
    }

    /// Takes what belongs on the page; the key to go on at, if the page is not complete.
    fn take(&mut self, batch: Vec<(String, Entry)>) -> Option<String> {
        let complete = batch.len() <= PAGE;
        let mut next = None;
        for (key, entry) in batch {
            if next.as_ref().is_some_and(|next| key < *next) {
                continue;
            }
            if !key.starts_with(&self.prefix) {
                return None;
            }
            if self.room == 0 {
                self.last = self.newest();
                return None;
            }
            self.room -= 1;
            if let Some(common) = self.common_prefix(&key) {
                next = Some(behind_all(&common));
                self.prefixes.push(common);
            } else {
                next = Some(behind(&key));
                self.objects.push((key, entry));
            }
        }
        if complete { None } else { next }
    }

    fn newest(&self) -> Option<String> {
        self.objects.last().map(|(key, _)| key).max(self.prefixes.last()).cloned()
    }

    /// The part of `key` up to the first delimiter behind the prefix.
    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter.as_deref()?;
        let behind = key.strip_prefix(&self.prefix)?;
        let at = behind.find(delimiter)?;
        Some(format!("{}{}{delimiter}", self.prefix, behind.get(..at)?))
    }

    fn is_common(&self, text: &str) -> bool {
        self.common_prefix(text).is_some_and(|common| common == text)
    }
}

fn last_of(token: &str) -> S3Result<String> {
    let decoded =
        BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// The first possible key behind `key`.
fn behind(key: &str) -> String {
    format!("{key}\0")
}

/// A key behind all that begin with `prefix`: no text sorts behind the last character there is.
fn behind_all(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

fn object(key: String, entry: Entry) -> Object {
    Object {
        key: Some(key),
        e_tag: Some(ETag::Strong(entry.etag)),
        size: Some(i64::try_from(entry.bytes).unwrap_or(i64::MAX)),
        last_modified: Some(modified(entry.modified_at_ms)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    }
}

/// Percent-encoding as S3 answers `encoding-type=url`: all but unreserved characters and the slash.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/*".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
