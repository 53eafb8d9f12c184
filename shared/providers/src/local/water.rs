//! Water: what stands above it upside down, waves, and the light on them.

use super::canvas::{Canvas, blend_all};
use super::color::Color;
use super::palette::Palette;
use super::random::{Random, noise, octaves, smooth_step};
use super::sky::Sky;

/// How the water lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// A lake: the reflection is clear.
    Still,
    /// The sea: the reflection is broken.
    Waves,
}

/// Paints water from `shore` to the lower edge, reflecting what is painted above it.
pub(super) fn paint(
    canvas: &mut Canvas,
    shore: f32,
    surface: Surface,
    palette: &Palette,
    sky: &Sky,
    random: &mut Random,
) {
    let height = canvas.height();
    let seed = random.next() as u32;
    let (clear, ripple) = if surface == Surface::Still { (0.78, 0.0035) } else { (0.5, 0.006) };
    let deep = palette.sky_at(0.35).scaled(0.66).mix(Color::hex(0x123a4a), 0.12);
    let mut mirrored = Vec::new();
    let mut y = shore;
    while y < height {
        let t = (y - shore) / (height - shore);
        let unit = canvas.unit();
        // Waves look longer and higher when they are near.
        let phase = (y - shore) / unit;
        let swell = noise(seed, phase * (90.0 - 60.0 * t)) * ripple * unit * (0.3 + 2.2 * t);
        let source = shore - (y - shore) * (0.96 - 0.12 * t) + swell;
        canvas.copy_row(source, &mut mirrored);
        let tint = (1.0 - clear) + 0.28 * t;
        reflect(canvas, y, &mirrored, deep, tint, (swell * 0.6) as i32);
        y += 1.0;
    }
    waves(canvas, shore, surface, palette, seed, random);
    if sky.visible {
        glitter(canvas, shore, palette, sky, random);
    }
}

fn reflect(canvas: &mut Canvas, y: f32, mirrored: &[u8], deep: Color, tint: f32, aside: i32) {
    let skip = aside.unsigned_abs() as usize * 3;
    for (_, row) in canvas.rows(y, y + 1.0) {
        let length = row.len();
        row.copy_from_slice(mirrored.get(..length).unwrap_or_default());
        let shifted = mirrored.iter().skip(if aside > 0 { skip } else { 0 });
        for (channel, source) in row.iter_mut().skip(if aside > 0 { 0 } else { skip }).zip(shifted) {
            *channel = *source;
        }
        blend_all(row, deep.to_bytes(), tint.min(0.75));
    }
}

/// Flat strokes, lighter and darker, that grow towards the lower edge.
fn waves(
    canvas: &mut Canvas,
    shore: f32,
    surface: Surface,
    palette: &Palette,
    seed: u32,
    random: &mut Random,
) {
    let (width, height, unit) = (canvas.width(), canvas.height(), canvas.unit());
    let (count, strength) = if surface == Surface::Still { (90, 0.10) } else { (420, 0.2) };
    let light = palette.sky_at(0.92);
    let dark = palette.sky[0].scaled(0.7);
    for _ in 0..count {
        let t = random.unit();
        let t = t * t;
        let y = shore + (height - shore) * (0.02 + t);
        let x = random.between(-0.05, 1.05) * width;
        let long = unit * random.between(0.02, 0.075) * (0.35 + 1.5 * t);
        let thick = unit * (0.0007 + 0.0021 * t);
        let color = if random.chance(0.6) { light } else { dark };
        stroke(canvas, (x, y), long, thick, color, strength * random.between(0.4, 1.0));
    }
    if surface == Surface::Waves {
        // Bands of swell.
        for (y, row) in canvas.rows(shore, height) {
            let t = (y as f32 - shore) / (height - shore);
            let band = octaves(2, 0.5, |octave, f| noise(seed ^ 5 ^ octave, (t * 1.4).sqrt() * 26.0 * f));
            let shade = (band * 0.09 * smooth_step(0.0, 0.25, t)).clamp(-0.1, 0.1);
            let color = if shade > 0.0 { light } else { dark };
            blend_all(row, color.to_bytes(), shade.abs());
        }
    }
}

/// A flat stroke that is thickest in its middle.
fn stroke(canvas: &mut Canvas, (x, y): (f32, f32), half: f32, thick: f32, color: Color, alpha: f32) {
    canvas.shape(&[(x - half, y), (x, y - thick), (x + half, y), (x, y + thick)], color, alpha);
}

/// The path of light below sun or moon.
fn glitter(canvas: &mut Canvas, shore: f32, palette: &Palette, sky: &Sky, random: &mut Random) {
    let (height, unit) = (canvas.height(), canvas.unit());
    let (sun_x, sun_y) = sky.disc;
    // A high sun makes a wide and weak path.
    let low = smooth_step(0.75, 0.05, (shore - sun_y) / shore);
    let color = palette.disc.mix(palette.glow, 0.3);
    // The mirrored disc itself is lost in its own light.
    let mirrored = (sun_x, shore + (shore - sun_y) * 1.06);
    canvas.glow(mirrored, sky.radius * 2.6, palette.glow, 0.6 * low);
    canvas.glow(mirrored, sky.radius * 1.3, palette.disc, 0.55 * low);
    for _ in 0..260 {
        let t = random.unit();
        let y = shore + (height - shore) * t;
        let spread = sky.radius * (0.6 + 1.1 * t) * (1.0 + 1.2 * (1.0 - low));
        let off = (random.unit() + random.unit() + random.unit() - 1.5) * 1.15;
        let half = unit * random.between(0.006, 0.03) * (0.4 + 1.1 * t);
        let thick = unit * (0.0008 + 0.0022 * t);
        let alpha = (0.25 + 0.5 * low) * random.between(0.35, 1.0) * (1.0 - 0.45 * t);
        stroke(canvas, (sun_x + off * spread, y), half, thick, color, alpha);
    }
}
