//! A WebSocket API below a path of the gateway: `$connect`, `$default` and `$disconnect` go to one function, which posts to
//! connections at `@connections`.
//!
//! Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api.html>, its quotas at
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html>.
//! What is left out: authorizers, routes of one's own, responses of routes, throttling, `GetConnection`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::socket::{self, Order, Socket};
use super::websocket_event::{self, Client, Kind};
use crate::function::Function;
use crate::ids;
use crate::running::StopSignal;

/// A message, to or from a client, at most.
pub(super) const MESSAGE_BYTES: usize = 128 * 1024;

/// Messages that wait for a client that does not read: one more is answered 429.
const QUEUED: usize = 128;

/// What a WebSocket API is.
pub struct WebSocketSettings {
    /// The stage's name: the path below which it is.
    pub stage: String,
    /// Where all events go.
    pub function: Arc<Function>,
    /// Whose requests to `@connections` are taken. The signature itself is not verified.
    pub access_key_id: String,
    /// A connection without messages for so long is closed. API Gateway: ten minutes.
    pub idle_limit: Duration,
    /// No connection is open for longer. API Gateway: two hours.
    pub connection_limit: Duration,
}

impl WebSocketSettings {
    /// API Gateway's own limits.
    pub fn new(stage: impl Into<String>, function: Arc<Function>, access_key_id: impl Into<String>) -> Self {
        Self {
            stage: stage.into(),
            function,
            access_key_id: access_key_id.into(),
            idle_limit: Duration::from_secs(600),
            connection_limit: Duration::from_secs(7_200),
        }
    }
}

/// The open connections.
pub(super) struct Sockets {
    pub(super) settings: WebSocketSettings,
    pub(super) account_id: String,
    pub(super) api_id: String,
    pub(super) port: u16,
    open: Mutex<HashMap<String, mpsc::Sender<Order>>>,
}

/// What a path below the stage's is.
pub(super) enum Place {
    Handshake,
    /// A connection, by its id.
    Connection(String),
}

impl Sockets {
    pub(super) fn new(settings: WebSocketSettings, account_id: String, api_id: String, port: u16) -> Self {
        Self { settings, account_id, api_id, port, open: Mutex::default() }
    }

    /// What this path is; `None` when it is not the WebSocket API's.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        let rest = path.strip_prefix('/')?.strip_prefix(&*self.settings.stage)?;
        if rest.is_empty() || rest == "/" {
            return Some(Place::Handshake);
        }
        let id = rest.strip_prefix("/@connections/").or_else(|| rest.strip_prefix("/%40connections/"))?;
        percent_decode_str(id).decode_utf8().ok().map(|id| Place::Connection(id.into_owned()))
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        place: Place,
        request: Request<Incoming>,
        source_ip: IpAddr,
        stop: StopSignal,
    ) -> Response<Full<Bytes>> {
        match place {
            Place::Handshake => self.handshake(request, source_ip, stop).await,
            Place::Connection(id) => self.manage(&id, request).await,
        }
    }

    /// `$connect` decides: a status of 2xx opens the connection, any other is the client's answer.
    async fn handshake(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        source_ip: IpAddr,
        stop: StopSignal,
    ) -> Response<Full<Bytes>> {
        let Some(accept) = accept_key(&request) else { return own(StatusCode::FORBIDDEN, "Forbidden") };
        let client = Client::new(&self, request.headers(), source_ip);
        let query = request.uri().query().unwrap_or_default();
        let kind = Kind::Connect { headers: request.headers(), query };
        let event = websocket_event::build(&self, &client, &kind);
        match self.settings.function.invoke(event).await.map(|answer| status_of(&answer)) {
            Ok(Some(status)) if status.is_success() => {}
            Ok(Some(status)) => return own(status, status.canonical_reason().unwrap_or("Refused")),
            Ok(None) => return own(StatusCode::BAD_GATEWAY, "Internal server error"),
            Err(error) => {
                tracing::warn!(function.name = self.settings.function.name(), %error, "$connect was not answered");
                return own(StatusCode::BAD_GATEWAY, "Internal server error");
            }
        }
        let (orders, inbox) = mpsc::channel(QUEUED);
        self.open().insert(client.connection_id.clone(), orders);
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(self.run(client, upgrade, inbox, stop));
        switching(&accept)
    }

    /// The life of a connection, until `$disconnect`.
    async fn run(
        self: Arc<Self>,
        client: Client,
        upgrade: OnUpgrade,
        inbox: mpsc::Receiver<Order>,
        stop: StopSignal,
    ) {
        let client = Arc::new(client);
        // An error here is a client that left before it was answered.
        if let Ok(upgraded) = upgrade.await {
            let limits = Some(socket::limits());
            let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, limits).await;
            let socket = Socket { sockets: Arc::clone(&self), client: Arc::clone(&client), stream, inbox };
            socket.run(stop).await;
        }
        self.open().remove(&client.connection_id);
        let event = websocket_event::build(&self, &client, &Kind::Disconnect);
        if let Err(error) = self.settings.function.invoke(event).await {
            tracing::debug!(function.name = self.settings.function.name(), %error, "$disconnect was not answered");
        }
    }

    /// `POST` and `DELETE` of a connection.
    async fn manage(&self, id: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.may_manage(request.headers()) {
            return own(StatusCode::FORBIDDEN, "Forbidden");
        }
        let Some(orders) = self.open().get(id).cloned() else {
            return failure(StatusCode::GONE, "GoneException");
        };
        let (head, body) = request.into_parts();
        let order = match head.method {
            Method::POST => match Limited::new(body, MESSAGE_BYTES).collect().await {
                Ok(body) => Order::Send(body.to_bytes()),
                Err(_) => return failure(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException"),
            },
            Method::DELETE => Order::Close,
            _ => return own(StatusCode::FORBIDDEN, "Forbidden"),
        };
        let done = if matches!(order, Order::Close) { StatusCode::NO_CONTENT } else { StatusCode::OK };
        match orders.try_send(order) {
            Ok(()) => Response::builder().status(done).body(Full::default()).unwrap_or_default(),
            Err(mpsc::error::TrySendError::Closed(_)) => failure(StatusCode::GONE, "GoneException"),
            Err(mpsc::error::TrySendError::Full(_)) => {
                failure(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException")
            }
        }
    }

    fn may_manage(&self, headers: &HeaderMap) -> bool {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let credential = format!("Credential={}/", self.settings.access_key_id);
        authorization.is_some_and(|text| text.contains(&credential))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<Order>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handshake is answered with (RFC 6455, 4.2); `None` when it is none.
fn accept_key(request: &Request<Incoming>) -> Option<String> {
    let has = |name: header::HeaderName, word: &str| {
        let values = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    let is_handshake = request.method() == Method::GET
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    Some(derive_accept_key(key.as_bytes()))
}

fn switching(accept: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// `statusCode` of a function's answer.
fn status_of(answer: &[u8]) -> Option<StatusCode> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let status = u16::try_from(answer.get("statusCode")?.as_u64()?).ok()?;
    StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200)
}

/// What API Gateway says itself.
fn own(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    finish(status, &json!({"message": message, "connectionId": null, "requestId": ids::gateway_request_id()}))
}

/// An error of `@connections`, by which SDKs know it.
fn failure(status: StatusCode, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = finish(status, &json!({"message": kind}));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind));
    response
}

fn finish(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
