//! An object's tags: by which a bucket's lifecycle rules tell objects apart.
//! Limits: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use s3s::dto::{Tag, TagSet};
use s3s::{S3Error, S3Result, s3_error};

/// Values by keys.
pub(super) type Tags = BTreeMap<String, String>;

const TAGS_MAX: usize = 10;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// The tags of `x-amz-tagging`, which is written as a query is.
///
/// # Errors
/// `InvalidArgument` for what is none, `InvalidTag` for tags that break the limits.
pub(super) fn of_header(header: Option<&str>) -> S3Result<Tags> {
    let pairs = header.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| unreadable())
    };
    checked(pairs.map(|pair| {
        let (key, value) = pair.split_once('=').ok_or_else(unreadable)?;
        Ok((decode(key)?, decode(value)?))
    }))
}

/// The tags of a `Tagging` document.
///
/// # Errors
/// `InvalidTag` for tags that break the limits.
pub(super) fn of_set(set: TagSet) -> S3Result<Tags> {
    checked(set.into_iter().map(|tag| Ok((tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))))
}

/// As a document has them.
pub(super) fn to_set(tags: Tags) -> TagSet {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

fn checked(pairs: impl Iterator<Item = S3Result<(String, String)>>) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for pair in pairs {
        let (key, value) = pair?;
        let fits =
            (1..=KEY_CHARS_MAX).contains(&key.chars().count()) && value.chars().count() <= VALUE_CHARS_MAX;
        if !fits {
            return Err(s3_error!(InvalidTag, "The TagKey or the TagValue you have provided is invalid"));
        }
        if tags.insert(key, value).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than {TAGS_MAX}"));
    }
    Ok(tags)
}

fn unreadable() -> S3Error {
    s3_error!(
        InvalidArgument,
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_a_query_and_held_to_the_limits() {
        let read = |header: &str| of_header(Some(header)).map_err(|error| error.code().as_str().to_owned());
        assert_eq!(of_header(None).unwrap(), Tags::new());
        let tags = [("use", "none"), ("two words", "a=b&c")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(read("use=none&two+words=a%3Db%26c"), Ok(tags.into()));
        for (header, code) in [
            ("use", "InvalidArgument"),
            ("a=%ff", "InvalidArgument"),
            ("=x", "InvalidTag"),
            ("a=1&a=2", "InvalidTag"),
            (&format!("{}=x", "k".repeat(129)), "InvalidTag"),
            (&format!("k={}", "v".repeat(257)), "InvalidTag"),
            (&(0..11).map(|n| format!("{n}=x")).collect::<Vec<_>>().join("&"), "InvalidTag"),
        ] {
            assert_eq!(read(header), Err(code.to_owned()), "{header}");
        }
    }
}
