//! Tables, pictures and the queue in memory, and the one fault of a run.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darkroom_aws::{now, random_fraction};
use darkroom_core::time::Timestamp;
use darkroom_local_aws::Engine;
use serde_json::{Value, json};

use super::time::elapsed;

/// What may happen to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process dies before it is sent.
    KilledBefore,
    /// It is done; the process dies before the answer.
    KilledAfter,
    /// The connection breaks before it is sent.
    Dropped,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It is refused for its rate.
    Throttled,
    /// The store fails.
    Failed,
    /// Another transaction writes the same item.
    Conflict,
    /// It hangs, and is done when every lease is over.
    Late,
}

impl Fault {
    /// Whether the SDK tries a call again that has met it.
    pub const fn is_tried_again(self) -> bool {
        matches!(self, Self::Dropped | Self::AnswerLost | Self::Throttled | Self::Failed | Self::Late)
    }

    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::KilledBefore,
        Self::KilledAfter,
        Self::Dropped,
        Self::AnswerLost,
        Self::Throttled,
        Self::Failed,
        Self::Conflict,
        Self::Late,
    ];
}

/// A fault that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The number of the call that meets it.
    pub at: usize,
    /// What it meets.
    pub fault: Fault,
    /// Whether the SDK's further tries of the call meet it too: then the handler hears of it.
    pub in_all_tries: bool,
}

/// Which calls meet a fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// These.
    At(Vec<Planned>),
    /// Any, with this probability, until the run has lasted so long.
    Random {
        /// 0 to 1.
        probability: f64,
        /// From the run's start.
        until: Duration,
    },
}

impl Plan {
    /// No fault.
    pub const NONE: Self = Self::At(Vec::new());

    fn fault(&self, at: usize, run: Duration) -> Option<Planned> {
        match self {
            Self::At(planned) => planned.iter().find(|planned| planned.at == at).copied(),
            Self::Random { probability, until } => {
                let is_met = run < *until && random_fraction() < *probability;
                let share = 1.0 / Fault::ALL.len() as f64;
                let (which, in_all_tries) = (random_fraction(), random_fraction() < 0.3);
                let mut faults = (1_u32..).zip(Fault::ALL);
                let drawn = faults.find(|(number, _)| which < share * f64::from(*number));
                drawn.filter(|_| is_met).map(|(_, fault)| Planned { at, fault, in_all_tries })
            }
        }
    }
}

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

/// A call to a store.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) operation: String,
    pub(crate) path: String,
    pub(crate) if_none_match: bool,
    /// The SDK's name for the call, the same in each of its tries.
    pub(crate) invocation: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    DynamoDb,
    S3,
    Sqs,
}

/// What a store answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// A message that waits or is with a worker.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) body: String,
    pub(crate) visible_at: Timestamp,
    pub(crate) receives: u32,
}

/// Longer than any lease: what is done then is done by nobody who still holds anything.
pub(crate) const LATE: Duration = Duration::from_secs(250);
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

impl Answer {
    fn xml(status: u16, code: &str) -> Self {
        Self { status, body: format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>") }
    }
}

impl Call {
    /// A name for what it does, whatever the values.
    fn step(&self) -> String {
        let request: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match self.service {
            Service::S3 => "PutObject".to_owned(),
            Service::Sqs => self.operation.clone(),
            Service::DynamoDb => {
                let changes = match request["TransactItems"].as_array() {
                    Some(actions) => actions.iter().map(of_action).collect::<Vec<_>>().join(" + "),
                    None => of_write(&request),
                };
                format!("{} {changes}", self.operation)
            }
        }
    }

    /// Whether it changes a table.
    pub(crate) fn is_write(&self) -> bool {
        let is_write = ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"];
        self.service == Service::DynamoDb && is_write.contains(&self.operation.as_str())
    }

    /// What is answered in the store's place; `None` when this store has no such answer to this call.
    pub(crate) fn refusal(&self, fault: Fault) -> Option<Answer> {
        let dynamodb = |name: &str, more: Value| {
            let mut body =
                json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": name});
            if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
                body.extend(more);
            }
            Answer { status: 400, body: body.to_string() }
        };
        Some(match (fault, self.service) {
            (Fault::Throttled, Service::DynamoDb) => {
                dynamodb("ProvisionedThroughputExceededException", Value::Null)
            }
            (Fault::Throttled, Service::S3) => Answer::xml(503, "SlowDown"),
            (Fault::Throttled, Service::Sqs) => Answer {
                status: 400,
                body: json!({"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slower"})
                    .to_string(),
            },
            (Fault::Failed, Service::S3) => Answer::xml(500, "InternalError"),
            (Fault::Failed, _) => Answer {
                status: 500,
                body: json!({"__type": "InternalServerError", "message": "the store failed"}).to_string(),
            },
            (Fault::Conflict, _) if self.operation == "TransactWriteItems" => {
                let request: Value = serde_json::from_slice(&self.body).unwrap_or_default();
                let actions = request["TransactItems"].as_array().map_or(0, Vec::len);
                let reasons: Vec<_> = (0..actions)
                    .map(|at| json!({"Code": if at == 0 { "TransactionConflict" } else { "None" }}))
                    .collect();
                dynamodb("TransactionCanceledException", json!({"CancellationReasons": reasons}))
            }
            (Fault::Conflict, _) => dynamodb("TransactionConflictException", Value::Null),
            _ => return None,
        })
    }
}

fn of_action(action: &Value) -> String {
    let Some((kind, write)) = action.as_object().and_then(|action| action.iter().next()) else {
        return String::new();
    };
    format!("{kind} {}", of_write(write))
}

/// The table, and what a write sets or a read asks for.
fn of_write(request: &Value) -> String {
    let table = request["TableName"].as_str().or_else(|| {
        request["RequestItems"].as_object().and_then(|tables| tables.keys().next()).map(String::as_str)
    });
    let expressions = ["UpdateExpression", "KeyConditionExpression"];
    let changed = expressions.iter().filter_map(|name| request[*name].as_str()).flat_map(names);
    let mut words: Vec<_> = table.into_iter().chain(request["IndexName"].as_str()).chain(changed).collect();
    words.dedup();
    words.join(" ")
}

/// The aliases of attributes in an expression, without those that every write sets.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words =
        expression.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '#'));
    words.filter_map(|word| word.strip_prefix('#')).filter(|name| !["op", "ver"].contains(name))
}
