//! A server before a local store that gives answers which the store itself never gives: conflicts and throttling.
//!
//! Every other call passes through unchanged. It listens on the loopback interface alone.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What is answered in the store's place.
#[derive(Clone, Debug)]
pub struct Canned {
    status: StatusCode,
    body: String,
    passes_first: bool,
}

impl Canned {
    /// DynamoDB's answer to a single write of an item that a transaction is writing.
    pub fn item_in_transaction() -> Self {
        let body = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
            "message": "Transaction is ongoing for the item",
        });
        Self::new(StatusCode::BAD_REQUEST, body.to_string())
    }

    /// DynamoDB's answer to a transaction that it cancelled, with a reason per action.
    pub fn cancelled(reasons: &[&str]) -> Self {
        let reasons: Vec<_> = reasons.iter().map(|code| json!({"Code": code})).collect();
        let body = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
            "CancellationReasons": reasons,
        });
        Self::new(StatusCode::BAD_REQUEST, body.to_string())
    }

    /// An error as S3 writes it.
    pub fn s3_error(status: StatusCode, code: &str) -> Self {
        Self::new(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    }

    /// API Gateway's answer to one message too many.
    pub fn limit_exceeded() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, json!({"message": "Limit Exceeded"}).to_string())
    }

    /// A success without a body.
    pub const fn done() -> Self {
        Self::new(StatusCode::OK, String::new())
    }

    /// The store does what it was asked, and this answer is given all the same.
    #[must_use]
    pub fn after_the_store_has_done_it(self) -> Self {
        Self { passes_first: true, ..self }
    }

    const fn new(status: StatusCode, body: String) -> Self {
        Self { status, body, passes_first: false }
    }
}

/// The server.
pub struct Interposer {
    url: String,
    state: Arc<State>,
    serving: AbortHandle,
}

struct State {
    store: String,
    http: reqwest::Client,
    canned: Mutex<VecDeque<(String, Canned)>>,
    calls: Mutex<Vec<(String, Bytes)>>,
}

impl Interposer {
    /// Starts before the store at this URL.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(store: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State {
            store: store.to_owned(),
            http: crate::stack::plain_client()?,
            canned: Mutex::default(),
            calls: Mutex::default(),
        });
        let serving = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { url, state, serving })
    }

    /// Where clients of the store go.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers the next `times` calls of an operation (`UpdateItem`, `PutObject`) so.
    pub fn answer(&self, operation: &str, times: usize, answer: &Canned) {
        lock(&self.state.canned).extend(std::iter::repeat_n((operation.to_owned(), answer.clone()), times));
    }

    /// The bodies of an operation's calls so far.
    pub fn calls(&self, operation: &str) -> Vec<Bytes> {
        let calls = lock(&self.state.calls);
        calls.iter().filter(|(called, _)| called == operation).map(|(_, body)| body.clone()).collect()
    }
}

impl Drop for Interposer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(answer(request, &state).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let operation = operation(&parts);
    lock(&state.calls).push((operation.clone(), body.clone()));
    let canned = {
        let mut canned = lock(&state.canned);
        let position = canned.iter().position(|(wanted, _)| *wanted == operation);
        position.and_then(|position| canned.remove(position))
    };
    let Some((_, canned)) = canned else { return pass(&parts, body, state).await };
    if canned.passes_first {
        pass(&parts, body, state).await;
    }
    let mut response = Response::new(Full::new(Bytes::from(canned.body)));
    *response.status_mut() = canned.status;
    response
}

/// DynamoDB names the operation in a header, S3's SDK in the query. A WebSocket API's tells it by its method.
fn operation(parts: &http::request::Parts) -> String {
    if parts.uri.path().contains("/@connections/") {
        let is_post = parts.method == http::Method::POST;
        return if is_post { "PostToConnection" } else { "DeleteConnection" }.to_owned();
    }
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let id = || parts.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("x-id="));
    target.and_then(|target| target.split('.').next_back()).or_else(id).unwrap_or_default().to_owned()
}

async fn pass(parts: &http::request::Parts, body: Bytes, state: &State) -> Response<Full<Bytes>> {
    let request = state
        .http
        .request(parts.method.clone(), format!("{}{}", state.store, parts.uri))
        .headers(parts.headers.clone())
        .body(body);
    let passed = async {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(Full::new(answer.bytes().await?));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok::<_, reqwest::Error>(response)
    };
    passed.await.unwrap_or_else(|error| {
        let mut response = Response::new(Full::new(Bytes::from(error.to_string())));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
