//! One execution environment: one process, its Runtime API, and the invocation it is working on.
//!
//! An environment is one asynchronous task that owns all of its state and hears of everything as a message: the
//! process's calls, the next invocation, the process's end, the clock, the owner's wish to stop. So there is no
//! state two could see differently.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::error::InvokeError;
use crate::ids;
use crate::pool::{Door, Pool, Slot, Stop};
use crate::process::Process;
use crate::runtime_api::{Call, Delivery, RuntimeApi};

/// How long an answer that was sent before the process ended may take to be read.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// One event on its way to a handler and back.
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) payload: Bytes,
    pub(crate) reply: oneshot::Sender<Result<Bytes, InvokeError>>,
    pub(crate) slot: Slot,
}

impl Invocation {
    /// Tells the caller that no handler will see it; the concurrency is free before the caller knows.
    pub(crate) fn refuse(self, error: InvokeError) {
        drop(self.slot);
        let _ = self.reply.send(Err(error));
    }
}

/// Why an environment is started.
pub(crate) enum Beginning {
    /// For this invocation.
    Invocation(Invocation),
    /// To wait for one; `reply` is told when it does.
    Warm { slot: Slot, reply: oneshot::Sender<Result<(), InvokeError>> },
}

enum Phase {
    /// Started; has not asked for work.
    Init,
    /// Asks for work.
    Waiting { since: Instant, work: oneshot::Sender<Delivery> },
    /// Has work.
    Busy(Busy),
    /// Has answered and not asked again. The invocation's time-out goes on until it does.
    Returning { until: Instant },
}

struct Busy {
    request_id: String,
    reply: oneshot::Sender<Result<Bytes, InvokeError>>,
    slot: Slot,
    since: Instant,
    until: Instant,
}

enum End {
    Exited(String),
    InitError(String),
    TimedOut,
    Unused,
    Stopped(Duration),
}

struct Environment {
    pool: Arc<Pool>,
    door: Door,
    process: Process,
    api: Option<RuntimeApi>,
    calls: mpsc::Receiver<Call>,
    inbox: mpsc::Receiver<Invocation>,
    stop: watch::Receiver<Stop>,
    phase: Phase,
    /// Accepted and not yet delivered.
    next: Option<Invocation>,
    warming: Option<(Slot, oneshot::Sender<Result<(), InvokeError>>)>,
    since: Instant,
    init: Option<Duration>,
}

/// Lives as long as the environment.
pub(crate) async fn run(
    pool: Arc<Pool>,
    door: Door,
    inbox: mpsc::Receiver<Invocation>,
    beginning: Beginning,
) {
    let number = door.number;
    let since = Instant::now();
    match start(&pool, door.number).await {
        Ok((process, api, calls)) => {
            pool.has_process(number, process.id);
            let (next, warming) = match beginning {
                Beginning::Invocation(invocation) => (Some(invocation), None),
                Beginning::Warm { slot, reply } => (None, Some((slot, reply))),
            };
            let environment = Environment {
                stop: pool.stop_signal(),
                since,
                api: Some(api),
                phase: Phase::Init,
                init: None,
                pool,
                door,
                process,
                calls,
                inbox,
                next,
                warming,
            };
            environment.live().await;
        }
        Err(error) => {
            pool.ended(number);
            let error = InvokeError::InitFailed { message: error.to_string() };
            match beginning {
                Beginning::Invocation(invocation) => {
                    pool.stats(|stats| stats.count_error(&error));
                    invocation.refuse(error);
                }
                Beginning::Warm { reply, .. } => drop(reply.send(Err(error))),
            }
        }
    }
}

async fn start(pool: &Pool, number: u64) -> std::io::Result<(Process, RuntimeApi, mpsc::Receiver<Call>)> {
    let (calls, inbox) = mpsc::channel(4);
    let api = RuntimeApi::listen(calls).await?;
    let process = Process::start(pool, api.address, number).await?;
    Ok((process, api, inbox))
}

impl Environment {
    async fn live(mut self) {
        let end = loop {
            self.deliver();
            let wake = self.wake();
            // Calls before the end: an answer that arrived before the process ended is an answer.
            tokio::select! {
                biased;
                Some(call) = self.calls.recv() => {
                    if let Some(end) = self.hear(call) { break end }
                }
                status = self.process.ended() => break End::Exited(status),
                Some(invocation) = self.inbox.recv(), if self.next.is_none() => self.next = Some(invocation),
                () = sleep_until(wake) => {
                    if let Some(end) = self.late() { break end }
                }
                grace = stopped(&mut self.stop) => break End::Stopped(grace),
            }
        };
        self.conclude(end).await;
    }

