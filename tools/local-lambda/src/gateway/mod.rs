//! API Gateway's part: an HTTP API on loopback in front of functions.
//!
//! It does what an HTTP API with a JWT authorizer does, with one difference: the token is the user's name. What is
//! left out: CORS, custom domains, stages other than `$default`, request throttling.

mod event;
mod response;
mod route;
mod socket;
mod websocket;
mod websocket_event;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};

use crate::error::{InvokeError, SettingsError};
use crate::ids;
use crate::running::{Running, StopSignal};
use response::Own;
pub use route::Route;
use route::{Access, Routes};
use websocket::Sockets;
pub use websocket::WebSocketSettings;

/// HTTP APIs take bodies of up to 10 MB. Source: API Gateway quotas.
const BODY_BYTES: usize = 10 * 1024 * 1024;

/// How long a client may take to send its headers, and how long it may keep an idle connection.
const HEADER_LIMIT: Duration = Duration::from_secs(75);

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a gateway is.
pub struct GatewaySettings {
    /// Port on 127.0.0.1; 0 takes a free one. Not looked at where a [`GatewayListener`] has one.
    pub port: u16,
    /// Told to functions.
    pub account_id: String,
    /// Told to functions.
    pub api_id: String,
    /// All routes; their order does not matter.
    pub routes: Vec<Route>,
    /// After so long the client gets 503 while the function goes on. HTTP APIs allow at most 30 s.
    pub integration_timeout: Duration,
    /// The WebSocket API, if there is one. On AWS it has a host of its own; here a path of this one.
    pub websocket: Option<WebSocketSettings>,
}

impl GatewaySettings {
    /// A free port, 30 s, and no WebSocket API.
    pub fn new(account_id: impl Into<String>, routes: Vec<Route>) -> Self {
        Self {
            port: 0,
            account_id: account_id.into(),
            api_id: "local".to_owned(),
            routes,
            integration_timeout: Duration::from_secs(30),
            websocket: None,
        }
    }
}

/// The port of a gateway to come: its address is known before the functions that must know it are there.
pub struct GatewayListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl GatewayListener {
    /// Takes a port on 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(port: u16) -> Result<Self, SettingsError> {
        let listening = |source| SettingsError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A running HTTP API.
pub struct Gateway {
    address: SocketAddr,
    running: Running,
}

struct Shared {
    account_id: String,
    api_id: String,
    port: u16,
    routes: Routes,
    integration_timeout: Duration,
    sockets: Option<Arc<Sockets>>,
}

impl Gateway {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// When the port is taken, and for two routes that fit the same requests.
    pub async fn start(settings: GatewaySettings) -> Result<Self, SettingsError> {
        Self::on(GatewayListener::bind(settings.port).await?, settings)
    }

