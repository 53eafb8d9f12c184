//! What a caller may ask for at once: a list of requests, or an upload with one on each line. What is wrong with a line is told of
//! that line, and costs nothing; the others are drawn.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error_code::{ErrorCode, Language};
use crate::fields::Fields;
use crate::id::{ConversationId, ModelName, UploadId, base32, digest};
use crate::ledger::Tokens;
use crate::limits::{BATCH_INLINE_MAX, BATCH_LINES_MAX, BATCH_REASON_CHARS, BODY_BYTES_MAX};
use crate::metadata::Metadata;
use crate::model::{Choice, Model, choose};
use crate::request::{JobRequest, Prompt, Shape, Violation};
use crate::upload::Reference;

/// A valid request for a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchRequest {
    /// Its lines are in it.
    Inline(Vec<Value>),
    /// They are in the caller's upload.
    Upload(UploadId),
}

const FIELDS: [&str; 2] = ["jobs", "upload_id"];

impl BatchRequest {
    /// Parses a batch's body. Its lines are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn parse(body: &Value) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(body, &FIELDS)?;
        let jobs = fields.optional_list("jobs", BATCH_INLINE_MAX);
        let upload = fields.optional("upload_id", |text| UploadId::parse(text).map_err(|e| e.to_string()));
        match (jobs, upload) {
            _ if !fields.violations.is_empty() => Err(fields.violations),
            (Some(jobs), None) => Ok(Self::Inline(jobs.to_vec())),
            (None, Some(upload)) => Ok(Self::Upload(upload)),
            _ => Err(vec![Violation {
                pointer: String::new(),
                reason: "either jobs or upload_id is required".to_owned(),
                unknown_field: false,
            }]),
        }
    }

    /// A hash of everything asked for. The same key with another hash is another request: 422.
    pub fn hash(&self) -> String {
        let hash = match self {
            Self::Inline(jobs) => {
                let mut jobs = Value::from(jobs.clone());
                jobs.sort_all_objects();
                digest(&["batch-1", "jobs", &jobs.to_string()])
            }
            Self::Upload(upload) => digest(&["batch-1", "upload", upload.as_str()]),
        };
        base32(&hash).get(..26).unwrap_or_default().to_owned()
    }
}

/// A line that cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidLine {
    /// Its number, from 1.
    pub line: u32,
    /// As a single request with this would be refused.
    pub code: String,
    /// What is wrong with it, in words; the field first where there is one.
    pub reason: String,
}

impl InvalidLine {
    fn new(line: u32, code: ErrorCode, reason: &str) -> Self {
        let reason = reason.chars().take(BATCH_REASON_CHARS).collect();
        Self { line, code: code.as_str().to_owned(), reason }
    }

    fn violations(line: u32, violations: &[Violation]) -> Self {
        let unknown = violations.iter().any(|violation| violation.unknown_field);
        let code = if unknown { ErrorCode::UnknownField } else { ErrorCode::InvalidValue };
        let told: Vec<_> = violations
            .iter()
            .map(|Violation { pointer, reason, .. }| format!("{pointer}: {reason}"))
            .collect();
        Self::new(line, code, told.join("; ").trim_start_matches(": "))
    }
}

/// A line as it was read: a request, which need not be drawable, or what is wrong with it.
pub struct ReadLine {
    number: u32,
    request: Result<JobRequest, InvalidLine>,
}

impl ReadLine {
    /// The upload that it wants to be drawn from.
    pub fn reference(&self) -> Option<&UploadId> {
        self.request.as_ref().ok()?.reference.as_ref()
    }

    fn of_value(number: u32, value: &Value) -> Self {
        let parsed = JobRequest::parse_line(value);
        Self { number, request: parsed.map_err(|violations| InvalidLine::violations(number, &violations)) }
    }

    fn of_text(number: u32, text: &[u8]) -> Self {
        if text.len() > BODY_BYTES_MAX {
            return Self { number, request: Err(too_long(number)) };
        }
        serde_json::from_slice(text).map_or_else(
            |error: serde_json::Error| {
                // Where it is is enough to find it; the parser's words may repeat what was sent.
                let reason = format!("is no JSON, column {}", error.column());
                Self { number, request: Err(InvalidLine::new(number, ErrorCode::MalformedJson, &reason)) }
            },
            |value| Self::of_value(number, &value),
        )
    }
}