    /// Hands the next invocation to a process that asks for one.
    fn deliver(&mut self) {
        let Some(invocation) = self.next.take() else { return };
        let work = match std::mem::replace(&mut self.phase, Phase::Init) {
            Phase::Waiting { work, .. } => work,
            other => {
                self.phase = other;
                self.next = Some(invocation);
                return;
            }
        };
        let timeout = self.pool.settings.timeout;
        let since = Instant::now();
        let delivery = Delivery {
            request_id: invocation.request_id.clone(),
            deadline_millis: ids::epoch_millis() + u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            function_arn: self.pool.arn(),
            trace_id: ids::trace_id(),
            payload: invocation.payload.clone(),
        };
        let until = since + timeout;
        if work.send(delivery).is_err() {
            // It hung up while waiting: either it asks again, or it is ending.
            self.phase = Phase::Returning { until };
            self.next = Some(invocation);
            return;
        }
        let Invocation { request_id, reply, slot, .. } = invocation;
        self.phase = Phase::Busy(Busy { request_id, reply, slot, since, until });
    }

    fn hear(&mut self, call: Call) -> Option<End> {
        match call {
            Call::Next(work) => {
                self.asks(work);
                None
            }
            Call::Answer { request_id, answer, accepted } => {
                let _ = accepted.send(self.answers(&request_id, answer));
                None
            }
            Call::InitError(message) if matches!(self.phase, Phase::Init) => Some(End::InitError(message)),
            Call::InitError(_) => None,
        }
    }

    fn asks(&mut self, work: oneshot::Sender<Delivery>) {
        if matches!(self.phase, Phase::Busy(_)) {
            // The protocol has no such step. Dropping `work` answers 410; the invocation's clock goes on.
            return;
        }
        if matches!(self.phase, Phase::Init) {
            self.has_started();
        }
        self.phase = Phase::Waiting { since: Instant::now(), work };
    }

    fn has_started(&mut self) {
        let took = self.since.elapsed();
        self.init = Some(took);
        self.pool.stats(|stats| stats.add_init(took));
        let record = json!({
            "initializationType": "on-demand", "phase": "init", "status": "success",
            "metrics": { "durationMs": millis(took) },
        });
        self.pool.log.platform(self.process.id, "platform.initReport", &record);
        if let Some((slot, reply)) = self.warming.take() {
            self.pool.idle(self.door.clone());
            drop(slot);
            let _ = reply.send(Ok(()));
        }
    }

    /// The answer to the invocation in hand, or to none. The environment is idle again before the caller knows, so
    /// that a caller's next invocation finds it.
    fn answers(&mut self, request_id: &str, answer: Result<Bytes, InvokeError>) -> bool {
        match std::mem::replace(&mut self.phase, Phase::Init) {
            Phase::Busy(busy) if busy.request_id == request_id => {
                self.phase = Phase::Returning { until: busy.until };
                self.report(&busy, &answer);
                self.pool.idle(self.door.clone());
                drop(busy.slot);
                let _ = busy.reply.send(answer);
                true
            }
            other => {
                self.phase = other;
                false
            }
        }
    }

    fn report(&mut self, busy: &Busy, answer: &Result<Bytes, InvokeError>) {
        let mut metrics = json!({
            "durationMs": millis(busy.since.elapsed()),
            "memorySizeMB": self.pool.settings.memory_mb,
        });
        if let (Some(init), Some(metrics)) = (self.init.take(), metrics.as_object_mut()) {
            metrics.insert("initDurationMs".to_owned(), json!(millis(init)));
        }
        let mut record = json!({ "requestId": busy.request_id, "status": "success", "metrics": metrics });
        if let (Err(error), Some(record)) = (answer, record.as_object_mut()) {
            self.pool.stats(|stats| stats.count_error(error));
            let status = match error {
                InvokeError::TimedOut { .. } => "timeout",
                InvokeError::Crashed { .. } => "failure",
                _ => "error",
            };
            record.insert("status".to_owned(), json!(status));
            record.insert("errorType".to_owned(), json!(error_type(error)));
        }
        self.pool.log.platform(self.process.id, "platform.report", &record);
    }

