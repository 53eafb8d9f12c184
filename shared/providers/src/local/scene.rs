//! Puts a picture together: sky, land, water, things.

use super::canvas::{Canvas, Profile};
use super::color::Color;
use super::land::{self, Kind, Layer};
use super::motifs;
use super::palette::Palette;
use super::random::{Random, noise, octaves, smooth};
use super::sky::{self, Sky};
use super::theme::{Motif, Terrain, Theme};
use super::water::{self, Surface};

/// Everything that the parts of a scene share.
struct Scene {
    canvas: Canvas,
    theme: Theme,
    palette: Palette,
    sky: Sky,
    random: Random,
}

/// Paints the picture that belongs to a prompt and a seed.
pub(super) fn paint(prompt: &str, seed: u64, width: u32, height: u32) -> Canvas {
    let theme = Theme::of(prompt, seed);
    let mut random = Random::new(prompt, seed.wrapping_add(1));
    let palette = Palette::of(&theme, &mut random);
    let mut canvas = Canvas::new(width, height);
    let share = match theme.terrain {
        Terrain::Sea => 0.6,
        Terrain::Lake => 0.58,
        Terrain::City => 0.68,
        Terrain::Desert | Terrain::Meadow => 0.62,
        Terrain::Mountains | Terrain::Forest | Terrain::Snow => 0.66,
    };
    let horizon = (canvas.height() * (share + random.between(-0.025, 0.025))).floor();
    let sky = sky::paint(&mut canvas, &theme, &palette, horizon, &mut random);
    let mut scene = Scene { canvas, theme, palette, sky, random };
    scene.in_the_air();
    match scene.theme.terrain {
        Terrain::Mountains => scene.mountains(),
        Terrain::Lake => scene.lake(),
        Terrain::Forest => scene.forest(),
        Terrain::Sea => scene.sea(),
        Terrain::Desert => scene.desert(),
        Terrain::Snow => scene.snow(),
        Terrain::City => scene.city(),
        Terrain::Meadow => scene.meadow(),
    }
    scene.in_front();
    scene.canvas
}

impl Scene {
    /// A height in pixels: 0 is the horizon, 1 the lower edge.
    fn down(&self, t: f32) -> f32 {
        self.sky.horizon + (self.canvas.height() - self.sky.horizon) * t
    }

    fn layer(&mut self, kind: Kind, base: f32, swing: f32, near: f32) -> Layer {
        // A wide picture is low: what swings does so within its height.
        let room = self.canvas.unit().min(self.canvas.height() * 1.1);
        Layer::new(&self.canvas, kind, base, swing * room, near, &mut self.random)
    }

    fn mist(&self) -> f32 {
        if self.theme.has(Motif::Fog) { 1.0 } else { 0.72 }
    }

    fn land(&mut self, layers: &[Layer]) {
        let mist = self.mist();
        land::paint(&mut self.canvas, layers, &self.palette, self.sky.disc.0, mist);
    }

    /// A place on a third of the width, away from the sun.
    fn aside(&mut self) -> f32 {
        let width = self.canvas.width();
        let third = if self.sky.disc.0 > width * 0.5 { 0.29 } else { 0.71 };
        width * (third + self.random.between(-0.04, 0.04))
    }

    /// Birds and balloons.
    fn in_the_air(&mut self) {
        let (width, unit) = (self.canvas.width(), self.canvas.unit());
        if self.theme.has(Motif::Balloon) {
            let count = (3.0 + 3.5 * width / unit) as usize;
            for at in 0..count {
                let t = at as f32 / (count - 1) as f32;
                let x = width * ((at as f32 * 0.618 + 0.2) % 1.0 * 0.86 + 0.07);
                let y = self.sky.horizon * self.random.between(0.16, 0.72 - 0.34 * t);
                let size = unit * (0.045 + 0.14 * t * t);
                // Of a named colour is every other one, so that the rest may still differ.
                let tint = self.theme.thing_tint().filter(|_| at % 2 == (count - 1) % 2);
                let look = (0.5 + 0.48 * t, tint);
                motifs::balloon(&mut self.canvas, (x, y), size, &self.palette, look, &mut self.random);
            }
        }
        let wild =
            matches!(self.theme.terrain, Terrain::Sea | Terrain::Mountains | Terrain::Lake | Terrain::Meadow);
        if self.theme.has(Motif::Birds) || wild && !self.theme.has(Motif::Rain) && self.random.chance(0.4) {
            let flocks = if self.theme.has(Motif::Birds) { 3 } else { 1 };
            for _ in 0..flocks {
                let around = (
                    width * self.random.between(0.15, 0.85),
                    self.sky.horizon * self.random.between(0.25, 0.6),
                );
                motifs::birds(&mut self.canvas, around, &self.palette, &mut self.random);
            }
        }
    }

