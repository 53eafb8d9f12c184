//! What a caller may ask for. Parsed here, valid from then on.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::fields::{Fields, one_of};
use crate::id::{ConversationId, ModelName, UploadId, base32, digest};
use crate::job::Order;
use crate::limits::{DEADLINE_MIN, PROMPT_CHARS_MAX, PROMPT_INLINE_BYTES_MAX};
use crate::metadata::Metadata;

/// A prompt: 1 to 4,000 characters in Unicode normal form C, no control characters, not only white space.
/// It has no `Debug` and no `Display`: prompts are never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt(String);

impl Prompt {
    /// Parses a prompt.
    ///
    /// # Errors
    /// The reason in words, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        // No character decomposes canonically into more than four, and none has more than four bytes, so what
        // is longer than this is too long in normal form C as well and need not be normalised to know it.
        if text.len() > PROMPT_CHARS_MAX * 4 * 4 {
            return Err(format!("must have at most {PROMPT_CHARS_MAX} characters"));
        }
        let text: String = text.nfc().collect();
        let length = text.chars().count();
        if text.trim().is_empty() {
            return Err("must not be empty".to_owned());
        }
        if length > PROMPT_CHARS_MAX {
            return Err(format!("must have at most {PROMPT_CHARS_MAX} characters, this has {length}"));
        }
        if let Some(position) = text.chars().position(char::is_control) {
            return Err(format!("must have no control characters, character {} is one", position + 1));
        }
        Ok(Self(text))
    }

    /// A prompt as it was stored. It was parsed when it came: rules that have been tightened since must not make the
    /// record unreadable that holds it.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text, for the provider and for the owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The prompt where it is kept: in the record, or beside it when it is long.
    pub fn in_record_or_beside(self) -> (Option<Self>, Option<Self>) {
        if self.0.len() <= PROMPT_INLINE_BYTES_MAX { (Some(self), None) } else { (None, Some(self)) }
    }
}

/// Width to height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum AspectRatio {
    #[serde(rename = "1:1")]
    R1x1,
    #[serde(rename = "2:3")]
    R2x3,
    #[serde(rename = "3:2")]
    R3x2,
    #[serde(rename = "3:4")]
    R3x4,
    #[serde(rename = "4:3")]
    R4x3,
    #[serde(rename = "4:5")]
    R4x5,
    #[serde(rename = "5:4")]
    R5x4,
    #[serde(rename = "9:16")]
    R9x16,
    #[serde(rename = "16:9")]
    R16x9,
    #[serde(rename = "21:9")]
    R21x9,
}

impl AspectRatio {
    /// Every ratio, in the order in which errors list them.
    pub const ALL: [Self; 10] = [
        Self::R1x1,
        Self::R2x3,
        Self::R3x2,
        Self::R3x4,
        Self::R4x3,
        Self::R4x5,
        Self::R5x4,
        Self::R9x16,
        Self::R16x9,
        Self::R21x9,
    ];

    /// As callers and providers write it: `16:9`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::R1x1 => "1:1",
            Self::R2x3 => "2:3",
            Self::R3x2 => "3:2",
            Self::R3x4 => "3:4",
            Self::R4x3 => "4:3",
            Self::R4x5 => "4:5",
            Self::R5x4 => "5:4",
            Self::R9x16 => "9:16",
            Self::R16x9 => "16:9",
            Self::R21x9 => "21:9",
        }
    }

    /// Parses `16:9`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ratio| ratio.as_str() == text)
    }

    /// Width and height as small numbers.
    pub const fn terms(self) -> (u32, u32) {
        match self {
            Self::R1x1 => (1, 1),
            Self::R2x3 => (2, 3),
            Self::R3x2 => (3, 2),
            Self::R3x4 => (3, 4),
            Self::R4x3 => (4, 3),
            Self::R4x5 => (4, 5),
            Self::R5x4 => (5, 4),
            Self::R9x16 => (9, 16),
            Self::R16x9 => (16, 9),
            Self::R21x9 => (21, 9),
        }
    }
}

/// How large the picture is: about one or about four million pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageSize {
    /// About 1,024 × 1,024 pixels.
    #[serde(rename = "1K")]
    K1,
    /// About 2,048 × 2,048 pixels.
    #[serde(rename = "2K")]
    K2,
}

impl ImageSize {
    /// Every size.
    pub const ALL: [Self; 2] = [Self::K1, Self::K2];

