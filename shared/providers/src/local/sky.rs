//! The sky: gradient, clouds, sun or moon, stars and aurora.

use super::canvas::{Canvas, blend};
use super::color::Color;
use super::palette::Palette;
use super::random::{Random, mix_f32, noise, octaves, plane_noise, smooth, smooth_step};
use super::theme::{Motif, Theme, Time};

/// Where things are in the sky.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sky {
    /// Where the sky ends, in pixels from the top.
    pub(super) horizon: f32,
    /// Sun or moon.
    pub(super) disc: (f32, f32),
    pub(super) radius: f32,
    /// Whether the sun or moon can be seen.
    pub(super) visible: bool,
}

/// How much cloud there is: the density that shows, and how strongly.
#[derive(Clone, Copy, Debug)]
struct Cover {
    threshold: f32,
    strength: f32,
}

/// Paints the sky over the whole picture: what comes later covers the lower part.
pub(super) fn paint(
    canvas: &mut Canvas,
    theme: &Theme,
    palette: &Palette,
    horizon: f32,
    random: &mut Random,
) -> Sky {
    let sky = place(canvas, theme, horizon, random);
    let cover = cover(theme, random);
    background(canvas, palette, &sky);
    if theme.time == Time::Night && !theme.has(Motif::Rain) && !theme.has(Motif::Fog) {
        stars(canvas, theme, horizon, random);
    }
    if theme.has(Motif::Aurora) {
        aurora(canvas, horizon, random);
    }
    if sky.visible {
        disc(canvas, theme, palette, &sky, random);
    }
    if let Some(cover) = cover {
        clouds(canvas, palette, &sky, cover, random);
    }
    sky
}

fn place(canvas: &Canvas, theme: &Theme, horizon: f32, random: &mut Random) -> Sky {
    let (width, unit) = (canvas.width(), canvas.unit());
    // The sun stands on a third, left or right.
    let third = random.pick(0.3, &[0.36, 0.64, 0.7, 0.5]);
    let x = width * (third + random.between(-0.03, 0.03));
    let (above, radius) = match theme.time {
        Time::Dawn | Time::Dusk => (random.between(0.10, 0.30), random.between(0.055, 0.085)),
        Time::Golden => (random.between(0.22, 0.42), random.between(0.045, 0.065)),
        Time::Day => (random.between(0.60, 0.74), 0.04),
        Time::Night => (random.between(0.52, 0.72), random.between(0.035, 0.06)),
    };
    let radius = if theme.has(Motif::Moon) { unit * 0.08 } else { unit * radius };
    let disc = (x, (horizon * (1.0 - above)).max(radius * 1.6));
    let outshone = theme.has(Motif::Aurora) && !theme.has(Motif::Moon);
    let visible = !theme.has(Motif::Rain) && !outshone;
    Sky { horizon, disc, radius, visible }
}

fn cover(theme: &Theme, random: &mut Random) -> Option<Cover> {
    let some = random.between(0.05, 0.22);
    if theme.has(Motif::Clear) || theme.has(Motif::Aurora) || theme.has(Motif::Stars) {
        None
    } else if theme.has(Motif::Rain) {
        Some(Cover { threshold: -0.35, strength: 0.75 })
    } else if theme.has(Motif::Clouds) {
        Some(Cover { threshold: -0.02, strength: 0.85 })
    } else {
        let strength = if theme.time == Time::Night { 0.35 } else { 0.7 };
        Some(Cover { threshold: some, strength })
    }
}

/// The gradient, with a wide light around the sun. The light has as many steps as eight bits can show: all three channels
/// change at the same places, which makes the file smaller.
fn background(canvas: &mut Canvas, palette: &Palette, sky: &Sky) {
    const STEPS: usize = 64;
    let reach = canvas.unit() * 0.75;
    let strength = if sky.visible { 0.45 } else { 0.12 };
    // What lies lower is covered by land or water.
    let end = sky.horizon + canvas.unit() * 0.12;
    let (sun_x, sun_y) = sky.disc;
    let across: Vec<f32> = (0..canvas.width() as usize).map(|x| square((x as f32 - sun_x) / reach)).collect();
    let mut light = vec![0.0; across.len()];
    for (y, row) in canvas.rows(0.0, end) {
        let base = palette.sky_at(y as f32 / sky.horizon);
        let steps: Vec<[u8; 3]> = (0..=STEPS)
            .map(|step| base.mix(palette.glow, strength * step as f32 / STEPS as f32).to_bytes())
            .collect();
        let up = square((y as f32 - sun_y) / reach);
        for (light, across) in light.iter_mut().zip(&across) {
            *light = STEPS as f32 * square(1.0 / (1.0 + 6.0 * (across + up))) + 0.5;
        }
        for (pixel, light) in row.chunks_exact_mut(3).zip(&light) {
            if let Some(color) = steps.get(*light as usize) {
                pixel.copy_from_slice(color);
            }
        }
    }
}

fn square(x: f32) -> f32 {
    x * x
}