    fn wake(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Init => Some(self.since + self.pool.house.settings.init_limit),
            Phase::Waiting { since, .. } => self.pool.house.settings.idle_limit.map(|limit| *since + limit),
            Phase::Busy(Busy { until, .. }) | Phase::Returning { until } => Some(*until),
        }
    }

    /// The time of this phase is up.
    fn late(&mut self) -> Option<End> {
        let Phase::Waiting { since, .. } = &mut self.phase else { return Some(End::TimedOut) };
        if self.pool.withdraw(self.door.number) {
            return Some(End::Unused);
        }
        // An invocation is on its way here.
        *since = Instant::now();
        None
    }

    async fn conclude(mut self, end: End) {
        self.pool.withdraw(self.door.number);
        self.inbox.close();
        match &end {
            End::Stopped(grace) => self.process.terminate(*grace).await,
            _ => self.process.kill().await,
        }
        // With the listener the last sender of calls goes, once the process's connections are read to their end.
        self.api = None;
        if matches!((&self.phase, &end), (Phase::Busy(_), End::Exited(_))) {
            self.hear_last_calls().await;
        }
        self.pool.ended(self.door.number);
        self.settle(end).await;
    }

    async fn hear_last_calls(&mut self) {
        let until = Instant::now() + LAST_CALLS;
        while let Ok(Some(call)) = tokio::time::timeout_at(until, self.calls.recv()).await {
            let _ = self.hear(call);
        }
        // An answer among them made it idle again.
        self.pool.withdraw(self.door.number);
    }

    /// Everything that was in this environment's hands gets an outcome.
    async fn settle(mut self, end: End) {
        let stopped = matches!(end, End::Stopped(_));
        match std::mem::replace(&mut self.phase, Phase::Init) {
            Phase::Init => {
                let error = self.init_failure(end).await;
                if let Some((slot, reply)) = self.warming.take() {
                    drop(slot);
                    let _ = reply.send(Err(error.clone()));
                }
                if let Some(invocation) = self.next.take() {
                    self.pool.stats(|stats| stats.count_error(&error));
                    invocation.refuse(error);
                }
            }
            Phase::Busy(busy) => {
                let error = match end {
                    End::TimedOut => InvokeError::TimedOut { after: self.pool.settings.timeout },
                    End::Exited(status) => {
                        InvokeError::Crashed { message: self.process.explain(&status).await }
                    }
                    _ => InvokeError::Crashed { message: "it was stopped with its owner".to_owned() },
                };
                self.report(&busy, &Err(error.clone()));
                drop(busy.slot);
                let _ = busy.reply.send(Err(error));
            }
            Phase::Returning { .. } if matches!(end, End::TimedOut) => {
                tracing::warn!(
                    function.name = self.pool.settings.name,
                    "an environment answered and did not ask for work again within the time-out; it was killed"
                );
            }
            Phase::Waiting { .. } | Phase::Returning { .. } => {}
        }
        while let Some(invocation) = self.next.take().or_else(|| self.inbox.try_recv().ok()) {
            if stopped {
                invocation.refuse(InvokeError::Stopped);
            } else {
                self.pool.place(invocation);
            }
        }
    }

    async fn init_failure(&mut self, end: End) -> InvokeError {
        let what = match end {
            End::Exited(status) => format!("it ended before asking for work ({status})"),
            End::InitError(error) => error,
            End::TimedOut => {
                let limit = self.pool.house.settings.init_limit;
                format!("it did not ask for work within {} s", limit.as_secs_f32())
            }
            End::Unused | End::Stopped(_) => return InvokeError::Stopped,
        };
        let message = self.process.explain(&what).await;
        let record = json!({
            "initializationType": "on-demand", "phase": "init", "status": "error", "errorMessage": what,
            "metrics": { "durationMs": millis(self.since.elapsed()) },
        });
        self.pool.log.platform(self.process.id, "platform.initReport", &record);
        InvokeError::InitFailed { message }
    }
}

fn error_type(error: &InvokeError) -> &str {
    match error {
        InvokeError::Unhandled { error_type, .. } => error_type,
        InvokeError::TimedOut { .. } => "Sandbox.Timedout",
        InvokeError::Crashed { .. } => "Runtime.ExitError",
        InvokeError::InitFailed { .. } => "Runtime.InitError",
        InvokeError::Throttled { .. } | InvokeError::PayloadTooLarge { .. } | InvokeError::Stopped => {
            "Platform"
        }
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<Stop>) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        // The sender lives in the pool, which this environment holds.
        Err(_) => Duration::ZERO,
    }
}
