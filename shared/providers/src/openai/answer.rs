//! A 200 from an Images API, read as it arrives: the first `data[].b64_json`. Fields that we do not know are passed over.

use darkroom_core::answer::Refusal;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use http::{HeaderMap, StatusCode};

use super::error_body;
use crate::wire::{Base64Fault, Event, PictureText, RawImage, ReadAnswer, keep};

/// Longest member name that is told apart.
const NAME_MAX: usize = 64;

/// Where in the document the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    Data,
    Entry,
    Elsewhere,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    places: Vec<Place>,
    key: Vec<u8>,
    reading: PictureText,
    picture: Option<Vec<u8>>,
    fault: Option<Base64Fault>,
    /// An entry has a `url`: what models of before `gpt-image-1` answer, and some servers.
    link: bool,
}

impl ReadAnswer for Reader {
    /// One picture at its limit in base64, and everything else.
    const BODY_BYTES_MAX: usize = IMAGE_BYTES_MAX / 3 * 4 + 1024 * 1024;

    fn begin(expected: usize) -> Self {
        Self { reading: PictureText::new(expected), ..Self::default() }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::ObjectStart => self.open(true),
            Event::ArrayStart => self.open(false),
            Event::End => {
                self.places.pop();
                self.key.clear();
            }
            Event::KeyPart(part) => keep(&mut self.key, part, NAME_MAX),
            Event::KeyEnd => {}
            Event::StringPart(part) => {
                // A further picture could not win any more.
                if self.is_in_entry(b"b64_json") && self.picture.is_none() {
                    self.reading.push(part);
                }
            }
            Event::StringEnd => self.string_end(),
            Event::Token(_) => self.key.clear(),
        }
    }

    fn outcome(self) -> Result<RawImage, Refusal> {
        if let Some(bytes) = self.picture {
            return Ok(RawImage { bytes, drawn_by: None });
        }
        if let Some(fault) = self.fault {
            return Err(fault.refusal());
        }
        let lack = if self.link { "a link instead of a picture" } else { "the answer has no picture" };
        Err(Refusal::NoImage { detail: lack.to_owned() })
    }

    fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        error_body::refusal(status, headers, body)
    }
}

impl Reader {
    fn open(&mut self, object: bool) {
        let place = match (self.places.last(), self.key.as_slice(), object) {
            (None, _, true) => Place::Root,
            (Some(Place::Root), b"data", false) => Place::Data,
            (Some(Place::Data), _, true) => Place::Entry,
            _ => Place::Elsewhere,
        };
        self.places.push(place);
        self.key.clear();
    }

    fn is_in_entry(&self, name: &[u8]) -> bool {
        self.places.last() == Some(&Place::Entry) && self.key == name
    }

    fn string_end(&mut self) {
        self.link |= self.is_in_entry(b"url");
        match self.reading.end() {
            Some(Ok(picture)) => self.picture = Some(picture),
            Some(Err(fault)) => self.fault = Some(fault),
            None => {}
        }
        self.key.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::Reading;

    // "picture" and "other" in base64.
    const PICTURE: &str = "cGljdHVyZQ==";
    const OTHER: &str = "b3RoZXI=";

    fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, Refusal> {
        let mut answer = Reading::<Reader>::new(None);
        for piece in pieces {
            answer.push(piece)?;
        }
        answer.finish().map(|raw| raw.bytes)
    }

    fn read(body: &Value) -> Result<Vec<u8>, Refusal> {
        read_pieces([body.to_string().as_bytes()])
    }

    fn no_image(detail: &str) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::NoImage { detail: detail.to_owned() })
    }

    #[test]
    fn the_first_picture_is_found_among_other_members() {
        for body in [
            json!({"created": 1, "data": [{"b64_json": PICTURE}], "usage": {"total_tokens": 100}, "size": "1024x1024"}),
            json!({"data": [{"revised_prompt": "x", "b64_json": PICTURE}, {"b64_json": OTHER}]}),
            json!({"data": [{"url": "https://x", "b64_json": PICTURE}]}),
            json!({"b64_json": OTHER, "more": [{"b64_json": OTHER}], "data": [{"deep": {"b64_json": OTHER}, "b64_json": PICTURE}]}),
            json!({"data": [{}, {"b64_json": "!"}, {"b64_json": PICTURE}]}),
        ] {
            assert_eq!(read(&body).unwrap(), b"picture", "{body}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        for body in [json!({}), json!([]), json!({"data": []}), json!({"data": {"b64_json": PICTURE}})] {
            assert_eq!(read(&body), no_image("the answer has no picture"), "{body}");
        }
        assert_eq!(read(&json!({"data": [{"b64_json": null}]})), no_image("the answer has no picture"));
        assert_eq!(read(&json!({"data": [{"url": "https://x"}]})), no_image("a link instead of a picture"));
        assert_eq!(
            read(&json!({"data": [{"b64_json": "no base64"}]})),
            no_image("the picture is not base64")
        );
        assert_eq!(read_pieces([b"<html>".as_slice()]), no_image("the answer is not JSON"));
    }

    proptest! {
        #[test]
        fn every_cut_of_a_body_reads_the_same(first in 0_usize..90, second in 0_usize..90) {
            let body = r#"{"created":1, "data":[{"revised_prompt":"a\"b","b64_json":"cGlj\u0064HVyZQ\u003d="}]}"#;
            let (first, second) = (first.min(body.len()), second.min(body.len()));
            let (low, high) = (first.min(second), first.max(second));
            let (head, rest) = body.as_bytes().split_at(low);
            let (middle, tail) = rest.split_at(high - low);
            prop_assert_eq!(read_pieces([head, middle, tail]).unwrap(), b"picture");
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read_pieces([body.as_slice()]));
        }
    }
}
