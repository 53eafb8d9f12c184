//! HTTP/1.1 connections to one origin, kept open between calls.
//!
//! Less than a general client on purpose: it never retries, redirects or asks a proxy, it knows whether a byte of a request
//! left, and a connection can be opened before there is a request. One connection carries one call at a time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use darkroom_wire::{Sender, TlsError, tls_config};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower_service::Service as _;

use crate::base_url::BaseUrl;
use crate::simulation::simulated_dial;

/// Opening a connection, name look-up and TLS included, takes no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again: the far end and NAT gateways forget theirs after minutes.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Idle connections kept.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// A connection whose answer has been read is free well within this.
const TURN_AROUND: Duration = Duration::from_millis(50);

/// Why a connection could not be opened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The machine trusts nobody.
    #[error(transparent)]
    NoTls(TlsError),
    /// Name look-up, routing or the far end refused.
    #[error("the provider could not be reached: check its base URL and the way to it")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The far end did not prove who it is, or speaks no TLS.
    #[error("no TLS with the provider: check its base URL, and SSL_CERT_FILE if it has a root of its own")]
    Tls(#[source] io::Error),
    /// It took too long.
    #[error("the provider could not be reached within {} s: check its base URL and the way to it", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// An open connection that carries no call.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: Sender,
}

/// Why a request got no answer.
pub(crate) enum SendError {
    /// Not a byte of it left; here it is again.
    NotSent(Box<Request<Full<Bytes>>>),
    /// It may have arrived.
    Lost,
}

impl Connection {
    /// Sends a request and waits for the answer's head. The request's target is in origin form and it has a `Host`.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        self.sender.try_send_request(request).await.map_err(|mut error| {
            error.take_message().map_or(SendError::Lost, |request| SendError::NotSent(Box::new(request)))
        })
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// The connections to one origin.
#[derive(Debug)]
pub(crate) struct Connections {
    origin: Uri,
    /// `None` for plain HTTP to the machine itself.
    tls: Option<OnceCell<Arc<ClientConfig>>>,
    idle: Mutex<Vec<Idle>>,
}

impl Connections {
    /// Opens nothing yet.
    pub(crate) fn new(base: &BaseUrl) -> Self {
        Self {
            origin: base.origin().clone(),
            tls: base.is_tls().then(OnceCell::new),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The connection that was used last and is still good.
    pub(crate) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| !idle.connection.sender.is_closed() && idle.since.elapsed() < IDLE_MAX);
        idle.pop().map(|idle| idle.connection)
    }

    /// Takes back a connection whose answer was read to its end.
    pub(crate) async fn give_back(&self, mut connection: Connection) {
        // It is free a moment after the last byte, unless the far end closes it; then it is simply gone.
        if let Ok(Ok(())) = tokio::time::timeout(TURN_AROUND, connection.sender.ready()).await {
            self.keep(connection);
        }
    }

    /// Opens a connection for the next call.
    pub(crate) async fn warm(&self) -> Result<(), ConnectError> {
        let connection = self.open().await?;
        self.keep(connection);
        Ok(())
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<Connection, ConnectError> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.open_untimed())
            .await
            .map_err(|_| ConnectError::TimedOut)?
    }

    async fn open_untimed(&self) -> Result<Connection, ConnectError> {
        if let Some(dial) = simulated_dial() {
            let stream = dial(&self.origin).map_err(|error| ConnectError::Unreachable(Box::new(error)))?;
            return hand_shake(TokioIo::new(stream)).await;
        }
        let tls = match &self.tls {
            Some(cell) => Some(cell.get_or_try_init(tls_config).await.map_err(ConnectError::NoTls)?),
            None => None,
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let stream = connector
            .call(self.origin.clone())
            .await
            .map_err(|error| ConnectError::Unreachable(Box::new(error)))?;
        let Some(tls) = tls else { return hand_shake(stream).await };
        let host = self.origin.host().unwrap_or_default();
        let stream = darkroom_wire::tls(Arc::clone(tls), host, stream.into_inner())
            .await
            .map_err(ConnectError::Tls)?;
        hand_shake(TokioIo::new(stream)).await
    }
}

async fn hand_shake<T>(stream: T) -> Result<Connection, ConnectError>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let sender = darkroom_wire::hand_shake(stream).await;
    sender.map(|sender| Connection { sender }).map_err(|error| ConnectError::Unreachable(Box::new(error)))
}