    /// What falls in front of everything.
    fn in_front(&mut self) {
        if self.theme.has(Motif::Snowfall) || self.theme.terrain == Terrain::Snow && self.random.chance(0.6) {
            let many = self.theme.has(Motif::Snowfall);
            motifs::snowfall(&mut self.canvas, &self.palette, many, &mut self.random);
        }
        if self.theme.has(Motif::Rain) {
            motifs::rain(&mut self.canvas, &self.palette, &mut self.random);
        }
    }

    fn mountains(&mut self) {
        let (height, horizon) = (self.canvas.height(), self.sky.horizon);
        let snow = self.random.chance(0.75);
        let snowy = |layer: Layer| if snow { layer.with_snow() } else { layer };
        let mut layers = vec![
            snowy(self.layer(Kind::Mountains, horizon - height * 0.16, 0.15, 0.12)),
            snowy(self.layer(Kind::Mountains, horizon - height * 0.03, 0.14, 0.32)),
            self.layer(Kind::Hills, self.down(0.12), 0.05, 0.52),
            self.layer(Kind::Hills, self.down(0.36), 0.05, 0.72),
            self.layer(Kind::Hills, self.down(0.66), 0.05, 0.9),
        ];
        self.plant(&mut layers, &[(2, 0.03), (3, 0.055), (4, 0.1)], -0.05);
        if self.theme.has(Motif::Castle) {
            let x = self.aside();
            let foot = layers.get(3).map_or(horizon, |layer| layer.profile.at(x));
            let (back, front) = layers.split_at(3);
            self.land(back);
            let size = self.canvas.unit() * 0.3;
            motifs::castle(&mut self.canvas, (x, foot + size * 0.06), size, &self.palette, 0.72);
            self.land(front);
        } else {
            self.land(&layers);
        }
        self.house_on(&layers, false);
    }

    /// Plants conifers on some layers: which, and how tall in units.
    fn plant(&mut self, layers: &mut [Layer], rows: &[(usize, f32)], density: f32) {
        let unit = self.canvas.unit();
        for (at, tall) in rows {
            if let Some(layer) = layers.get_mut(*at) {
                layer.plant(&self.canvas, unit * tall, density, &mut self.random);
            }
        }
    }

    /// A house on the nearest layer but one, when the prompt asks for it.
    fn house_on(&mut self, layers: &[Layer], snowy: bool) {
        if !self.theme.has(Motif::House) {
            return;
        }
        let x = self.aside();
        let Some(layer) = layers.last() else { return };
        let size = self.canvas.unit() * 0.15;
        let foot =
            layer.profile.at(x).max(layer.profile.at(x - size * 0.5)).max(layer.profile.at(x + size * 0.5));
        motifs::house(
            &mut self.canvas,
            (x, foot + size * 0.12),
            size,
            &self.palette,
            snowy,
            &mut self.random,
        );
    }

