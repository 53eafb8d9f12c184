//! A server that answers as the Gemini API does, for tests and benches: same paths, headers, bodies and limits.
//!
//! Each API key behaves as told at run time; each project has limits that are counted on arrival in an exact sliding
//! window; latency and faults come from a seed. Every call is logged, so that a test can ask what a provider saw: which
//! key, which prompt, how many at once. It listens on the loopback interface alone.

mod bodies;
mod figures;
mod ideal;
mod quota;
mod server;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::figures::Figures;
pub use self::ideal::{Supply, shortest_span};
pub use self::quota::Limits;
use crate::stand_in::call_log::Log;
pub use crate::stand_in::call_log::{Call, Outcome};
use crate::stand_in::connections::{Body, Server, lock};

/// How the stand-in starts. Everything can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port; 0 takes any.
    pub port: u16,
    /// Length of the window that per-minute limits are counted in: shorter than a minute makes tests quick.
    pub minute: Duration,
    /// How long a picture takes.
    pub latency: Latency,
    /// Length of a picture's file in bytes.
    pub image_bytes: usize,
    /// Faults that any call may meet.
    pub faults: Faults,
    /// Decides faults and latencies. The nth call of a prompt meets the same fate in every run, whatever runs beside it.
    pub seed: u64,
    /// Whether a key that was not added draws without limits; otherwise it is answered as invalid, as the real API does.
    pub accept_unknown_keys: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            minute: Duration::from_secs(60),
            latency: Latency::None,
            image_bytes: 64 * 1024,
            faults: Faults::default(),
            seed: 1,
            accept_unknown_keys: false,
        }
    }
}

/// How long a call takes.
#[derive(Clone, Copy, Debug)]
pub enum Latency {
    /// As fast as it goes.
    None,
    /// Always this long.
    Fixed(Duration),
    /// Lognormal: half of the calls take longer than `median`; `sigma` of the logarithm is about 0.3 for real models.
    LogNormal {
        /// The median.
        median: Duration,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
}

/// How often a call that would draw meets a fault instead; each is a probability, together at most 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// 429 without a limit having been reached.
    pub rate_limited: f64,
    /// 500, 503 or 504.
    pub server_error: f64,
    /// No answer at all.
    pub hang: f64,
    /// The connection is reset.
    pub reset: f64,
    /// 200 without a picture.
    pub no_image: f64,
    /// 200 with a refusal.
    pub blocked: f64,
}

/// What a key is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    /// A picture, within the project's limits and subject to the fault mix.
    Draw,
    /// A picture after two drafts in thought parts.
    DrawAfterDrafts,
    /// A picture in a thought part and nowhere else.
    DrawOnlyThought,
    /// 200, finished for this reason without a picture: `IMAGE_SAFETY`, `NO_IMAGE`, `STOP`, ...
    Finish(String),
    /// 200, the prompt blocked for this reason and no candidate.
    PromptBlocked(String),
    /// 400 `INVALID_ARGUMENT`.
    InvalidArgument,
    /// 400 with the reason `API_KEY_INVALID`.
    InvalidKey,
    /// 400 `FAILED_PRECONDITION`.
    NoBilling,
    /// 401.
    Unauthenticated,
    /// 402.
    PaymentRequired,
    /// 403 `CONSUMER_SUSPENDED`; the message contains the key, as the real one does.
    Suspended,
    /// 403, the key was reported as leaked.
    Leaked,
    /// 403, the project was denied access.
    DeniedAccess,
    /// 403 without any of those reasons.
    Forbidden,
    /// 404.
    NotFound,
    /// 429, the account's prepaid credits are used up.
    CreditsDepleted,
    /// 429 whose quota is zero.
    ZeroQuota,
    /// 429 of the day.
    PerDay,
    /// 429 of the minute that asks to wait this long.
    PerMinute(Duration),
    /// 429 without details.
    BareRateLimit,
    /// A bare status with Google's usual body: 500, 503, 504 and others.
    Status(u16),
    /// A redirect to this address.
    Redirect(String),
    /// 200 with this body.
    Body(Bytes),
    /// No answer until the client goes away.
    Hang,
    /// The connection is reset before the answer.
    Reset,
    /// The connection breaks in the middle of the picture.
    ResetInBody,
}

/// A key that the stand-in knows.
#[derive(Debug)]
struct Key {
    project: String,
    behaviour: Behaviour,
    /// Answered first, each once.
    next: VecDeque<Behaviour>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    keys: HashMap<String, Key>,
    retired_models: Vec<String>,
    quotas: quota::Quotas,
    log: Log,
    prompts: HashMap<String, u64>,
}

/// The API itself: what it knows and what it saw.
#[derive(Clone, Debug)]
pub struct Gemini {
    state: Arc<Mutex<State>>,
}

