//! Mountains, hills, dunes, and what grows on them.

use super::canvas::{Canvas, Profile, blend};
use super::color::Color;
use super::palette::Palette;
use super::random::{Random, angular_noise, noise, octaves, smooth_step};

/// How the edge of a piece of land runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Steep, with angles.
    Mountains,
    /// Round.
    Hills,
    /// Long curves with sharp crests.
    Dunes,
}

/// One piece of land, from its edge downwards.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) profile: Profile,
    /// The edge without what grows on it.
    ground: Profile,
    /// 0 is far, 1 near.
    pub(super) near: f32,
    kind: Kind,
    snow: bool,
    seed: u32,
    /// Of mountains, the lowest in front.
    peaks: Vec<Peak>,
}

/// One mountain.
#[derive(Clone, Copy, Debug)]
struct Peak {
    summit: (f32, f32),
    /// How steeply it falls to the left and to the right.
    falls: (f32, f32),
    seed: u32,
}

impl Peak {
    /// The mountain's edge at a place.
    fn edge(&self, x: f32) -> f32 {
        let aside = x - self.summit.0;
        self.summit.1 + if aside < 0.0 { -aside * self.falls.0 } else { aside * self.falls.1 }
    }
}

impl Layer {
    /// `base` is where the edge runs in the mean and `swing` how far it goes up and down, both in pixels.
    pub(super) fn new(
        canvas: &Canvas,
        kind: Kind,
        base: f32,
        swing: f32,
        near: f32,
        random: &mut Random,
    ) -> Self {
        let seed = random.next() as u32;
        let unit = canvas.unit();
        let offset = random.between(0.0, 100.0);
        let peaks = if kind == Kind::Mountains { peaks(canvas, base, swing, random) } else { Vec::new() };
        let profile = Profile::new(canvas, |x| match kind {
            Kind::Mountains => {
                let rough = octaves(4, 0.55, |octave, f| angular_noise(seed ^ octave, x / unit * 24.0 * f));
                let foot = base + swing * (0.75 + 0.15 * rough);
                peaks.iter().fold(foot, |top, peak| top.min(peak.edge(x))) + rough * swing * 0.09
            }
            Kind::Hills | Kind::Dunes => base - swing * edge(kind, seed, x / unit + offset),
        });
        Self { ground: profile.clone(), profile, near, kind, snow: false, seed, peaks }
    }

    /// The same with snow on its upper parts.
    pub(super) fn with_snow(mut self) -> Self {
        self.snow = true;
        self
    }

    /// Puts a row of conifers on the edge; `height` is that of a tall one, in pixels.
    pub(super) fn plant(&mut self, canvas: &Canvas, height: f32, density: f32, random: &mut Random) {
        let mut x = -height;
        while x < canvas.width() + height {
            // Groups and clearings; trees at a wood's edge are young.
            let wood = noise(self.seed ^ 0x7ee5, x / canvas.unit() * 6.0) + density;
            let tall = height * random.between(0.55, 1.0) * smooth_step(-0.08, 0.22, wood).max(0.25);
            if wood > -0.05 {
                conifer(&mut self.profile, x, self.ground.at(x) + tall * 0.06, tall, random);
            }
            x += tall * random.between(0.12, 0.27);
        }
    }
}

/// A range of mountains, spaced and shaped by chance.
fn peaks(canvas: &Canvas, base: f32, swing: f32, random: &mut Random) -> Vec<Peak> {
    let unit = canvas.unit();
    let mut peaks = Vec::new();
    let mut x = -unit * random.between(0.0, 0.2);
    while x < canvas.width() + unit * 0.1 {
        let high = random.unit();
        let summit = (x, base + swing * (0.45 - 1.6 * high));
        let fall = |random: &mut Random| random.between(0.5, 0.95);
        peaks.push(Peak { summit, falls: (fall(random), fall(random)), seed: random.next() as u32 });
        x += unit * random.between(0.1, 0.26);
    }
    peaks.sort_by(|one, other| other.summit.1.total_cmp(&one.summit.1));
    peaks
}

