//! The Lambda Runtime API, version 2018-06-01: what a function's process talks to.
//!
//! Each environment has its own listener, because `AWS_LAMBDA_RUNTIME_API` is a host and a port. Requests become
//! [`Call`]s to the environment that owns the listener; nothing is decided here.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::error::InvokeError;

/// Pause after a connection that could not be accepted. The process tries again until its environment's time is up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const ROOT: &str = "/2018-06-01/runtime/";

/// Lambda's limit for a synchronous answer, and (as Lambda counts it) for an event: 6 MiB and 100 bytes.
pub(crate) const PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 100;

/// What a runtime asks of its environment.
pub(crate) enum Call {
    /// `GET /invocation/next`: answered when there is an invocation.
    Next(oneshot::Sender<Delivery>),
    /// `POST /invocation/{id}/response` or `/error`. Accepted when `request_id` is the one in hand.
    Answer { request_id: String, answer: Result<Bytes, InvokeError>, accepted: oneshot::Sender<bool> },
    /// `POST /init/error`.
    InitError(String),
}

/// An invocation on its way into the process.
pub(crate) struct Delivery {
    pub(crate) request_id: String,
    pub(crate) deadline_millis: u64,
    pub(crate) function_arn: String,
    pub(crate) trace_id: String,
    pub(crate) payload: Bytes,
}

/// The listener of one environment; it stops listening when dropped. Connections end with the process that opened
/// them.
pub(crate) struct RuntimeApi {
    pub(crate) address: SocketAddr,
    _listening: oneshot::Sender<Infallible>,
}

impl RuntimeApi {
    pub(crate) async fn listen(calls: mpsc::Sender<Call>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (listening, ended) = oneshot::channel();
        tokio::spawn(accept(listener, calls, ended));
        Ok(Self { address, _listening: listening })
    }
}

async fn accept(listener: TcpListener, calls: mpsc::Sender<Call>, mut ended: oneshot::Receiver<Infallible>) {
    loop {
        // Connections before the end: what a process sent before it ended counts.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = &mut ended => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, calls.clone()))),
            // Out of files, as a rule: the next try would fail at once and keep a core busy.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, calls: mpsc::Sender<Call>) {
    // Without it the kernel may hold an answer back for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, calls.clone()));
    // Half-closed connections are read to their end: an answer counts even when the process has ended since. An
    // error is a connection the process has dropped; its environment hears of it as an exit.
    let mut http = hyper::server::conn::http1::Builder::new();
    let _ = http.half_close(true).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    calls: mpsc::Sender<Call>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    Ok(match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&calls).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            let answer = read_response(request).await;
            take_answer(&calls, (*id).to_owned(), answer).await
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            let answer = Err(read_error(request).await);
            take_answer(&calls, (*id).to_owned(), answer).await
        }
        (&Method::POST, ["init", "error"]) => {
            let report = Call::InitError(read_error(request).await.to_string());
            if calls.send(report).await.is_ok() { accepted() } else { gone() }
        }
        _ => refused(StatusCode::NOT_FOUND, "NotFound", "the Runtime API has no such path"),
    })
}

async fn next(calls: &mpsc::Sender<Call>) -> Response<Full<Bytes>> {
    let (reply, delivery) = oneshot::channel();
    if calls.send(Call::Next(reply)).await.is_err() {
        return gone();
    }
    let Ok(delivery) = delivery.await else { return gone() };
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .header("lambda-runtime-aws-request-id", delivery.request_id)
        .header("lambda-runtime-deadline-ms", delivery.deadline_millis)
        .header("lambda-runtime-invoked-function-arn", delivery.function_arn)
        .header("lambda-runtime-trace-id", delivery.trace_id)
        .body(Full::new(delivery.payload))
        .unwrap_or_else(|_| {
            refused(StatusCode::INTERNAL_SERVER_ERROR, "Headers", "a header could not be built")
        })
}

async fn take_answer(
    calls: &mpsc::Sender<Call>,
    request_id: String,
    answer: Result<Bytes, InvokeError>,
) -> Response<Full<Bytes>> {
    let too_large =
        matches!(&answer, Err(InvokeError::Unhandled { error_type, .. }) if error_type == TOO_LARGE);
    let (reply, decision) = oneshot::channel();
    if calls.send(Call::Answer { request_id, answer, accepted: reply }).await.is_err() {
        return gone();
    }
    match decision.await {
        Ok(true) if too_large => {
            refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "answer too large")
        }
        Ok(true) => accepted(),
        Ok(false) => refused(StatusCode::BAD_REQUEST, "InvalidRequestID", "this invocation is not in hand"),
        Err(_) => gone(),
    }
}

/// Lambda's own error type for an answer over the limit.
const TOO_LARGE: &str = "Function.ResponseSizeTooLarge";

async fn read_response(request: Request<Incoming>) -> Result<Bytes, InvokeError> {
    let failed =
        |error_type: &str, message: String| InvokeError::Unhandled { error_type: error_type.into(), message };
    match Limited::new(request.into_body(), PAYLOAD_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(failed(TOO_LARGE, format!("the answer is larger than {PAYLOAD_BYTES} bytes")))
        }
        Err(error) => Err(failed("Runtime.TruncatedResponse", format!("the answer broke off: {error}"))),
    }
}

/// The error document of the Runtime API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ErrorReport {
    error_type: String,
    error_message: String,
}

impl Default for ErrorReport {
    fn default() -> Self {
        Self { error_type: "Unhandled".to_owned(), error_message: "the function gave no message".to_owned() }
    }
}

async fn read_error(request: Request<Incoming>) -> InvokeError {
    let body = match read_response(request).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    let report = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorReport {
        error_message: String::from_utf8_lossy(&body).into_owned(),
        ..ErrorReport::default()
    });
    InvokeError::Unhandled { error_type: report.error_type, message: report.error_message }
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn accepted() -> Response<Full<Bytes>> {
    respond(StatusCode::ACCEPTED, &json!({ "status": "OK" }))
}

fn refused(status: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    respond(status, &json!({ "errorType": error_type, "errorMessage": message }))
}

/// The environment is being stopped: whatever the process asks, it has been given up.
fn gone() -> Response<Full<Bytes>> {
    refused(StatusCode::GONE, "EnvironmentStopped", "this environment is being stopped")
}
