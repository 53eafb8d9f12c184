//! The functions, what starts them, and who calls them.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use darkroom::catalogue;
use darkroom_aws::clients::Clients;
use darkroom_aws::config::{ConfigError, Environment, Tables};
use darkroom_aws::{JobTable, KeyTable, LedgerTable, now, random_stamp};
use darkroom_core::id::UserId;
use darkroom_core::job::Job;
use darkroom_core::limits::{HTTP_TIMEOUT, SWEEP, SWEEPER_TIMEOUT, VISIBILITY_TIMEOUT, WORKER_TIMEOUT};
use darkroom_local_aws::Engine;
use http::Request;
use http_body_util::BodyExt as _;
use lambda_http::request::RequestContext;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt as _;
use worker::Worker;

use super::check::Check;
use super::fault::{Fault, LATE, Plan};
use super::process::Process;
use super::stores::{Message, Step, Stores};
use super::time::{begin, pass};
use super::wire::clients;
use crate::stores::stack;

/// How often the event source mapping looks for messages.
const POLL: Duration = Duration::from_millis(200);
/// Worker processes at a time.
const WORKERS: usize = 2;
/// A client asks again after so long.
const RETRY: Duration = Duration::from_secs(2);
/// And gives up after so many times.
const TRIES: usize = 10;

/// One run's system.
#[derive(Clone)]
pub struct World(Arc<Parts>);

struct Parts {
    stores: Arc<Stores>,
    check: Arc<Check>,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    ledger: LedgerTable,
    idle: Mutex<Vec<(Process, Arc<Worker>)>>,
    /// Whether messages are received.
    consuming: AtomicBool,
    /// Whether the schedule is on.
    scheduled: AtomicBool,
    /// The ids of the jobs that were accepted.
    accepted: Mutex<BTreeSet<String>>,
}

impl World {
    /// Stores as the template describes them, with the catalogue, and every function's trigger at work. Has to be called in a
    /// runtime of one thread whose clock is paused.
    ///
    /// # Errors
    /// When the template or the catalogue is broken.
    pub async fn start(seed: u64, plan: Plan) -> anyhow::Result<Self> {
        begin(seed);
        let stack = stack("simulated", "http://sqs.simulated")?;
        let engine = Engine::in_memory()?;
        for table in &stack.tables {
            engine.ensure_table(table.create_table.clone(), table.ttl_attribute.as_deref())?;
        }
        let stores = Arc::new(Stores::new(engine, plan));
        let settings: BTreeMap<_, _> =
            stack.functions.into_iter().map(|function| (function.binary, function.environment)).collect();
        let own = settings.get("worker").context("the template has no worker")?;
        let tables = Tables::read(&Environment::from_fn(|name| own.get(name).cloned()))?;
        let dynamodb = clients(&stores, None, None).dynamodb;
        let ledger = LedgerTable::new(dynamodb.clone(), tables.ledger);
        let jobs = JobTable::new(dynamodb.clone(), tables.jobs, ledger.clone());
        catalogue::seed(&KeyTable::new(dynamodb, tables.keys), &catalogue::built_in()?).await?;
        let check = Arc::new(Check::new(jobs, ledger.clone(), Arc::clone(&stores)));
        let world = Self(Arc::new(Parts {
            stores,
            check,
            settings,
            ledger,
            idle: Mutex::default(),
            consuming: AtomicBool::new(true),
            scheduled: AtomicBool::new(true),
            accepted: Mutex::default(),
        }));
        tokio::spawn(world.clone().map_messages());
        tokio::spawn(world.clone().keep_schedule());
        Ok(world)
    }

    /// Gives a user tokens.
    ///
    /// # Errors
    /// When the ledger refuses.
    pub async fn grant(&self, user: &str, tokens: u64) -> anyhow::Result<()> {
        let op_id = random_stamp();
        self.0.ledger.grant(&UserId::parse(user)?, tokens, op_id.as_str(), now()).await?;
        Ok(())
    }

