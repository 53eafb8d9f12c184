//! A call to a store: its name, and the answers that stand in for the store's own.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use serde_json::{Value, json};

use super::clause::without_values;
use super::fault::{Fault, Kind};

/// A call to a store.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) operation: String,
    pub(crate) path: String,
    pub(crate) if_none_match: bool,
    /// The SDK's name for the call, the same in each of its tries.
    pub(crate) invocation: String,
    /// What is asked for, of a service that speaks JSON.
    pub(crate) request: Value,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    DynamoDb,
    Kms,
    Provider,
    S3,
    Sqs,
    /// Between the queue and the worker.
    Mapping,
}

/// What a store answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// An object, in the place of a text.
    pub(crate) object: Option<Vec<u8>>,
}

impl Answer {
    pub(crate) const fn of(status: u16, body: String) -> Self {
        Self { status, body, object: None }
    }

    pub(crate) fn ok(body: &Value) -> Self {
        Self::of(200, body.to_string())
    }

    pub(crate) const fn object(bytes: Vec<u8>) -> Self {
        Self { status: 200, body: String::new(), object: Some(bytes) }
    }

    pub(crate) fn error(status: u16, name: &str) -> Self {
        Self::of(status, json!({"__type": name, "message": name}).to_string())
    }

    pub(crate) fn xml(status: u16, code: &str) -> Self {
        Self::of(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    }
}

impl Call {
    /// One that is named by what it does alone.
    pub(crate) fn named(service: Service, operation: &str) -> Self {
        Self {
            service,
            operation: operation.to_owned(),
            path: String::new(),
            if_none_match: false,
            invocation: String::new(),
            request: Value::Null,
            body: Vec::new(),
        }
    }

    /// What may happen to it.
    pub(crate) fn kind(&self) -> Kind {
        match self.service {
            Service::Provider => Kind::Provider,
            Service::Mapping => Kind::Delivery,
            _ if self.is_write() => Kind::Write,
            _ => Kind::Call,
        }
    }

    /// A name for what it does, whatever the values.
    pub(crate) fn step(&self) -> String {
        match self.service {
            Service::Kms | Service::Mapping | Service::Provider | Service::S3 | Service::Sqs => {
                self.operation.clone()
            }
            Service::DynamoDb => {
                let changes = match self.request["TransactItems"].as_array() {
                    Some(actions) => actions.iter().map(of_action).collect::<Vec<_>>().join(" + "),
                    None => with_condition(&self.request),
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

    /// Whether it changes jobs, balances or entries.
    pub(crate) fn changes_jobs(&self) -> bool {
        self.changes("simulated-jobs") || self.changes_ledger()
    }

    /// Whether it changes balances or entries.
    pub(crate) fn changes_ledger(&self) -> bool {
        self.changes("simulated-ledger")
    }

    fn changes(&self, table: &str) -> bool {
        self.is_write() && self.writes().any(|write| write["TableName"] == *table)
    }

    /// Each write of a call that writes.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &Value> {
        let actions = self.request["TransactItems"].as_array();
        let inner = actions.into_iter().flatten().filter_map(|action| action.as_object()?.values().next());
        inner.chain(actions.is_none().then_some(&self.request))
    }

    /// Whether it reads an index, which follows the table late.
    pub(crate) fn reads_index(&self) -> bool {
        self.operation == "Query" && self.request["IndexName"].is_string()
    }

    /// What is answered in the store's place; `None` when this store has no such answer to this call.
    pub(crate) fn refusal(&self, fault: Fault) -> Option<Answer> {
        let dynamodb = |name: &str, more: Value| {
            let mut body =
                json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": name});
            if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
                body.extend(more);
            }
            Answer::of(400, body.to_string())
        };
        Some(match (fault, self.service) {
            (Fault::Throttled, Service::DynamoDb) => {
                dynamodb("ProvisionedThroughputExceededException", Value::Null)
            }
            (Fault::Throttled, Service::S3) => Answer::xml(503, "SlowDown"),
            (Fault::Throttled, Service::Sqs) => Answer::error(400, "com.amazonaws.sqs#RequestThrottled"),
            (Fault::Throttled, _) => Answer::error(400, "ThrottlingException"),
            (Fault::Failed, Service::S3) => Answer::xml(500, "InternalError"),
            (Fault::Failed, _) => Answer::error(500, "InternalServerError"),
            (Fault::Conflict, _) if self.operation == "TransactWriteItems" => {
                let actions = self.writes().count();
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
    format!("{kind} {}", with_condition(write))
}

/// What a write sets, and if what.
fn with_condition(write: &Value) -> String {
    match write["ConditionExpression"].as_str() {
        Some(condition) => format!("{} if {}", of_write(write), without_values(condition)),
        None => of_write(write),
    }
}

/// The table, and what a write sets or a read asks for.
pub(crate) fn of_write(request: &Value) -> String {
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
