//! API Gateway's part: an HTTP API on loopback in front of functions.
//!
//! It does what an HTTP API with a JWT authorizer does, with one difference: the token is the user's name. What is
//! left out: CORS, custom domains, stages other than `$default`, request throttling.

mod event;
mod response;
mod route;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::error::InvokeError;
use crate::ids;
use response::Own;
pub use route::Route;
use route::{Access, Routes};

/// HTTP APIs take bodies of up to 10 MB. Source: API Gateway quotas.
const BODY_BYTES: usize = 10 * 1024 * 1024;

/// How long a client may take to send its headers.
const HEADER_LIMIT: Duration = Duration::from_secs(30);

/// What a gateway is.
pub struct GatewaySettings {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Told to functions.
    pub account_id: String,
    /// Told to functions.
    pub api_id: String,
    /// All routes; their order does not matter.
    pub routes: Vec<Route>,
    /// After so long the client gets 503 while the function goes on. HTTP APIs allow at most 30 s.
    pub integration_timeout: Duration,
}

impl GatewaySettings {
    /// A free port and 30 s.
    pub fn new(account_id: impl Into<String>, routes: Vec<Route>) -> Self {
        Self {
            port: 0,
            account_id: account_id.into(),
            api_id: "local".to_owned(),
            routes,
            integration_timeout: Duration::from_secs(30),
        }
    }
}

/// A running HTTP API.
pub struct Gateway {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    /// Closed when the last connection has ended.
    open: mpsc::Receiver<Infallible>,
}

struct Shared {
    account_id: String,
    api_id: String,
    port: u16,
    routes: Routes,
    integration_timeout: Duration,
}

impl Gateway {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(settings: GatewaySettings) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            account_id: settings.account_id,
            api_id: settings.api_id,
            port: address.port(),
            routes: Routes::new(settings.routes),
            integration_timeout: settings.integration_timeout,
        });
        let (stop, stopping) = watch::channel(false);
        let (held, open) = mpsc::channel(1);
        tokio::spawn(accept(listener, shared, stopping, held));
        Ok(Self { address, stop, open })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits up to `grace` for those under way.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(grace, self.open.recv()).await;
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
    held: mpsc::Sender<Infallible>,
) {
    loop {
        let accepted = tokio::select! {
            // A dropped gateway stops as well.
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(serve(stream, peer.ip(), Arc::clone(&shared), stopping.clone(), held.clone()));
            }
            Err(error) => {
                // Out of files, as a rule: the next try would fail at once and keep a core busy.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    source_ip: IpAddr,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
    held: mpsc::Sender<Infallible>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request, source_ip).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Errors here are the client's doing: it went away, or did not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopping.wait_for(|stop| *stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(held);
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, source_ip: IpAddr) -> Response<Full<Bytes>> {
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
        let answer = tokio::time::timeout(self.integration_timeout, route.function.invoke(event)).await;
        let answer = answer.unwrap_or_else(|_| {
            let after = self.integration_timeout;
            Err(InvokeError::TimedOut { after })
        });
        todo_marker(answer, request_id)
    }
}
