//! The way between the workers and the image API: HTTP over streams in memory, where a fault may stand before each call.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::Notify;

use super::call::{Call, Service};
use super::check::Check;
use super::fault::Fault;
use super::painter::paint;
use super::process::Process;
use super::stores::Stores;
use super::time::pass;
use crate::stand_in::connections::{Body, read};
use crate::stand_in_gemini::{Behaviour, Gemini};

/// Half of a round trip.
const ONE_WAY: Duration = Duration::from_millis(20);
/// A stream holds so much that was not read yet.
const BUFFER_BYTES: usize = 64 * 1024;

/// The network of one run.
#[derive(Clone)]
pub(crate) struct Network {
    gemini: Gemini,
    stores: Arc<Stores>,
    check: Arc<Check>,
    processes: Arc<Mutex<Vec<Process>>>,
}

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
}

impl Network {
    /// The one network of this thread's run.
    pub(crate) fn begin(gemini: Gemini, stores: &Arc<Stores>, check: &Arc<Check>) -> Self {
        darkroom_providers::simulate(dial, paint);
        let network =
            Self { gemini, stores: Arc::clone(stores), check: Arc::clone(check), processes: Arc::default() };
        NETWORK.replace(Some(network.clone()));
        network
    }

    /// Where a process finds the API: its port tells who calls.
    pub(crate) fn base_url(&self, process: &Process) -> String {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push(process.clone());
        format!("http://127.0.0.1:{}", process.number)
    }

    fn process(&self, port: u16) -> Option<Process> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.iter().find(|process| process.number == port && !process.is_dead()).cloned()
    }

    async fn serve(self, process: Process, stream: DuplexStream) {
        let reset = Arc::new(Notify::new());
        let service = {
            let reset = Arc::clone(&reset);
            service_fn(move |request| self.clone().carry(process.clone(), request, Arc::clone(&reset)))
        };
        tokio::select! {
            biased;
            // The client sees whatever went wrong.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
            () = reset.notified() => {}
        }
    }

    async fn carry(
        self,
        process: Process,
        request: Request<Incoming>,
        reset: Arc<Notify>,
    ) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = read(body).await;
        let call = Call::named(Service::Provider, if body.is_some() { "Draw" } else { "Ask" });
        let fault = self.stores.step(process.function, &call);
        pass(ONE_WAY).await;
        match fault {
            Some(Fault::KilledBefore) => {
                process.kill();
                return pending().await;
            }
            Some(Fault::Dropped) => {
                reset.notify_one();
                return pending().await;
            }
            _ => self.arrived(&process, body.as_ref()).await,
        }
        let refusal = match fault {
            Some(Fault::Throttled) => Gemini::refusal(&Behaviour::BareRateLimit),
            Some(Fault::Failed) => Gemini::refusal(&Behaviour::Status(503)),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Ok(refusal);
        }
        let answer = self.gemini.answer(head, body, &reset).await;
        pass(ONE_WAY).await;
        match fault {
            Some(Fault::KilledAfter) => process.kill(),
            Some(Fault::AnswerLost) => reset.notify_one(),
            Some(Fault::Late) => {}
            _ => return answer,
        }
        pending().await
    }

    async fn arrived(&self, process: &Process, body: Option<&Bytes>) {
        let Some(prompt) = body.and_then(|body| Gemini::prompt(body)) else { return };
        self.check.arrived(process, &prompt).await;
    }
}

fn dial(origin: &Uri) -> io::Result<DuplexStream> {
    let port = origin.port_u16().unwrap_or_default();
    let network = NETWORK.with_borrow(Clone::clone);
    let found = network.and_then(|network| Some((network.process(port)?, network)));
    let (process, network) = found.ok_or(io::ErrorKind::ConnectionRefused)?;
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    tokio::spawn(network.serve(process, far));
    Ok(near)
}
