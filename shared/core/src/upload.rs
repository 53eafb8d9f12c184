//! What a caller puts into the bucket itself, and what becomes of it: a picture that a job is drawn from, or a batch's lines.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, one_of};
use crate::id::UploadId;
use crate::image::ImageFormat;
use crate::limits::{BATCH_UPLOAD_BYTES_MAX, REFERENCE_BYTES_MAX, UPLOAD_USE};
use crate::request::Violation;
use crate::time::Timestamp;

/// What an upload is for. It is part of the object's key, so what was put for one purpose is not found for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UploadKind {
    /// A picture that jobs are drawn from.
    Reference,
    /// The lines of a batch.
    Batch,
}

impl UploadKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Batch];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Batch => "batch",
        }
    }

    /// What may be put for it.
    pub fn formats(self) -> &'static [UploadFormat] {
        match self {
            Self::Reference => {
                const {
                    &[
                        UploadFormat::Image(ImageFormat::Png),
                        UploadFormat::Image(ImageFormat::Jpeg),
                        UploadFormat::Image(ImageFormat::Webp),
                    ]
                }
            }
            Self::Batch => &[UploadFormat::JsonLines],
        }
    }

    /// How long it may be.
    pub const fn bytes_max(self) -> u64 {
        match self {
            Self::Reference => REFERENCE_BYTES_MAX,
            Self::Batch => BATCH_UPLOAD_BYTES_MAX,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| one_of(&Self::ALL.map(Self::as_str)))
    }
}

/// The format of what is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UploadFormat {
    /// A picture.
    Image(ImageFormat),
    /// JSON, one value on each line.
    JsonLines,
}

impl UploadFormat {
    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Image(format) => format.content_type(),
            Self::JsonLines => "application/x-ndjson",
        }
    }

    /// How files of it end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Image(format) => format.extension(),
            Self::JsonLines => "jsonl",
        }
    }
}

/// What a caller promises to put: S3 takes nothing else at the link that is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRequest {
    /// What for.
    pub kind: UploadKind,
    /// Its format.
    pub format: UploadFormat,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, 64 hexadecimal digits in lower case.
    pub sha256: String,
}

const FIELDS: [&str; 4] = ["kind", "content_type", "bytes", "sha256"];

impl UploadRequest {
    /// Parses a request for an upload.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing; of unknown fields the first 16 and how many more there are.
    pub fn parse(body: &Value) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(body, &FIELDS)?;
        let kind = fields.required("kind", UploadKind::parse);
        // Of an unknown kind nothing more can be said than of the first.
        let of = kind.unwrap_or(UploadKind::Reference);
        let format = fields.required("content_type", |text| {
            let format = of.formats().iter().find(|format| format.content_type() == text);
            let known: Vec<_> = of.formats().iter().map(|format| format.content_type()).collect();
            format.copied().ok_or_else(|| one_of(&known))
        });
        let bytes = fields.required_number("bytes", (1, of.bytes_max()));
        let sha256 = fields.required("sha256", |text| {
            let reason = || "must be the SHA-256 of the bytes, 64 digits 0-9 and a-f".to_owned();
            is_sha256(text).then(|| text.to_owned()).ok_or_else(reason)
        });
        match (kind, format, bytes, sha256) {
            (Some(kind), Some(format), Some(bytes), Some(sha256)) if fields.violations.is_empty() => {
                Ok(Self { kind, format, bytes, sha256 })
            }
            _ => Err(fields.violations),
        }
    }
}

/// Whether a text is a SHA-256 as it is written here.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The picture that a job is drawn from, as its owner promised it and S3 took it. What its bytes are a worker looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The owner's upload.
    pub upload: UploadId,
    /// SHA-256 of the bytes, 64 hexadecimal digits in lower case.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
    /// The format that was promised.
    pub format: ImageFormat,
}

