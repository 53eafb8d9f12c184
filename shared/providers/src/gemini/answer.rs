//! A 200 from Gemini, read as it arrives.
//!
//! A 200 may hold a picture, a refusal or neither, with parts in any order and fields we do not know. Pictures that the
//! model drew while thinking (`"thought": true`) are drafts: one is taken only when its candidate ended with STOP and
//! has no other, since some models mark their only picture so. Of several candidates the first with a picture counts.
//!
//! At no time are more than two decoded pictures held: a draft and the one being read.

use darkroom_core::answer::Refusal;
use darkroom_core::limits::IMAGE_BYTES_MAX;

use super::base64_stream::{Base64Fault, Base64Stream};
use super::json_scan::{Event, NotJson, Scanner};
use super::word::word;

/// Longest value that is kept as text.
const TEXT_MAX: usize = 256;

/// Finish reasons that mean the content is refused.
const BLOCKED: [&str; 8] = [
    "SAFETY",
    "PROHIBITED_CONTENT",
    "BLOCKLIST",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "RECITATION",
    "IMAGE_RECITATION",
];

/// A picture as it came, unchecked.
#[derive(Debug)]
pub(crate) struct RawImage {
    pub(crate) bytes: Vec<u8>,
    /// The answer's `modelVersion`.
    pub(crate) model_version: Option<String>,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct Answer {
    scanner: Scanner,
    reader: Reader,
}

impl Answer {
    /// `expected` is the body's length in bytes when the provider tells it.
    pub(crate) fn new(expected: Option<u64>) -> Self {
        let expected = expected.and_then(|length| usize::try_from(length).ok()).unwrap_or(0) / 4 * 3;
        Self { scanner: Scanner::new(), reader: Reader { expected, ..Reader::default() } }
    }

    /// Reads the next piece of the body.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let reader = &mut self.reader;
        self.scanner.push(piece, &mut |event| reader.event(event)).map_err(not_json)
    }

    /// What the whole body says.
    pub(crate) fn finish(self) -> Result<RawImage, Refusal> {
        let Self { scanner, mut reader } = self;
        scanner.finish(&mut |event| reader.event(event)).map_err(not_json)?;
        reader.outcome()
    }
}

fn not_json(_: NotJson) -> Refusal {
    Refusal::NoImage { detail: "the answer is not JSON".to_owned() }
}

/// Where in the document the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    PromptFeedback,
    Candidates,
    Candidate,
    Content,
    Parts,
    Part,
    Image,
    Elsewhere,
}

/// What the value being read is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    ModelVersion,
    BlockReason,
    FinishReason,
    Thought,
    ImageData,
    #[default]
    Other,
}

#[derive(Debug, Default)]
struct Reader {
    places: Vec<Place>,
    key: Vec<u8>,
    text: Vec<u8>,
    expected: usize,
    image: Option<Result<Base64Stream, Base64Fault>>,
    part: Part,
    candidate: Candidate,
    answer: Outcome,
}

/// The part being read.
#[derive(Debug, Default)]
struct Part {
    thought: bool,
    image: Option<Vec<u8>>,
}