    fn lake(&mut self) {
        let (height, horizon, unit) = (self.canvas.height(), self.sky.horizon, self.canvas.unit());
        let mut layers = vec![
            self.layer(Kind::Mountains, horizon - height * 0.13, 0.14, 0.12).with_snow(),
            self.layer(Kind::Mountains, horizon - height * 0.05, 0.08, 0.3),
            self.layer(Kind::Hills, horizon - height * 0.03, 0.025, 0.46),
            self.layer(Kind::Hills, horizon - height * 0.004, 0.006, 0.62),
        ];
        self.plant(&mut layers, &[(2, 0.035), (3, 0.05)], 0.15);
        self.land(&layers);
        water::paint(&mut self.canvas, horizon, Surface::Still, &self.palette, &self.sky, &mut self.random);
        if self.theme.has(Motif::Boat) || self.random.chance(0.25) {
            let at = (self.aside(), self.down(0.3));
            let look = (0.85, self.theme.thing_tint());
            motifs::boat(&mut self.canvas, at, unit * 0.12, &self.palette, look, &mut self.random);
        }
        let bank = vec![self.layer(Kind::Hills, self.down(0.95), 0.05, 0.97)];
        self.land(&bank);
        self.house_on(&bank, false);
        self.frame(&bank);
    }

    /// Tall conifers at one side or both, to look past.
    fn frame(&mut self, bank: &[Layer]) {
        let (width, unit) = (self.canvas.width(), self.canvas.unit());
        let Some(layer) = bank.last() else { return };
        let color = if self.theme.terrain == Terrain::Snow {
            self.palette.thing(Color::hex(0x223a34), 1.0)
        } else {
            self.palette.land(1.0).scaled(0.82)
        };
        let sun_left = self.sky.disc.0 < width * 0.5;
        let sides: &[(f32, usize)] = if sun_left { &[(1.0, 4), (0.0, 1)] } else { &[(0.0, 4), (1.0, 1)] };
        for (side, count) in sides {
            for tree in 0..*count {
                let inwards = unit * (0.02 + 0.075 * tree as f32) * if *side > 0.5 { -1.0 } else { 1.0 };
                let x = width * side + inwards + self.random.between(-0.015, 0.015) * unit;
                let tall = unit * self.random.between(0.3, 0.52) * (1.0 - 0.14 * tree as f32);
                let foot = layer.profile.at(x) + unit * 0.02;
                land::big_conifer(&mut self.canvas, (x, foot), tall, color, &mut self.random);
            }
        }
    }

    fn forest(&mut self) {
        let (height, horizon) = (self.canvas.height(), self.sky.horizon);
        let mut layers = vec![
            self.layer(Kind::Mountains, horizon - height * 0.14, 0.1, 0.1),
            self.layer(Kind::Hills, horizon - height * 0.06, 0.06, 0.28),
            self.layer(Kind::Hills, self.down(0.04), 0.055, 0.45),
            self.layer(Kind::Hills, self.down(0.3), 0.055, 0.64),
            self.layer(Kind::Hills, self.down(0.62), 0.05, 0.82),
            self.layer(Kind::Hills, self.down(0.95), 0.04, 1.0),
        ];
        self.plant(&mut layers, &[(1, 0.028), (2, 0.048), (3, 0.08), (4, 0.13)], 0.45);
        self.land(&layers);
        self.house_on(&layers, false);
        self.frame(&layers);
    }

    fn sea(&mut self) {
        let (width, height, horizon, unit) =
            (self.canvas.width(), self.canvas.height(), self.sky.horizon, self.canvas.unit());
        let islands = vec![
            self.layer(Kind::Hills, horizon + height * 0.008, 0.05, 0.16),
            self.layer(Kind::Hills, horizon + height * 0.016, 0.035, 0.36),
        ];
        self.land(&islands);
        water::paint(&mut self.canvas, horizon, Surface::Waves, &self.palette, &self.sky, &mut self.random);
        let lighthouse = self.theme.has(Motif::Lighthouse);
        if self.theme.has(Motif::Boat) || !lighthouse && self.random.chance(0.7) {
            let count = 1 + self.random.below(3);
            for at in 0..count {
                let t = self.random.between(0.1, 0.42) + 0.12 * at as f32;
                let x = width * self.random.between(0.2, 0.8);
                let size = unit * (0.05 + 0.16 * t);
                let y = self.down(t);
                let look = (0.5 + 0.6 * t.min(0.7), self.theme.thing_tint());
                motifs::boat(&mut self.canvas, (x, y), size, &self.palette, look, &mut self.random);
            }
        }
        if lighthouse || self.random.chance(0.5) {
            self.cliff(lighthouse);
        }
    }

