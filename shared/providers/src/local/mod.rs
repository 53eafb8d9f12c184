//! The built-in procedural generator: landscapes without network or key.
//!
//! It is no image model. Its words are a table, its pictures are put together from noise, polygons and palettes; the PNG says
//! so in its texts. The same prompt, seed and shape give the same bytes on every machine (see [`random`]).

mod canvas;
mod color;
mod land;
mod mosaic;
mod motifs;
mod palette;
mod png_file;
mod random;
mod scene;
mod sky;
mod theme;
mod water;

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::image::ImageFormat;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::dimensions::dimensions;
use crate::simulation::simulated_paint;
use crate::{DrawError, DrawRequest, DrawnImage};

/// Draws landscapes from the prompt's words, its hash and the seed.
#[derive(Debug)]
pub struct Local {
    /// Drawing is work for a core: more pictures at once than cores would only hold more memory.
    drawing: Arc<Semaphore>,
}

impl Local {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Self { drawing: Arc::new(Semaphore::new(cores)) }
    }

    pub(crate) async fn draw(
        &self,
        request: DrawRequest<'_>,
        timeout: Duration,
    ) -> Result<DrawnImage, DrawError> {
        let drawn = tokio::time::timeout(timeout, self.draw_untimed(request)).await;
        drawn.map_err(|_| unavailable("no picture in time"))?
    }

    async fn draw_untimed(&self, request: DrawRequest<'_>) -> Result<DrawnImage, DrawError> {
        let (width, height) = dimensions(request.shape);
        let picture = Picture {
            prompt: request.prompt.reveal().to_owned(),
            seed: request.seed,
            width,
            height,
            reference: request.reference.map(|image| image.sha256.clone()),
        };
        let drawn_by = request.model.to_string();
        let painted = match simulated_paint() {
            Some(paint) => paint(picture),
            None => self.paint_elsewhere(picture).await?,
        };
        let PaintedFile { bytes, sha256 } =
            painted.map_err(|_| unavailable("the picture could not be written"))?;
        Ok(DrawnImage { bytes, sha256, width, height, format: ImageFormat::Png, drawn_by })
    }

    /// Paints on a thread that may be busy for so long.
    async fn paint_elsewhere(&self, picture: Picture) -> Result<Painted, DrawError> {
        let permit = Arc::clone(&self.drawing).acquire_owned().await;
        let painting = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            picture.paint()
        });
        painting.await.map_err(|_| unavailable("the drawing stopped"))
    }
}

/// A picture's file.
#[derive(Clone)]
pub struct PaintedFile {
    bytes: Bytes,
    sha256: String,
}

/// What painting comes to.
pub type Painted = Result<PaintedFile, png::EncodingError>;

/// All that a picture's bytes hang on: two that are equal are painted alike.
#[derive(PartialEq, Eq, Hash)]
pub struct Picture {
    prompt: String,
    seed: u64,
    width: u32,
    height: u32,
    /// The SHA-256 of what it is drawn from.
    reference: Option<String>,
}

impl Picture {
    /// Paints it: some ten milliseconds of a core.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn paint(&self) -> Painted {
        let mut canvas = scene::paint(&self.prompt, self.seed, self.width, self.height);
        if let Some(sha256) = &self.reference {
            mosaic::paint(&mut canvas, sha256);
        }
        let bytes = Bytes::from(png_file::encode(&canvas.into_pixels(), self.width, self.height)?);
        let sha256 = HEXLOWER.encode(&Sha256::digest(&bytes));
        Ok(PaintedFile { bytes, sha256 })
    }
}

fn unavailable(detail: &str) -> DrawError {
    DrawError::Refused(Refusal::Unavailable { detail: detail.to_owned() })
}