impl UploadId {
    /// Whether a new job may still name it. A job that is tried again may name it for longer: the object outlives the
    /// record of every job that it was named for in time.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        now < self.made_at().plus(UPLOAD_USE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn promise() -> Value {
        json!({"kind": "reference", "content_type": "image/png", "bytes": 70, "sha256": "0f".repeat(32)})
    }

    fn faults(changes: &Value) -> Vec<String> {
        let mut body = promise();
        for (name, value) in changes.as_object().unwrap() {
            body.as_object_mut().unwrap().insert(name.clone(), value.clone());
        }
        let violations = UploadRequest::parse(&body).err().unwrap_or_default();
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn a_promise_is_parsed() {
        let request = UploadRequest::parse(&promise()).unwrap();
        assert_eq!(
            request,
            UploadRequest {
                kind: UploadKind::Reference,
                format: UploadFormat::Image(ImageFormat::Png),
                bytes: 70,
                sha256: "0f".repeat(32)
            }
        );
        for format in ImageFormat::ALL {
            assert!(
                faults(&json!({"content_type": format.content_type(), "bytes": REFERENCE_BYTES_MAX}))
                    .is_empty()
            );
        }
    }

    #[test]
    fn anything_else_is_pointed_to() {
        for (changes, pointers) in [
            (json!({"kind": "batch"}), vec!["/content_type"]),
            (json!({"kind": "batch", "content_type": "application/x-ndjson"}), vec![]),
            (
                json!({"kind": "batch", "content_type": "application/x-ndjson", "bytes": BATCH_UPLOAD_BYTES_MAX}),
                vec![],
            ),
            (
                json!({"kind": "batch", "content_type": "application/x-ndjson", "bytes": BATCH_UPLOAD_BYTES_MAX + 1}),
                vec!["/bytes"],
            ),
            (json!({"content_type": "application/x-ndjson"}), vec!["/content_type"]),
            (json!({"kind": "batches"}), vec!["/kind"]),
            (json!({"kind": "Reference"}), vec!["/kind"]),
            (json!({"kind": null}), vec!["/kind"]),
            (json!({"content_type": "image/gif"}), vec!["/content_type"]),
            (json!({"content_type": "image/png; charset=x"}), vec!["/content_type"]),
            (json!({"content_type": "IMAGE/PNG"}), vec!["/content_type"]),
            (json!({"bytes": 0}), vec!["/bytes"]),
            (json!({"bytes": REFERENCE_BYTES_MAX + 1}), vec!["/bytes"]),
            (json!({"bytes": -1}), vec!["/bytes"]),
            (json!({"bytes": 1.5}), vec!["/bytes"]),
            (json!({"bytes": "70"}), vec!["/bytes"]),
            (json!({"bytes": null}), vec!["/bytes"]),
            (json!({"sha256": "0F".repeat(32)}), vec!["/sha256"]),
            (json!({"sha256": "0f".repeat(31)}), vec!["/sha256"]),
            (json!({"sha256": "0f/".repeat(22)}), vec!["/sha256"]),
            (json!({"sha256": 1}), vec!["/sha256"]),
            (json!({"name": "me.png"}), vec!["/name"]),
            (json!({"kind": 1, "bytes": 0, "sha256": ""}), vec!["/kind", "/bytes", "/sha256"]),
        ] {
            assert_eq!(faults(&changes), pointers, "{changes}");
        }
        assert_eq!(UploadRequest::parse(&json!([])).unwrap_err().len(), 1);
        assert_eq!(UploadRequest::parse(&json!({})).unwrap_err().len(), FIELDS.len());
    }

    #[test]
    fn a_new_job_may_name_it_for_a_day() {
        let made_at = Timestamp::from_millis(1_800_000_000_000);
        let id = UploadId::new(made_at, [7; 10]);
        let last = made_at.plus(UPLOAD_USE);
        assert!(id.is_usable(made_at) && id.is_usable(last.minus(Duration::from_millis(1))));
        assert!(!id.is_usable(last));
    }
}
