//! The store: one thread that owns the state and does one thing after another.
//!
//! Whatever waits when the thread comes round is done in one transaction, and nobody hears of it before that
//! is committed: what was acknowledged survives the death of the process, and many senders share the cost of
//! one commit. Long polls wait here, in the order they came, so that a message wakes one receiver, and a
//! client that hung up gets none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::{Fault, SqsError};
use super::messages;
use super::moves;
use super::receive::{Wanted, take};
use super::state::{Identity, State, milliseconds, now_ms};
use super::wire::{Messages, ReceiveMessage};
use crate::data_dir::DataDir;
use crate::error::Source;

/// The most commands that share one transaction.
const MAX_SHARED: usize = 256;
/// How often messages are looked for that nobody received in their retention.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(10);
/// The longest sleep: the clock of the machine may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The pause after a transaction that failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Tells the caller of a command what came of it, once that is committed (true) or undone (false).
type Acknowledge = Box<dyn FnOnce(bool) + Send>;
type Work = Box<dyn FnOnce(&mut State) -> Result<Acknowledge, rusqlite::Error> + Send>;
type Answer<T> = oneshot::Sender<Result<T, SqsError>>;

enum Command {
    Do(Work),
    Receive(ReceiveMessage, Answer<Messages>),
    /// Ends every wait; later receives do not wait any more.
    StopWaiting,
    Stop,
}

/// The way to the store's thread.
pub(super) struct Store {
    commands: Sender<Command>,
    thread: thread::JoinHandle<()>,
}

/// What callers hold.
#[derive(Clone)]
pub(super) struct StoreHandle(Sender<Command>);

impl Store {
    pub(super) fn open(data_dir: DataDir, identity: Identity) -> Result<Self, Source> {
        let state = State::open(&data_dir.join("sqs.sqlite"), identity)?;
        let (commands, received) = mpsc::channel();
        let worker = Worker {
            state,
            waiting: BTreeMap::new(),
            due: BTreeMap::new(),
            next_step: Some(0),
            next_expiry: 0,
            may_wait: true,
        };
        let thread = thread::Builder::new().name("sqs-store".to_owned()).spawn(move || {
            worker.run(&received);
            drop(data_dir);
        })?;
        Ok(Self { commands, thread })
    }

    pub(super) fn handle(&self) -> StoreHandle {
        StoreHandle(self.commands.clone())
    }

    /// Ends the thread once it has done what was asked before.
    pub(super) async fn stop(self) {
        // A thread that has ended already needs no stop.
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

impl StoreHandle {
    /// Does `work` in the store and answers once it is committed. Work that is refused must have written
    /// nothing.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, SqsError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Do(Box::new(move |state| settle(work(state), answer))))?;
        answered.await.unwrap_or_else(|_| Err(SqsError::internal()))
    }

    /// Receives, waiting as long as the request says. Dropping the future gives the place in the queue up.
    pub(super) async fn receive(&self, request: ReceiveMessage) -> Result<Messages, SqsError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Receive(request, answer))?;
        answered.await.unwrap_or_else(|_| Err(SqsError::internal()))
    }

    pub(super) fn stop_waiting(&self) {
        // A thread that has ended waits for nobody.
        let _ = self.0.send(Command::StopWaiting);
    }

    fn send(&self, command: Command) -> Result<(), SqsError> {
        self.0.send(command).map_err(|_| SqsError::internal())
    }
}

/// Splits what work returned into what its caller hears after the commit, and what undoes the transaction.
fn settle<T: Send + 'static>(
    result: Result<T, Fault>,
    answer: Answer<T>,
) -> Result<Acknowledge, rusqlite::Error> {
    let result = match result {
        Ok(value) => Ok(value),
        Err(Fault::Refused(refusal)) => Err(refusal),
        Err(Fault::Storage(error)) => return Err(error),
    };
    Ok(Box::new(move |committed| {
        // A caller that has gone hears nothing.
        let _ = answer.send(if committed { result } else { Err(SqsError::internal()) });
    }))
}

struct Waiter {
    wanted: Wanted,
    answer: Answer<Messages>,
}

