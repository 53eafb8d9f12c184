//! Pictures of a wanted ratio, size and file length: a few, made once.

use std::collections::HashMap;

use bytes::Bytes;
use darkroom_core::request::{AspectRatio, ImageSize, Shape};

/// The pictures made so far, in base64.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    made: HashMap<(Shape, usize), Bytes>,
}

impl Pictures {
    /// The base64 of a PNG of this shape whose file is `length` bytes long, give or take the format's own few.
    pub(super) fn base64(&mut self, shape: Shape, length: usize) -> Bytes {
        let picture = self
            .made
            .entry((shape, length))
            .or_insert_with(|| Bytes::from(data_encoding::BASE64.encode(&file(shape, length)).into_bytes()));
        picture.clone()
    }
}

/// What the real models answer for 1K, in pixels, twice that for 2K.
fn dimensions(shape: Shape) -> (u32, u32) {
    let (width, height) = match shape.aspect_ratio {
        AspectRatio::R1x1 => (1024, 1024),
        AspectRatio::R2x3 => (848, 1264),
        AspectRatio::R3x2 => (1264, 848),
        AspectRatio::R3x4 => (896, 1200),
        AspectRatio::R4x3 => (1200, 896),
        AspectRatio::R4x5 => (928, 1152),
        AspectRatio::R5x4 => (1152, 928),
        AspectRatio::R9x16 => (768, 1376),
        AspectRatio::R16x9 => (1376, 768),
        AspectRatio::R21x9 => (1584, 672),
    };
    match shape.size {
        ImageSize::K1 => (width, height),
        ImageSize::K2 => (2 * width, 2 * height),
    }
}

/// As much noise as the file is to be long, then black, which takes next to no room.
fn file(shape: Shape, length: usize) -> Vec<u8> {
    let (width, height) = dimensions(shape);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for pixel in pixels.iter_mut().take(length.saturating_sub(4096)) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *pixel = state.to_be_bytes()[0];
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_filter(png::Filter::NoFilter);
    // Level 1 would leave 50 KB of a large black picture.
    encoder.set_deflate_compression(png::DeflateCompression::Level(6));
    // Writing to memory with dimensions from the table above cannot fail; a picture that did would fail every test.
    if let Ok(mut writer) = encoder.write_header() {
        let written = writer.write_image_data(&pixels).and_then(|()| writer.finish());
        debug_assert!(written.is_ok(), "the stand-in's own picture");
    }
    file
}
