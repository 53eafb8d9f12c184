//! Calls of the stand-in.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use darkroom_core::request::{AspectRatio, ImageSize, Shape};
use data_encoding::BASE64;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri, header};
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::bodies::{self, Answer};
use super::quota::Over;
use super::{Behaviour, Faults, Latency, State};
use crate::stand_in::call_log::{Call, Outcome};
use crate::stand_in::connections::{self, Body, Service, chunked, has_only, lock};
use crate::stand_in::pictures::picture;

/// What the stand-in does with each request.
pub(super) const SERVICE: Service<State> = Service {
    connected: |state| state.log.connected(),
    call: |request, state, reset| Box::pin(call(request, state, reset)),
};

/// Logs a call when it ends, also when the client goes away in the middle.
struct Logged {
    state: Arc<Mutex<State>>,
    number: usize,
    arrived: Instant,
    call: Call,
}

impl Logged {
    fn begin(state: &Arc<Mutex<State>>, key: String, model: String) -> Self {
        let mut locked = lock(state);
        let at = locked.log.since_start();
        let number = locked.log.begin();
        drop(locked);
        let call = Call {
            at,
            took: Duration::ZERO,
            key,
            project: String::new(),
            model,
            prompt: String::new(),
            reference: None,
            outcome: Outcome::Abandoned,
        };
        Self { state: Arc::clone(state), number, arrived: Instant::now(), call }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.call.took = self.arrived.elapsed();
        lock(&self.state).log.end(self.number, self.call.clone());
    }
}

/// What a request asks for.
struct Asked {
    prompt: String,
    reference: Option<(String, Bytes)>,
    shape: Shape,
}

async fn call(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    reset: Arc<Notify>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    answer(head, connections::read(body), state, reset).await
}

/// Answers a request whose body is still to come.
pub(super) async fn answer(
    head: Parts,
    body: impl Future<Output = Option<Bytes>>,
    state: Arc<Mutex<State>>,
    reset: Arc<Notify>,
) -> Result<Response<Body>, Infallible> {
    let key = api_key(&head.headers);
    let model = model(&head.method, &head.uri);
    let mut logged =
        Logged::begin(&state, key.clone().unwrap_or_default(), model.clone().unwrap_or_default());
    let asked = body.await.and_then(|body| parse(&body));
    if let Some(asked) = &asked {
        logged.call.prompt.clone_from(&asked.prompt);
        logged.call.reference.clone_from(&asked.reference);
    }
    if let (&Method::GET, "/v1beta/models", Some(key)) = (&head.method, head.uri.path(), &key) {
        return Ok(respond(models(&state, key), &mut logged));
    }
    let (Some(model), Some(key)) = (model, key) else {
        let message = "Method doesn't allow unregistered callers (callers without established identity).";
        let answer = if head.headers.contains_key("x-goog-api-key") {
            bodies::error(404, "NOT_FOUND", "Requested entity was not found.", None)
        } else {
            bodies::error(403, "PERMISSION_DENIED", message, None)
        };
        return Ok(respond(answer, &mut logged));
    };
    let Some(asked) = asked else {
        let message = "Invalid JSON payload received.";
        return Ok(respond(bodies::error(400, "INVALID_ARGUMENT", message, None), &mut logged));
    };
    let fate = fate(&state, &mut logged, &key, &model, &asked);
    tokio::time::sleep(fate.delay).await;
    Ok(match fate.behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Reset => {
            logged.call.outcome = Outcome::Reset;
            drop(logged);
            reset.notify_one();
            std::future::pending().await
        }
        behaviour => match bodies::answer(&behaviour, &key, &logged.call.project, &model) {
            Some(answer) => respond(answer, &mut logged),
            None => draw(&state, &mut logged, &behaviour, &model, asked.shape),
        },
    })
}

