//! Connections of a stand-in: HTTP/1.1 on the loopback interface, answers in chunks as the real APIs write them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// A request's body is read this far.
const REQUEST_BYTES_MAX: usize = 20 * 1024 * 1024;

pub(crate) type Body = StreamBody<stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>>;
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Answers a request; notifying breaks its connection.
pub(crate) type Call<S> = fn(Request<Incoming>, Arc<Mutex<S>>, Arc<Notify>) -> Answering;

/// What a stand-in does.
pub(crate) struct Service<S> {
    /// A connection was opened.
    pub(crate) connected: fn(&mut S),
    /// A request came.
    pub(crate) call: Call<S>,
}

/// A stand-in's server on the loopback interface. It has a thread of its own: a provider is another machine, and must not be
/// late in counting a call because the local system is busy. Dropped, it stops and its connections break.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts at this port; 0 takes any free one.
    pub(crate) fn start<S: Send + 'static>(
        port: u16,
        state: Arc<Mutex<S>>,
        service: Service<S>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, state, service) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:<port>`
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It panicked, which its own thread has told.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Takes connections for ever; they end with it.
async fn accept<S: Send + 'static>(listener: TcpListener, state: Arc<Mutex<S>>, service: Service<S>) {
    let mut connections = JoinSet::new();
    loop {
        // A failed accept is the client's loss: it sees a reset.
        if let Ok((stream, _)) = listener.accept().await {
            (service.connected)(&mut lock(&state));
            connections.spawn(serve(stream, Arc::clone(&state), service.call));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S: Send + 'static>(stream: TcpStream, state: Arc<Mutex<S>>, call: Call<S>) {
    drop(stream.set_nodelay(true));
    let reset = Arc::new(Notify::new());
    let service = {
        let reset = Arc::clone(&reset);
        service_fn(move |request| call(request, Arc::clone(&state), Arc::clone(&reset)))
    };
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // The client sees whatever went wrong.
        _ = &mut connection => {}
        () = reset.notified() => {
            // Closing with zero linger sends RST instead of FIN.
            let stream = connection.into_parts().io.into_inner();
            drop(stream.set_zero_linger());
        }
    }
}

/// The whole body of a request; `None` when it is too long or breaks off.
pub(crate) async fn read(body: Incoming) -> Option<Bytes> {
    let read = Limited::new(body, REQUEST_BYTES_MAX).collect().await;
    read.ok().map(http_body_util::Collected::to_bytes)
}

/// Whether a JSON object has no other members than these.
pub(crate) fn has_only(object: &Value, names: &[&str]) -> bool {
    object.as_object().is_some_and(|members| members.keys().all(|name| names.contains(&name.as_str())))
}

/// An answer in one chunk.
pub(crate) fn json(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(chunked(vec![Ok(Frame::data(body))]));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

pub(crate) fn chunked(frames: Vec<io::Result<Frame<Bytes>>>) -> Body {
    StreamBody::new(stream::iter(frames))
}

pub(crate) fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
