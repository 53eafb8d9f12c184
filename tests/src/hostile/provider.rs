//! Answers of the providers' APIs, through the same connection and readers as in the worker.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use darkroom_core::answer::{Answer as Meaning, Refusal, ScopeEffect};
use darkroom_core::id::{IdempotencyKey, JobId, ModelName, UserId};
use darkroom_core::key::{ScopeState, Secret};
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::time::Timestamp;
use darkroom_providers::{BaseUrl, DrawError, DrawRequest, DrawnImage, Progress, Providers, Settings};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::Verdict;
use super::image::is_clean;
use crate::stand_in::connections::{Server, Service, chunked, lock};

/// Made of what an enumerated word is made of, so that it is not only its looks that keep it out of a refusal.
pub const SECRET: &str = "A_SECRET_0123456789";
/// What every call asks for.
const PROMPT: &str = "a quiet harbour at dawn";
/// An answer is there long before.
const TIMEOUT: Duration = Duration::from_secs(120);
/// A day's quota rests the longest: to the next midnight, on the day that summer time ends 25 hours.
const REST_MAX: Duration = Duration::from_secs(25 * 3_600);
/// A detail is a word of ours or theirs.
const DETAIL_CHARS_MAX: usize = 128;

/// What a provider answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header `retry-after`.
    pub retry_after: Option<HeaderValue>,
    /// What the header `content-length` says, truly or not.
    pub length: Option<usize>,
    /// The body in its pieces, each of which is sent as a chunk.
    pub body: Vec<Bytes>,
}

impl Answer {
    /// A 200 in these pieces.
    pub fn ok(body: Vec<Bytes>) -> Self {
        Self { status: StatusCode::OK, retry_after: None, length: None, body }
    }

    /// `429 17` and a line's end, then the body. What is no status, or has no body by itself, is 200.
    fn read(input: &[u8]) -> Self {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let (head, body) = input.split_at(end);
        let head = String::from_utf8_lossy(head);
        let (status, retry_after) = head.split_once(' ').unwrap_or((&head, ""));
        let status = status.parse().ok().and_then(|status: u16| StatusCode::from_u16(status).ok());
        let status = status
            .filter(|status| (200..600).contains(&status.as_u16()) && ![204, 304].contains(&status.as_u16()));
        let body = Bytes::copy_from_slice(body.get(1..).unwrap_or_default());
        Self {
            status: status.unwrap_or(StatusCode::OK),
            retry_after: HeaderValue::from_str(retry_after).ok().filter(|value| !value.is_empty()),
            length: Some(body.len()),
            body: vec![body],
        }
    }

    /// The same in pieces of changing length: single bytes when it is short, else up to 48.
    fn in_pieces(&self) -> Self {
        let whole = self.body.concat();
        let longest = if whole.len() <= 1_024 { 1 } else { 48 };
        let (mut rest, mut body, mut length) = (whole.as_slice(), Vec::new(), 1);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            body.push(Bytes::copy_from_slice(piece));
            (rest, length) = (after, length * 5 % longest + 1);
        }
        Self { length: None, body, ..self.clone() }
    }
}

/// The providers, all of them at one server that answers what it is told.
pub struct Bench {
    runtime: Runtime,
    providers: Providers,
    answer: Arc<Mutex<Answer>>,
    job: JobId,
    model: ModelName,
    prompt: Prompt,
    secret: Secret,
    _server: Server,
}

impl Bench {
    /// Starts the server.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> io::Result<Self> {
        let answer = Arc::new(Mutex::new(Answer::ok(Vec::new())));
        let service = Service {
            connected: |_: &mut Answer| {},
            call: |request, answer, _| {
                Box::pin(async move {
                    // The connection serves the next request when this one's body is read.
                    drop(request.collect().await);
                    let answer = lock(&answer).clone();
                    Ok(response(answer))
                })
            },
        };
        let server = Server::start(0, Arc::clone(&answer), service)?;
        let base = || BaseUrl::parse(&server.base_url()).expect("a base URL");
        let settings =
            Settings { gemini_base_url: base(), openai_base_url: base(), forge_base_url: Some(base()) };
        let user = UserId::parse("alice").expect("a user");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        {
            let _entered = runtime.enter();
            // A Rust program's `main` ignores it, a fuzzer's does not; the server writes to connections that were given up.
            drop(signal(SignalKind::pipe())?);
        }
        Ok(Self {
            runtime,
            providers: Providers::new(settings),
            answer,
            job: JobId::derive(&user, &IdempotencyKey::parse("k").expect("a key")),
            model: ModelName::parse("the-model").expect("a model"),
            prompt: Prompt::parse(PROMPT).expect("a prompt"),
            secret: Secret::parse(SECRET).expect("a secret"),
            _server: server,
        })
    }

    /// One call that is answered so.
    ///
    /// # Errors
    /// What the answer means when it is no picture.
    pub fn draw(&self, provider: ProviderName, answer: Answer) -> Result<DrawnImage, DrawError> {
        *lock(&self.answer) = answer;
        let request = DrawRequest {
            job: &self.job,
            call: 1,
            model: &self.model,
            prompt: &self.prompt,
            reference: None,
            shape: Shape { aspect_ratio: AspectRatio::R1x1, size: ImageSize::K1 },
            seed: 7,
            secret: Some(&self.secret),
            progress: &Progress::unknown(),
        };
        self.runtime.block_on(Box::pin(self.providers.get(provider).draw(request, TIMEOUT)))
    }

    fn probe(&self, provider: ProviderName, answer: Answer) -> Result<(), Refusal> {
        *lock(&self.answer) = answer;
        self.runtime.block_on(Box::pin(self.providers.get(provider).probe(Some(&self.secret), TIMEOUT)))
    }
}

