//! What starts the functions: the event source mapping, the schedule and the gateway.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use darkroom_aws::clients::Clients;
use darkroom_aws::config::{ConfigError, Environment};
use darkroom_core::limits::{
    BULK_TIMEOUT, BULK_VISIBILITY_TIMEOUT, HTTP_TIMEOUT, SWEEP, VISIBILITY_TIMEOUT, WORKER_TIMEOUT,
};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::process::Process;
use super::queue::Message;
use super::time::{pass, right_now};
use super::wire::clients;
use super::world::World;

/// How often the event source mapping looks for messages.
const POLL: Duration = Duration::from_millis(200);

/// Environments of bulk at once.
const BULK_AT_ONCE: usize = 2;
/// Writes that make jobs of a batch in one transaction: so that a batch of three lines takes two.
const BATCH_WRITES: usize = 2;

impl World {
    /// A new process of a function; `None` when the template's settings do not start it.
    pub(crate) fn process<T>(
        &self,
        function: &'static str,
        start: impl FnOnce(&Environment<'_>, Clients) -> Result<T, ConfigError>,
    ) -> Option<(Process, T)> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let process = Process::new(function, number, self.wrong_by_ms());
        let (variables, way) = (self.0.settings.get(function), self.0.network.base_url(&process));
        let environment = Environment::from_fn(move |name| match name {
            "DARKROOM_GEMINI_BASE_URL" => Some(way.clone()),
            _ => variables?.get(name).cloned(),
        });
        let clients = clients(&self.0.stores, Some(&process), Some(&self.0.check));
        let started = start(&environment, clients);
        Some((process, started.ok()?))
    }

    /// The event source mapping: batches for the worker, each in a process of its own or one that is idle.
    pub(crate) async fn map_messages(self) {
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            if running.len() < self.0.workers && self.0.consuming.load(Ordering::Relaxed) {
                let batch = self.0.stores.receive(VISIBILITY_TIMEOUT);
                if batch.is_empty() {
                    self.0.stores.next_message().await;
                } else {
                    running.spawn(self.clone().draw(batch));
                }
            }
            pass(POLL).await;
        }
    }

    /// The other event source mapping: one message for bulk at a time, two at once at most.
    pub(crate) async fn map_bulk(self) {
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            if running.len() < BULK_AT_ONCE {
                let message = self.0.stores.receive_bulk(BULK_VISIBILITY_TIMEOUT);
                if message.is_empty() {
                    self.0.stores.next_bulk_message().await;
                } else {
                    running.spawn(self.clone().take_up(message));
                }
            }
            pass(POLL).await;
        }
    }

    async fn take_up(self, message: Vec<Message>) {
        let start = |environment: &Environment<'_>, clients| {
            bulk::start(environment, clients).map(|bulk| bulk.with_batch_writes(BATCH_WRITES))
        };
        let Some((process, bulk)) = self.process("bulk", start) else { return };
        let records: Vec<_> = message
            .iter()
            .map(|message| json!({"messageId": message.id.to_string(), "body": message.body}))
            .collect();
        let Ok(event) = serde_json::from_value(json!({"Records": records})) else { return };
        let mut context = Context::default();
        context.deadline = right_now().plus(BULK_TIMEOUT).as_millis();
        let handled = process.run(bulk::handle(&bulk, LambdaEvent::new(event, context)));
        let answer = timeout(BULK_TIMEOUT, Box::pin(handled)).await;
        process.kill();
        // Killed, timed out or failed: the message comes back when it is visible again.
        let Ok(Some(Ok(answer))) = answer else { return };
        let answer = serde_json::to_value(answer).unwrap_or_default();
        let is_kept = answer["batchItemFailures"].as_array().is_some_and(|failed| !failed.is_empty());
        let kept: Vec<_> = message.iter().filter(|_| is_kept).map(|message| message.id).collect();
        self.0.stores.acknowledge_bulk(&message, &kept);
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
        context.deadline = right_now().plus(WORKER_TIMEOUT).as_millis();
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

    /// The schedule: a sweep each minute, or several at once.
    pub(crate) async fn keep_schedule(self) {
        while self.0.scheduled.load(Ordering::Relaxed) {
            pass(SWEEP).await;
            for _ in 0..self.0.sweepers {
                tokio::spawn(self.clone().sweep());
            }
        }
    }

    async fn sweep(self) {
        let Some((process, sweeper)) = self.process("sweeper", sweeper::start) else { return };
        let deadline = right_now().plus(self.0.sweep_time).as_millis();
        // A sweep that fails is followed by the next.
        drop(timeout(self.0.sweep_time, Box::pin(process.run(sweeper.sweep(deadline)))).await);
        process.kill();
    }

    /// One request to an HTTP function; `None` when its process gave no answer.
    pub(crate) async fn request(
        &self,
        function: &'static str,
        request: Request<Body>,
    ) -> Option<(u16, Value)> {
        let router = |environment: &Environment<'_>, clients| match function {
            "submit" => submit::start(environment, clients)
                .map(|submit| submit::router(submit.with_batch_writes(BATCH_WRITES))),
            _ => api::start(environment, clients).map(api::router),
        };
        let (process, router) = self.process(function, router)?;
        let answered = timeout(HTTP_TIMEOUT, process.run(router.oneshot(request))).await;
        process.kill();
        read(answered.ok()??.ok()?).await
    }
}

/// The status and JSON of a response.
pub(crate) async fn read(response: Response<Body>) -> Option<(u16, Value)> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some((status, serde_json::from_slice(&body).unwrap_or_default()))
}
