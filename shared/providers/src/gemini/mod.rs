//! Google's Gemini API: `POST {base}/v1beta/models/{model}:generateContent` with the key in `x-goog-api-key`.

mod answer;
mod error_body;
mod request;

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::key::Secret;
use http::HeaderName;
use tokio::time::Instant;

use self::answer::Reader;
use self::request::Body;
use crate::base_url::BaseUrl;
use crate::wire::{ConnectError, Endpoint, KeyHeader};
use crate::{DrawError, DrawRequest, DrawnImage, needed};

/// The Gemini API at one base URL.
#[derive(Debug)]
pub struct Gemini {
    endpoint: Endpoint,
}

impl Gemini {
    pub(crate) fn new(base: BaseUrl) -> Self {
        Self { endpoint: Endpoint::new(base) }
    }

    pub(crate) async fn warm(&self) -> Result<(), ConnectError> {
        self.endpoint.warm().await
    }

    pub(crate) async fn draw(
        &self,
        request: DrawRequest<'_>,
        timeout: Duration,
    ) -> Result<DrawnImage, DrawError> {
        let deadline = Instant::now() + timeout;
        let secret = needed(request.secret)?;
        let path = format!("/v1beta/models/{}:generateContent", request.model);
        let call = self.endpoint.post(&path, Some(key_header(secret)?), &Body::of(&request))?;
        let raw = self.endpoint.picture::<Reader>(call, Some(secret), deadline).await?;
        raw.checked(request.model).await.map_err(DrawError::Refused)
    }

    /// Lists one model: it costs nothing, and every refusal of the key shows.
    pub(crate) async fn probe(&self, secret: Option<&Secret>, timeout: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + timeout;
        let call = needed(secret)
            .and_then(key_header)
            .and_then(|key| self.endpoint.get("/v1beta/models?pageSize=1", Some(key)))
            .map_err(DrawError::into_refusal)?;
        self.endpoint.probe::<Reader>(call, secret, deadline).await
    }
}

fn key_header(secret: &Secret) -> Result<KeyHeader, DrawError> {
    KeyHeader::new(HeaderName::from_static("x-goog-api-key"), secret.reveal())
}
