//! A pass-through in front of the engine that counts what it is asked for.
//!
//! The engine serves itself and shows nobody its requests, so counting them takes a hop of its own. Each request
//! that can tell its capacity is made to (`ReturnConsumedCapacity`), and the answer is passed on as it came: a caller
//! that did not ask finds one member more in it, which the SDKs ignore.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::SERVICE;
use super::tally::{DynamoDbUse, Tally};
use super::units::{Asked, KeyNames, answered};
use crate::counters::Counters;
use crate::http_server::HttpServer;
use crate::settings::Settings;

/// DynamoDB accepts bodies up to 16 MB.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

type Upstream = Client<HttpConnector, Full<Bytes>>;

/// A pass-through that counts.
pub(crate) struct Counting {
    server: HttpServer,
    counted: Arc<Counted>,
}

/// What its requests share.
struct Counted {
    engine: String,
    upstream: Upstream,
    counters: Counters,
    /// Names of each table's key attributes.
    keys: RwLock<HashMap<String, KeyNames>>,
    tally: Mutex<Tally>,
    /// Every so manieth transaction meets another; 0 for none.
    conflict_every: u64,
    transactions: AtomicU64,
    /// How far ahead the `Date` of the answers is.
    clock_ahead_seconds: i64,
}

impl Counting {
    /// Serves `listener`, in front of the engine at this endpoint.
    pub(crate) fn start(
        listener: TcpListener,
        engine: String,
        counters: Counters,
        settings: &Settings,
    ) -> Self {
        let upstream = Client::builder(TokioExecutor::new()).build_http();
        let counted = Arc::new(Counted {
            engine,
            upstream,
            counters,
            keys: RwLock::default(),
            tally: Mutex::default(),
            conflict_every: settings.conflict_every,
            transactions: AtomicU64::new(0),
            clock_ahead_seconds: settings.clock_ahead_seconds,
        });
        let router = Router::new()
            .fallback(any(pass))
            .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
            .with_state(Arc::clone(&counted));
        Self { server: HttpServer::start(SERVICE, listener, router), counted }
    }

    /// Notes a table's key attributes: a put names its item by nothing else.
    pub(crate) fn learn(&self, create_table: &Value) {
        let Some(table) = create_table.get("TableName").and_then(Value::as_str) else { return };
        let schema = create_table.get("KeySchema").and_then(Value::as_array).into_iter().flatten();
        let names =
            schema.filter_map(|part| part.get("AttributeName")?.as_str().map(str::to_owned)).collect();
        self.counted.keys.write().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), names);
    }

    /// What was counted so far; counting begins anew.
    pub(crate) fn take(&self) -> DynamoDbUse {
        std::mem::take(&mut *self.counted.tally.lock().unwrap_or_else(PoisonError::into_inner)).into_use()
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

async fn pass(State(counted): State<Arc<Counted>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let at = Instant::now();
    let passed = async {
        let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await.map_err(|error| error.to_string())?;
        let asked = counted.read(&head.headers, &body);
        if let Some(asked) = asked.as_ref().filter(|asked| counted.meets_another(asked)) {
            let cancelled = conflict(asked.writes.len());
            counted.count(asked, StatusCode::BAD_REQUEST, &cancelled, at);
            let mut answer = Response::new(Body::from(cancelled));
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(answer);
        }
        let body = match &asked {
            Some(asked) if asked.tells_capacity => with_capacity(&body),
            _ => body,
        };
        let mut forwarded =
            Request::builder().method(head.method).uri(format!("{}{}", counted.engine, head.uri));
        for (name, value) in &head.headers {
            if ![header::HOST, header::CONTENT_LENGTH].contains(name) {
                forwarded = forwarded.header(name, value);
            }
        }
        let forwarded = forwarded.body(Full::new(body)).map_err(|error| error.to_string())?;
        let answer = counted.upstream.request(forwarded).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        if let Some(asked) = asked {
            counted.count(&asked, head.status, &body, at);
        }
        Ok::<_, String>(Response::from_parts(head, Body::from(body)))
    };
    let mut answer = passed.await.unwrap_or_else(|error| {
        tracing::warn!(service = SERVICE, error, "a request could not be passed on");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    });
    if let Some(date) = counted.date() {
        answer.headers_mut().insert(header::DATE, date);
    }
    answer
}

/// The request, made to tell its capacity. Text before text, so that the rest stays as it was written.
fn with_capacity(body: &Bytes) -> Bytes {
    let Some(rest) = body.strip_prefix(b"{") else { return body.clone() };
    let mut counted = Vec::with_capacity(body.len() + 40);
    counted.extend_from_slice(br#"{"ReturnConsumedCapacity":"TOTAL","#);
    counted.extend_from_slice(rest);
    Bytes::from(counted)
}

/// DynamoDB's answer to a transaction that met another one on its first item.
fn conflict(actions: usize) -> Vec<u8> {
    let reason = |index: usize| json!({"Code": if index == 0 { "TransactionConflict" } else { "None" }});
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
        "CancellationReasons": (0..actions).map(reason).collect::<Vec<_>>(),
    });
    body.to_string().into_bytes()
}

impl Counted {
    /// The time that an answer tells; `None` for this machine's.
    fn date(&self) -> Option<HeaderValue> {
        let by = Duration::from_secs(self.clock_ahead_seconds.unsigned_abs());
        let date = match self.clock_ahead_seconds.signum() {
            0 => return None,
            1 => SystemTime::now() + by,
            _ => SystemTime::now() - by,
        };
        let date = httpdate::fmt_http_date(date);
        HeaderValue::from_str(&date).ok()
    }

    fn meets_another(&self, asked: &Asked) -> bool {
        self.conflict_every > 0
            && asked.operation == "TransactWriteItems"
            && (self.transactions.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.conflict_every)
    }

    /// `None` for what is no request of an operation.
    fn read(&self, headers: &HeaderMap, body: &[u8]) -> Option<Asked> {
        let target = headers.get("x-amz-target")?.to_str().ok()?;
        let (_, operation) = target.split_once('.')?;
        let body = serde_json::from_slice(body).ok()?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Some(Asked::read(operation, &body, &keys))
    }

    fn count(&self, asked: &Asked, status: StatusCode, body: &[u8], at: Instant) {
        self.counters.count("dynamodb", &asked.operation);
        let body = serde_json::from_slice(body).unwrap_or_default();
        let answered = answered(asked, status.is_success(), &body);
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).count(asked, &answered, at);
    }
}