    /// Rocks that rise to one side, with a lighthouse on them.
    fn cliff(&mut self, lighthouse: bool) {
        let (width, unit) = (self.canvas.width(), self.canvas.unit());
        let seed = self.random.next() as u32;
        let right = self.sky.disc.0 < width * 0.5;
        let reach = width.min(unit * 1.1) * 0.62;
        let (bottom, high) = (self.canvas.height() * 1.01, self.down(-0.02));
        let outline = |step: f32, raised: f32| {
            move |x: f32| {
                let inwards = if right { width - x } else { x };
                let t = (1.0 - inwards / (reach * step)).clamp(0.0, 1.0);
                let rise = smooth((t * 1.9).min(1.0));
                let rough =
                    octaves(5, 0.55, |octave, f| noise(seed ^ octave, x / unit * 7.0 * f)) * unit * 0.02;
                if t <= 0.0 { f32::MAX } else { bottom - (bottom - high) * raised * rise + rough * rise }
            }
        };
        for (step, raised, near) in [(1.0, 1.0, 0.82), (0.8, 0.46, 1.0)] {
            let top = outline(step, raised);
            let profile = Profile::new(&self.canvas, top);
            let color = self.palette.land(near);
            let grass = self.palette.thing(Color::hex(0x567040), near);
            let tops: Vec<f32> = (0..width as usize).map(|x| profile.at(x as f32 + 0.5)).collect();
            self.canvas.land(&profile, None, |x, y| {
                let depth = y - tops.get(x).copied().unwrap_or(0.0);
                let crack =
                    noise(seed ^ 3, (x as f32 + y * 0.35) / unit * 26.0) * noise(seed ^ 4, y / unit * 9.0);
                let rock = color
                    .scaled(1.0 + ((0.16 * crack - 0.25 * (depth / unit).min(0.4)) * 40.0).floor() / 40.0);
                grass.mix(rock, (depth / (unit * 0.03)).clamp(0.0, 1.0)).to_bytes()
            });
            if lighthouse && step > 0.9 {
                let x = if right { width - reach * 0.36 } else { reach * 0.36 };
                let tall = (unit * 0.42).min(self.sky.horizon * 0.72);
                motifs::lighthouse(&mut self.canvas, (x, profile.at(x) + unit * 0.012), tall, &self.palette);
            }
        }
    }

    fn desert(&mut self) {
        let (height, horizon, unit) = (self.canvas.height(), self.sky.horizon, self.canvas.unit());
        let layers = vec![
            self.layer(Kind::Mountains, horizon - height * 0.01, 0.05, 0.1),
            self.layer(Kind::Dunes, horizon + height * 0.02, 0.05, 0.32),
            self.layer(Kind::Dunes, self.down(0.24), 0.075, 0.55),
            self.layer(Kind::Dunes, self.down(0.52), 0.095, 0.77),
            self.layer(Kind::Dunes, self.down(0.88), 0.1, 0.98),
        ];
        self.land(&layers);
        let wished = self.theme.has(Motif::Cactus);
        if wished || self.random.chance(0.5) {
            let count = if wished { 4 } else { 2 };
            for at in 0..count {
                let (layer, tall) = if at % 2 == 0 { (4, 0.2) } else { (3, 0.09) };
                let x = self.canvas.width() * self.random.between(0.08, 0.92);
                let Some(ground) = layers.get(layer).map(|layer| layer.profile.at(x)) else { continue };
                // Those on the dune behind stand in front of it only where the nearest does not hide them.
                if layer == 3 && layers.get(4).is_some_and(|front| front.profile.at(x) < ground + unit * 0.03)
                {
                    continue;
                }
                let foot = (x, ground + unit * 0.012);
                motifs::cactus(&mut self.canvas, foot, unit * tall, &self.palette, &mut self.random);
            }
        }
    }

