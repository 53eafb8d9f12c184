//! A call to a store: its name, and the answers that stand in for the store's own.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use serde_json::{Value, json};

use super::fault::Fault;

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

impl Answer {
    pub(crate) fn xml(status: u16, code: &str) -> Self {
        Self { status, body: format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>") }
    }
}

impl Call {
    /// A name for what it does, whatever the values.
    pub(crate) fn step(&self) -> String {
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
