//! A framed mosaic in the corner of a picture that was drawn from another one: its tiles follow from that one's hash, so each
//! reference is seen and has a look of its own. No pixel of it is read, whatever its format: this generator is no image model.

use super::canvas::Canvas;
use super::color::Color;
use super::random::Random;

/// Tiles in a row and in a column. The right half mirrors the left one, which makes it a figure.
const TILES: usize = 7;

const FRAME: Color = Color::hex(0xf4efe4);
const GROUND: Color = Color::hex(0x23262e);

/// Hangs the mosaic of this hash.
pub(super) fn paint(canvas: &mut Canvas, sha256: &str) {
    let mut random = Random::new(sha256, 0);
    let low = canvas.width().min(canvas.height());
    let (margin, frame, tile) = (low * 0.04, low * 0.012, low * 0.24 / TILES as f32);
    let side = tile * TILES as f32;
    let (left, top) = (margin + frame, canvas.height() - margin - frame - side);
    let (right, bottom) = (left + side, top + side);
    canvas.rectangle((left - frame, top - frame), (right + frame, bottom + frame), FRAME, 1.0);
    canvas.rectangle((left, top), (right, bottom), GROUND, 1.0);
    let mut color =
        || Color([random.between(0.35, 1.0), random.between(0.25, 0.95), random.between(0.2, 0.9)]);
    let colors = [color(), color(), color()];
    for row in 0..TILES {
        for column in 0..TILES.div_ceil(2) {
            let drawn = random.pick(None, &colors.map(Some));
            let Some(color) = drawn else { continue };
            for column in [column, TILES - 1 - column] {
                let (x, y) = (left + tile * column as f32, top + tile * row as f32);
                canvas.rectangle((x, y), (x + tile, y + tile), color, 1.0);
            }
        }
    }
}
