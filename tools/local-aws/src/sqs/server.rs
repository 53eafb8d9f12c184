//! The wire: one POST per operation, named by `X-Amz-Target`, in AWS JSON 1.0.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::response::Response;
use axum::routing::post;
use axum::{Router, body::Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Code, Fault, SqsError};
use super::state::State;
use super::store::StoreHandle;
use super::{messages, moves, queues};
use crate::caller::Caller;
use crate::counters::Counters;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");

/// A batch of 1 MiB can be longer as JSON: a control character takes six bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// Every operation spoken here. The names are static so that counting needs no allocation.
const OPERATIONS: [&str; 18] = [
    "CancelMessageMoveTask",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessage",
    "DeleteMessageBatch",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
    "SendMessageBatch",
    "SetQueueAttributes",
    "StartMessageMoveTask",
];

#[derive(Clone)]
struct Service {
    store: StoreHandle,
    access_key_id: Arc<str>,
    counters: Counters,
}

pub(super) fn router(store: StoreHandle, access_key_id: &str, counters: Counters) -> Router {
    let service = Service { store, access_key_id: access_key_id.into(), counters };
    Router::new()
        .route("/", post(handle))
        .route("/{*path}", post(handle))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(service)
}

async fn handle(Shared(service): Shared<Service>, headers: HeaderMap, body: Bytes) -> Response {
    match service.answer(&headers, &body).await {
        Ok(json) => respond(StatusCode::OK, json),
        Err(error) => refuse(&error),
    }
}

impl Service {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, SqsError> {
        let operation = operation(headers)?;
        self.check_caller(headers)?;
        self.counters.count("sqs", operation);
        match operation {
            "ReceiveMessage" => {
                let request = read(body)?;
                write(&self.store.receive(request).await?)
            }
            "SendMessage" => self.store(body, messages::send).await,
            "SendMessageBatch" => self.store(body, messages::send_batch).await,
            "DeleteMessage" => self.store(body, |state, request| messages::delete(state, &request)).await,
            "DeleteMessageBatch" => self.store(body, messages::delete_batch).await,
            "ChangeMessageVisibility" => self.store(body, messages::change_visibility).await,
            "ChangeMessageVisibilityBatch" => self.store(body, messages::change_visibility_batch).await,
            "CreateQueue" => self.store(body, queues::create).await,
            "GetQueueUrl" => self.store(body, |state, request| queues::url(state, &request)).await,
            "ListQueues" => self.store(body, |state, request| queues::list(state, &request)).await,
            "GetQueueAttributes" => {
                self.store(body, |state, request| queues::get_attributes(state, &request)).await
            }
            "SetQueueAttributes" => {
                self.store(body, |state, request| queues::set_attributes(state, &request)).await
            }
            "ListDeadLetterSourceQueues" => {
                self.store(body, |state, request| queues::dead_letter_sources(state, &request)).await
            }
            "PurgeQueue" => self.store(body, |state, request| queues::purge(state, &request)).await,
            "DeleteQueue" => self.store(body, |state, request| queues::delete(state, &request)).await,
            "StartMessageMoveTask" => self.store(body, |state, request| moves::start(state, &request)).await,
            "CancelMessageMoveTask" => {
                self.store(body, |state, request| moves::cancel(state, &request)).await
            }
            "ListMessageMoveTasks" => self.store(body, |state, request| moves::list(state, &request)).await,
            _ => Err(SqsError::new(Code::UnsupportedOperation, format!("{operation} is not spoken here."))),
        }
    }

    /// Whether the request names our access key. Its signature is not verified.
    fn check_caller(&self, headers: &HeaderMap) -> Result<(), SqsError> {
        match Caller::of(headers, &self.access_key_id) {
            Caller::Ours => Ok(()),
            Caller::Unsigned => Err(SqsError::new(
                Code::MissingAuthenticationToken,
                "Request is missing Authentication Token",
            )),
            Caller::Stranger => Err(SqsError::new(
                Code::UnrecognizedClient,
                "The security token included in the request is invalid: sign with the access key of this local AWS.",
            )),
        }
    }

    async fn store<Q, A>(
        &self,
        body: &[u8],
        work: impl FnOnce(&mut State, Q) -> Result<A, Fault> + Send + 'static,
    ) -> Result<Vec<u8>, SqsError>
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + Send + 'static,
    {
        let request = read(body)?;
        write(&self.store.call(move |state| work(state, request)).await?)
    }
}

fn operation(headers: &HeaderMap) -> Result<&'static str, SqsError> {
    let target = headers.get(TARGET).and_then(|value| value.to_str().ok());
    let name = target.and_then(|target| target.strip_prefix("AmazonSQS."));
    let known = name.and_then(|name| OPERATIONS.into_iter().find(|known| *known == name));
    known.ok_or_else(|| {
        let message = format!("The operation {} is not known.", target.unwrap_or("without X-Amz-Target"));
        SqsError::new(Code::UnknownOperation, message)
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let code = if error.is_data() { Code::MissingParameter } else { Code::Serialization };
        SqsError::new(code, format!("The request cannot be read: {error}."))
    })
}

fn write(answer: &impl Serialize) -> Result<Vec<u8>, SqsError> {
    serde_json::to_vec(answer).map_err(|error| {
        tracing::error!(service = "SQS", %error, "an answer could not be written");
        SqsError::internal()
    })
}

fn refuse(error: &SqsError) -> Response {
    let body = serde_json::json!({"__type": error.code.shape(), "message": error.message});
    let mut response = respond(error.code.status(), body.to_string().into_bytes());
    let fault = if error.code.is_sender() { "Sender" } else { "Receiver" };
    if let Ok(value) = HeaderValue::try_from(format!("{};{fault}", error.code.query())) {
        response.headers_mut().insert(QUERY_ERROR, value);
    }
    response
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    let id = messages::new_message_id().ok().and_then(|id| HeaderValue::try_from(id).ok());
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