/// The edge's height over its base, about −1 to 1.
fn edge(kind: Kind, seed: u32, x: f32) -> f32 {
    if kind == Kind::Hills {
        return octaves(3, 0.4, |octave, f| noise(seed ^ octave, x * 1.5 * f));
    }
    let wave = octaves(2, 0.35, |octave, f| noise(seed ^ octave, x * 1.3 * f));
    // A fold in the curve is a crest.
    wave * 0.55 + 0.75 - 1.5 * noise(seed ^ 9, x * 1.1).abs()
}

/// A conifer as part of an edge: a cone with steps.
fn conifer(profile: &mut Profile, x: f32, ground: f32, height: f32, random: &mut Random) {
    let half = height * random.between(0.13, 0.18);
    let tiers = random.between(5.0, 8.0);
    let lean = random.between(-0.02, 0.02) * height;
    profile.raise(x - half, x + half + 1.0, |at| {
        let off = ((at - x - lean) / half).abs().min(1.0);
        // Each tier of branches droops outwards: its lower edge is lower than its root.
        let tier = (off * tiers).floor();
        let within = off * tiers - tier;
        let down = (tier + within * within) / tiers;
        ground - height * (1.0 - down) * (1.0 - 0.08 * off)
    });
}

/// Paints layers from far to near; each is hidden below the edge of the next.
pub(super) fn paint(canvas: &mut Canvas, layers: &[Layer], palette: &Palette, sun_x: f32, mist: f32) {
    for (at, layer) in layers.iter().enumerate() {
        let below = layers.get(at + 1).map(|next| &next.profile);
        paint_layer(canvas, layer, below, palette, sun_x, mist);
    }
}

fn paint_layer(
    canvas: &mut Canvas,
    layer: &Layer,
    below: Option<&Profile>,
    palette: &Palette,
    sun_x: f32,
    mist: f32,
) {
    let unit = canvas.unit();
    let tops: Vec<f32> = (0..canvas.width() as usize).map(|x| layer.ground.at(x as f32 + 0.5)).collect();
    let depth = |x: usize, y: f32| (y - tops.get(x).copied().unwrap_or(0.0)).max(0.0);
    let shades = Shades::new(layer, palette, unit, mist);
    if layer.kind == Kind::Hills {
        canvas.land(&layer.profile, below, |x, y| shades.color(depth(x, y), 0.0, 0.0));
        return;
    }
    let line = snow_line(canvas, layer);
    let white = |x: usize, y: f32, slope: f32| {
        // Snow lies lower on the flank that is turned away from the sun.
        line.get(x)
            .map_or(0.0, |line| ((line - slope * unit * 0.012 - y) / unit * 220.0 + 0.5).clamp(0.0, 1.0))
    };
    if layer.kind == Kind::Mountains {
        let bends = bends(canvas, layer);
        canvas.land(&layer.profile, below, |x, y| {
            let slope = flank(layer, &bends, x as f32, y, sun_x, unit);
            shades.color(depth(x, y), slope, white(x, y, slope))
        });
        return;
    }
    let slopes = slopes(canvas, layer, sun_x);
    let lean = if layer.seed.is_multiple_of(2) { 0.9 } else { -0.9 };
    canvas.land(&layer.profile, below, |x, y| {
        let depth = depth(x, y);
        // A crest runs down and aside: the slope there is the slope here.
        let aside = (x as f32 + depth * lean).max(0.0) as usize;
        shades.color(depth, slopes.get(aside).or(slopes.last()).copied().unwrap_or(0.0), 0.0)
    });
}

/// How a point of a mountain stands to the light, −1 to 1: each has a flank towards the sun and one away from it, parted by a
/// ridge that comes down from the summit in bends, and gullies that spread from the summit.
fn flank(layer: &Layer, bends: &[f32], x: f32, y: f32, sun_x: f32, unit: f32) -> f32 {
    // The first that reaches here is the lowest, and stands in front.
    let Some(peak) = layer.peaks.iter().find(|peak| y > peak.edge(x)) else { return -0.3 };
    let down = y - peak.summit.1;
    let bend = bends.get(down as usize + (peak.seed % 64) as usize).copied().unwrap_or(0.0);
    let ridge = peak.summit.0 + bend * (down / (unit * 0.05)).min(1.0);
    let side = (x - ridge) / down;
    let towards = if peak.summit.0 < sun_x { side } else { -side };
    let gully = angular_noise(peak.seed, side * 5.5 + bend / unit * 12.0);
    let lit = if towards > 0.0 { 0.62 } else { -0.5 };
    (lit + 0.38 * gully).clamp(-1.0, 1.0)
}

