//! Tables, pictures and the queue in memory, and the steps of a run.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darkroom_aws::now;
use darkroom_core::time::Timestamp;
use darkroom_local_aws::Engine;
use serde_json::{Value, json};

use super::call::{Answer, Call, Service};
use super::fault::{Fault, Plan};
use super::time::elapsed;

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds since the run's start.
    pub at_ms: u64,
    /// By which function, and what it does.
    pub name: String,
    /// What it met.
    pub fault: Option<Fault>,
    is_write: bool,
}

impl Step {
    /// Whether a store has such an answer to it.
    pub fn can_meet(&self, fault: Fault) -> bool {
        fault != Fault::Conflict || self.is_write
    }
}

/// A message that waits or is with a worker.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) body: String,
    pub(crate) visible_at: Timestamp,
    pub(crate) receives: u32,
}

/// SQS gives a message up after so many receives.
const RECEIVES_MAX: u32 = 5;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    messages: Vec<Message>,
    dead_letters: Vec<Message>,
    sent: u64,
    steps: Vec<Step>,
    /// What every try of a call meets, by the SDK's name for the call.
    stubborn: BTreeMap<String, Fault>,
}

/// The stores of one run.
pub(crate) struct Stores {
    engine: Engine,
    plan: Plan,
    state: Mutex<State>,
}

impl Stores {
    pub(crate) fn new(engine: Engine, plan: Plan) -> Self {
        Self { engine, plan, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a function's call, and says what happens to it.
    pub(crate) fn step(&self, function: &str, call: &Call) -> Option<Fault> {
        let (mut state, run) = (self.state(), elapsed());
        let at_ms = u64::try_from(run.as_millis()).unwrap_or(u64::MAX);
        let name = format!("{function}: {}", call.step());
        let mut step = Step { at_ms, name, fault: None, is_write: call.is_write() };
        let planned = self.plan.fault(state.steps.len(), run).filter(|planned| step.can_meet(planned.fault));
        if let Some(planned) = planned.filter(|planned| planned.in_all_tries) {
            state.stubborn.insert(call.invocation.clone(), planned.fault);
        }
        let fault = state.stubborn.get(&call.invocation).copied().or(planned.map(|planned| planned.fault));
        step.fault = fault;
        state.steps.push(step);
        fault
    }

    /// The calls of the run so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.state().steps.clone()
    }

    /// Does what a call asks for.
    pub(crate) fn answer(&self, call: &Call) -> Answer {
        match call.service {
            Service::DynamoDb => {
                let (status, body) = self.engine.answer(&call.operation, &call.body);
                Answer { status, body }
            }
            Service::S3 => self.object(call),
            Service::Sqs => self.send(&call.body),
        }
    }

    fn object(&self, call: &Call) -> Answer {
        let mut state = self.state();
        if call.if_none_match && state.objects.contains_key(&call.path) {
            return Answer::xml(412, "PreconditionFailed");
        }
        state.objects.insert(call.path.clone(), call.body.clone());
        Answer { status: 200, body: String::new() }
    }

    /// A picture's bytes.
    pub(crate) fn picture(&self, key: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.objects.iter().find(|(path, _)| path.ends_with(key)).map(|(_, bytes)| bytes.clone())
    }

    fn send(&self, body: &[u8]) -> Answer {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = request["MessageBody"].as_str().unwrap_or_default().to_owned();
        let delay = Duration::from_secs(request["DelaySeconds"].as_u64().unwrap_or_default());
        let mut state = self.state();
        state.sent += 1;
        let id = state.sent;
        state.messages.push(Message { id, body: text, visible_at: now().plus(delay), receives: 0 });
        Answer { status: 200, body: json!({"MessageId": id.to_string()}).to_string() }
    }

    /// The visible messages, at most ten, hidden for so long.
    pub(crate) fn receive(&self, hidden_for: Duration) -> Vec<Message> {
        let (mut state, at) = (self.state(), now());
        let (gone, kept) = std::mem::take(&mut state.messages)
            .into_iter()
            .partition(|message| message.visible_at <= at && message.receives >= RECEIVES_MAX);
        state.dead_letters.extend::<Vec<_>>(gone);
        state.messages = kept;
        let visible = state.messages.iter_mut().filter(|message| message.visible_at <= at).take(10);
        let received = visible.map(|message| {
            message.visible_at = at.plus(hidden_for);
            message.receives += 1;
            message.clone()
        });
        received.collect()
    }

    /// Deletes what was done; the rest comes again when it is visible again.
    pub(crate) fn acknowledge(&self, received: &[Message], failed: &[u64]) {
        let is_done = |message: &Message| {
            received.iter().any(|other| other.id == message.id) && !failed.contains(&message.id)
        };
        self.state().messages.retain(|message| !is_done(message));
    }

    /// Messages that wait or are with a worker.
    pub(crate) fn messages(&self) -> usize {
        self.state().messages.len()
    }

    /// Messages that were given up.
    pub(crate) fn dead_letters(&self) -> usize {
        self.state().dead_letters.len()
    }
}
