//! DynamoDB: the local system's engine in memory, with indexes that follow late.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darkroom_local_aws::Engine;
use darkroom_template::Table;
use serde_json::{Value, json};

use super::call::{Answer, Call, of_write};
use super::clause::{Clause, clauses, without};
use super::time::elapsed;

/// Every table.
pub(crate) struct Tables {
    engine: Engine,
    indexes: Option<Mutex<Late>>,
    /// A clause that every condition lacks.
    without: Option<Clause>,
    seen: Seen,
}

/// What was written so far.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    /// A request was no request, whatever else it should have been.
    malformed: bool,
    known: BTreeSet<String>,
    clauses: BTreeSet<Clause>,
    unconditional: BTreeSet<String>,
}

impl Seen {
    /// The clauses of every write.
    pub fn clauses(&self) -> BTreeSet<Clause> {
        self.written().clauses.clone()
    }

    /// What was written without a condition.
    pub fn unconditional(&self) -> BTreeSet<String> {
        self.written().unconditional.clone()
    }

    /// Whether DynamoDB would have refused a request as none.
    pub fn is_malformed(&self) -> bool {
        self.written().malformed
    }

    fn add(&self, call: &Call) {
        let mut written = self.written();
        for write in call.writes() {
            let key = if write["ConditionExpression"].is_null() { &write["Key"] } else { &Value::Null };
            let sort_key = write["Item"]["sk"]["S"].as_str().or(key["sk"]["S"].as_str()).unwrap_or_default();
            let name = format!("{} {sort_key}", of_write(write)).trim_end().to_owned();
            let condition = write["ConditionExpression"].as_str().unwrap_or_default();
            // Taken apart once.
            if written.known.insert(format!("{name}: {condition}")) {
                match clauses(write) {
                    Some(clauses) => written.clauses.extend(clauses),
                    None => drop(written.unconditional.insert(name)),
                }
            }
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tables as they were some time ago: what their indexes show.
struct Late {
    engine: Engine,
    lag: Duration,
    /// Writes that the indexes do not show yet, and when each was made.
    writes: VecDeque<(Duration, Call)>,
}

impl Tables {
    /// Empty tables whose indexes follow a write so much later.
    ///
    /// # Errors
    /// When a definition is refused.
    pub(crate) fn new(definitions: &[Table], lag: Duration) -> anyhow::Result<Self> {
        let indexes = if lag.is_zero() {
            None
        } else {
            let late = Late { engine: engine(definitions)?, lag, writes: VecDeque::new() };
            Some(Mutex::new(late))
        };
        Ok(Self { engine: engine(definitions)?, indexes, without: None, seen: Seen::default() })
    }

    /// The same, with this clause left out of every condition.
    pub(crate) fn without(self, clause: Option<Clause>) -> Self {
        Self { without: clause, ..self }
    }

    /// What was written so far, and will be.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    pub(crate) fn answer(&self, call: &Call) -> Answer {
        if !call.is_write() {
            return self.done(call);
        }
        self.seen.add(call);
        let answer = match &self.without {
            Some(clause) => self.done(&without(call, clause)),
            None => self.done(call),
        };
        // That a number to count up is not there is said of an item, not of the request.
        let is_of_item = answer.body.contains("attribute that does not exist");
        if answer.body.contains("ValidationException") && !is_of_item {
            self.seen.written().malformed = true;
        }
        answer
    }

    /// Puts an item as it is: no function has written it.
    ///
    /// # Errors
    /// When the table refuses it.
    pub(crate) fn put(&self, table: &str, item: &Value) -> anyhow::Result<()> {
        let body = json!({"TableName": table, "Item": item}).to_string();
        let (status, answer) = self.engine.answer("PutItem", body.as_bytes());
        anyhow::ensure!(status == 200, "{answer}");
        Ok(())
    }

    /// Every item of a table.
    pub(crate) fn items(&self, table: &str) -> Vec<Value> {
        let (mut items, mut request) = (Vec::new(), json!({"TableName": table, "ConsistentRead": true}));
        loop {
            let (_, answer) = self.engine.answer("Scan", request.to_string().as_bytes());
            let mut answer = serde_json::from_str::<Value>(&answer).unwrap_or_default();
            items.extend(answer["Items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            let last = answer["LastEvaluatedKey"].take();
            if last.is_null() {
                return items;
            }
            request["ExclusiveStartKey"] = last;
        }
    }

    fn done(&self, call: &Call) -> Answer {
        let Some(late) = &self.indexes else { return answer(&self.engine, call) };
        let mut late = late.lock().unwrap_or_else(PoisonError::into_inner);
        if call.reads_index() {
            late.follow();
            return answer(&late.engine, call);
        }
        let answered = answer(&self.engine, call);
        if call.is_write() && answered.status == 200 {
            late.writes.push_back((elapsed(), call.clone()));
        }
        answered
    }
}

impl Late {
    /// The writes are done in their order and each finds what it found then, so each comes to the same.
    fn follow(&mut self) {
        let until = elapsed().saturating_sub(self.lag);
        while let Some((_, write)) = self.writes.pop_front_if(|(at, _)| *at <= until) {
            answer(&self.engine, &write);
        }
    }
}

fn engine(definitions: &[Table]) -> anyhow::Result<Engine> {
    let engine = Engine::in_memory()?;
    for table in definitions {
        let mut definition = table.create_table.clone();
        // Nobody reads a stream here, and in memory each record is found by reading all before it.
        definition.as_object_mut().map(|fields| fields.remove("StreamSpecification"));
        engine.ensure_table(definition, table.ttl_attribute.as_deref())?;
    }
    Ok(engine)
}

fn answer(engine: &Engine, call: &Call) -> Answer {
    let (status, body) = engine.answer(&call.operation, &call.body);
    Answer::of(status, body)
}
