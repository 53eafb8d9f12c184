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
        let read = timeout_at(deadline, self.read(connection, response)).await;
        let mut raw = read
            .map_err(|_| timed_out())?
            .map_err(|refusal| DrawError::Refused(redacted(refusal, secret)))?;
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
            match timeout_at(deadline, idle.send(call)).await.map_err(|_| timed_out())? {
                Ok(response) => return Ok((idle, response)),
                Err(SendError::Lost) => return Err(lost()),
                Err(SendError::NotSent(unsent)) => call = *unsent,
            }
        }
        let opened = timeout_at(deadline, self.connections.open()).await;
        let mut connection = opened
            .map_err(|_| not_sent("no connection in time"))?
            .map_err(|error| not_sent(&error.to_string()))?;
        match timeout_at(deadline, connection.send(call)).await.map_err(|_| timed_out())? {
            Ok(response) => Ok((connection, response)),
            Err(SendError::Lost) => Err(lost()),
            Err(SendError::NotSent(_)) => Err(not_sent("the connection closed before the request")),
        }
    }

    async fn read(&self, connection: Connection, response: Response<Incoming>) -> Result<RawImage, Refusal> {
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let read = read_error(&mut body).await;
            if body.is_end_stream() {
                self.connections.give_back(connection).await;
            }
            let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(error_body::refusal(head.status, retry_after, &read));
        }
        let answer = read_answer(&mut body).await?;
        self.connections.give_back(connection).await;
        answer.finish()
    }
}

/// As much of an error's body as comes, up to the limit: what the status says counts even when the rest is lost.
async fn read_error(body: &mut Incoming) -> Bytes {
    let mut read = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        read.extend_from_slice(&data);
        if read.len() > error_body::ERROR_BYTES_MAX {
            break;
        }
    }
    read.freeze()
}

async fn read_answer(body: &mut Incoming) -> Result<Answer, Refusal> {
    let mut answer = Answer::new(body.size_hint().exact());
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::Unavailable { detail: CONNECTION_LOST.to_owned() })?;
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

const CONNECTION_LOST: &str = "the connection was lost";

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

fn lost() -> DrawError {
    DrawError::Refused(Refusal::Unavailable { detail: CONNECTION_LOST.to_owned() })
}

fn timed_out() -> DrawError {
    DrawError::Refused(Refusal::Unavailable { detail: "no answer in time".to_owned() })
}
