//! A server that answers as OpenAI's Images API does, for tests: same paths, headers and bodies. It listens on the loopback
//! interface alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stand_in::call_log::Log;
pub use crate::stand_in::call_log::{Call, Outcome};
use crate::stand_in::connections::{self, Body, Server, Service, has_only, lock};
use crate::stand_in::pictures::picture;

/// Length of a picture's file in bytes.
const IMAGE_BYTES: usize = 64 * 1024;

/// What a key is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// A picture.
    Draw,
    /// 400 `moderation_blocked`.
    ModerationBlocked,
    /// 429 of the minute that asks to wait this long.
    RateLimited(Duration),
    /// 429 `insufficient_quota`.
    InsufficientQuota,
    /// 403, the organization may not use the model.
    Unverified,
    /// 404 `model_not_found`.
    ModelNotFound,
    /// A bare status with the API's usual body: 500, 503 and others.
    Status(u16),
}

#[derive(Debug)]
struct State {
    /// What each known key is answered: first these, each once, then pictures.
    keys: HashMap<String, VecDeque<Behaviour>>,
    log: Log,
}

/// A running stand-in; it stops when dropped.
#[derive(Debug)]
pub struct StandIn {
    state: Arc<Mutex<State>>,
    server: Server,
}

impl StandIn {
    /// Starts on the loopback interface, at any free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> std::io::Result<Self> {
        let log = Log::new(Instant::now());
        let state = Arc::new(Mutex::new(State { keys: HashMap::new(), log }));
        let service = Service {
            connected: |state: &mut State| state.log.connected(),
            call: |request, state, _| Box::pin(async move { Ok(call(request, &state).await) }),
        };
        let server = Server::start(0, Arc::clone(&state), service)?;
        Ok(Self { state, server })
    }

    /// `http://127.0.0.1:<port>`
    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// Adds a key that is answered so, each once and in order, and then draws.
    pub fn add_key(&self, key: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.state).keys.insert(key.to_owned(), behaviours.into_iter().collect());
    }

    /// Every call for a picture that has ended, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).log.calls()
    }
}

/// What a request asks for.
struct Asked {
    model: String,
    prompt: String,
    width: u32,
    height: u32,
}

async fn call(request: Request<Incoming>, state: &Mutex<State>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let bearer = head.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/v1/models") if lock(state).keys.contains_key(&key) => {
            let model = json!({"id": "gpt-image-2.6-flare", "object": "model", "owned_by": "system", "shutdown_date": null});
            connections::json(200, Bytes::from(json!({"object": "list", "data": [model]}).to_string()))
        }
        (&Method::GET, "/v1/models") => invalid_key(),
        (&Method::POST, "/v1/images/generations") => {
            let body = connections::read(body).await.unwrap_or_default();
            generate(&mut lock(state), &key, &body)
        }
        (method, path) => {
            let message = format!("Invalid URL ({method} {path})");
            error(404, &message, "invalid_request_error", None, None)
        }
    }
}

fn generate(state: &mut State, key: &str, body: &[u8]) -> Response<Body> {
    let at = state.log.since_start();
    let number = state.log.begin();
    let asked = parse(body);
    let behaviour = state.keys.get_mut(key).map(|next| next.pop_front().unwrap_or(Behaviour::Draw));
    let answer = match (&asked, behaviour) {
        (_, None) => invalid_key(),
        (Err(param), _) => {
            let message = format!("Invalid value for '{param}'.");
            error(400, &message, "invalid_request_error", Some(param), Some("invalid_value"))
        }
        (Ok(asked), Some(Behaviour::Draw)) => draw(asked),
        (Ok(asked), Some(behaviour)) => refuse(behaviour, &asked.model),
    };
    let outcome = match behaviour {
        Some(Behaviour::Draw) if asked.is_ok() => Outcome::Drawn,
        _ => Outcome::Answered(answer.status().as_u16(), format!("{behaviour:?}")),
    };
    let (model, prompt) = asked.map(|asked| (asked.model, asked.prompt)).unwrap_or_default();
    let call = Call {
        at,
        took: Duration::ZERO,
        key: key.to_owned(),
        project: String::new(),
        model,
        prompt,
        reference: None,
        outcome,
    };
    state.log.end(number, call);
    answer
}