fn stars(canvas: &mut Canvas, theme: &Theme, horizon: f32, random: &mut Random) {
    let unit = canvas.unit();
    let milky = theme.has(Motif::Stars);
    let (slope, middle) = (random.between(-0.5, 0.5), random.between(0.3, 0.5));
    if milky {
        milky_way(canvas, horizon, slope, middle, random);
    }
    let count = if milky { 900 } else { 420 };
    for at in 0..count {
        let x = random.unit();
        let mut y = random.unit();
        // Every second star of a starry night belongs to the Milky Way.
        if milky && at % 2 == 0 {
            let band = middle + slope * (x - 0.5);
            y = band + (random.unit() + random.unit() - 1.0) * 0.22;
        }
        let low = smooth_step(1.0, 0.55, y);
        let bright = random.unit();
        let bright = bright * bright * bright;
        let center = (x * canvas.width(), y * horizon);
        let color = random.pick(Color::hex(0xffffff), &[Color::hex(0xffe9c9), Color::hex(0xcfdcff)]);
        let radius = unit * mix_f32(0.0005, 0.0014, bright);
        canvas.disc(center, radius, color, low * mix_f32(0.35, 1.0, bright));
        if bright > 0.85 {
            canvas.glow(center, radius * 5.0, color, 0.25 * low);
        }
    }
}

fn milky_way(canvas: &mut Canvas, horizon: f32, slope: f32, middle: f32, random: &mut Random) {
    let (width, unit, seed) = (canvas.width(), canvas.unit(), random.next() as u32);
    let field = Field::new(canvas, horizon, |x, y| {
        octaves(4, 0.5, |octave, f| plane_noise(seed ^ octave, x * 5.0 * f / unit, y * 7.0 * f / unit))
    });
    let haze = Color::hex(0x9aa6d8).to_bytes();
    for (y, row) in canvas.rows(0.0, horizon) {
        field.row(y, -0.9, row, |x, pixel, density| {
            let band = middle + slope * (x as f32 / width - 0.5);
            let inside = 1.0 - square((y as f32 / horizon - band) / 0.24);
            if inside > 0.0 {
                blend(pixel, haze, 0.34 * inside * inside * (0.55 + 0.6 * density).clamp(0.0, 1.0));
            }
        });
    }
}

/// Curtains of light.
fn aurora(canvas: &mut Canvas, horizon: f32, random: &mut Random) {
    let (width, unit) = (canvas.width(), canvas.unit());
    for curtain in 0..3 {
        let seed = random.next() as u32;
        let base = horizon * (0.42 + 0.16 * curtain as f32);
        let color = random.pick(Color::hex(0x4cf0a0), &[Color::hex(0x38d8b8), Color::hex(0x70e8a0)]);
        let violet = Color::hex(0x9a5ad8);
        let reach = horizon * random.between(0.45, 0.6);
        let columns: Vec<(f32, f32)> = (0..width as usize)
            .map(|x| {
                let x = x as f32 / unit;
                let wave = octaves(3, 0.5, |octave, f| noise(seed ^ octave, x * 1.6 * f));
                let rays =
                    octaves(3, 0.6, |octave, f| noise(seed ^ 0x77 ^ octave, (x + wave * 0.08) * 14.0 * f));
                let strength = smooth_step(-0.8, 0.3, noise(seed ^ 0x99, x * 1.3));
                (base + wave * horizon * 0.14, strength * (0.62 + 0.38 * rays))
            })
            .collect();
        for (y, row) in canvas.rows(0.0, horizon) {
            for (pixel, (foot, strength)) in row.chunks_exact_mut(3).zip(&columns) {
                let up = (foot - y as f32) / reach;
                // Sharp at the foot, fading upwards.
                let light = if up < 0.0 { 1.0 + up * 14.0 } else { 1.0 - up };
                if light > 0.0 {
                    blend(
                        pixel,
                        color.mix(violet, up.clamp(0.0, 1.0)).to_bytes(),
                        0.85 * strength * light * light,
                    );
                }
            }
        }
    }
}

fn disc(canvas: &mut Canvas, theme: &Theme, palette: &Palette, sky: &Sky, random: &mut Random) {
    let Sky { disc, radius, .. } = *sky;
    if theme.time == Time::Night {
        canvas.glow(disc, radius * 5.0, palette.glow, 0.35);
        canvas.disc(disc, radius, palette.disc, 1.0);
        moon(canvas, disc, radius, palette, random);
        return;
    }
    canvas.glow(disc, radius * 6.0, palette.glow, 0.45);
    canvas.glow(disc, radius * 2.4, palette.disc, 0.55);
    canvas.disc(disc, radius, palette.disc, if theme.has(Motif::Fog) { 0.6 } else { 1.0 });
}