fn too_long(number: u32) -> InvalidLine {
    let reason = format!("must have at most {BODY_BYTES_MAX} bytes");
    InvalidLine::new(number, ErrorCode::BodyTooLarge, &reason)
}

/// The lines of a list.
pub fn read_list(jobs: &[Value]) -> Vec<ReadLine> {
    let numbered = (1..).zip(jobs);
    numbered
        .map(|(number, value)| match value.to_string().len() {
            0..=BODY_BYTES_MAX => ReadLine::of_value(number, value),
            _ => ReadLine { number, request: Err(too_long(number)) },
        })
        .collect()
}

/// The lines of an upload: JSON, one request on each. Empty lines are counted and are none.
///
/// # Errors
/// When there are none, or too many; in words.
pub fn read_upload(bytes: &[u8]) -> Result<Vec<ReadLine>, String> {
    let texts = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> =
        (1..).zip(texts).filter(|(_, text)| !text.is_empty()).take(BATCH_LINES_MAX + 1).collect();
    match lines.len() {
        0 => Err("has no line".to_owned()),
        1..=BATCH_LINES_MAX => {
            Ok(lines.into_iter().map(|(number, text)| ReadLine::of_text(number, text)).collect())
        }
        _ => Err(format!("must have at most {BATCH_LINES_MAX} lines")),
    }
}

/// A line that can be drawn, with the price that it is held at.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredLine", into = "StoredLine")]
pub struct Line {
    /// Its number in what was sent, from 1.
    pub number: u32,
    /// What to draw.
    pub prompt: Prompt,
    /// The catalogue's model.
    pub model: ModelName,
    /// What a picture costs.
    pub cost: Tokens,
    /// Aspect ratio and size.
    pub shape: Shape,
    /// The picture that it is drawn from.
    pub reference: Option<Reference>,
    /// The app's own grouping.
    pub conversation_id: Option<ConversationId>,
    /// What the app keeps with the job.
    pub metadata: Metadata,
    /// Hash of the request as it came.
    pub hash: String,
}

impl Line {
    /// Writes of its job's transaction: the record, and what is kept beside it.
    pub fn writes(&self) -> usize {
        let long = self.prompt.reveal().len() > crate::limits::PROMPT_INLINE_BYTES_MAX;
        1 + usize::from(long) + usize::from(!self.metadata.is_empty())
    }
}

/// A line as it is kept.
#[derive(Clone, Serialize, Deserialize)]
struct StoredLine {
    number: u32,
    prompt: String,
    model: ModelName,
    cost: Tokens,
    shape: Shape,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    /// As JSON: another parser may know other numbers.
    metadata: String,
    hash: String,
}

impl From<Line> for StoredLine {
    fn from(line: Line) -> Self {
        Self {
            number: line.number,
            prompt: line.prompt.reveal().to_owned(),
            model: line.model,
            cost: line.cost,
            shape: line.shape,
            reference: line.reference,
            conversation_id: line.conversation_id,
            metadata: line.metadata.text().to_owned(),
            hash: line.hash,
        }
    }
}

impl TryFrom<StoredLine> for Line {
    type Error = String;

    fn try_from(line: StoredLine) -> Result<Self, String> {
        Ok(Self {
            number: line.number,
            prompt: Prompt::from_stored(line.prompt),
            model: line.model,
            cost: line.cost,
            shape: line.shape,
            reference: line.reference,
            conversation_id: line.conversation_id,
            metadata: Metadata::from_stored(&line.metadata).ok_or("metadata that are no object")?,
            hash: line.hash,
        })
    }
}

/// The lines as they are kept: JSON, one on each line.
pub fn write_lines(lines: &[Line]) -> String {
    let texts = lines.iter().map(|line| serde_json::json!(line).to_string() + "\n");
    texts.collect()
}

