//! One provider's API at its base URL. Each request is exactly one HTTP attempt.

use bytes::{Bytes, BytesMut};
use darkroom_core::answer::Refusal;
use darkroom_core::key::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::answer::{RawImage, ReadAnswer, Reading};
use super::connection::{ConnectError, Connection, Connections, SendError};
use super::json_scan::Scanner;
use crate::DrawError;
use crate::base_url::BaseUrl;

/// A reply without a picture is read this far; the vendors' errors are below 4 KB.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A request that was not sent yet.
type Call = Request<Full<Bytes>>;

/// The header that proves who calls. Its value is never shown.
pub(crate) struct KeyHeader {
    name: HeaderName,
    value: HeaderValue,
}

impl KeyHeader {
    /// A header whose value contains a secret.
    pub(crate) fn new(name: HeaderName, value: &str) -> Result<Self, DrawError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| unwritable())?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// An answer without a picture, or what came of it before it broke off or grew too long.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A provider's API.
#[derive(Debug)]
pub(crate) struct Endpoint {
    base: BaseUrl,
    connections: Connections,
}

impl Endpoint {
    /// Opens no connection yet.
    pub(crate) fn new(base: BaseUrl) -> Self {
        Self { connections: Connections::new(&base), base }
    }

    /// Opens a connection for the next request.
    pub(crate) async fn warm(&self) -> Result<(), ConnectError> {
        self.connections.warm().await
    }

    /// `GET` of a path below the base URL.
    pub(crate) fn get(&self, path: &str, key: Option<KeyHeader>) -> Result<Call, DrawError> {
        self.call(Method::GET, path, key, Bytes::new())
    }

    /// `POST` of a JSON body to a path below the base URL.
    pub(crate) fn post(
        &self,
        path: &str,
        key: Option<KeyHeader>,
        body: &impl Serialize,
    ) -> Result<Call, DrawError> {
        let body = serde_json::to_vec(body).map_err(|_| unwritable())?;
        let mut call = self.call(Method::POST, path, key, Bytes::from(body))?;
        call.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(call)
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<KeyHeader>,
        body: Bytes,
    ) -> Result<Call, DrawError> {
        let mut call = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base.path()))
            .header(header::HOST, self.base.authority())
            .header(header::USER_AGENT, concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .body(Full::from(body))
            .map_err(|_| unwritable())?;
        if let Some(KeyHeader { name, value }) = key {
            call.headers_mut().insert(name, value);
        }
        Ok(call)
    }

    /// Sends a call and reads the picture out of its answer. Nothing that it returns contains the key.
    pub(crate) async fn picture<R: ReadAnswer>(
        &self,
        call: Call,
        secret: Option<&Secret>,
        deadline: Instant,
    ) -> Result<RawImage, DrawError> {
        let (connection, response) = self.send(call, deadline).await?;
        let read = self.read::<R>(connection, response, deadline).await;
        let mut raw = read.map_err(|refusal| DrawError::Refused(redacted(refusal, secret)))?;
        raw.drawn_by = raw.drawn_by.filter(|name| !shows(name, secret));
        Ok(raw)
    }

    /// Sends a request whose answer holds no picture.
    pub(crate) async fn reply(&self, call: Call, deadline: Instant) -> Result<Reply, DrawError> {
        let (connection, response) = self.send(call, deadline).await?;
        let (head, body) = response.into_parts();
        let body = self.short_body(connection, body, deadline).await;
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// Sends a request that draws nothing: does the provider take the key?
    ///
    /// A probe names no model, so an answer that would otherwise be about one tells that the base URL is wrong.
    pub(crate) async fn probe<R: ReadAnswer>(
        &self,
        call: Call,
        secret: Option<&Secret>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let reply = self.reply(call, deadline).await.map_err(DrawError::into_refusal)?;
        if !reply.status.is_success() {
            return Err(match R::refusal(reply.status, &reply.headers, &reply.body) {
                Refusal::ModelRetired => unavailable(&format!("HTTP_{}", reply.status.as_u16())),
                refusal => redacted(refusal, secret),
            });
        }
        // A 200 with a page, of a portal or of another server at that address, is no answer. A list may be longer than
        // what was read: its beginning is JSON all the same.
        let json = reply.body.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first))
            && Scanner::new().push(&reply.body, &mut |_| {}).is_ok();
        if json { Ok(()) } else { Err(unavailable("the answer is not JSON")) }
    }

    /// Sends the call once. An idle connection that turns out to be closed before a byte was written is not a call.
    async fn send(
        &self,
        mut call: Call,
        deadline: Instant,
    ) -> Result<(Connection, Response<Incoming>), DrawError> {
        if let Some(mut idle) = self.connections.take_idle() {
            match exchange(&mut idle, call, deadline).await? {
                Sent::Answered(response) => return Ok((idle, response)),
                Sent::Not(unsent) => call = *unsent,
            }
        }
        let opened = timeout_at(deadline, self.connections.open()).await;
        let mut connection = opened
            .map_err(|_| not_sent("no connection in time"))?
            .map_err(|error| not_sent(&error.to_string()))?;
        match exchange(&mut connection, call, deadline).await? {
            Sent::Answered(response) => Ok((connection, response)),
            Sent::Not(_) => Err(not_sent("the connection closed before the request")),
        }
    }

    async fn read<R: ReadAnswer>(
        &self,
        connection: Connection,
        response: Response<Incoming>,
        deadline: Instant,
    ) -> Result<RawImage, Refusal> {
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let read = self.short_body(connection, body, deadline).await;
            return Err(R::refusal(head.status, &head.headers, &read));
        }
        let answer = timeout_at(deadline, read_answer::<R>(&mut body)).await.map_err(|_| no_answer())??;
        self.connections.give_back(connection).await;
        answer.finish()
    }

    /// As much of a body as comes, up to the limit. What the status says counts even when the rest is lost; the connection is kept
    /// when there is no rest.
    async fn short_body(&self, connection: Connection, mut body: Incoming, deadline: Instant) -> Bytes {
        let mut read = BytesMut::new();
        while read.len() <= REPLY_BYTES_MAX {
            match timeout_at(deadline, body.frame()).await {
                Ok(None) => {
                    self.connections.give_back(connection).await;
                    break;
                }
                Ok(Some(Ok(frame))) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Ok(Some(Err(_))) | Err(_) => break,
            }
        }
        read.freeze()
    }
}

