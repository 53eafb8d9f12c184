//! The store: one thread that owns the state and does one thing after another.
//!
//! Whatever waits when the thread comes round is done in one transaction, and nobody hears of it before that is committed:
//! what was acknowledged survives the death of the process, and many senders share the cost of one commit. Long polls wait here,
//! in the order they came, so that a message wakes one receiver, and a client that hung up gets none.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
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

/// The most commands that share one transaction.
const MAX_SHARED: usize = 256;
/// How often messages are looked for that nobody received in their retention.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(10);
/// The longest sleep: the clock of the machine may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(30);

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
    pub(super) fn open(
        file: &Path,
        identity: Identity,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let state = State::open(file, identity)?;
        let (commands, received) = mpsc::channel();
        let worker = Worker {
            state,
            waiting: BTreeMap::new(),
            due: BTreeMap::new(),
            next_step: Some(0),
            next_expiry: 0,
            may_wait: true,
        };
        let thread =
            thread::Builder::new().name("sqs-store".to_owned()).spawn(move || worker.run(&received))?;
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
    /// Does `work` in the store and answers once it is committed. Work that is refused must have written nothing.
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
            if let Some(at) = messages::next_due(&self.state, queue, now_ms())? {
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