/// The moon's plains, and its unlit edge.
fn moon(canvas: &mut Canvas, (x, y): (f32, f32), radius: f32, palette: &Palette, random: &mut Random) {
    let gray = palette.disc.mix(palette.sky[1], 0.28);
    for (dx, dy, size) in
        [(-0.28, -0.3, 0.3), (0.22, -0.12, 0.22), (-0.05, 0.32, 0.26), (0.42, 0.34, 0.14), (-0.5, 0.12, 0.13)]
    {
        let size = size * random.between(0.85, 1.1);
        canvas.glow((x + dx * radius, y + dy * radius), radius * size * 1.5, gray, 0.75);
    }
    if random.chance(0.35) {
        let side = if random.chance(0.5) { 1.0 } else { -1.0 };
        let shade = palette.sky_at(0.35);
        let (center, lit) = ((x, y), (x + side * radius * 0.45, y - radius * 0.12));
        canvas.ellipse(center, (radius * 1.01, radius * 1.01), |px, py| {
            let (dx, dy) = (px - lit.0, py - lit.1);
            (shade, smooth_step(0.92, 1.02, (dx * dx + dy * dy).sqrt() / radius) * 0.9)
        });
    }
}

/// Clouds drawn long by the wind, brighter towards the sun.
fn clouds(canvas: &mut Canvas, palette: &Palette, sky: &Sky, cover: Cover, random: &mut Random) {
    let (unit, seed) = (canvas.unit(), random.next() as u32);
    let stretch = random.between(2.4, 4.5);
    let field = Field::new(canvas, sky.horizon, |x, y| {
        let (x, y) = (x / unit, y / unit);
        let bend = plane_noise(seed ^ 0x55, x * 1.1, y * 1.7) * 0.35;
        octaves(5, 0.52, |octave, f| {
            plane_noise(seed ^ octave, (x * 2.1 + bend) * f, (y * 2.1 * stretch + bend) * f)
        })
    });
    let (bright, shade) = palette.clouds;
    let (sun_x, sun_y) = sky.disc;
    let near = |distance: f32| 1.0 / (1.0 + 2.5 * (distance / (unit * 0.6)) * (distance / (unit * 0.6)));
    let colors: Vec<[u8; 3]> =
        (0..=DARK_STEPS).map(|step| bright.mix(shade, step as f32 / DARK_STEPS as f32).to_bytes()).collect();
    let lit: Vec<f32> = (0..canvas.width() as usize).map(|x| near(x as f32 - sun_x)).collect();
    for (y, row) in canvas.rows(0.0, sky.horizon) {
        let t = y as f32 / sky.horizon;
        let strength = cover.strength * smooth_step(1.02, 0.7, t) * smooth_step(-0.15, 0.25, t);
        let steps: Vec<f32> =
            (0..=CLOUD_STEPS).map(|step| strength * smooth(step as f32 / CLOUD_STEPS as f32)).collect();
        let near = near(y as f32 - sun_y);
        field.row(y, cover.threshold, row, |x, pixel, density| {
            let over = density - cover.threshold;
            if over > 0.0 {
                let step = ((over * 2.6 * CLOUD_STEPS as f32) as usize).min(CLOUD_STEPS);
                let sunny = 1.0 - 0.7 * near * lit.get(x).copied().unwrap_or(0.0);
                let dark = ((over * 1.1).min(0.75) * sunny * DARK_STEPS as f32) as usize;
                let color = colors.get(dark).copied().unwrap_or_default();
                blend(pixel, color, steps.get(step).copied().unwrap_or(strength));
            }
        });
    }
}

/// Steps from no cloud to full cloud: few enough for a small file, too many to be seen.
const CLOUD_STEPS: usize = 40;
/// Steps from the lit side of a cloud to the other.
const DARK_STEPS: usize = 24;

/// A soft field that is computed on a coarse grid and read between its points.
struct Field {
    step: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Field {
    fn new(canvas: &Canvas, horizon: f32, value: impl Fn(f32, f32) -> f32) -> Self {
        let step = (canvas.unit() / 170.0) as usize + 1;
        let columns = canvas.width() as usize / step + 3;
        let rows = horizon as usize / step + 3;
        let values = (0..rows * columns)
            .map(|at| value((at % columns * step) as f32, (at / columns * step) as f32))
            .collect();
        Self { step, columns, values }
    }

    /// Tells `each` the field's value at every pixel of a row where it can be above `threshold`.
    fn row(&self, y: usize, threshold: f32, row: &mut [u8], mut each: impl FnMut(usize, &mut [u8], f32)) {
        let line = |number: usize| {
            self.values.get(number * self.columns..(number + 1) * self.columns).unwrap_or_default()
        };
        let (above, below) = (line(y / self.step), line(y / self.step + 1));
        let t = (y % self.step) as f32 / self.step as f32;
        let mut ends = above.iter().zip(below).map(|(above, below)| mix_f32(*above, *below, t));
        let mut left = ends.next().unwrap_or(threshold);
        for ((cell, pixels), right) in row.chunks_mut(3 * self.step).enumerate().zip(ends) {
            if left > threshold || right > threshold {
                let slope = (right - left) / self.step as f32;
                for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                    each(cell * self.step + at, pixel, left + slope * at as f32);
                }
            }
            left = right;
        }
    }
}
