//! OpenAI's Images API, and whatever else answers as it does: `POST {base}/v1/images/generations` with the key as a bearer token.
//!
//! Sources: the parameters and their values are `ImageGenerateParams` of openai-python; sizes beyond the three fixed ones are those
//! that resellers of `gpt-image-2` name (2026; not read at OpenAI itself, and taken for its successors too): both sides multiples
//! of 16, no side above 3,840, long to short at most 3 : 1, 655,360 to 8,294,400 pixels.

mod answer;
mod error_body;

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::id::ModelName;
use darkroom_core::key::Secret;
use darkroom_core::request::Shape;
use http::header;
use serde_json::json;
use tokio::time::Instant;

use self::answer::Reader;
use crate::base_url::BaseUrl;
use crate::dimensions::dimensions;
use crate::wire::{ConnectError, Endpoint, KeyHeader};
use crate::{DrawError, DrawRequest, DrawnImage, needed};

/// An Images API at one base URL.
#[derive(Debug)]
pub struct OpenAi {
    endpoint: Endpoint,
}

impl OpenAi {
    pub(crate) fn new(base: BaseUrl) -> Self {
        Self { endpoint: Endpoint::new(base) }
    }

    pub(crate) async fn warm(&self) -> Result<(), ConnectError> {
        self.endpoint.warm().await
    }

    /// `quality` is not sent: it would be one more thing that other servers refuse, and the API's own choice is `auto`.
    pub(crate) async fn draw(
        &self,
        request: DrawRequest<'_>,
        timeout: Duration,
    ) -> Result<DrawnImage, DrawError> {
        let deadline = Instant::now() + timeout;
        let secret = needed(request.secret)?;
        let (width, height) = size(request.model, request.shape);
        let body = json!({
            "model": request.model.as_str(),
            "prompt": request.prompt.reveal(),
            "size": format!("{width}x{height}"),
            "n": 1,
            "output_format": "png",
        });
        let call = self.endpoint.post("/v1/images/generations", Some(key_header(secret)?), &body)?;
        let raw = self.endpoint.picture::<Reader>(call, Some(secret), deadline).await?;
        raw.checked(request.model).await.map_err(DrawError::Refused)
    }

    /// Lists the models: it costs nothing. It does not tell whether the project may draw with one of them.
    pub(crate) async fn probe(&self, secret: Option<&Secret>, timeout: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + timeout;
        let call = needed(secret)
            .and_then(key_header)
            .and_then(|key| self.endpoint.get("/v1/models", Some(key)))
            .map_err(DrawError::into_refusal)?;
        self.endpoint.probe::<Reader>(call, secret, deadline).await
    }
}

fn key_header(secret: &Secret) -> Result<KeyHeader, DrawError> {
    KeyHeader::new(header::AUTHORIZATION, &format!("Bearer {}", secret.reveal()))
}

/// The size that a model is asked for.
///
/// The first generation (`gpt-image-1`, `-1-mini`, `-1.5`, `chatgpt-image-latest`) knows three: square, 3 : 2 and 2 : 3; any other
/// shape gets the one with its orientation. These are named here because no further model will be one of them: everything
/// later takes the shape as it is.
fn size(model: &ModelName, shape: Shape) -> (u32, u32) {
    let first_generation =
        ["gpt-image-1", "chatgpt-image"].iter().any(|family| model.as_str().starts_with(family));
    if !first_generation {
        return dimensions(shape);
    }
    let (across, up) = shape.aspect_ratio.terms();
    match across.cmp(&up) {
        std::cmp::Ordering::Less => (1024, 1536),
        std::cmp::Ordering::Equal => (1024, 1024),
        std::cmp::Ordering::Greater => (1536, 1024),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use darkroom_core::request::{AspectRatio, ImageSize};

    use super::*;

    fn sizes(model: &str) -> Vec<(Shape, u32, u32)> {
        let model = ModelName::parse(model).unwrap();
        let shapes = AspectRatio::ALL
            .into_iter()
            .flat_map(|aspect_ratio| ImageSize::ALL.map(|size| Shape { aspect_ratio, size }));
        shapes.map(|shape| (shape, size(&model, shape).0, size(&model, shape).1)).collect()
    }

    #[test]
    fn each_size_is_one_that_the_api_takes() {
        for model in ["gpt-image-2", "gpt-image-2.6-flare", "some-other-model"] {
            for (shape, width, height) in sizes(model) {
                let (long, short) = (width.max(height), width.min(height));
                assert!(width.is_multiple_of(16) && height.is_multiple_of(16), "{shape:?}");
                assert!(long <= 3_840 && long <= 3 * short, "{shape:?}");
                assert!((655_360..=8_294_400).contains(&(width * height)), "{shape:?}");
                let (across, up) = shape.aspect_ratio.terms();
                let ratio = f64::from(width * up) / f64::from(height * across);
                assert!((0.97..=1.03).contains(&ratio), "{shape:?}: {width} × {height}");
            }
        }
    }

    #[test]
    fn the_first_generation_gets_one_of_its_three_sizes() {
        for model in ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5-2025-12-16", "chatgpt-image-latest"] {
            for (shape, width, height) in sizes(model) {
                let (across, up) = shape.aspect_ratio.terms();
                let ratio = f64::from(width) / f64::from(height);
                assert_eq!((width > height, width < height), (across > up, across < up), "{shape:?}");
                assert!([1.0, 1.5, 1.0 / 1.5].contains(&ratio), "{model} {shape:?}");
                assert_eq!(width.min(height), 1024);
            }
        }
    }
}
