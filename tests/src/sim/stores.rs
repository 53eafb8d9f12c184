//! What answers the functions' calls, and the steps of a run.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darkroom_core::time::Timestamp;
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::call::{Answer, Call, Service};
use super::fault::{Fault, Kind, Plan};
use super::queue::{BATCH, Message, Queue};
use super::tables::Tables;
use super::time::{elapsed, fill, pass, right_now};

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds since the run's start.
    pub at_ms: u64,
    /// By which function, and what it does.
    pub name: String,
    /// The SDK's name for the call, the same in each of its tries.
    invocation: String,
    /// What it met.
    pub fault: Option<Fault>,
    kind: Kind,
}

impl Step {
    /// What it could have met.
    pub const fn faults(&self) -> &'static [Fault] {
        self.kind.faults()
    }

    /// Whether the SDK tries such a call again after this.
    pub const fn is_tried_again(&self, fault: Fault) -> bool {
        self.kind.is_tried_again(fault)
    }

    /// Whether both are tries of one call. What the SDK does not send has no name.
    pub fn is_of_the_call_of(&self, other: &Self) -> bool {
        !self.invocation.is_empty() && self.invocation == other.invocation
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    queue: Queue,
    /// The queue of bulk.
    bulk: Queue,
    steps: Vec<Step>,
    /// What every try of a call meets, by the SDK's name for the call.
    stubborn: BTreeMap<String, Fault>,
    /// What every call whose name begins so meets.
    always: Option<(String, Fault)>,
    /// Calls that were answered, where they are noted.
    noted: Option<Vec<Call>>,
    /// Writes of jobs and the ledger.
    writes: u64,
    /// Those of the ledger.
    ledger_writes: u64,
}

/// The stores of one run.
pub(crate) struct Stores {
    tables: Tables,
    plan: Plan,
    state: Mutex<State>,
    /// A message was sent.
    sent: Notify,
    /// One was sent to bulk.
    bulk_sent: Notify,
}

impl Stores {
    pub(crate) fn new(tables: Tables, plan: Plan) -> Self {
        Self { tables, plan, state: Mutex::default(), sent: Notify::new(), bulk_sent: Notify::new() }
    }

    pub(crate) const fn tables(&self) -> &Tables {
        &self.tables
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a call, and says what happens to it.
    pub(crate) fn step(&self, caller: &str, call: &Call) -> Option<Fault> {
        self.state().step(&self.plan, caller, call)
    }

    /// Lets every call whose name begins so meet this, unless another fault is planned for it.
    pub(crate) fn always(&self, begins: &str, fault: Fault) {
        self.state().always = Some((begins.to_owned(), fault));
    }

    /// The calls of the run so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.state().steps.clone()
    }

    /// Every call from now on is noted; those of before are returned, when they were.
    pub(crate) fn note_calls(&self) -> Vec<Call> {
        self.state().noted.replace(Vec::new()).unwrap_or_default()
    }

    /// Does what a call asks for.
    pub(crate) fn answer(&self, call: &Call) -> Answer {
        let mut state = self.state();
        state.writes += u64::from(call.changes_jobs());
        state.ledger_writes += u64::from(call.changes_ledger());
        if let Some(noted) = &mut state.noted {
            noted.push(call.clone());
        }
        drop(state);
        match call.service {
            Service::DynamoDb => self.tables.answer(call),
            Service::Kms => data_key(call),
            Service::S3 => self.state().object(call),
            Service::Sqs => {
                let is_bulk = call.request["QueueUrl"].as_str().is_some_and(|url| url.ends_with("-bulk"));
                if is_bulk { &self.bulk_sent } else { &self.sent }.notify_one();
                let mut state = self.state();
                let queue = if is_bulk { &mut state.bulk } else { &mut state.queue };
                match call.operation.as_str() {
                    "SendMessageBatch" => queue.send_batch(&call.request),
                    _ => queue.send(&call.request),
                }
            }
            Service::Provider | Service::Mapping => Answer::error(400, "no call of a store"),
        }
    }

    /// How often jobs or the ledger were written so far, or may have been.
    pub(crate) fn writes(&self) -> u64 {
        self.state().writes
    }

    /// How often the ledger was written so far, or may have been.
    pub(crate) fn ledger_writes(&self) -> u64 {
        self.state().ledger_writes
    }

    /// Puts an object by a link, as its owner does: no function does it.
    pub(crate) fn put_object(&self, path: &str, bytes: &[u8]) {
        self.state().objects.insert(path.to_owned(), bytes.to_vec());
    }

    /// Takes the objects away whose keys begin so, as their time does.
    pub(crate) fn expire_objects(&self, prefix: &str) {
        self.state().objects.retain(|path, _| !path.contains(&format!("/{prefix}")));
    }

    /// A picture's bytes.
    pub(crate) fn picture(&self, key: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.objects.iter().find(|(path, _)| path.ends_with(key)).map(|(_, bytes)| bytes.clone())
    }

    /// A batch of messages, hidden for so long.
    pub(crate) fn receive(&self, hidden_for: Duration) -> Vec<Message> {
        let mut state = self.state();
        let mut queue = std::mem::take(&mut state.queue);
        let delivery = Call::named(Service::Mapping, "Deliver");
        let received = queue.deliver(hidden_for, BATCH, || state.step(&self.plan, "mapping", &delivery));
        state.queue = queue;
        received
    }

