//! An answer with a picture, read as it arrives: neither the document nor the picture's base64 is held whole.

use std::mem;

use darkroom_core::answer::Refusal;
use darkroom_core::id::ModelName;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use http::{HeaderMap, StatusCode};

use super::base64_stream::{Base64Fault, Base64Stream};
use super::json_scan::{Event, NotJson, Scanner};
use crate::{DrawnImage, image_check};

/// How one provider's answers are read.
pub(crate) trait ReadAnswer {
    /// A body of a 2xx is read this far, in bytes.
    const BODY_BYTES_MAX: usize;

    /// Begins an answer whose picture has about `expected` bytes; 0 when nothing is known.
    fn begin(expected: usize) -> Self;

    /// The next piece of a 2xx's document.
    fn event(&mut self, event: Event<'_>);

    /// What the whole document says.
    fn outcome(self) -> Result<RawImage, Refusal>;

    /// The meaning of an answer other than 2xx. `body` is what came of it.
    fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal;
}

/// A picture as it came, unchecked.
#[derive(Debug)]
pub(crate) struct RawImage {
    pub(crate) bytes: Vec<u8>,
    /// Which model drew it, when the answer says.
    pub(crate) drawn_by: Option<String>,
}

impl RawImage {
    /// Checks the picture. Hashing up to 20 MB takes tens of milliseconds: not on a thread that serves others.
    pub(crate) async fn checked(self, model: &ModelName) -> Result<DrawnImage, Refusal> {
        let drawn_by =
            self.drawn_by.and_then(|name| ModelName::parse(&name).ok()).unwrap_or_else(|| model.clone());
        let bytes = self.bytes;
        let checked = tokio::task::spawn_blocking(move || image_check::check(bytes)).await;
        let unusable = |detail: String| Refusal::NoImage { detail };
        let image = checked
            .map_err(|_| unusable("the picture could not be checked".to_owned()))?
            .map_err(|fault| unusable(fault.to_string()))?;
        Ok(DrawnImage {
            bytes: image.bytes,
            sha256: image.sha256,
            width: image.width,
            height: image.height,
            format: image.format,
            drawn_by: drawn_by.into(),
        })
    }
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    scanner: Scanner,
    pub(crate) reader: R,
}

impl<R: ReadAnswer> Reading<R> {
    /// `length` is the body's length in bytes when the provider tells it.
    pub(crate) fn new(length: Option<u64>) -> Self {
        let expected = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0) / 4 * 3;
        Self { scanner: Scanner::new(), reader: R::begin(expected) }
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

/// A picture's base64 inside an answer.
#[derive(Debug, Default)]
pub(crate) struct PictureText {
    expected: usize,
    pub(crate) decoded: Option<Result<Base64Stream, Base64Fault>>,
}

impl PictureText {
    /// Room for `expected` bytes is made when a picture begins.
    pub(crate) const fn new(expected: usize) -> Self {
        Self { expected, decoded: None }
    }

    /// Decodes the next piece; what is at fault is dropped at once.
    pub(crate) fn push(&mut self, part: &[u8]) {
        let expected = self.expected;
        let decoded = self.decoded.get_or_insert_with(|| Ok(Base64Stream::new(IMAGE_BYTES_MAX, expected)));
        if let Ok(stream) = decoded
            && let Err(fault) = stream.push(part)
        {
            *decoded = Err(fault);
        }
    }

    /// What was read since the last end; `None` when nothing was.
    pub(crate) fn end(&mut self) -> Option<Result<Vec<u8>, Base64Fault>> {
        mem::take(&mut self.decoded).map(|decoded| decoded.and_then(Base64Stream::finish))
    }
}

/// Keeps a text of at most `max` bytes; one byte more than is valid marks a longer one.
pub(crate) fn keep(text: &mut Vec<u8>, part: &[u8], max: usize) {
    let room = (max + 1).saturating_sub(text.len());
    text.extend_from_slice(part.get(..room).unwrap_or(part));
}

/// The text that was kept; empty when it was longer than `max`.
pub(crate) fn text(bytes: &[u8], max: usize) -> String {
    if bytes.len() > max { String::new() } else { String::from_utf8_lossy(bytes).into_owned() }
}