/// The lines that were kept.
///
/// # Errors
/// The first line that cannot be read, in words that repeat nothing of it.
pub fn kept_lines(text: &[u8]) -> Result<Vec<Line>, String> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (1..)
        .zip(lines)
        .map(|(number, line): (u32, _)| {
            serde_json::from_slice(line).map_err(|error| format!("line {number}, column {}", error.column()))
        })
        .collect()
}

/// What can be drawn of a batch, and what cannot.
pub struct Judged {
    /// The lines that can, in their order.
    pub lines: Vec<Line>,
    /// Those that cannot.
    pub invalid: Vec<InvalidLine>,
}

/// Judges the lines by today's catalogue and by the uploads that they name and that are there; each at its model's price today. A
/// line that asks for what an earlier one asks for is one too many: nobody pays twice for a line that was copied by mistake.
pub fn judge(
    lines: Vec<ReadLine>,
    models: &[Model],
    day: &str,
    references: &BTreeMap<UploadId, Reference>,
) -> Judged {
    let (mut judged, mut first) = (Judged { lines: Vec::new(), invalid: Vec::new() }, HashMap::new());
    for ReadLine { number, request } in lines {
        let line = request.and_then(|request| line(number, request, models, day, references));
        let line = line.and_then(|line| match first.insert(line.hash.clone(), number) {
            None => Ok(line),
            Some(earlier) => {
                first.insert(line.hash, earlier);
                let reason = format!("is the same as line {earlier}; metadata would tell them apart");
                Err(InvalidLine::new(number, ErrorCode::InvalidValue, &reason))
            }
        });
        match line {
            Ok(line) => judged.lines.push(line),
            Err(invalid) => judged.invalid.push(invalid),
        }
    }
    judged
}

fn line(
    number: u32,
    request: JobRequest,
    models: &[Model],
    day: &str,
    references: &BTreeMap<UploadId, Reference>,
) -> Result<Line, InvalidLine> {
    let refuse = |code: ErrorCode, reason: &str| Err(InvalidLine::new(number, code, reason));
    let without = |code: ErrorCode| {
        let reason = format!("/model: {}", code.title(Language::En));
        refuse(code, &reason)
    };
    let model = match choose(models, request.model.as_ref(), day) {
        Choice::Offered(model) => model,
        Choice::Retired(_) => return without(ErrorCode::ModelRetired),
        Choice::Unknown => return without(ErrorCode::UnknownModel),
    };
    let reference = match reference(&request, model, references) {
        Ok(reference) => reference,
        Err(reason) => return refuse(ErrorCode::InvalidValue, &reason),
    };
    let hash = request.hash();
    Ok(Line {
        number,
        prompt: request.prompt,
        model: model.name.clone(),
        cost: model.price,
        shape: request.shape,
        reference,
        conversation_id: request.conversation_id,
        metadata: request.metadata,
        hash,
    })
}

/// What the line is drawn from; in words why it cannot be.
fn reference(
    request: &JobRequest,
    model: &Model,
    references: &BTreeMap<UploadId, Reference>,
) -> Result<Option<Reference>, String> {
    let Some(upload) = &request.reference else { return Ok(None) };
    if !model.takes_reference() {
        return Err(format!("/reference_upload_id: {} draws from no reference", model.name));
    }
    let unusable = "/reference_upload_id: no upload of yours has this id, nothing was put there, it is older than a day, or the batch names too many";
    references.get(upload).cloned().map(Some).ok_or_else(|| unusable.to_owned())
}

impl Judged {
    /// How many lines each model draws.
    pub fn models(&self) -> Vec<(ModelName, u32)> {
        let mut models: BTreeMap<&ModelName, u32> = BTreeMap::new();
        for line in &self.lines {
            *models.entry(&line.model).or_default() += 1;
        }
        models.into_iter().map(|(name, lines)| (name.clone(), lines)).collect()
    }

    /// The prices of all lines; `None` when they are more than can be counted.
    pub fn cost(&self) -> Option<Tokens> {
        self.lines.iter().try_fold(0, |sum: Tokens, line| sum.checked_add(line.cost))
    }
}

/// How far apart a batch's lines stand in the queue when the last of them can be expected after `eta`.
pub fn spacing(eta: Option<Duration>, lines: u32) -> Duration {
    eta.unwrap_or_default() / lines.max(1)
}