    /// Answers on a port that was taken. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// For two routes that fit the same requests.
    pub fn on(listener: GatewayListener, settings: GatewaySettings) -> Result<Self, SettingsError> {
        let GatewayListener { listener, address } = listener;
        let routes = Routes::new(settings.routes)?;
        let (account_id, api_id, port) = (settings.account_id, settings.api_id, address.port());
        let sockets = settings
            .websocket
            .map(|websocket| Arc::new(Sockets::new(websocket, account_id.clone(), api_id.clone(), port)));
        let integration_timeout = settings.integration_timeout;
        let shared = Arc::new(Shared { account_id, api_id, port, routes, integration_timeout, sockets });
        let (running, stop) = Running::new();
        tokio::spawn(accept(listener, shared, stop));
        Ok(Self { address, running })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits up to `grace` for those under way.
    pub async fn shutdown(self, grace: Duration) {
        self.running.shutdown(grace).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: StopSignal) {
    loop {
        let accepted = tokio::select! {
            () = stop.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(serve(stream, peer.ip(), Arc::clone(&shared), stop.clone()));
            }
            Err(error) => {
                // Out of files, as a rule: the next try would fail at once and keep a core busy.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, source_ip: IpAddr, shared: Arc<Shared>, mut stop: StopSignal) {
    let _ = stream.set_nodelay(true);
    let stopping = stop.clone();
    let service = service_fn(|request| {
        let (shared, stop) = (Arc::clone(&shared), stopping.clone());
        async move { Ok::<_, Infallible>(shared.answer(request, source_ip, stop).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // Errors here are the client's doing: it went away, or did not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

impl Shared {
    async fn answer(
        &self,
        request: Request<Incoming>,
        source_ip: IpAddr,
        stop: StopSignal,
    ) -> Response<Full<Bytes>> {
        if let Some(sockets) = &self.sockets
            && let Some(place) = sockets.place(request.uri().path())
        {
            return Arc::clone(sockets).answer(place, request, source_ip, stop).await;
        }
        let request_id = ids::gateway_request_id();
        match self.pass_on(request, source_ip, &request_id).await {
            Ok(response) => response,
            Err(own) => own.response(&request_id),
        }
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        source_ip: IpAddr,
        request_id: &str,
    ) -> Result<Response<Full<Bytes>>, Own> {
        let (head, body) = request.into_parts();
        let path = percent_decode_str(head.uri.path()).decode_utf8().map_err(|_| Own::BadRequest)?;
        if !host_is_sound(&head.headers) {
            return Err(Own::BadRequest);
        }
        let (route, path_variables) = self.routes.find(&head.method, &path).ok_or(Own::NotFound)?;
        let caller = match &route.access {
            Access::Anyone => None,
            Access::Authorized { scopes } => {
                Some((caller(&head.headers).ok_or(Own::Unauthorized)?, scopes.as_slice()))
            }
        };
        let body = read(body).await?;
        let place = event::Place { account_id: &self.account_id, api_id: &self.api_id, port: self.port };
        let incoming = event::Incoming {
            method: &head.method,
            uri: &head.uri,
            version: head.version,
            headers: &head.headers,
            body: &body,
            source_ip,
            request_id,
            route_key: route.key(),
            path: &path,
            path_variables,
            caller,
        };
        let event = event::build(&place, incoming).map_err(|_| Own::InternalServerError)?;
        let invoked = tokio::time::timeout(self.integration_timeout, route.function.invoke(event)).await;
        let Ok(answer) = invoked else { return Err(Own::ServiceUnavailable) };
        let answer = answer.map_err(|error| own_answer_to(&error, route))?;
        response::from_answer(&answer, request_id).map_err(|error| {
            tracing::warn!(function.name = route.function.name(), route.key = route.key(), %error, "answered 500");
            Own::InternalServerError
        })
    }
}

/// What an HTTP API tells its client when the function gave no answer.
fn own_answer_to(error: &InvokeError, route: &Route) -> Own {
    match error {
        InvokeError::Throttled { .. } | InvokeError::Stopped => Own::ServiceUnavailable,
        InvokeError::PayloadTooLarge { .. } => Own::TooLarge,
        InvokeError::Unhandled { .. }
        | InvokeError::InitFailed { .. }
        | InvokeError::TimedOut { .. }
        | InvokeError::Crashed { .. } => {
            tracing::warn!(function.name = route.function.name(), route.key = route.key(), %error, "answered 500");
            Own::InternalServerError
        }
    }
}

/// The authorizer's part: the bearer token is the caller's name, 1 to 64 of `A-Z a-z 0-9 _ -`.
fn caller(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let sound = (1..=64).contains(&token.len()) && token.bytes().all(allowed);
    (sound && scheme.eq_ignore_ascii_case("bearer")).then_some(token)
}

async fn read(body: Incoming) -> Result<Bytes, Own> {
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(Own::TooLarge);
    }
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Own::TooLarge),
        Err(_) => Err(Own::BadRequest),
    }
}

/// A `Host` that is surely part of a valid URL: on AWS nothing else arrives at a function, because the name must be
/// the API's. `lambda_http` builds a URL from it and panics when it cannot.
fn host_is_sound(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let (name, rest) = match host.find(']') {
        Some(end) => host.split_at(end + 1),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = rest.strip_prefix(':').unwrap_or(rest);
    name_is_sound(name) && (port.is_empty() || port.parse::<u16>().is_ok())
}

fn name_is_sound(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        let encoded = label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && !encoded && label.bytes().all(allowed)
    };
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    // URLs read a name that ends in a number as an IPv4 address.
    let is_name =
        labels.last().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_alphabetic()));
    name.parse::<Ipv4Addr>().is_ok() || (is_name && labels.into_iter().all(label))
}

/// Headers that belong to one connection (RFC 9110, 7.6.1) and are not passed on.
fn hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    const ALWAYS: [&str; 9] = [
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let named = || {
        let connection =
            headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
        connection
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
    };
    ALWAYS.contains(&name.as_str()) || named()
}