/// The candidate being read.
#[derive(Debug, Default)]
struct Candidate {
    image: Option<Vec<u8>>,
    draft: Option<Vec<u8>>,
    finish_reason: Option<String>,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Outcome {
    image: Option<Vec<u8>>,
    model_version: Option<String>,
    block_reason: Option<String>,
    finish_reason: Option<String>,
    fault: Option<Base64Fault>,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::ObjectStart => self.open(true),
            Event::ArrayStart => self.open(false),
            Event::End => self.close(),
            Event::KeyPart(part) => keep(&mut self.key, part),
            Event::KeyEnd => self.text.clear(),
            Event::StringPart(part) => self.string_part(part),
            Event::StringEnd => self.string_end(),
            Event::Token(token) => {
                if self.field() == Field::Thought {
                    self.part.thought = token == b"true";
                }
                self.key.clear();
            }
        }
    }

    fn open(&mut self, object: bool) {
        let place = match (self.places.last(), self.key.as_slice(), object) {
            (None, _, true) => Place::Root,
            (Some(Place::Root), b"promptFeedback" | b"prompt_feedback", true) => Place::PromptFeedback,
            (Some(Place::Root), b"candidates", false) => Place::Candidates,
            (Some(Place::Candidates), _, true) => Place::Candidate,
            (Some(Place::Candidate), b"content", true) => Place::Content,
            (Some(Place::Content), b"parts", false) => Place::Parts,
            (Some(Place::Parts), _, true) => Place::Part,
            (Some(Place::Part), b"inlineData" | b"inline_data", true) => Place::Image,
            _ => Place::Elsewhere,
        };
        self.places.push(place);
        self.key.clear();
    }

    fn close(&mut self) {
        match self.places.pop() {
            Some(Place::Part) => self.end_part(),
            Some(Place::Candidate) => self.end_candidate(),
            _ => {}
        }
        self.key.clear();
    }

    fn field(&self) -> Field {
        match (self.places.last(), self.key.as_slice()) {
            (Some(Place::Root), b"modelVersion" | b"model_version") => Field::ModelVersion,
            (Some(Place::PromptFeedback), b"blockReason" | b"block_reason") => Field::BlockReason,
            (Some(Place::Candidate), b"finishReason" | b"finish_reason") => Field::FinishReason,
            (Some(Place::Part), b"thought") => Field::Thought,
            (Some(Place::Image), b"data") => Field::ImageData,
            _ => Field::Other,
        }
    }

    fn string_part(&mut self, part: &[u8]) {
        match self.field() {
            Field::ImageData => self.image_part(part),
            Field::ModelVersion | Field::BlockReason | Field::FinishReason => keep(&mut self.text, part),
            Field::Thought | Field::Other => {}
        }
    }

    fn image_part(&mut self, part: &[u8]) {
        // A picture that could not win any more is not decoded.
        if self.answer.image.is_some() || self.candidate.image.is_some() || self.part.image.is_some() {
            return;
        }
        let expected = self.expected;
        let image = self.image.get_or_insert_with(|| Ok(Base64Stream::new(IMAGE_BYTES_MAX, expected)));
        if let Ok(stream) = image
            && let Err(fault) = stream.push(part)
        {
            *image = Err(fault);
        }
    }

    fn string_end(&mut self) {
        match self.field() {
            Field::ImageData => match self.image.take().map(|image| image.and_then(Base64Stream::finish)) {
                Some(Ok(image)) => self.part.image = Some(image),
                Some(Err(fault)) => self.answer.fault = Some(fault),
                None => {}
            },
            Field::ModelVersion => self.answer.model_version = Some(text(&self.text)),
            Field::BlockReason => self.answer.block_reason = Some(text(&self.text)),
            Field::FinishReason => self.candidate.finish_reason = Some(text(&self.text)),
            Field::Thought | Field::Other => {}
        }
        self.key.clear();
    }

    fn end_part(&mut self) {
        let Part { thought, image } = std::mem::take(&mut self.part);
        match image {
            Some(image) if thought => self.candidate.draft = Some(image),
            Some(image) => {
                self.candidate.draft = None;
                self.candidate.image = Some(image);
            }
            None => {}
        }
    }

    fn end_candidate(&mut self) {
        let Candidate { image, draft, finish_reason } = std::mem::take(&mut self.candidate);
        let reason = finish_reason.as_deref();
        let blocked = reason.is_some_and(|reason| BLOCKED.contains(&reason));
        let draft = draft.filter(|_| reason.is_none_or(|reason| reason == "STOP"));
        if self.answer.image.is_none() && !blocked {
            self.answer.image = image.or(draft);
        }
        // Of several reasons the one that says more is told: a refusal before a mere lack.
        if blocked || self.answer.finish_reason.is_none() {
            self.answer.finish_reason = finish_reason;
        }
    }

    fn outcome(self) -> Result<RawImage, Refusal> {
        let Outcome { image, model_version, block_reason, finish_reason, fault } = self.answer;
        if let Some(bytes) = image {
            return Ok(RawImage { bytes, model_version });
        }
        let no_image = |detail: &str| Err(Refusal::NoImage { detail: detail.to_owned() });
        match (block_reason, finish_reason, fault) {
            (_, Some(reason), _) if BLOCKED.contains(&reason.as_str()) => {
                Err(Refusal::ContentBlocked { detail: word(&reason) })
            }
            (Some(reason), _, _) => Err(Refusal::ContentBlocked { detail: word(&reason) }),
            (None, _, Some(Base64Fault::NotBase64)) => no_image("the picture is not base64"),
            (None, _, Some(Base64Fault::TooLong)) => no_image("the picture is too large"),
            (None, Some(reason), None) => Err(Refusal::NoImage { detail: word(&reason) }),
            (None, None, None) => no_image("the answer has no candidate"),
        }
    }
}

/// Keeps a short text; one byte more than is valid marks a longer one.
fn keep(text: &mut Vec<u8>, part: &[u8]) {
    let room = (TEXT_MAX + 1).saturating_sub(text.len());
    text.extend_from_slice(part.get(..room).unwrap_or(part));
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() > TEXT_MAX { String::new() } else { String::from_utf8_lossy(bytes).into_owned() }
}

#[cfg(test)]
mod tests;