    /// As callers and providers write it: `1K`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::K1 => "1K",
            Self::K2 => "2K",
        }
    }

    /// Parses `1K`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.as_str() == text)
    }
}

/// The picture that is asked for, apart from its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Width to height.
    pub aspect_ratio: AspectRatio,
    /// How large.
    pub size: ImageSize,
}

/// A valid submission.
#[derive(Clone, PartialEq, Eq)]
pub struct JobRequest {
    /// What to draw.
    pub prompt: Prompt,
    /// The model asked for; `None` asks for the catalogue's default.
    pub model: Option<ModelName>,
    /// Aspect ratio and size; 1:1 and 1K unless asked otherwise.
    pub shape: Shape,
    /// The caller's upload of a picture to draw from.
    pub reference: Option<UploadId>,
    /// The app's own grouping.
    pub conversation_id: Option<ConversationId>,
    /// What the app keeps with the job.
    pub metadata: Metadata,
    /// How long the job may take in all; `None` asks for the operator's setting.
    pub deadline: Option<Duration>,
}

/// One thing that is wrong in a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer (RFC 6901) to the value; of a field that is missing, to where it belongs.
    pub pointer: String,
    /// What is wrong with it, in words.
    pub reason: String,
    /// The field is not one that this request has.
    pub unknown_field: bool,
}

/// What a line of a batch may have. How long it may take is its batch's.
const LINE_FIELDS: [&str; 7] =
    ["prompt", "model", "aspect_ratio", "size", "reference_upload_id", "conversation_id", "metadata"];

const FIELDS: [&str; 8] = [
    "prompt",
    "model",
    "aspect_ratio",
    "size",
    "reference_upload_id",
    "conversation_id",
    "metadata",
    "deadline_seconds",
];

impl JobRequest {
    /// The request of a job that is tried again, with the time that it had. `prompt` and `metadata` are the job's, wherever they
    /// are kept.
    pub fn again(order: &Order, prompt: Prompt, metadata: Metadata, deadline_max: Duration) -> Self {
        Self {
            prompt,
            model: Some(order.model.clone()),
            shape: order.shape,
            reference: order.reference.as_ref().map(|reference| reference.upload.clone()),
            conversation_id: order.conversation_id.clone(),
            metadata,
            deadline: Some(order.deadline_at.since(order.created_at).min(deadline_max)),
        }
    }