    /// An app's side.
    pub fn client(&self, user: &str) -> Client {
        Client { world: self.clone(), user: user.to_owned() }
    }

    /// Gives the worker messages, or none.
    pub fn consume(&self, is_on: bool) {
        self.0.consuming.store(is_on, Ordering::Relaxed);
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        pass(time).await;
    }

    /// Every job as it is.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        self.0.check.jobs().await
    }

    /// Lets time pass until every job is settled, at most so long, and then until what is late has come and every message is
    /// gone.
    ///
    /// # Errors
    /// When a job was accepted and is not there, or is not settled by then (I3), or when a message was given up.
    pub async fn settle(&self, at_most: Duration) -> anyhow::Result<Vec<Job>> {
        self.settled(at_most).await?;
        if self.steps().iter().any(|step| step.fault == Some(Fault::Late)) {
            pass(LATE).await;
            self.settled(at_most).await?;
        }
        // A message that a killed worker had comes again; nothing is left that a sweep could do.
        self.0.scheduled.store(false, Ordering::Relaxed);
        self.consume(true);
        let until = now().plus(VISIBILITY_TIMEOUT * 2);
        while self.0.stores.messages() > 0 && now() < until {
            pass(SWEEP).await;
        }
        // A sweep that is under way ends, and the SDK's tries of its calls.
        pass(SWEEP).await;
        let (left, given_up) = (self.0.stores.messages(), self.0.stores.dead_letters());
        ensure!(left == 0 && given_up == 0, "{left} messages are left, {given_up} were given up");
        let jobs = self.jobs().await?;
        let accepted = self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let lost: Vec<_> =
            accepted.iter().filter(|id| jobs.iter().all(|job| job.id.as_str() != *id)).collect();
        ensure!(lost.is_empty(), "I3: accepted and lost: {lost:?}");
        Ok(jobs)
    }

    async fn settled(&self, at_most: Duration) -> anyhow::Result<()> {
        let until = now().plus(at_most);
        loop {
            let jobs = self.jobs().await?;
            let left = jobs.iter().filter(|job| job.settlement().is_none());
            let left: Vec<_> = left.map(|job| format!("{} {}", job.id, job.status().as_str())).collect();
            if left.is_empty() && !jobs.is_empty() {
                return Ok(());
            }
            ensure!(now() < until, "I3: not settled in {at_most:?}: {left:?}");
            pass(Duration::from_secs(1)).await;
        }
    }

    /// Every call to a store so far, as a name of what it does.
    pub fn steps(&self) -> Vec<Step> {
        self.0.stores.steps()
    }

    /// What did not hold.
    pub fn broken(&self) -> Vec<String> {
        self.0.check.broken()
    }

    /// A new process of a function; `None` when the template's settings do not start it.
    fn process<T>(
        &self,
        function: &'static str,
        start: impl FnOnce(&Environment<'_>, Clients) -> Result<T, ConfigError>,
    ) -> Option<(Process, T)> {
        let process = Process::new(function);
        let variables = self.0.settings.get(function);
        let environment = Environment::from_fn(move |name| variables?.get(name).cloned());
        let clients = clients(&self.0.stores, Some(&process), Some(&self.0.check));
        let started = start(&environment, clients);
        Some((process, started.ok()?))
    }

    /// The event source mapping: batches for the worker, each in a process of its own or one that is idle.
    async fn map_messages(self) {
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            if running.len() < WORKERS && self.0.consuming.load(Ordering::Relaxed) {
                let batch = self.0.stores.receive(VISIBILITY_TIMEOUT);
                if !batch.is_empty() {
                    running.spawn(self.clone().draw(batch));
                }
            }
            pass(POLL).await;
        }
    }

    async fn draw(self, batch: Vec<Message>) {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (process, worker) = if let Some(idle) = idle {
            idle
        } else {
            let Some((process, worker)) = self.process("worker", worker::start) else { return };
            if process.run(Box::pin(worker.warm())).await.is_none() {
                return;
            }
            (process, Arc::new(worker))
        };
        let records: Vec<_> = batch
            .iter()
            .map(|message| json!({"messageId": message.id.to_string(), "body": message.body}))
            .collect();
        let Ok(event) = serde_json::from_value(json!({"Records": records})) else { return };
        let mut context = Context::default();
        context.deadline = now().plus(WORKER_TIMEOUT).as_millis();
        let handled = process.run(worker::handle(Arc::clone(&worker), LambdaEvent::new(event, context)));
        // Killed, timed out or failed: the messages come back when they are visible again.
        let Ok(Some(Ok(answer))) = timeout(WORKER_TIMEOUT, Box::pin(handled)).await else {
            return process.kill();
        };
        let answer = serde_json::to_value(answer).unwrap_or_default();
        let failed: Vec<u64> = answer["batchItemFailures"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|failure| failure["itemIdentifier"].as_str()?.parse().ok())
            .collect();
        self.0.stores.acknowledge(&batch, &failed);
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push((process, worker));
    }

    /// The schedule: a sweep each minute.
    async fn keep_schedule(self) {
        while self.0.scheduled.load(Ordering::Relaxed) {
            pass(SWEEP).await;
            let world = self.clone();
            tokio::spawn(async move {
                let Some((process, sweeper)) = world.process("sweeper", sweeper::start) else { return };
                let deadline = now().plus(SWEEPER_TIMEOUT).as_millis();
                // A sweep that fails is followed by the next.
                drop(timeout(SWEEPER_TIMEOUT, process.run(sweeper.sweep(deadline))).await);
                process.kill();
            });
        }
    }

    /// One request to an HTTP function; `None` when its process gave no answer.
    async fn request(&self, function: &'static str, request: Request<Body>) -> Option<(u16, Value)> {
        let router = |environment: &Environment<'_>, clients| match function {
            "submit" => submit::start(environment, clients).map(submit::router),
            _ => api::start(environment, clients).map(api::router),
        };
        let (process, router) = self.process(function, router)?;
        let answered = timeout(HTTP_TIMEOUT, process.run(router.oneshot(request))).await;
        process.kill();
        let response = answered.ok()??.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// An app that asks again until it is answered.