/// Reads a request as strictly as the real API: a member it does not know is an error. The error is the member's name.
fn parse(body: &[u8]) -> Result<Asked, &'static str> {
    let body: Value = serde_json::from_slice(body).map_err(|_| "body")?;
    if !has_only(&body, &["model", "prompt", "size", "n", "output_format", "quality"]) {
        return Err("unknown");
    }
    let text = |name: &'static str| body.get(name).and_then(Value::as_str).ok_or(name);
    let (width, height) = text("size")?.split_once('x').ok_or("size")?;
    let side = |text: &str| {
        text.parse().ok().filter(|side: &u32| side.is_multiple_of(16) && *side <= 3_840).ok_or("size")
    };
    if body.get("n").and_then(Value::as_u64) != Some(1) {
        return Err("n");
    }
    if text("output_format")? != "png" {
        return Err("output_format");
    }
    Ok(Asked {
        model: text("model")?.to_owned(),
        prompt: text("prompt")?.to_owned(),
        width: side(width)?,
        height: side(height)?,
    })
}

fn draw(asked: &Asked) -> Response<Body> {
    let picture = picture((asked.width, asked.height), IMAGE_BYTES);
    let head = b"{\"created\":1789000000,\"background\":\"opaque\",\"data\":[{\"b64_json\":\"".as_slice();
    let rest = json!({
        "output_format": "png", "quality": "medium", "size": format!("{}x{}", asked.width, asked.height),
        "usage": {"input_tokens": 12, "output_tokens": 1568, "total_tokens": 1580},
    });
    let rest = rest.to_string();
    let body = [head, &picture, b"\"}],", rest.trim_start_matches('{').as_bytes()].concat();
    connections::json(200, Bytes::from(body))
}

fn refuse(behaviour: Behaviour, model: &str) -> Response<Body> {
    match behaviour {
        Behaviour::ModerationBlocked => {
            let message = "Your request was rejected by the safety system. If you believe this is an error, contact us at \
                           help.openai.com and include the request ID 0. safety_violations=[violence].";
            error(400, message, "image_generation_user_error", None, Some("moderation_blocked"))
        }
        Behaviour::RateLimited(rest) => {
            let message = format!(
                "Rate limit reached for {model} (for limit gpt-image) in organization org-x on input-images per min: \
                 Limit 5, Used 5, Requested 1. Please try again in {}s.",
                rest.as_secs_f64()
            );
            error(429, &message, "input-images", None, Some("rate_limit_exceeded"))
        }
        Behaviour::InsufficientQuota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            error(429, message, "insufficient_quota", None, Some("insufficient_quota"))
        }
        Behaviour::Unverified => {
            let message = format!("Your organization must be verified to use the model `{model}`.");
            error(403, &message, "invalid_request_error", None, None)
        }
        Behaviour::ModelNotFound => {
            let message = format!("The model `{model}` does not exist or you do not have access to it.");
            error(404, &message, "invalid_request_error", None, Some("model_not_found"))
        }
        Behaviour::Draw => error(500, "unreachable", "server_error", None, None),
        Behaviour::Status(status) => {
            let message = "The server had an error while processing your request.";
            error(status, message, "server_error", None, None)
        }
    }
}

fn invalid_key() -> Response<Body> {
    let message = "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.";
    error(401, message, "invalid_request_error", None, Some("invalid_api_key"))
}

/// An error as the API writes it.
fn error(status: u16, message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Response<Body> {
    let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    connections::json(status, Bytes::from(serde_json::to_vec_pretty(&body).unwrap_or_default()))
}
