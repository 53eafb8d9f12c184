//! Answers of `POST /sdapi/v1/txt2img`: `{"images": ["base64", …], "parameters": {…}, "info": "JSON in a string"}`.

use darkroom_core::answer::Refusal;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::wire::{
    Base64Fault, Event, PictureText, RawImage, ReadAnswer, keep, retry_after, text, unavailable,
};

/// Longest member name that is told apart.
const NAME_MAX: usize = 64;
/// `info` is kept this far: it repeats the prompt a few times.
const INFO_BYTES_MAX: usize = 256 * 1024;

/// Where in the document the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    Images,
    Elsewhere,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    places: Vec<Place>,
    key: Vec<u8>,
    info: Vec<u8>,
    reading: PictureText,
    picture: Option<Vec<u8>>,
    fault: Option<Base64Fault>,
}

impl ReadAnswer for Reader {
    /// The picture at its limit in base64 and two more that an extension may append.
    const BODY_BYTES_MAX: usize = 3 * (IMAGE_BYTES_MAX / 3 * 4);

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
            Event::StringPart(part) => match (self.places.last(), self.key.as_slice()) {
                (Some(Place::Images), _) if self.picture.is_none() => self.reading.push(part),
                (Some(Place::Root), b"info") => keep(&mut self.info, part, INFO_BYTES_MAX),
                _ => {}
            },
            Event::StringEnd => {
                match self.reading.end() {
                    Some(Ok(picture)) => self.picture = Some(picture),
                    Some(Err(fault)) => self.fault = Some(fault),
                    None => {}
                }
                self.key.clear();
            }
            Event::Token(_) => self.key.clear(),
        }
    }

    fn outcome(self) -> Result<RawImage, Refusal> {
        match (self.picture, self.fault) {
            (Some(bytes), _) => Ok(RawImage { bytes, drawn_by: checkpoint(&self.info) }),
            (None, Some(fault)) => Err(fault.refusal()),
            (None, None) => Err(Refusal::NoImage { detail: "the answer has no picture".to_owned() }),
        }
    }

    /// 422 is the request's own fault (FastAPI's validation), 400 an unknown sampler. 401: started with `--api-auth`, and the key is
    /// not its user and password. 500 is every other failure, out of memory included: it may pass. Only an unknown checkpoint
    /// is told from it, where the body says so (`modules/api/api.py`: `RuntimeError("model 'x' not found")`); with `errors` in A1111, with
    /// `message` in Forge. 404 is a server without `--api`, or a wrong base URL; 403 comes from something between.
    fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        let http_status = format!("HTTP_{}", status.as_u16());
        match status.as_u16() {
            401 => Refusal::InvalidKey,
            429 => Refusal::RateLimited { retry_after: retry_after(headers) },
            500 if names_no_model(body) => Refusal::ModelRetired,
            403 | 404 | 408 | 409 | 421 | 425 | 499 => unavailable(&http_status),
            400..=498 => Refusal::InvalidRequest { detail: http_status },
            _ => unavailable(&http_status),
        }
    }
}

impl Reader {
    fn open(&mut self, object: bool) {
        let place = match (self.places.last(), self.key.as_slice(), object) {
            (None, _, true) => Place::Root,
            (Some(Place::Root), b"images", false) => Place::Images,
            _ => Place::Elsewhere,
        };
        self.places.push(place);
        self.key.clear();
    }
}

/// The checkpoint that drew. It need not be the one that was asked for: A1111 passes over a name that it does not know.
fn checkpoint(info: &[u8]) -> Option<String> {
    let info: Value = serde_json::from_str(&text(info, INFO_BYTES_MAX)).ok()?;
    info.get("sd_model_name")?.as_str().map(str::to_owned)
}

fn names_no_model(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    ["errors", "message"].iter().any(|name| {
        let said = body.get(name).and_then(Value::as_str).unwrap_or_default();
        said.starts_with("model ") && said.ends_with(" not found")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::Reading;

    // "picture" and "other" in base64.
    const PICTURE: &str = "cGljdHVyZQ==";
    const OTHER: &str = "b3RoZXI=";

    fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<RawImage, Refusal> {
        let mut answer = Reading::<Reader>::new(None);
        for piece in pieces {
            answer.push(piece)?;
        }
        answer.finish()
    }

    fn read(body: &Value) -> Result<(Vec<u8>, Option<String>), Refusal> {
        read_pieces([body.to_string().as_bytes()]).map(|raw| (raw.bytes, raw.drawn_by))
    }

    #[test]
    fn the_first_picture_and_its_checkpoint_are_found() {
        let info = json!({"prompt": "x", "sd_model_name": "sd_xl_base_1.0", "seed": 7}).to_string();
        let found = |body: Value| read(&body).unwrap();
        let (picture, drawn_by) = found(json!({
            "images": [PICTURE, OTHER], "parameters": {"images": [OTHER], "info": "x"}, "info": info,
        }));
        assert_eq!(
            (picture.as_slice(), drawn_by.as_deref()),
            (b"picture".as_slice(), Some("sd_xl_base_1.0"))
        );
        for info in [json!("no JSON"), json!(null), json!("{}"), json!("7"), json!({"sd_model_name": "x"})] {
            let (picture, drawn_by) = found(json!({"info": info, "images": [PICTURE]}));
            assert_eq!((picture.as_slice(), drawn_by), (b"picture".as_slice(), None), "{info}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let no_image = |detail: &str| Err(Refusal::NoImage { detail: detail.to_owned() });
        for body in [json!({}), json!({"images": []}), json!({"images": PICTURE}), json!([[PICTURE]])] {
            assert_eq!(read(&body), no_image("the answer has no picture"), "{body}");
        }
        assert_eq!(read(&json!({"images": [[PICTURE], null, 7]})), no_image("the answer has no picture"));
        assert_eq!(read(&json!({"images": ["no base64"]})), no_image("the picture is not base64"));
    }

    proptest! {
        #[test]
        fn every_cut_of_a_body_reads_the_same(cut in 1_usize..60) {
            let body = r#"{"images": ["cGlj\u0064HVyZQ\u003d="], "parameters": {}, "info": "{\"sd_model_name\": \"m\"}"}"#;
            let raw = read_pieces(body.as_bytes().chunks(cut)).unwrap();
            prop_assert_eq!((raw.bytes.as_slice(), raw.drawn_by.as_deref()), (b"picture".as_slice(), Some("m")));
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read_pieces([body.as_slice()]));
        }
    }
}