    /// One of bulk's messages, hidden for so long.
    pub(crate) fn receive_bulk(&self, hidden_for: Duration) -> Vec<Message> {
        let mut state = self.state();
        let mut queue = std::mem::take(&mut state.bulk);
        let delivery = Call::named(Service::Mapping, "Deliver to bulk");
        let received = queue.deliver(hidden_for, 1, || state.step(&self.plan, "mapping", &delivery));
        state.bulk = queue;
        received
    }

    /// Deletes what bulk has done.
    pub(crate) fn acknowledge_bulk(&self, received: &[Message], failed: &[u64]) {
        self.state().bulk.acknowledge(received, failed);
    }

    /// Waits until a message is visible, or another one is sent: before that, nobody receives any.
    pub(crate) async fn next_message(&self) {
        let visible = self.state().queue.next_visible();
        visible_or_sent(visible, &self.sent).await;
    }

    /// The same of bulk's.
    pub(crate) async fn next_bulk_message(&self) {
        let visible = self.state().bulk.next_visible();
        visible_or_sent(visible, &self.bulk_sent).await;
    }

    /// Deletes what was done; the rest comes again when it is visible again.
    pub(crate) fn acknowledge(&self, received: &[Message], failed: &[u64]) {
        self.state().queue.acknowledge(received, failed);
    }

    /// Messages that wait or are with a worker.
    pub(crate) fn messages(&self) -> usize {
        let state = self.state();
        state.queue.left() + state.bulk.left()
    }

    /// Those of bulk.
    pub(crate) fn bulk_messages(&self) -> usize {
        self.state().bulk.left()
    }

    /// Messages that were given up.
    pub(crate) fn dead_letters(&self) -> usize {
        let state = self.state();
        state.queue.given_up() + state.bulk.given_up()
    }
}

async fn visible_or_sent(visible: Option<Timestamp>, sent: &Notify) {
    let visible = async {
        match visible {
            Some(at) => pass(at.since(right_now())).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = sent.notified() => {}
        () = visible => {}
    }
}

impl State {
    fn step(&mut self, plan: &Plan, caller: &str, call: &Call) -> Option<Fault> {
        let (run, kind) = (elapsed(), call.kind());
        let at_ms = u64::try_from(run.as_millis()).unwrap_or(u64::MAX);
        let planned = plan.fault(self.steps.len(), run, kind);
        if let Some(planned) = planned.filter(|planned| planned.in_all_tries)
            && kind.is_tried_again(planned.fault)
        {
            self.stubborn.insert(call.invocation.clone(), planned.fault);
        }
        let stubborn = || self.stubborn.get(&call.invocation).copied();
        let always = |name: &str| {
            self.always.as_ref().filter(|(begins, _)| name.starts_with(begins)).map(|(_, fault)| *fault)
        };
        let (name, invocation) = (format!("{caller}: {}", call.step()), call.invocation.clone());
        let fault = planned.map(|planned| planned.fault).or_else(stubborn).or_else(|| always(&name));
        self.steps.push(Step { at_ms, name, invocation, fault, kind });
        fault
    }

    /// What is asked of S3. Tags are not looked at: nothing expires here.
    fn object(&mut self, call: &Call) -> Answer {
        let done = |status| Answer::of(status, String::new());
        let found = self.objects.get(&call.path);
        match (call.operation.as_str(), found) {
            ("DeleteObject", _) => {
                self.objects.remove(&call.path);
                done(204)
            }
            ("ListObjectsV2", _) => self.list(call.request["prefix"].as_str().unwrap_or_default()),
            ("GetObject", Some(bytes)) => Answer::object(bytes.clone()),
            ("PutObjectTagging", Some(_)) => done(200),
            ("GetObject" | "PutObjectTagging", None) => Answer::xml(404, "NoSuchKey"),
            ("PutObject", Some(_)) if call.if_none_match => Answer::xml(412, "PreconditionFailed"),
            ("PutObject", _) => {
                self.objects.insert(call.path.clone(), call.body.clone());
                done(200)
            }
            (other, _) => Answer::xml(501, other),
        }
    }

    /// The objects whose keys begin so. A path is a key, perhaps behind its bucket.
    fn list(&self, prefix: &str) -> Answer {
        let below = |(path, bytes): (&String, &Vec<u8>)| {
            let (_, rest) = path.split_once(&format!("/{prefix}"))?;
            Some(format!("<Contents><Key>{prefix}{rest}</Key><Size>{}</Size></Contents>", bytes.len()))
        };
        let entries: Vec<_> = self.objects.iter().filter_map(below).collect();
        Answer::of(200, format!("<ListBucketResult>{}</ListBucketResult>", entries.concat()))
    }
}

/// `GenerateDataKey` and `Decrypt`: an encrypted data key is the key itself beside its context, which is all that a run
/// needs of KMS.
fn data_key(call: &Call) -> Answer {
    let request = &call.request;
    let context = &request["EncryptionContext"];
    if call.operation == "GenerateDataKey" {
        let mut key = [0; 32];
        fill(&mut key);
        let key = BASE64.encode(&key);
        let blob = BASE64.encode(json!([key, context]).to_string().as_bytes());
        return Answer::ok(&json!({"Plaintext": key, "CiphertextBlob": blob, "KeyId": request["KeyId"]}));
    }
    let blob = request["CiphertextBlob"].as_str().and_then(|blob| BASE64.decode(blob.as_bytes()).ok());
    let blob: Value = serde_json::from_slice(&blob.unwrap_or_default()).unwrap_or_default();
    if blob[1] != *context {
        return Answer::error(400, "InvalidCiphertextException");
    }
    Answer::ok(&json!({"Plaintext": blob[0], "KeyId": request["KeyId"]}))
}