    fn snow(&mut self) {
        let (height, horizon) = (self.canvas.height(), self.sky.horizon);
        let mut layers = vec![
            self.layer(Kind::Mountains, horizon - height * 0.14, 0.15, 0.14).with_snow(),
            self.layer(Kind::Mountains, horizon - height * 0.01, 0.09, 0.34).with_snow(),
            self.layer(Kind::Hills, self.down(0.12), 0.04, 0.5),
            self.layer(Kind::Hills, self.down(0.4), 0.045, 0.75),
            self.layer(Kind::Hills, self.down(0.72), 0.05, 1.0),
        ];
        let mut rear = Vec::new();
        // Woods are dark on snow: rows of trees between the hills, each with a ground of its own colour.
        for (at, layer) in layers.drain(..).enumerate() {
            rear.push(layer);
            if at == 2 || at == 3 {
                let tall = self.canvas.unit() * if at == 2 { 0.045 } else { 0.085 };
                self.land(&rear);
                if let Some(ground) = rear.last() {
                    Self::wood(&mut self.canvas, ground, tall, &self.palette, &mut self.random);
                }
                rear.clear();
            }
        }
        self.land(&rear);
        self.house_on(&rear, true);
        if !self.theme.has(Motif::House) {
            self.frame(&rear);
        }
    }

    /// A row of conifers that stand apart on white ground.
    fn wood(canvas: &mut Canvas, ground: &Layer, tall: f32, palette: &Palette, random: &mut Random) {
        let color = palette.thing(Color::hex(0x264038), ground.near);
        let seed = random.next() as u32;
        let mut x = -tall;
        while x < canvas.width() + tall {
            if noise(seed, x / canvas.unit() * 5.0) > -0.1 {
                let foot = ground.profile.at(x) + tall * random.between(0.03, 0.3);
                land::big_conifer(canvas, (x, foot), tall * random.between(0.6, 1.0), color, random);
            }
            x += tall * random.between(0.2, 0.5);
        }
    }

    fn city(&mut self) {
        let (horizon, unit) = (self.sky.horizon, self.canvas.unit());
        let tall = unit.min(self.sky.horizon * 1.4);
        for (share, near) in [(0.5, 0.12), (0.4, 0.42), (0.27, 0.85)] {
            motifs::skyline(&mut self.canvas, horizon, tall * share, &self.palette, near, &mut self.random);
        }
        water::paint(&mut self.canvas, horizon, Surface::Still, &self.palette, &self.sky, &mut self.random);
        let (width, quay) = (self.canvas.width(), self.palette.land(1.0).scaled(0.55));
        self.canvas.rectangle((0.0, horizon - unit * 0.006), (width, horizon + unit * 0.004), quay, 1.0);
        self.canvas.rectangle((0.0, horizon + unit * 0.004), (width, horizon + unit * 0.04), quay, 0.35);
        if self.theme.has(Motif::Boat) {
            let at = (self.aside(), self.down(0.35));
            let look = (0.9, self.theme.thing_tint());
            motifs::boat(&mut self.canvas, at, unit * 0.1, &self.palette, look, &mut self.random);
        }
    }

    fn meadow(&mut self) {
        let (horizon, height, unit) = (self.sky.horizon, self.canvas.height(), self.canvas.unit());
        let mut layers = vec![
            self.layer(Kind::Mountains, horizon - height * 0.04, 0.06, 0.1),
            self.layer(Kind::Hills, horizon - height * 0.005, 0.035, 0.3),
            self.layer(Kind::Hills, self.down(0.14), 0.045, 0.5),
            self.layer(Kind::Hills, self.down(0.36), 0.05, 0.72),
            self.layer(Kind::Hills, self.down(0.62), 0.04, 0.95),
        ];
        self.plant(&mut layers, &[(1, 0.014), (2, 0.022)], -0.2);
        self.land(&layers);
        self.house_on(&layers, false);
        let Some(ground) = layers.last() else { return };
        if self.theme.has(Motif::Tree) || !self.theme.has(Motif::House) && self.random.chance(0.7) {
            let x = self.aside();
            let foot = (x, ground.profile.at(x) + unit * 0.02);
            land::round_tree(&mut self.canvas, foot, unit * 0.3, &self.palette, &mut self.random);
        }
        let wished = (self.theme.has(Motif::Flowers), self.theme.thing_tint());
        land::flowers(&mut self.canvas, &ground.profile, &self.palette, wished, &mut self.random);
    }
}