#[derive(Clone)]
pub struct Client {
    world: World,
    user: String,
}

impl Client {
    /// Submits a job; its id.
    ///
    /// # Errors
    /// When it is not accepted, however often it asks.
    pub async fn submit(&self, key: &str, body: &Value) -> anyhow::Result<String> {
        let request = || {
            Request::post("/v1/jobs")
                .header("content-type", "application/json")
                .header("idempotency-key", key)
        };
        let (status, answer) = self.ask("submit", || request().body(Body::from(body.to_string()))).await?;
        ensure!(status == 202, "{status} {answer}");
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        let accepted = &self.world.0.accepted;
        accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        Ok(id)
    }

    /// Asks to end a job; the status of the answer.
    ///
    /// # Errors
    /// When there is none, however often it asks.
    pub async fn cancel(&self, id: &str) -> anyhow::Result<u16> {
        let path = format!("/v1/jobs/{id}/cancel");
        let (status, _) = self.ask("api", || Request::post(path.as_str()).body(Body::empty())).await?;
        Ok(status)
    }

    async fn ask(
        &self,
        function: &'static str,
        request: impl Fn() -> http::Result<Request<Body>>,
    ) -> anyhow::Result<(u16, Value)> {
        let claims = json!({
            "authorizer": {"jwt": {"claims": {"sub": self.user}, "scopes": null}},
            "http": {"method": "POST"},
            "timeEpoch": 0,
        });
        for _ in 0..TRIES {
            let mut request = request()?;
            let context = serde_json::from_value(claims.clone())?;
            request.extensions_mut().insert(RequestContext::ApiGatewayV2(context));
            match self.world.request(function, request).await {
                Some((status, body)) if status < 500 && status != 429 => return Ok((status, body)),
                Some(_) | None => pass(RETRY).await,
            }
        }
        anyhow::bail!("{function} gave no answer")
    }
}
