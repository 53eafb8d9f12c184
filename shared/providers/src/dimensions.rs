//! Width and height for providers that are asked in pixels.

use darkroom_core::request::{AspectRatio, ImageSize, Shape};

/// Width and height of a shape: about 1,024² pixels with sides that are multiples of 16, or twice as long.
pub(crate) const fn dimensions(shape: Shape) -> (u32, u32) {
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