    /// Parses a submission's body. `deadline_max` is the operator's longest deadline.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing; of unknown fields the first 16 and how many more there are.
    pub fn parse(body: &Value, deadline_max: Duration) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(body, &FIELDS)?;
        let seconds = (DEADLINE_MIN.as_secs(), deadline_max.as_secs());
        let deadline = fields.optional_number("deadline_seconds", seconds).map(Duration::from_secs);
        Self::read(fields).map(|request| Self { deadline, ..request })
    }

    /// Parses a line of a batch: the same but for the deadline, which the batch has.
    ///
    /// # Errors
    /// As [`JobRequest::parse`].
    pub fn parse_line(line: &Value) -> Result<Self, Vec<Violation>> {
        Self::read(Fields::of(line, &LINE_FIELDS)?)
    }

    fn read(mut fields: Fields<'_>) -> Result<Self, Vec<Violation>> {
        let prompt = fields.required("prompt", Prompt::parse);
        let model = fields.optional("model", |text| ModelName::parse(text).map_err(|e| e.to_string()));
        let aspect_ratio = fields.optional("aspect_ratio", |text| {
            AspectRatio::parse(text).ok_or_else(|| one_of(&AspectRatio::ALL.map(AspectRatio::as_str)))
        });
        let size = fields.optional("size", |text| {
            ImageSize::parse(text).ok_or_else(|| one_of(&ImageSize::ALL.map(ImageSize::as_str)))
        });
        let reference =
            fields.optional("reference_upload_id", |text| UploadId::parse(text).map_err(|e| e.to_string()));
        let conversation_id =
            fields.optional("conversation_id", |text| ConversationId::parse(text).map_err(|e| e.to_string()));
        let metadata = fields.metadata();
        match prompt {
            Some(prompt) if fields.violations.is_empty() => Ok(Self {
                prompt,
                model,
                reference,
                shape: Shape {
                    aspect_ratio: aspect_ratio.unwrap_or(AspectRatio::R1x1),
                    size: size.unwrap_or(ImageSize::K1),
                },
                conversation_id,
                metadata: metadata.unwrap_or_default(),
                deadline: None,
            }),
            _ => Err(fields.violations),
        }
    }

    /// A hash of everything asked for. The same key with another hash is another request: 422.
    pub fn hash(&self) -> String {
        let deadline = self.deadline.map(|deadline| deadline.as_secs().to_string());
        let mut parts = vec![
            "request-1",
            self.prompt.reveal(),
            self.model.as_ref().map_or("", ModelName::as_str),
            self.shape.aspect_ratio.as_str(),
            self.shape.size.as_str(),
            self.conversation_id.as_ref().map_or("", ConversationId::as_str),
            deadline.as_deref().unwrap_or_default(),
        ];
        // A request without one of these hashes as it did before there were any.
        let metadata = self.metadata.canonical();
        if !self.metadata.is_empty() {
            parts.push(&metadata);
        }
        if let Some(upload) = &self.reference {
            parts.extend(["reference", upload.as_str()]);
        }
        let hash = base32(&digest(&parts));
        hash.get(..26).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn faults(body: &Value) -> Vec<(String, bool)> {
        match JobRequest::parse(body, HOUR) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.into_iter().map(|v| (v.pointer, v.unknown_field)).collect(),
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let body = json!({"prompt": 1, "model": "a/b", "aspect_ratio": "7:1", "size": "4K", "reference_upload_id": "upl_1", "conversation_id": "",
                          "metadata": [], "deadline_seconds": 1.5, "a~/b": 1});
        let pointers: Vec<_> = faults(&body).into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(
            pointers,
            [
                "/a~0~1b",
                "/deadline_seconds",
                "/prompt",
                "/model",
                "/aspect_ratio",
                "/size",
                "/reference_upload_id",
                "/conversation_id",
                "/metadata"
            ]
        );
    }

    #[test]
    fn prompt_bounds() {
        for (prompt, valid) in [
            (String::new(), false),
            (" \u{a0}".to_owned(), false),
            ("x".to_owned(), true),
            ("é".repeat(4_000), true),
            // Decomposed, it is 8,000 characters; in normal form C it is 4,000.
            ("e\u{301}".repeat(4_000), true),
            ("x".repeat(4_001), false),
            ("x".repeat(1_000_000), false),
            ("a\u{0}b".to_owned(), false),
            ("a\nb".to_owned(), false),
            ("a\u{85}b".to_owned(), false),
        ] {
            assert_eq!(Prompt::parse(&prompt).is_ok(), valid, "{} characters", prompt.chars().count());
        }
    }

    #[test]
    fn deadline_bounds() {
        for (value, valid) in [
            (json!(29), false),
            (json!(30), true),
            (json!(3600), true),
            (json!(3601), false),
            (json!(-1), false),
            (json!("60"), false),
            (json!(null), true),
        ] {
            let body = json!({"prompt": "x", "deadline_seconds": value});
            assert_eq!(faults(&body).is_empty(), valid, "{body}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_told_at_the_root() {
        assert_eq!(faults(&json!([1])), [(String::new(), false)]);
        assert_eq!(faults(&json!({"prompt": "x", "n": 2})), [("/n".to_owned(), true)]);
    }

    #[test]
    fn each_field_changes_the_hash() {
        let hash = |body: Value| JobRequest::parse(&body, HOUR).unwrap_or_else(|_| panic!("{body}")).hash();
        let base = hash(json!({"prompt": "x"}));
        assert_eq!(base, hash(json!({"prompt": "x", "model": null, "size": "1K", "aspect_ratio": "1:1"})));
        for other in [
            json!({"prompt": "y"}),
            json!({"prompt": "x", "model": "m"}),
            json!({"prompt": "x", "size": "2K"}),
            json!({"prompt": "x", "aspect_ratio": "16:9"}),
            json!({"prompt": "x", "conversation_id": "c"}),
            json!({"prompt": "x", "reference_upload_id": format!("upl_{}", "a".repeat(26))}),
            json!({"prompt": "x", "reference_upload_id": format!("upl_b{}", "a".repeat(25))}),
            json!({"prompt": "x", "metadata": {"a": 1}}),
            json!({"prompt": "x", "deadline_seconds": 60}),
        ] {
            assert_ne!(base, hash(other.clone()), "{other}");
        }
    }
}
