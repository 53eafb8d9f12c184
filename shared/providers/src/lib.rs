//! The only crate that calls image APIs.
//!
//! [`Providers`] is built once per process; [`Provider::draw`] makes exactly one call: no retries, no redirects and no
//! proxy from the environment, because each call costs money and the caller alone decides about the next one.
//! Whatever comes back from the network is checked and stripped before anyone sees it.

mod base_url;
mod gemini;
pub mod image_check;
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unreadable_literal,
    clippy::many_single_char_names,
    clippy::similar_names,
    reason = "coordinates are rounded to pixels all the time (casts saturate), colours are 0xRRGGBB, points are x and y"
)]
mod local;

use std::time::Duration;

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::id::ModelName;
use darkroom_core::image::ImageFormat;
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{Prompt, Shape};
use thiserror::Error;

pub use base_url::{BaseUrl, BaseUrlError};
pub use gemini::{ConnectError, Gemini};
pub use local::Local;

/// Where the providers are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Gemini's base URL, [`BaseUrl::GEMINI`] as a rule.
    pub gemini_base_url: BaseUrl,
}

/// Every provider, ready to draw.
#[derive(Debug)]
pub struct Providers {
    local: Provider,
    gemini: Provider,
}

impl Providers {
    /// Builds the providers. Opens no connection and reads no file: that is [`Providers::warm`]'s or the first call's.
    pub fn new(settings: Settings) -> Self {
        Self {
            local: Provider::Local(Local::new()),
            gemini: Provider::Gemini(Box::new(Gemini::new(settings.gemini_base_url))),
        }
    }

    /// The provider of this name.
    pub const fn get(&self, name: ProviderName) -> &Provider {
        match name {
            ProviderName::Local => &self.local,
            ProviderName::Gemini => &self.gemini,
        }
    }

    /// Reads the trusted roots and opens one connection (TCP and TLS, no request) to each provider on the network, so
    /// that the first call finds it open. Worth calling once, during initialisation; calls work without it.
    ///
    /// # Errors
    /// When the connection could not be opened. Nothing is broken by that: the next call tries anew.
    pub async fn warm(&self) -> Result<(), ConnectError> {
        match &self.gemini {
            Provider::Gemini(gemini) => gemini.warm().await,
            Provider::Local(_) => Ok(()),
        }
    }
}

/// Something that draws.
#[derive(Debug)]
pub enum Provider {
    /// The built-in procedural generator.
    Local(Local),
    /// Google's Gemini API.
    Gemini(Box<Gemini>),
}

/// What to draw.
#[derive(Clone, Copy)]
pub struct DrawRequest<'a> {
    /// The provider's own name of the model.
    pub model: &'a ModelName,
    /// What the picture shows.
    pub prompt: &'a Prompt,
    /// Aspect ratio and size.
    pub shape: Shape,
    /// Tells apart two pictures of one prompt, where the provider can.
    pub seed: u64,
    /// The key, for a provider that needs one.
    pub secret: Option<&'a Secret>,
}

/// A picture that was drawn and found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnImage {
    /// The file, without metadata.
    pub bytes: Bytes,
    /// SHA-256 of `bytes`, 64 hexadecimal digits.
    pub sha256: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The file's format, told from its bytes.
    pub format: ImageFormat,
    /// Which model drew it, in the provider's own words; the model asked for when it did not say.
    pub drawn_by: String,
}

/// Why there is no picture. Neither variant carries any of the provider's free text, the prompt or the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DrawError {
    /// The call was made, or may have been: the provider may have counted and charged it.
    #[error("the provider gave no picture: {}", .0.detail())]
    Refused(Refusal),
    /// Not a byte of the request left: the provider cannot have counted it.
    #[error("the provider was not reached: {detail}")]
    NotSent {
        /// What happened, in our words.
        detail: String,
    },
}

impl DrawError {
    /// What it means for job, key and scope: not being reached is being unavailable.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::NotSent { detail } => Refusal::Unavailable { detail },
        }
    }

    /// Whether the provider may have counted the call against its quota.
    pub const fn may_count(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Provider {
    /// Draws one picture with exactly one call. `timeout` covers everything from connecting to the last byte.
    ///
    /// Dropping the future closes the connection; the provider may still finish and charge the call.
    ///
    /// # Errors
    /// [`DrawError::Refused`] with the meaning of the provider's answer (a time-out after sending is `Unavailable`), or
    /// [`DrawError::NotSent`] when nothing was sent.
    pub async fn draw(&self, request: DrawRequest<'_>, timeout: Duration) -> Result<DrawnImage, DrawError> {
        match self {
            Self::Local(local) => local.draw(request, timeout).await,
            Self::Gemini(gemini) => gemini.draw(request, timeout).await,
        }
    }
}
