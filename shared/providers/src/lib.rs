//! The only crate that calls image APIs.
//!
//! [`Providers`] is built once per process; [`Provider::draw`] makes exactly one call: no retries, no redirects and no
//! proxy from the environment, because each call costs money and the caller alone decides about the next one.
//! Whatever comes back from the network is checked and stripped before anyone sees it.

mod base_url;
mod dimensions;
mod forge;
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
mod openai;
mod progress;
mod reference;
mod simulation;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::image::ImageFormat;
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{Prompt, Shape};
use thiserror::Error;

pub use base_url::{BaseUrl, BaseUrlError};
pub use forge::Forge;
pub use gemini::Gemini;
pub use local::{Local, Painted, PaintedFile, Picture};
pub use openai::OpenAi;
pub use progress::Progress;
pub use reference::{ReferenceFault, check_reference};
pub use simulation::{Dial, Paint, simulate};
pub use wire::ConnectError;

use image_check::CheckedImage;
use wire::not_sent;

/// Why there is no Forge.
const NO_FORGE: &str = "DARKROOM_FORGE_BASE_URL is not set on the worker";

/// Where the providers are. The default is the vendors' own addresses, and no Forge.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Gemini's base URL.
    pub gemini_base_url: BaseUrl,
    /// OpenAI's base URL, or that of another server with its Images API.
    pub openai_base_url: BaseUrl,
    /// Forge's base URL. It has no vendor: without one, its models cannot be drawn with.
    pub forge_base_url: Option<BaseUrl>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gemini_base_url: BaseUrl::gemini(), openai_base_url: BaseUrl::openai(), forge_base_url: None }
    }
}

/// Every provider, ready to draw.
#[derive(Debug)]
pub struct Providers {
    local: Provider,
    gemini: Provider,
    openai: Provider,
    forge: Provider,
}

impl Providers {
    /// Builds the providers. Opens no connection and reads no file: that is [`Providers::warm`]'s or the first call's.
    pub fn new(settings: Settings) -> Self {
        Self {
            local: Provider::Local(Local::new()),
            gemini: Provider::Gemini(Box::new(Gemini::new(settings.gemini_base_url))),
            openai: Provider::OpenAi(Box::new(OpenAi::new(settings.openai_base_url))),
            forge: Provider::Forge(Box::new(Forge::new(settings.forge_base_url))),
        }
    }

    /// The provider of this name.
    pub const fn get(&self, name: ProviderName) -> &Provider {
        match name {
            ProviderName::Local => &self.local,
            ProviderName::Gemini => &self.gemini,
            ProviderName::OpenAi => &self.openai,
            ProviderName::Forge => &self.forge,
        }
    }

    /// Reads the trusted roots and opens one connection (TCP and TLS, no request) to each of these providers that is on the
    /// network, all at once, so that the first call finds it open. Worth calling once, during initialisation; calls work
    /// without it.
    ///
    /// # Errors
    /// When a connection could not be opened; the others are. Nothing is broken by that: the next call tries anew.
    pub async fn warm(&self, names: &[ProviderName]) -> Result<(), ConnectError> {
        let warm = |name: ProviderName| async move {
            if names.contains(&name) { self.get(name).warm().await } else { Ok(()) }
        };
        let (gemini, openai, forge) =
            tokio::join!(warm(ProviderName::Gemini), warm(ProviderName::OpenAi), warm(ProviderName::Forge));
        gemini.and(openai).and(forge)
    }
}

/// Something that draws.
#[derive(Debug)]
pub enum Provider {
    /// The built-in procedural generator.
    Local(Local),
    /// Google's Gemini API.
    Gemini(Box<Gemini>),
    /// OpenAI's Images API, or another server with it.
    OpenAi(Box<OpenAi>),
    /// Stable Diffusion WebUI Forge.
    Forge(Box<Forge>),
}

/// What to draw.
#[derive(Clone, Copy)]
pub struct DrawRequest<'a> {
    /// The job that is drawn.
    pub job: &'a JobId,
    /// Which call of the job this is, from 1; none is made twice. With the job it names the call at a provider that can be
    /// asked for it later.
    pub call: u32,
    /// The provider's own name of the model.
    pub model: &'a ModelName,
    /// What the picture shows.
    pub prompt: &'a Prompt,
    /// What it is drawn from, for a provider that takes that.
    pub reference: Option<&'a CheckedImage>,
    /// Aspect ratio and size.
    pub shape: Shape,
    /// Tells apart two pictures of one prompt, where the provider can.
    pub seed: u64,
    /// The key, for a provider that needs one.
    pub secret: Option<&'a Secret>,
    /// Where the provider tells how far it is, if it does.
    pub progress: &'a Progress,
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
            Self::OpenAi(openai) => openai.draw(request, timeout).await,
            Self::Forge(forge) => forge.draw(request, timeout).await,
        }
    }

    /// Asks whether the provider answers and takes the key, with one request that draws nothing and costs nothing. It uses none of
    /// the quota that drawing has.
    ///
    /// # Errors
    /// What the provider's answer means for the key; `Unavailable` when there was none. Never `ModelRetired`: no model is named.
    pub async fn probe(&self, secret: Option<&Secret>, timeout: Duration) -> Result<(), Refusal> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Gemini(gemini) => gemini.probe(secret, timeout).await,
            Self::OpenAi(openai) => openai.probe(secret, timeout).await,
            Self::Forge(forge) => forge.probe(secret, timeout).await,
        }
    }

    /// The setting without which it cannot draw at all, in words; `None` when nothing is missing.
    pub const fn missing_setting(&self) -> Option<&'static str> {
        match self {
            Self::Forge(forge) if !forge.is_there() => Some(NO_FORGE),
            Self::Local(_) | Self::Gemini(_) | Self::OpenAi(_) | Self::Forge(_) => None,
        }
    }

    async fn warm(&self) -> Result<(), ConnectError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Gemini(gemini) => gemini.warm().await,
            Self::OpenAi(openai) => openai.warm().await,
            Self::Forge(forge) => forge.warm().await,
        }
    }
}

/// The key of a provider that needs one.
fn needed(secret: Option<&Secret>) -> Result<&Secret, DrawError> {
    secret.ok_or_else(|| not_sent("no key was given for a provider that needs one"))
}