/// A layer's colours by depth and slope, of ground and of snow.
struct Shades {
    steps_per_pixel: f32,
    ground: Vec<[u8; 3]>,
    snow: Vec<[u8; 3]>,
}

const DEPTHS: usize = 40;
const SLOPES: usize = 9;

impl Shades {
    fn new(layer: &Layer, palette: &Palette, unit: f32, mist: f32) -> Self {
        let fog = mist * (1.0 - layer.near * 0.75);
        let (rock_contrast, snow_contrast) = match layer.kind {
            Kind::Mountains => (0.22, 0.17),
            Kind::Dunes => (0.19, 0.2),
            Kind::Hills => (0.0, 0.0),
        };
        let table = |color: Color, contrast: f32| {
            let entry = |at: usize| {
                let depth = (at / SLOPES) as f32 / (DEPTHS - 1) as f32;
                let slope = (at % SLOPES) as f32 / (SLOPES - 1) as f32 * 2.0 - 1.0;
                let fade = 1.0 - depth * 0.75;
                color.scaled(1.0 + contrast * slope * fade).mix(palette.haze, depth * fog).to_bytes()
            };
            (0..DEPTHS * SLOPES).map(entry).collect()
        };
        let snow = palette.thing(Color::hex(0xf6f9ff), 0.35 + 0.65 * layer.near);
        Self {
            steps_per_pixel: (DEPTHS - 1) as f32 / (unit * (0.22 + 0.1 * layer.near)),
            ground: table(palette.land(layer.near), rock_contrast),
            snow: table(snow, snow_contrast),
        }
    }

    /// `slope` is from −1, turned away from the light, to 1; `white` is how much of it is snow.
    fn color(&self, depth: f32, slope: f32, white: f32) -> [u8; 3] {
        let row = ((depth * self.steps_per_pixel) as usize).min(DEPTHS - 1);
        let column = ((slope + 1.0) * 0.5 * (SLOPES - 1) as f32 + 0.5) as usize;
        let at = row * SLOPES + column.min(SLOPES - 1);
        let of = |table: &[[u8; 3]]| table.get(at).copied().unwrap_or_default();
        if white <= 0.0 {
            return of(&self.ground);
        }
        let mut color = of(&self.ground);
        blend(&mut color, of(&self.snow), white);
        color
    }
}

/// How each column's flank stands to the light, −1 to 1.
fn slopes(canvas: &Canvas, layer: &Layer, sun_x: f32) -> Vec<f32> {
    let reach = canvas.unit() / 60.0;
    (0..canvas.width() as usize)
        .map(|x| {
            let x = x as f32;
            let rise = (layer.ground.at(x + reach) - layer.ground.at(x - reach)) / (2.0 * reach);
            // The flank that falls towards the sun is lit.
            let towards = if x < sun_x { rise } else { -rise };
            (towards * 5.0).clamp(-1.0, 1.0)
        })
        .collect()
}

/// How far aside a ridge has run at each depth.
fn bends(canvas: &Canvas, layer: &Layer) -> Vec<f32> {
    let unit = canvas.unit();
    let bend = |depth: f32| {
        octaves(3, 0.55, |octave, f| angular_noise(layer.seed ^ 0x71 ^ octave, depth / unit * 14.0 * f))
            * unit
            * 0.04
    };
    (0..canvas.height() as usize + 64).map(|depth| bend(depth as f32)).collect()
}

/// Down to where snow lies in each column; above the picture where none does.
fn snow_line(canvas: &Canvas, layer: &Layer) -> Vec<f32> {
    if !layer.snow {
        return Vec::new();
    }
    let unit = canvas.unit();
    let line = layer.ground.highest() + unit * 0.09;
    (0..canvas.width() as usize)
        .map(|x| {
            let x = x as f32 / unit;
            line + unit
                * 0.05
                * octaves(3, 0.65, |octave, f| angular_noise(layer.seed ^ 0x31 ^ octave, x * 17.0 * f))
        })
        .collect()
}