/// What became of a request.
enum Sent {
    /// The head of the answer.
    Answered(Response<Incoming>),
    /// Not a byte of it left; here it is again.
    Not(Box<Call>),
}

/// Sends a request and waits for the head of its answer.
async fn exchange(connection: &mut Connection, call: Call, deadline: Instant) -> Result<Sent, DrawError> {
    match timeout_at(deadline, connection.send(call)).await {
        Ok(Ok(response)) => Ok(Sent::Answered(response)),
        Ok(Err(SendError::NotSent(unsent))) => Ok(Sent::Not(unsent)),
        Ok(Err(SendError::Lost)) => Err(DrawError::Refused(connection_lost())),
        Err(_) => Err(DrawError::Refused(no_answer())),
    }
}

async fn read_answer<R: ReadAnswer>(body: &mut Incoming) -> Result<Reading<R>, Refusal> {
    let mut answer = Reading::new(body.size_hint().exact());
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| connection_lost())?;
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        if read > R::BODY_BYTES_MAX {
            return Err(Refusal::NoImage { detail: "the answer is too long".to_owned() });
        }
        answer.push(&data)?;
    }
    Ok(answer)
}

/// Only enumerated words are kept of an answer, and a key could look like one.
fn redacted(mut refusal: Refusal, secret: Option<&Secret>) -> Refusal {
    if let Refusal::ContentBlocked { detail }
    | Refusal::NoImage { detail }
    | Refusal::InvalidRequest { detail }
    | Refusal::Unavailable { detail } = &mut refusal
        && shows(detail, secret)
    {
        "REDACTED".clone_into(detail);
    }
    refusal
}

fn shows(text: &str, secret: Option<&Secret>) -> bool {
    secret.is_some_and(|secret| text.contains(secret.reveal()))
}

fn unwritable() -> DrawError {
    not_sent("the request could not be written as HTTP")
}

/// Nothing was sent.
pub(crate) fn not_sent(detail: &str) -> DrawError {
    DrawError::NotSent { detail: detail.to_owned() }
}

/// It failed, or something between us and it.
pub(crate) fn unavailable(detail: &str) -> Refusal {
    Refusal::Unavailable { detail: detail.to_owned() }
}

fn connection_lost() -> Refusal {
    unavailable("the connection was lost")
}

fn no_answer() -> Refusal {
    unavailable("no answer in time")
}
