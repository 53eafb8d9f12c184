//! A server that answers as Stable Diffusion WebUI Forge does, for tests: same paths and bodies, one drawing at a time behind a lock,
//! a drawing goes on when its client is gone, and one that failed stays on the books. It listens on the loopback interface alone.

use std::collections::VecDeque;
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
/// Steps of a drawing; its progress is told in these.
const STEPS: u32 = 20;

#[derive(Debug)]
struct State {
    /// How long drawings take: these first, each once, then no time.
    durations: VecDeque<Duration>,
    /// Drawings that fail, the next ones.
    failures: usize,
    /// What `--api-auth` names; none without it.
    credentials: Option<String>,
    /// The server's books (`modules/progress.py`).
    current: Option<String>,
    pending: Vec<String>,
    finished: Vec<String>,
    step: u32,
    /// Whether anything runs (`shared.state.job`).
    works: bool,
    /// Ids of the calls, in the order of arrival, each with the jobs on the books at that time.
    arrivals: Vec<(String, Vec<String>)>,
    lock: Arc<tokio::sync::Mutex<()>>,
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
        let state = Arc::new(Mutex::new(State {
            durations: VecDeque::new(),
            failures: 0,
            credentials: None,
            current: None,
            pending: Vec::new(),
            finished: Vec::new(),
            step: 0,
            works: false,
            arrivals: Vec::new(),
            lock: Arc::default(),
            log: Log::new(Instant::now()),
        }));
        let service = Service {
            connected: |state: &mut State| state.log.connected(),
            call: |request, state, _| Box::pin(async move { Ok(call(request, state).await) }),
        };
        let server = Server::start(0, Arc::clone(&state), service)?;
        Ok(Self { state, server })
    }

    /// `http://127.0.0.1:<port>`
    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// The next drawings take so long.
    pub fn queue_durations(&self, durations: impl IntoIterator<Item = Duration>) {
        lock(&self.state).durations.extend(durations);
    }

    /// The next drawings fail with 500.
    pub fn fail_next(&self, drawings: usize) {
        lock(&self.state).failures = drawings;
    }

    /// Asks for this `user:password` from now on.
    pub fn require(&self, credentials: &str) {
        lock(&self.state).credentials = Some(credentials.to_owned());
    }

    /// Every drawing that has ended, in the order of arrival, also of a client that was gone by then.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).log.calls()
    }

    /// The ids of the calls in the order of arrival, each with what was on the books then: drawing or waiting.
    pub fn arrivals(&self) -> Vec<(String, Vec<String>)> {
        lock(&self.state).arrivals.clone()
    }
}

/// What a request asks for.
struct Asked {
    task: String,
    model: String,
    prompt: String,
    width: u32,
    height: u32,
}

async fn call(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let wanted = lock(&state).credentials.clone();
    let wanted = wanted.map(|text| format!("Basic {}", data_encoding::BASE64.encode(text.as_bytes())));
    let given = head.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if path.starts_with("/sdapi/") && wanted.is_some() && wanted.as_deref() != given {
        return answer(401, &json!({"detail": "Incorrect username or password"}));
    }
    let body = connections::read(body).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (method, path.as_str()) {
        (Method::GET, "/sdapi/v1/options") => answer(200, &json!({"sd_model_checkpoint": "sd_xl_base_1.0"})),
        (Method::GET, "/sdapi/v1/progress") => {
            let job = if lock(&state).works { "scripts_txt2img" } else { "" };
            answer(
                200,
                &json!({"progress": 0.01, "eta_relative": 0.0, "state": {"job": job, "job_count": 1}}),
            )
        }
        (Method::POST, "/internal/progress") => answer(200, &progress(&lock(&state), body.get("id_task"))),
        (Method::POST, "/sdapi/v1/txt2img") => match parse(&body) {
            Ok(asked) => text_to_image(asked, state, given.unwrap_or_default().to_owned()).await,
            Err(field) => {
                let fault = json!({"loc": ["body", field], "msg": "Field required", "type": "missing"});
                answer(422, &json!({"detail": [fault]}))
            }
        },
        _ => answer(404, &json!({"detail": "Not Found"})),
    }
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    connections::json(status, Bytes::from(body.to_string()))
}

