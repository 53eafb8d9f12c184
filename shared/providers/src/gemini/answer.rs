//! A 200 from Gemini, read as it arrives.
//!
//! A 200 may hold a picture, a refusal or neither, with parts in any order and fields we do not know. Pictures that the
//! model drew while thinking (`"thought": true`) are drafts: one is taken only when its candidate ended with STOP and
//! has no other, since some models mark their only picture so. Of several candidates the first with a picture counts.
//!
//! At no time are more than two decoded pictures held: a draft and the one being read.

use darkroom_core::answer::Refusal;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use http::{HeaderMap, StatusCode};

use super::error_body;
use crate::wire::{Base64Fault, Event, PictureText, RawImage, ReadAnswer, keep, retry_after, text, word};

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

/// Reads one answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    places: Vec<Place>,
    key: Vec<u8>,
    text: Vec<u8>,
    image: PictureText,
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

impl ReadAnswer for Reader {
    /// One picture at its limit with two drafts before it, in base64.
    const BODY_BYTES_MAX: usize = 3 * (IMAGE_BYTES_MAX / 3 * 4);

    fn begin(expected: usize) -> Self {
        Self { image: PictureText::new(expected), ..Self::default() }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::ObjectStart => self.open(true),
            Event::ArrayStart => self.open(false),
            Event::End => self.close(),
            Event::KeyPart(part) => keep(&mut self.key, part, TEXT_MAX),
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

    fn outcome(self) -> Result<RawImage, Refusal> {
        let Outcome { image, model_version, block_reason, finish_reason, fault } = self.answer;
        if let Some(bytes) = image {
            return Ok(RawImage { bytes, drawn_by: model_version });
        }
        match (block_reason, finish_reason, fault) {
            (_, Some(reason), _) if BLOCKED.contains(&reason.as_str()) => {
                Err(Refusal::ContentBlocked { detail: word(&reason) })
            }
            (Some(reason), _, _) => Err(Refusal::ContentBlocked { detail: word(&reason) }),
            (None, _, Some(fault)) => Err(fault.refusal()),
            (None, Some(reason), None) => Err(Refusal::NoImage { detail: word(&reason) }),
            (None, None, None) => Err(Refusal::NoImage { detail: "the answer has no candidate".to_owned() }),
        }
    }

    fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        error_body::refusal(status, retry_after(headers), body)
    }
}

impl Reader {
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
            Field::ModelVersion | Field::BlockReason | Field::FinishReason => {
                keep(&mut self.text, part, TEXT_MAX);
            }
            Field::Thought | Field::Other => {}
        }
    }

    fn image_part(&mut self, part: &[u8]) {
        // A picture that could not win any more is not decoded.
        if self.answer.image.is_some() || self.candidate.image.is_some() || self.part.image.is_some() {
            return;
        }
        self.image.push(part);
    }

    fn string_end(&mut self) {
        match self.field() {
            Field::ImageData => match self.image.end() {
                Some(Ok(image)) => self.part.image = Some(image),
                Some(Err(fault)) => self.answer.fault = Some(fault),
                None => {}
            },
            Field::ModelVersion => self.answer.model_version = Some(text(&self.text, TEXT_MAX)),
            Field::BlockReason => self.answer.block_reason = Some(text(&self.text, TEXT_MAX)),
            Field::FinishReason => self.candidate.finish_reason = Some(text(&self.text, TEXT_MAX)),
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
}

#[cfg(test)]
mod tests;