/// One large conifer with branches, `foot` being the middle of its lower end.
pub(super) fn big_conifer(
    canvas: &mut Canvas,
    (x, foot): (f32, f32),
    height: f32,
    color: Color,
    random: &mut Random,
) {
    let trunk = height * 0.018;
    canvas.rectangle((x - trunk, foot - height * 0.2), (x + trunk, foot), color, 1.0);
    let tiers = 13;
    for tier in 0..tiers {
        let t = tier as f32 / tiers as f32;
        let top = foot - height * (1.0 - t * 0.92);
        let half = height * (0.025 + 0.2 * t) * random.between(0.85, 1.12);
        let drop = height * (0.075 + 0.075 * t);
        let lift = drop * 0.28;
        canvas.shape(
            &[
                (x, top),
                (x + half * 0.4, top + drop * 0.5),
                (x + half, top + drop),
                (x + half * 0.45, top + drop - lift * 0.6),
                (x, top + drop * 0.92),
                (x - half * 0.5, top + drop - lift * 0.6),
                (x - half, top + drop * random.between(0.9, 1.05)),
                (x - half * 0.4, top + drop * 0.5),
            ],
            color,
            1.0,
        );
    }
}

/// One tree with a round crown.
pub(super) fn round_tree(
    canvas: &mut Canvas,
    (x, foot): (f32, f32),
    height: f32,
    palette: &Palette,
    random: &mut Random,
) {
    let bark = palette.thing(Color::hex(0x4a3527), 0.95);
    let (dark, lit) = (palette.thing(Color::hex(0x2f5a2a), 0.97), palette.thing(Color::hex(0x5f8f3c), 0.97));
    let trunk = height * 0.035;
    let crown = foot - height * 0.66;
    canvas.shape(
        &[
            (x - trunk * 1.5, foot),
            (x - trunk * 0.6, crown),
            (x + trunk * 0.6, crown),
            (x + trunk * 1.5, foot),
        ],
        bark,
        1.0,
    );
    for (color, lift, count) in [(dark, 0.0, 22), (dark.mix(lit, 0.5), 0.04, 16), (lit, 0.085, 9)] {
        for _ in 0..count {
            let (dx, dy) = (random.between(-1.0, 1.0), random.between(-1.0, 1.0));
            if dx * dx + dy * dy > 1.0 {
                continue;
            }
            let spread = 1.0 - lift * 3.0;
            let center =
                (x + (dx * 0.27 * spread - lift) * height, crown + (dy * 0.2 * spread - lift) * height);
            canvas.disc(center, height * random.between(0.07, 0.13), color, 1.0);
        }
    }
}

/// Grass and flowers along the lower edge: many, and of a colour, when the prompt asks for them.
pub(super) fn flowers(
    canvas: &mut Canvas,
    ground: &Profile,
    palette: &Palette,
    (many, tint): (bool, Option<u32>),
    random: &mut Random,
) {
    let (width, height, unit) = (canvas.width(), canvas.height(), canvas.unit());
    let kinds = [0xf4f1e6, 0xf0c23c, 0xe05a4e, 0xc87ad0, 0xf09ab4];
    let first = tint.unwrap_or(random.pick(kinds[0], &kinds));
    let second = random.pick(kinds[1], &kinds);
    let count = if many { 900 } else { 380 };
    for at in 0..count {
        // From far to near, larger and sparser.
        let t = (at as f32 + random.unit()) / count as f32;
        let x = random.between(-0.02, 1.02) * width;
        let top = ground.at(x);
        let y = top + (height * 1.03 - top) * (0.06 + 0.94 * t);
        let size = unit * (0.0012 + 0.0052 * t * t);
        let color = Color::hex(if random.chance(0.72) { first } else { second });
        let color = palette.thing(color, 0.75 + 0.25 * t);
        let stem = palette.land(0.9).scaled(0.8);
        if t > 0.4 {
            let lean = random.between(-1.0, 1.0) * size;
            canvas.shape(&[(x - size * 0.2, y), (x + lean, y + size * 5.0), (x + size * 0.2, y)], stem, 0.8);
        }
        canvas.ellipse((x, y), (size, size * 0.8), |_, _| (color, 0.95));
        if t > 0.6 {
            canvas.disc((x, y), size * 0.35, color.scaled(0.72), 0.9);
        }
    }
}