fn parse(body: &Value) -> Result<Asked, &'static str> {
    let known = [
        "prompt",
        "width",
        "height",
        "seed",
        "batch_size",
        "n_iter",
        "send_images",
        "save_images",
        "force_task_id",
        "override_settings",
        "override_settings_restore_afterwards",
    ];
    if !has_only(body, &known) {
        return Err("unknown");
    }
    let text = |name: &'static str| body.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(name);
    let side = |name: &'static str| {
        let side = body.get(name).and_then(Value::as_u64).and_then(|side| u32::try_from(side).ok());
        side.filter(|side| side.is_multiple_of(8)).ok_or(name)
    };
    let seed = body.get("seed").and_then(Value::as_u64).ok_or("seed")?;
    u32::try_from(seed).map_err(|_| "seed")?;
    let model = body.pointer("/override_settings/sd_model_checkpoint").and_then(Value::as_str);
    Ok(Asked {
        task: text("force_task_id")?,
        model: model.ok_or("override_settings")?.to_owned(),
        prompt: text("prompt")?,
        width: side("width")?,
        height: side("height")?,
    })
}

fn progress(state: &State, id: Option<&Value>) -> Value {
    let id = id.and_then(Value::as_str).unwrap_or_default();
    let active = state.current.as_deref() == Some(id);
    let is_in = |ids: &[String]| ids.iter().any(|known| known == id);
    let progress = active.then(|| f64::from(state.step) / f64::from(STEPS));
    json!({
        "active": active, "queued": is_in(&state.pending), "completed": is_in(&state.finished), "progress": progress,
        "eta": null, "live_preview": null, "id_live_preview": -1, "textinfo": "Waiting...",
    })
}

/// Waits for a drawing that goes on without it.
async fn text_to_image(asked: Asked, state: Arc<Mutex<State>>, key: String) -> Response<Body> {
    match tokio::spawn(draw(asked, state, key)).await {
        Ok(Some(body)) => connections::json(200, body),
        Ok(None) | Err(_) => answer(
            500,
            &json!({"error": "OutOfMemoryError", "detail": "", "body": "", "message": "CUDA out of memory."}),
        ),
    }
}

async fn draw(asked: Asked, state: Arc<Mutex<State>>, key: String) -> Option<Bytes> {
    let (at, number, queue) = {
        let mut state = lock(&state);
        let on_the_books = state.pending.iter().chain(&state.current).cloned().collect();
        state.arrivals.push((asked.task.clone(), on_the_books));
        state.pending.push(asked.task.clone());
        (state.log.since_start(), state.log.begin(), Arc::clone(&state.lock))
    };
    let arrived = Instant::now();
    let held = queue.lock().await;
    let (duration, fails) = begin(&mut lock(&state), &asked.task);
    for step in 0..STEPS {
        lock(&state).step = step;
        tokio::time::sleep(duration / STEPS).await;
    }
    let mut state = lock(&state);
    if !fails {
        state.current = None;
        state.finished.push(asked.task.clone());
    }
    state.works = false;
    drop(held);
    let outcome = if fails { Outcome::Answered(500, "FAILED".to_owned()) } else { Outcome::Drawn };
    let call = Call {
        at,
        took: arrived.elapsed(),
        key,
        project: String::new(),
        model: asked.model.clone(),
        prompt: asked.prompt.clone(),
        reference: None,
        outcome,
    };
    state.log.end(number, call);
    (!fails).then(|| drawn(&asked))
}

/// How long the drawing takes, and whether it fails.
fn begin(state: &mut State, task: &str) -> (Duration, bool) {
    state.works = true;
    state.pending.retain(|pending| pending != task);
    state.current = Some(task.to_owned());
    let fails = state.failures > 0;
    state.failures = state.failures.saturating_sub(1);
    (state.durations.pop_front().unwrap_or_default(), fails)
}

fn drawn(asked: &Asked) -> Bytes {
    let picture = picture((asked.width, asked.height), IMAGE_BYTES);
    let info = json!({"prompt": asked.prompt, "sd_model_name": asked.model, "seed": 1}).to_string();
    let rest = json!({"info": info, "parameters": {"prompt": asked.prompt}}).to_string();
    let parts = [b"{\"images\":[\"".as_slice(), &picture, b"\"],", rest.trim_start_matches('{').as_bytes()];
    Bytes::from(parts.concat())
}