struct Worker {
    state: State,
    /// Long polls by queue, in the order they came. No queue is here without one.
    waiting: BTreeMap<i64, VecDeque<Waiter>>,
    /// When the next hidden message of a queue with long polls shows.
    due: BTreeMap<i64, i64>,
    /// When the next step of a move task is due.
    next_step: Option<i64>,
    next_expiry: i64,
    may_wait: bool,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let first = match commands.recv_timeout(self.sleep()) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
            };
            let mut stop = false;
            let more = std::iter::from_fn(|| commands.try_recv().ok()).take(MAX_SHARED);
            let batch = first.into_iter().chain(more).take_while(|command| {
                stop = matches!(command, Command::Stop);
                !stop
            });
            let batch: Vec<Command> = batch.collect();
            self.transact(batch);
            if stop {
                return;
            }
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let waits = self.waiting.values().flatten().map(|waiter| waiter.wanted.until);
        let first =
            waits.chain(self.due.values().copied()).chain(self.next_step).chain([self.next_expiry]).min();
        let left = first.unwrap_or(i64::MAX).saturating_sub(now_ms());
        Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(MAX_SLEEP)
    }

    fn transact(&mut self, batch: Vec<Command>) {
        let mut acknowledge = Vec::with_capacity(batch.len());
        let committed = match self.try_transact(batch, &mut acknowledge) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(service = "SQS", %error, "a transaction was undone and its callers are told so");
                self.undo();
                // Storage that fails is not asked again in a tight loop.
                thread::sleep(FAILURE_PAUSE);
                false
            }
        };
        for acknowledge in acknowledge {
            acknowledge(committed);
        }
    }

    fn try_transact(
        &mut self,
        batch: Vec<Command>,
        acknowledge: &mut Vec<Acknowledge>,
    ) -> Result<(), rusqlite::Error> {
        self.state.connection.execute_batch("BEGIN IMMEDIATE")?;
        for command in batch {
            match command {
                Command::Do(work) => acknowledge.push(work(&mut self.state)?),
                Command::Receive(request, answer) => acknowledge.extend(self.receive(&request, answer)?),
                Command::StopWaiting => self.may_wait = false,
                Command::Stop => {}
            }
        }
        self.upkeep()?;
        self.serve_waiting(acknowledge)?;
        self.state.connection.execute_batch("COMMIT")
    }

    fn undo(&mut self) {
        // Without a transaction there is nothing to roll back, and that is fine.
        let _ = self.state.connection.execute_batch("ROLLBACK");
        if let Err(error) = self.state.reload() {
            tracing::error!(service = "SQS", %error, "the queues cannot be read");
        }
    }

    /// Answers a receive at once, or lets it wait.
    fn receive(
        &mut self,
        request: &ReceiveMessage,
        answer: Answer<Messages>,
    ) -> Result<Option<Acknowledge>, rusqlite::Error> {
        let wanted = match Wanted::read(&self.state, request) {
            Ok(wanted) => wanted,
            Err(refusal) => return settle(Err(refusal.into()), answer).map(Some),
        };
        let (queue, until) = (wanted.queue, wanted.until);
        let may_wait = self.may_wait && until > now_ms();
        // Those who wait already come first.
        let queued = self.waiting.get(&queue).is_some_and(|waiting| !waiting.is_empty());
        if !(may_wait && queued) {
            let taken = take(&mut self.state, &wanted);
            self.state.touched.insert(queue);
            if !may_wait || taken.as_ref().is_ok_and(|messages| !messages.is_empty()) || taken.is_err() {
                return settle(taken.map(|messages| Messages { messages }), answer).map(Some);
            }
        }
        self.waiting.entry(queue).or_default().push_back(Waiter { wanted, answer });
        Ok(None)
    }

    /// What happens by itself when its time has come.
    fn upkeep(&mut self) -> Result<(), rusqlite::Error> {
        let now = now_ms();
        if self.next_expiry <= now {
            self.next_expiry = now.saturating_add(milliseconds(EXPIRY_INTERVAL));
            messages::expire(&self.state)?;
        }
        if self.next_step.is_none_or(|at| at <= now) {
            self.next_step = match moves::step(&mut self.state) {
                Ok(next) => next,
                Err(Fault::Storage(error)) => return Err(error),
                // No randomness for a new message's id: try again later.
                Err(Fault::Refused(_)) => Some(now.saturating_add(1_000)),
            };
        }
        Ok(())
    }

    /// Gives long polls what has become visible, and ends those whose time is over.
    fn serve_waiting(&mut self, acknowledge: &mut Vec<Acknowledge>) -> Result<(), rusqlite::Error> {
        let now = now_ms();
        let shown = self.due.iter().filter(|(_, at)| **at <= now).map(|(queue, _)| *queue);
        let mut looked_at: Vec<i64> = shown.chain(std::mem::take(&mut self.state.touched)).collect();
        // Serving one queue may move messages to another, whose long polls then have something to get.
        while let Some(queue) = looked_at.pop() {
            self.serve_queue(queue, acknowledge)?;
            looked_at.extend(std::mem::take(&mut self.state.touched));
        }
        self.end_waits(now, acknowledge)
    }

    fn serve_queue(&mut self, queue: i64, acknowledge: &mut Vec<Acknowledge>) -> Result<(), rusqlite::Error> {
        let Some(mut waiting) = self.waiting.remove(&queue) else { return Ok(()) };
        while let Some(waiter) = waiting.pop_front() {
            if waiter.answer.is_closed() {
                continue;
            }
            match take(&mut self.state, &waiter.wanted) {
                Ok(messages) if messages.is_empty() => {
                    waiting.push_front(waiter);
                    break;
                }
                taken => {
                    acknowledge.push(settle(taken.map(|messages| Messages { messages }), waiter.answer)?);
                }
            }
        }
        self.due.remove(&queue);
        if !waiting.is_empty() {
            if let Some(at) = messages::next_due(&self.state, queue)? {
                self.due.insert(queue, at);
            }
            self.waiting.insert(queue, waiting);
        }
        Ok(())
    }

    fn end_waits(&mut self, now: i64, acknowledge: &mut Vec<Acknowledge>) -> Result<(), rusqlite::Error> {
        let may_wait = self.may_wait;
        let is_over = |waiter: &Waiter| !may_wait || waiter.wanted.until <= now || waiter.answer.is_closed();
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.iter().any(is_over)) {
            let (over, rest) = std::mem::take(waiting).into_iter().partition::<VecDeque<_>, _>(is_over);
            *waiting = rest;
            for waiter in over {
                acknowledge.push(settle(Ok(Messages::default()), waiter.answer)?);
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.due.retain(|queue, _| self.waiting.contains_key(queue));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use serde_json::{Value, json};

    use super::super::{messages, queues};
    use super::*;

    fn open() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            endpoint: "http://127.0.0.1:1".to_owned(),
        };
        (Store::open(DataDir::hold(folder.path()).unwrap(), identity).unwrap(), folder)
    }

    fn url(queue: &str) -> String {
        format!("http://127.0.0.1:1/000000000000/{queue}")
    }

    async fn make(store: &StoreHandle, queue: &'static str, attributes: Value) {
        let attributes = serde_json::from_value(attributes).unwrap();
        store.call(move |state| queues::ensure(state, queue, &attributes)).await.unwrap();
    }

    async fn send(store: &StoreHandle, queue: &str, body: &str) {
        let request = json!({"QueueUrl": url(queue), "MessageBody": body});
        let request = serde_json::from_value(request).unwrap();
        store.call(move |state| messages::send(state, request)).await.unwrap();
    }

    fn receive(store: &StoreHandle, queue: &str, wait: u32) -> impl Future<Output = Vec<String>> + use<> {
        let request = json!({"QueueUrl": url(queue), "WaitTimeSeconds": wait});
        let request = serde_json::from_value(request).unwrap();
        let store = store.clone();
        async move {
            let received = store.receive(request).await.unwrap().messages;
            received.into_iter().map(|message| message.body).collect()
        }
    }

    /// Asks, and leaves the answer for later.
    async fn begin<F: Future>(store: &StoreHandle, future: &mut std::pin::Pin<&mut F>) {
        std::future::poll_fn(|context| {
            assert!(future.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        // What is asked next is done after it.
        store.call(|_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_gets_nothing() {
        let (store, _folder) = open();
        let handle = store.handle();
        make(&handle, "jobs", json!({})).await;
        {
            let mut gone = pin!(receive(&handle, "jobs", 20));
            begin(&handle, &mut gone).await;
        }
        send(&handle, "jobs", "m").await;
        assert_eq!(receive(&handle, "jobs", 0).await, ["m"]);
    }

    #[tokio::test]
    async fn receivers_are_served_in_the_order_they_came() {
        let (store, _folder) = open();
        let handle = store.handle();
        make(&handle, "jobs", json!({})).await;
        let mut first = pin!(receive(&handle, "jobs", 20));
        begin(&handle, &mut first).await;
        let mut second = pin!(receive(&handle, "jobs", 20));
        begin(&handle, &mut second).await;
        send(&handle, "jobs", "1").await;
        send(&handle, "jobs", "2").await;
        assert_eq!(first.await, ["1"]);
        assert_eq!(second.await, ["2"]);
    }

    /// The clock goes on between the look for visible messages and the look for the next one.
    #[tokio::test]
    async fn a_message_that_shows_between_two_looks_is_received() {
        let (store, _folder) = open();
        let handle = store.handle();
        make(&handle, "jobs", json!({})).await;
        for round in 0..500 {
            let mut waiting = pin!(receive(&handle, "jobs", 20));
            begin(&handle, &mut waiting).await;
            let body = round.to_string();
            let request = json!({"QueueUrl": url("jobs"), "MessageBody": body, "DelaySeconds": 900});
            let request = serde_json::from_value(request).unwrap();
            let almost_now = move |state: &mut State| {
                messages::send(state, request)?;
                let update = "UPDATE messages SET visible_at = ?1";
                state.connection.execute(update, [now_ms() + 1])?;
                Ok(())
            };
            handle.call(almost_now).await.unwrap();
            let received = tokio::time::timeout(Duration::from_secs(5), waiting).await;
            assert_eq!(received.expect("nobody woke the receiver"), [body]);
            handle.call(|state| Ok(state.connection.execute("DELETE FROM messages", [])?)).await.unwrap();
        }
    }

    /// A message that both queues would give up at once would go round between their receivers for ever.
    #[tokio::test]
    async fn receivers_at_queues_that_pass_dead_letters_to_each_other_are_served() {
        let (store, _folder) = open();
        let handle = store.handle();
        let policy = |target: &str| {
            json!({
                "VisibilityTimeout": "0",
                "RedrivePolicy":
                    json!({"deadLetterTargetArn": format!("arn:aws:sqs:us-east-1:000000000000:{target}"), "maxReceiveCount": 1}).to_string(),
            })
        };
        make(&handle, "b", json!({})).await;
        make(&handle, "a", policy("b")).await;
        make(&handle, "b", policy("a")).await;
        send(&handle, "a", "m").await;
        assert_eq!(receive(&handle, "a", 0).await, ["m"]);
        let mut at_b = pin!(receive(&handle, "b", 20));
        begin(&handle, &mut at_b).await;
        let mut at_a = pin!(receive(&handle, "a", 20));
        begin(&handle, &mut at_a).await;
        assert_eq!(at_b.await, ["m"]);
        // Seen at b, it goes home again, where somebody waits.
        assert!(receive(&handle, "b", 0).await.is_empty());
        assert_eq!(at_a.await, ["m"]);
    }

    #[tokio::test]
    async fn refused_work_does_not_undo_its_neighbours() {
        let (store, _folder) = open();
        let handle = store.handle();
        make(&handle, "jobs", json!({})).await;
        let request = json!({"QueueUrl": url("absent"), "MessageBody": "m"});
        let request = serde_json::from_value(request).unwrap();
        let (refused, ()) = tokio::join!(
            handle.call(move |state| messages::send(state, request)),
            send(&handle, "jobs", "m")
        );
        assert_eq!(refused.unwrap_err(), SqsError::no_queue());
        assert_eq!(receive(&handle, "jobs", 0).await, ["m"]);
    }

    #[tokio::test]
    async fn a_failed_transaction_is_told_and_leaves_nothing() {
        let (store, _folder) = open();
        let handle = store.handle();
        make(&handle, "jobs", json!({})).await;
        let failed = handle.call(|state| {
            let attributes = wire_attributes();
            queues::ensure(state, "half-made", &attributes)?;
            state.connection.execute("INSERT INTO nowhere VALUES (1)", [])?;
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err(), SqsError::internal());
        let names: Vec<String> = handle
            .call(|state| Ok(state.queues.values().map(|queue| queue.name.clone()).collect()))
            .await
            .unwrap();
        assert_eq!(names, ["jobs"], "what was remembered of it is forgotten, too");
    }

    fn wire_attributes() -> super::super::wire::Attributes {
        super::super::wire::Attributes::new()
    }
}
