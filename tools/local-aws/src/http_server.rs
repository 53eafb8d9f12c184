//! Serving one router on one loopback port until told to stop.

use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::StartError;

/// How long requests under way may take to finish once a stop was asked for.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Binds 127.0.0.1 at `port` (0: any).
pub(crate) async fn bind(service: &'static str, port: u16) -> Result<TcpListener, StartError> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|source| StartError::Port { service, port, source })
}

/// `http://127.0.0.1:PORT` of a listener.
pub(crate) fn endpoint(service: &'static str, listener: &TcpListener) -> Result<String, StartError> {
    let address = listener.local_addr().map_err(|source| StartError::Port { service, port: 0, source })?;
    Ok(format!("http://{address}"))
}

/// A server under way.
pub(crate) struct HttpServer {
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl HttpServer {
    pub(crate) fn start(service: &'static str, listener: TcpListener, router: Router) -> Self {
        let (stop, stopped) = oneshot::channel();
        let listener = listener.tap_io(move |connection| {
            // A body that is streamed behind its headers must not wait for an acknowledgement of them.
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(service, %error, "a connection may be slow");
            }
        });
        let running = tokio::spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
                // A dropped sender means the same as a sent stop.
                let _ = stopped.await;
            });
            if let Err(error) = serving.await {
                tracing::error!(service, %error, "the server ended");
            }
        });
        Self { stop, running }
    }

    /// Lets requests under way finish, for a while, and closes the port.
    pub(crate) async fn stop(self) {
        // The server may have ended already; then there is nobody to tell.
        let _ = self.stop.send(());
        let abort = self.running.abort_handle();
        if tokio::time::timeout(STOP_PATIENCE, self.running).await.is_err() {
            abort.abort();
        }
    }
}
