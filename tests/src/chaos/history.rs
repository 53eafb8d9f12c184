//! What was asked and answered, and what was killed, each with its time since the run began.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stack::Answer;

/// What a user asked of the job of one of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To make it.
    Submit,
    /// To make another one with its key.
    SubmitOther,
    /// To end it.
    Cancel,
    /// To show it.
    Read,
}

/// What a client knows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The job.
    Job(Seen),
    /// It was refused: a status below 500, and its code.
    Refused(u16, String),
    /// Nothing: no answer, or one that leaves open whether it was done.
    Nothing,
}

/// A job as an answer showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// Its status.
    pub status: String,
    /// Whether it has settled.
    pub settled: bool,
    /// Whether the submission was answered with a job that was there before.
    pub replayed: bool,
}

/// One request, from its first byte to the end of its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub user: String,
    /// With which key the job is made.
    pub key: String,
    /// For what.
    pub asked: Asked,
    /// When it was sent.
    pub sent_at: Duration,
    /// When it was answered or given up.
    pub answered_at: Duration,
    /// With what.
    pub answer: Answered,
}

/// A process that was killed.
#[derive(Clone, Debug)]
pub struct Kill {
    /// When.
    pub at: Duration,
    /// Whose.
    pub function: &'static str,
}

/// Everything so far.
#[derive(Clone)]
pub(crate) struct History {
    began: Instant,
    events: Arc<Mutex<Events>>,
}

#[derive(Default)]
struct Events {
    operations: Vec<Operation>,
    kills: Vec<Kill>,
}

impl History {
    /// Time begins.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), events: Arc::default() }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request and of what came of it, and gives the answer back.
    pub(crate) async fn operation(
        &self,
        (user, key): (&str, &str),
        asked: Asked,
        request: impl Future<Output = anyhow::Result<Answer>>,
    ) -> Answered {
        let sent_at = self.began.elapsed();
        let answer = request.await.map_or(Answered::Nothing, |answer| answered(&answer));
        self.events().operations.push(Operation {
            user: user.to_owned(),
            key: key.to_owned(),
            asked,
            sent_at,
            answered_at: self.began.elapsed(),
            answer: answer.clone(),
        });
        answer
    }

    /// Takes note of a kill.
    pub(crate) fn kill(&self, function: &'static str) {
        let at = self.began.elapsed();
        self.events().kills.push(Kill { at, function });
    }

    /// Reads what there is so far.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[Operation], &[Kill]) -> T) -> T {
        let events = self.events();
        read(&events.operations, &events.kills)
    }

    /// All of it.
    pub(crate) fn end(self) -> (Vec<Operation>, Vec<Kill>) {
        let events = std::mem::take(&mut *self.events());
        (events.operations, events.kills)
    }
}

fn answered(answer: &Answer) -> Answered {
    match answer.status {
        200 | 202 => Answered::Job(Seen {
            id: answer.text("id").to_owned(),
            version: answer.body["version"].as_u64().unwrap_or_default(),
            status: answer.text("status").to_owned(),
            settled: !answer.body["settled"].is_null(),
            replayed: answer.header("idempotent-replayed") == "true",
        }),
        status @ 400..=499 => Answered::Refused(status, answer.text("code").to_owned()),
        _ => Answered::Nothing,
    }
}