/// `GET /v1beta/models`: what a key may list, without drawing. A key that is refused there is refused here.
fn models(state: &Mutex<State>, key: &str) -> Answer {
    let locked = lock(state);
    let (project, behaviour) = match locked.keys.get(key) {
        Some(key) => (key.project.as_str(), key.behaviour.clone()),
        None if locked.settings.accept_unknown_keys => (key, Behaviour::Draw),
        None => ("", Behaviour::InvalidKey),
    };
    bodies::answer(&behaviour, key, project, "")
        .unwrap_or_else(|| Answer::ok("MODELS", bytes::Bytes::from_static(br#"{"models":[]}"#)))
}

fn api_key(headers: &HeaderMap) -> Option<String> {
    headers.get("x-goog-api-key")?.to_str().ok().map(str::to_owned)
}

/// The model of `POST /v1beta/models/{model}:generateContent`.
fn model(method: &Method, uri: &Uri) -> Option<String> {
    let model = uri.path().strip_prefix("/v1beta/models/")?.strip_suffix(":generateContent")?;
    (method == Method::POST && !model.is_empty() && !model.contains('/')).then(|| model.to_owned())
}

/// The prompt of a request to draw.
pub(super) fn prompt(body: &[u8]) -> Option<String> {
    parse(body).map(|asked| asked.prompt)
}

/// Reads a request as strictly as the real API: a member it does not know is an error.
fn parse(body: &[u8]) -> Option<Asked> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let content = body.pointer("/contents/0")?;
    let config = body.get("generationConfig")?;
    let image = config.get("imageConfig")?;
    let modalities = config.get("responseModalities")?.as_array()?;
    if !has_only(&body, &["contents", "generationConfig"])
        || !has_only(content, &["role", "parts"])
        || !has_only(config, &["responseModalities", "imageConfig"])
        || !has_only(image, &["aspectRatio", "imageSize"])
        || !modalities.contains(&Value::from("IMAGE"))
    {
        return None;
    }
    let (text, picture) = match content.get("parts")?.as_array()?.as_slice() {
        [text] => (text, None),
        [text, picture] => (text, Some(inline_data(picture)?)),
        _ => return None,
    };
    if !has_only(text, &["text"]) {
        return None;
    }
    Some(Asked {
        prompt: text.get("text")?.as_str()?.to_owned(),
        reference: picture,
        shape: Shape {
            aspect_ratio: AspectRatio::parse(image.get("aspectRatio")?.as_str()?)?,
            size: ImageSize::parse(image.get("imageSize")?.as_str()?)?,
        },
    })
}

/// A part with a picture: the type that it is said to be, and its bytes.
fn inline_data(part: &Value) -> Option<(String, Bytes)> {
    let data = part.get("inlineData")?;
    if !has_only(part, &["inlineData"]) || !has_only(data, &["mimeType", "data"]) {
        return None;
    }
    let bytes = BASE64.decode(data.get("data")?.as_str()?.as_bytes()).ok()?;
    Some((data.get("mimeType")?.as_str()?.to_owned(), Bytes::from(bytes)))
}

/// What is to become of a call, decided when it arrives.
struct Fate {
    behaviour: Behaviour,
    delay: Duration,
}

fn fate(state: &Mutex<State>, logged: &mut Logged, key: &str, model: &str, asked: &Asked) -> Fate {
    let mut locked = lock(state);
    let state = &mut *locked;
    let now = |behaviour| Fate { behaviour, delay: Duration::ZERO };
    let (project, behaviour) = match state.keys.get_mut(key) {
        Some(key) => (key.project.clone(), key.next.pop_front().unwrap_or_else(|| key.behaviour.clone())),
        None if state.settings.accept_unknown_keys => (key.to_owned(), Behaviour::Draw),
        None => (String::new(), Behaviour::InvalidKey),
    };
    logged.call.project.clone_from(&project);
    if state.retired_models.iter().any(|retired| retired == model) {
        return now(Behaviour::NotFound);
    }
    let nth = state.prompts.entry(asked.prompt.clone()).or_insert(0);
    *nth += 1;
    let mut chance = Chance::new(state.settings.seed, &asked.prompt, *nth);
    let draws =
        matches!(behaviour, Behaviour::Draw | Behaviour::DrawAfterDrafts | Behaviour::DrawOnlyThought);
    if draws {
        match state.quotas.take(&project, model, state.settings.minute, Instant::now()) {
            Ok(()) => {}
            Err(Over::Zero) => return now(Behaviour::ZeroQuota),
            Err(Over::Day) => return now(Behaviour::PerDay),
            Err(Over::Minute(free_after)) => return now(Behaviour::PerMinute(free_after)),
        }
    }
    let fault = if behaviour == Behaviour::Draw { fault(&state.settings.faults, &mut chance) } else { None };
    let behaviour = fault.unwrap_or(behaviour);
    let delay =
        if takes_time(&behaviour) { latency(state.settings.latency, &mut chance) } else { Duration::ZERO };
    Fate { behaviour, delay }
}

/// Whether an answer comes after work; what is refused at the door is refused at once.
const fn takes_time(behaviour: &Behaviour) -> bool {
    matches!(
        behaviour,
        Behaviour::Draw
            | Behaviour::DrawAfterDrafts
            | Behaviour::DrawOnlyThought
            | Behaviour::Finish(_)
            | Behaviour::Body(_)
            | Behaviour::Status(500 | 504)
            | Behaviour::Reset
            | Behaviour::ResetInBody
    )
}

fn fault(faults: &Faults, chance: &mut Chance) -> Option<Behaviour> {
    let mut draw = chance.unit();
    let status = match chance.next() % 3 {
        0 => 500,
        1 => 503,
        _ => 504,
    };
    let mut meets = |probability: f64| {
        draw -= probability;
        draw < 0.0
    };
    if meets(faults.rate_limited) {
        return Some(Behaviour::BareRateLimit);
    }
    if meets(faults.server_error) {
        return Some(Behaviour::Status(status));
    }
    if meets(faults.hang) {
        return Some(Behaviour::Hang);
    }
    if meets(faults.reset) {
        return Some(Behaviour::Reset);
    }
    if meets(faults.no_image) {
        return Some(Behaviour::Finish("NO_IMAGE".to_owned()));
    }
    meets(faults.blocked).then(|| Behaviour::Finish("IMAGE_SAFETY".to_owned()))
}

fn latency(latency: Latency, chance: &mut Chance) -> Duration {
    match latency {
        Latency::None => Duration::ZERO,
        Latency::Fixed(latency) => latency,
        Latency::LogNormal { median, sigma } => {
            // Box and Muller's way from two uniform numbers to a normal one.
            let radius = (-2.0 * (1.0 - chance.unit()).ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * chance.unit()).cos();
            median.mul_f64((sigma * normal).exp())
        }
    }
}

/// Random numbers of one call (splitmix64), the same in every run.
struct Chance(u64);

impl Chance {
    fn new(seed: u64, prompt: &str, nth: u64) -> Self {
        // FNV-1a: short, and stable over versions of the compiler.
        let hash = prompt.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ hash ^ nth.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to but not including 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn draw(
    state: &Mutex<State>,
    logged: &mut Logged,
    behaviour: &Behaviour,
    model: &str,
    shape: Shape,
) -> Response<Body> {
    let length = lock(state).settings.image_bytes;
    let picture = picture(dimensions(shape), length);
    let body = bodies::drawn(model, &picture, behaviour);
    if *behaviour != Behaviour::ResetInBody {
        let answer = Answer::ok("DRAWN", body);
        let response = respond(answer, logged);
        logged.call.outcome = Outcome::Drawn;
        return response;
    }
    logged.call.outcome = Outcome::Reset;
    let half = body.slice(..body.len() / 2);
    let broken = io::Error::new(io::ErrorKind::ConnectionReset, "told to break");
    let mut response = Response::new(chunked(vec![Ok(Frame::data(half)), Err(broken)]));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

const JSON: http::HeaderValue = http::HeaderValue::from_static("application/json; charset=UTF-8");

/// What the real models answer for 1K, in pixels, twice that for 2K.
fn dimensions(shape: Shape) -> (u32, u32) {
    let (width, height) = match shape.aspect_ratio {
        AspectRatio::R1x1 => (1024, 1024),
        AspectRatio::R2x3 => (848, 1264),
        AspectRatio::R3x2 => (1264, 848),
        AspectRatio::R3x4 => (896, 1200),
        AspectRatio::R4x3 => (1200, 896),
        AspectRatio::R4x5 => (928, 1152),
        AspectRatio::R5x4 => (1152, 928),
        AspectRatio::R9x16 => (768, 1376),
        AspectRatio::R16x9 => (1376, 768),
        AspectRatio::R21x9 => (1584, 672),
    };
    match shape.size {
        ImageSize::K1 => (width, height),
        ImageSize::K2 => (2 * width, 2 * height),
    }
}

/// A refusal of the API's own, whatever was asked; `None` for a behaviour that is none.
pub(super) fn refusal(behaviour: &Behaviour) -> Option<Response<Body>> {
    bodies::answer(behaviour, "", "", "").map(response)
}

fn respond(answer: Answer, logged: &mut Logged) -> Response<Body> {
    logged.call.outcome = Outcome::Answered(answer.status.as_u16(), answer.word.clone());
    response(answer)
}

fn response(answer: Answer) -> Response<Body> {
    let Answer { status, body, header, .. } = answer;
    let mut response = Response::new(chunked(vec![Ok(Frame::data(body))]));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    if let Some((name, value)) = header
        && let Ok(value) = value.parse()
    {
        response.headers_mut().insert(name, value);
    }
    response
}
