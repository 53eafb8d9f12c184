//! Google's Gemini API: `POST {base}/v1beta/models/{model}:generateContent` with the key in `x-goog-api-key`.

mod answer;
mod base64_stream;
mod connection;
mod error_body;
mod json_scan;
mod word;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use darkroom_core::answer::Refusal;
use darkroom_core::id::ModelName;
use darkroom_core::key::Secret;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use self::answer::{Answer, RawImage};
pub use self::connection::ConnectError;
use self::connection::{Connection, Connections, SendError};
use crate::base_url::BaseUrl;
use crate::{DrawError, DrawRequest, DrawnImage, image_check};

/// A body is read this far: one picture at its limit with two drafts before it, in base64.
const BODY_BYTES_MAX: usize = 3 * (IMAGE_BYTES_MAX / 3 * 4);

/// The Gemini API at one base URL.
#[derive(Debug)]
pub struct Gemini {
    base: BaseUrl,
    connections: Connections,
}

impl Gemini {
    pub(crate) fn new(base: BaseUrl) -> Self {
        Self { connections: Connections::new(&base), base }
    }

    pub(crate) async fn warm(&self) -> Result<(), ConnectError> {
        self.connections.warm().await
    }

    pub(crate) async fn draw(
        &self,
        request: DrawRequest<'_>,
        timeout: Duration,
    ) -> Result<DrawnImage, DrawError> {
        let Some(secret) = request.secret else {
            return Err(not_sent("no key was given for a provider that needs one"));
        };
        let raw = self.call(&request, secret, Instant::now() + timeout).await?;
        drawn(raw, request.model).await.map_err(DrawError::Refused)
    }

    /// One call. Nothing that it returns contains the key.
    async fn call(
        &self,
        request: &DrawRequest<'_>,
        secret: &Secret,
        deadline: Instant,
    ) -> Result<RawImage, DrawError> {
        let call = self.http_request(request, secret)?;
        let (connection, response) = self.send(call, deadline).await?;
        let read = self.read(connection, response, deadline).await;
        let mut raw = read.map_err(|refusal| DrawError::Refused(redacted(refusal, secret)))?;
        raw.model_version = raw.model_version.filter(|version| !version.contains(secret.reveal()));
        Ok(raw)
    }

    fn http_request(
        &self,
        request: &DrawRequest<'_>,
        secret: &Secret,
    ) -> Result<Request<Full<Bytes>>, DrawError> {
        let unsendable = |_| not_sent("the request could not be written as HTTP");
        let mut key = HeaderValue::from_str(secret.reveal()).map_err(|error| unsendable(error.into()))?;
        key.set_sensitive(true);
        let body = json!({
            "contents": [{"role": "user", "parts": [{"text": request.prompt.reveal()}]}],
            "generationConfig": {
                "responseModalities": ["TEXT", "IMAGE"],
                "imageConfig": {
                    "aspectRatio": request.shape.aspect_ratio.as_str(),
                    "imageSize": request.shape.size.as_str(),
                },
            },
        });
        Request::post(format!("{}/v1beta/models/{}:generateContent", self.base.path(), request.model))
            .header(header::HOST, self.base.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .header("x-goog-api-key", key)
            .body(Full::from(body.to_string()))
            .map_err(unsendable)
    }

    /// Sends the call once. An idle connection that turns out to be closed before a byte was written is not a call.
    async fn send(
        &self,
        mut call: Request<Full<Bytes>>,
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

    async fn read(
        &self,
        connection: Connection,
        response: Response<Incoming>,
        deadline: Instant,
    ) -> Result<RawImage, Refusal> {
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let (read, whole) = read_error(&mut body, deadline).await;
            if whole {
                self.connections.give_back(connection).await;
            }
            let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(error_body::refusal(head.status, retry_after, &read));
        }
        let answer = timeout_at(deadline, read_answer(&mut body)).await.map_err(|_| no_answer())??;
        self.connections.give_back(connection).await;
        answer.finish()
    }
}

/// What became of a request.
enum Sent {
    /// The head of the answer.
    Answered(Response<Incoming>),
    /// Not a byte of it left; here it is again.
    Not(Box<Request<Full<Bytes>>>),
}

/// Sends a request and waits for the head of its answer.
async fn exchange(
    connection: &mut Connection,
    call: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Sent, DrawError> {
    match timeout_at(deadline, connection.send(call)).await {
        Ok(Ok(response)) => Ok(Sent::Answered(response)),
        Ok(Err(SendError::NotSent(unsent))) => Ok(Sent::Not(unsent)),
        Ok(Err(SendError::Lost)) => Err(DrawError::Refused(connection_lost())),
        Err(_) => Err(DrawError::Refused(no_answer())),
    }
}

/// As much of an error's body as comes, up to the limit, and whether that is all of it. What the status says counts even when
/// the rest is lost.
async fn read_error(body: &mut Incoming, deadline: Instant) -> (Bytes, bool) {
    let mut read = BytesMut::new();
    loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(None) => return (read.freeze(), true),
            Ok(Some(Ok(frame))) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Ok(Some(Err(_))) | Err(_) => return (read.freeze(), false),
        }
        if read.len() > error_body::ERROR_BYTES_MAX {
            return (read.freeze(), false);
        }
    }
}

async fn read_answer(body: &mut Incoming) -> Result<Answer, Refusal> {
    let mut answer = Answer::new(body.size_hint().exact());
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| connection_lost())?;
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        if read > BODY_BYTES_MAX {
            return Err(Refusal::NoImage { detail: "the answer is too long".to_owned() });
        }
        answer.push(&data)?;
    }
    Ok(answer)
}

/// Checks the picture. Hashing up to 20 MB takes tens of milliseconds: not on a thread that serves others.
async fn drawn(raw: RawImage, model: &ModelName) -> Result<DrawnImage, Refusal> {
    let drawn_by = raw
        .model_version
        .and_then(|version| ModelName::parse(&version).ok())
        .unwrap_or_else(|| model.clone());
    let bytes = raw.bytes;
    let checked = tokio::task::spawn_blocking(move || image_check::check(bytes)).await;
    let unusable = |detail: String| Refusal::NoImage { detail };
    let image = checked
        .map_err(|_| unusable("the picture could not be checked".to_owned()))?
        .map_err(|fault| unusable(fault.to_string()))?;
    Ok(DrawnImage {
        bytes: image.bytes,
        sha256: image.sha256,
        width: image.width,
        height: image.height,
        format: image.format,
        drawn_by: drawn_by.into(),
    })
}

/// Only enumerated words are kept of an answer, and a key in capitals would look like one.
fn redacted(mut refusal: Refusal, secret: &Secret) -> Refusal {
    if let Refusal::ContentBlocked { detail }
    | Refusal::NoImage { detail }
    | Refusal::InvalidRequest { detail }
    | Refusal::Unavailable { detail } = &mut refusal
        && detail.contains(secret.reveal())
    {
        "REDACTED".clone_into(detail);
    }
    refusal
}

fn not_sent(detail: &str) -> DrawError {
    DrawError::NotSent { detail: detail.to_owned() }
}

fn connection_lost() -> Refusal {
    Refusal::Unavailable { detail: "the connection was lost".to_owned() }
}

fn no_answer() -> Refusal {
    Refusal::Unavailable { detail: "no answer in time".to_owned() }
}