/// The API behind a server, which stops when dropped.
#[derive(Debug)]
pub struct StandIn {
    gemini: Gemini,
    server: Server,
}

impl StandIn {
    /// Starts on the loopback interface.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(settings: Settings) -> std::io::Result<Self> {
        let port = settings.port;
        let gemini = Gemini::new(settings);
        let server = Server::start(port, Arc::clone(&gemini.state), server::SERVICE)?;
        Ok(Self { gemini, server })
    }

    /// `http://127.0.0.1:<port>`
    pub fn base_url(&self) -> String {
        self.server.base_url()
    }
}

impl Deref for StandIn {
    type Target = Gemini;

    fn deref(&self) -> &Gemini {
        &self.gemini
    }
}

impl Gemini {
    /// Without a server: whoever has its connections hands the requests to [`Gemini::answer`].
    pub(crate) fn new(settings: Settings) -> Self {
        let state = State {
            settings,
            keys: HashMap::new(),
            retired_models: Vec::new(),
            quotas: quota::Quotas::default(),
            log: Log::new(Instant::now()),
            prompts: HashMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Answers a request; notifying breaks its connection.
    pub(crate) async fn answer(
        &self,
        head: Parts,
        body: Option<Bytes>,
        reset: &Arc<Notify>,
    ) -> Result<Response<Body>, Infallible> {
        let body = std::future::ready(body);
        server::answer(head, body, Arc::clone(&self.state), Arc::clone(reset)).await
    }

    /// The prompt of a request to draw.
    pub(crate) fn prompt(body: &[u8]) -> Option<String> {
        server::prompt(body)
    }

    /// A refusal of the API's own, whatever was asked; it is not logged. `None` for a behaviour that is none.
    pub(crate) fn refusal(behaviour: &Behaviour) -> Option<Response<Body>> {
        server::refusal(behaviour)
    }

    /// Adds a key of a project that draws.
    pub fn add_key(&self, key: &str, project: &str) {
        let new = Key { project: project.to_owned(), behaviour: Behaviour::Draw, next: VecDeque::new() };
        self.state().keys.insert(key.to_owned(), new);
    }

    /// Changes what a key is answered from now on. A key that was not added is added, with itself as its project.
    pub fn set_behaviour(&self, key: &str, behaviour: Behaviour) {
        self.key(key, |key| key.behaviour = behaviour);
    }

    /// Adds answers that a key gets first, each once, in order.
    pub fn queue_behaviours(&self, key: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.key(key, |key| key.next.extend(behaviours));
    }

    fn key(&self, name: &str, change: impl FnOnce(&mut Key)) {
        let mut state = self.state();
        let key = state.keys.entry(name.to_owned()).or_insert_with(|| Key {
            project: name.to_owned(),
            behaviour: Behaviour::Draw,
            next: VecDeque::new(),
        });
        change(key);
    }

    /// Sets the limits of a project's calls of each model. A project without limits draws any number.
    pub fn set_limits(&self, project: &str, limits: Limits) {
        self.state().quotas.set(project, limits);
    }

    /// Begins a new day: daily limits count from zero.
    pub fn new_day(&self) {
        self.state().quotas.new_day();
    }

    /// Answers 404 for a model from now on.
    pub fn retire_model(&self, model: &str) {
        self.state().retired_models.push(model.to_owned());
    }

    /// Changes the settings; the port cannot change.
    pub fn update(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Every call that has ended, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.state().log.calls()
    }

    /// The number of calls that arrived, those under way included.
    pub fn call_count(&self) -> usize {
        self.state().log.arrived()
    }

    /// The number of pictures that were sent since the start: cheap to ask for.
    pub fn drawn_count(&self) -> usize {
        self.state().log.drawn()
    }

    /// How many calls each prompt has ended with a picture.
    pub fn pictures_by_prompt(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in self.calls().into_iter().filter(|call| call.outcome == Outcome::Drawn) {
            *counts.entry(call.prompt).or_insert(0) += 1;
        }
        counts
    }

    /// How many calls each prompt has made, whatever came of them.
    pub fn calls_by_prompt(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in self.calls() {
            *counts.entry(call.prompt).or_insert(0) += 1;
        }
        counts
    }

    /// How many calls each outcome has had.
    pub fn calls_by_outcome(&self) -> BTreeMap<Outcome, usize> {
        let mut counts = BTreeMap::new();
        for call in self.calls() {
            *counts.entry(call.outcome).or_insert(0) += 1;
        }
        counts
    }

    /// The most calls that were under way at once.
    pub fn in_flight_max(&self) -> usize {
        self.state().log.in_flight_max()
    }

    /// Connections that were opened.
    pub fn connections(&self) -> usize {
        self.state().log.connections()
    }

    /// Forgets the calls of the past; keys, limits and counters stay.
    pub fn clear_calls(&self) {
        self.state().log.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