fn response(answer: Answer) -> Response<crate::stand_in::connections::Body> {
    let pieces = answer.body.into_iter().filter(|piece| !piece.is_empty());
    let mut response = Response::new(chunked(pieces.map(|piece| Ok(Frame::data(piece))).collect()));
    *response.status_mut() = answer.status;
    if let Some(length) = answer.length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(value) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

pub(super) fn gemini(input: &[u8]) -> Verdict {
    run(ProviderName::Gemini, input)
}

pub(super) fn openai(input: &[u8]) -> Verdict {
    run(ProviderName::OpenAi, input)
}

pub(super) fn forge(input: &[u8]) -> Verdict {
    run(ProviderName::Forge, input)
}

fn run(provider: ProviderName, input: &[u8]) -> Verdict {
    let answer = Answer::read(input);
    BENCH.with_borrow_mut(|bench| {
        let bench = bench.get_or_insert_with(|| Bench::start().expect("a server"));
        let whole = bench.draw(provider, answer.clone());
        let pieces = bench.draw(provider, answer.in_pieces());
        assert_eq!(whole, pieces, "it depends on how the body is cut");
        if let Err(refusal) = bench.probe(provider, answer) {
            is_silent(&refusal);
            assert_ne!(refusal, Refusal::ModelRetired, "a probe names no model");
        }
        match whole {
            Ok(image) => {
                is_sound(&image);
                Verdict::Taken
            }
            Err(DrawError::Refused(refusal)) => {
                is_silent(&refusal);
                has_effect(&refusal);
                Verdict::Refused
            }
            Err(DrawError::NotSent { detail }) => panic!("not sent: {detail}"),
        }
    })
}

fn is_sound(image: &DrawnImage) {
    is_clean(&image.bytes, image.format);
    ModelName::parse(&image.drawn_by).unwrap_or_else(|error| panic!("{:?} {error}", image.drawn_by));
    assert!(!image.drawn_by.contains(SECRET), "{}", image.drawn_by);
}

/// It says nothing but enumerated words: neither the key nor the prompt, and no text of the provider's.
fn is_silent(refusal: &Refusal) {
    let told = format!("{refusal:?} {}", refusal.detail());
    assert!(!told.contains(SECRET) && !told.contains(PROMPT), "{told}");
    let detail = refusal.detail();
    assert!(
        detail.len() <= DETAIL_CHARS_MAX
            && detail.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()),
        "{told}"
    );
    assert!(!detail.contains("no answer in time") && !detail.contains("connection was lost"), "{told}");
}

/// The refusal means something, and a scope comes back within a day.
fn has_effect(refusal: &Refusal) {
    let at = Timestamp::from_millis(1_800_000_000_000);
    if let ScopeEffect::State(ScopeState::Cooling { until, .. }) = Meaning::Refused(refusal).effect(at).scope
    {
        assert!(until >= at && until.since(at) <= REST_MAX, "{refusal:?}: {until}");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn what_a_refusal_must_not_say_is_noticed() {
        for (detail, silent) in [
            ("IMAGE_SAFETY", true),
            ("the picture is cut off", true),
            (SECRET, false),
            (&format!("x {SECRET} y"), false),
            (PROMPT, false),
            ("a\nb", false),
            (&"A".repeat(200), false),
            ("no answer in time", false),
        ] {
            let refusal = Refusal::NoImage { detail: detail.to_owned() };
            assert_eq!(catch_unwind(|| is_silent(&refusal)).is_ok(), silent, "{detail}");
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        for length in [0_usize, 1, 1_024, 1_025, 5_000] {
            let body: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let answer = Answer::ok(vec![Bytes::from(body.clone())]).in_pieces();
            assert_eq!(answer.body.concat(), body);
            let longest = if length <= 1_024 { 1 } else { 48 };
            assert!(answer.body.iter().all(|piece| (1..=longest).contains(&piece.len())));
            assert!(length <= 1_024 || answer.body.iter().map(Bytes::len).max() > Some(8), "they differ");
        }
    }
}
