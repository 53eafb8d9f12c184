//! Colours of the sky and of the land, chosen by light, land and the words for colours.

use super::color::Color;
use super::random::Random;
use super::theme::{Motif, Terrain, Theme, Time};

/// The colours of one picture.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    /// From the top of the picture down to the horizon.
    pub(super) sky: [Color; 4],
    /// Sun or moon.
    pub(super) disc: Color,
    /// The light around it.
    pub(super) glow: Color,
    /// Lit and unlit sides of clouds.
    pub(super) clouds: (Color, Color),
    /// What distance fades to.
    pub(super) haze: Color,
    /// What falls on the land.
    pub(super) light: Color,
    /// The land itself under white light, near and far.
    land: (Color, Color),
    /// Lamps and windows.
    pub(super) lamp: Color,
    /// Windows and lamps are lit.
    pub(super) dark: bool,
}

/// One light: sky from top to horizon, disc, glow, haze, and the light on the land.
struct Light {
    sky: [u32; 4],
    disc: u32,
    glow: u32,
    haze: u32,
    on_land: [f32; 3],
}

const DAWN: [Light; 3] = [
    Light {
        sky: [0x5b6fae, 0x9a8fc0, 0xf0b7a4, 0xffe0b8],
        disc: 0xfff3d6,
        glow: 0xffd9a8,
        haze: 0xf0c4b4,
        on_land: [0.84, 0.72, 0.74],
    },
    Light {
        sky: [0x6d8fb8, 0xa9b4cf, 0xf3c8c0, 0xfde7cf],
        disc: 0xfff6e2,
        glow: 0xffe2c0,
        haze: 0xeccfca,
        on_land: [0.84, 0.78, 0.80],
    },
    Light {
        sky: [0x3f6f8f, 0x7fa8b0, 0xe8c9a8, 0xffe6b0],
        disc: 0xfff0c4,
        glow: 0xffdf9c,
        haze: 0xd9cdb4,
        on_land: [0.80, 0.78, 0.72],
    },
];
const DAY: [Light; 3] = [
    Light {
        sky: [0x3a82cc, 0x66a9de, 0xa4d2ee, 0xe4f3f6],
        disc: 0xfffdf0,
        glow: 0xffffff,
        haze: 0xc9e3ef,
        on_land: [1.0, 1.0, 1.0],
    },
    Light {
        sky: [0x2f8fb5, 0x62b7cf, 0xa8dde0, 0xeef7e8],
        disc: 0xfffdf0,
        glow: 0xfffff0,
        haze: 0xcbe8e4,
        on_land: [1.0, 1.02, 0.96],
    },
    Light {
        sky: [0x5688c7, 0x86aede, 0xbcd3ee, 0xf6ecdf],
        disc: 0xfffbe6,
        glow: 0xfff6e0,
        haze: 0xd8e0ee,
        on_land: [1.02, 0.98, 0.96],
    },
];
const GOLDEN: [Light; 3] = [
    Light {
        sky: [0x6883b4, 0xc3a998, 0xf5bd6a, 0xffe19a],
        disc: 0xfff4cc,
        glow: 0xffe2a0,
        haze: 0xf4c98a,
        on_land: [1.02, 0.84, 0.62],
    },
    Light {
        sky: [0x8a7fa8, 0xdc9c86, 0xf7b267, 0xffd98c],
        disc: 0xfff0c0,
        glow: 0xffd890,
        haze: 0xf2b887,
        on_land: [1.0, 0.80, 0.62],
    },
    Light {
        sky: [0x4f8a9a, 0x9db99c, 0xf0ce7c, 0xfff0b4],
        disc: 0xfffadc,
        glow: 0xfff0b0,
        haze: 0xe6d59c,
        on_land: [0.98, 0.90, 0.66],
    },
];
const DUSK: [Light; 4] = [
    Light {
        sky: [0x29295c, 0x6a3a7e, 0xd8587a, 0xffae62],
        disc: 0xffe3a0,
        glow: 0xffb070,
        haze: 0xd9788a,
        on_land: [0.50, 0.36, 0.50],
    },
    Light {
        sky: [0x1f2a55, 0x4f4a8c, 0xc97a9a, 0xffd0a0],
        disc: 0xffecc4,
        glow: 0xffc8a0,
        haze: 0xc08aa4,
        on_land: [0.48, 0.42, 0.56],
    },
    Light {
        sky: [0x143a55, 0x3d6f80, 0xe6a36e, 0xffd28e],
        disc: 0xfff0c0,
        glow: 0xffcf90,
        haze: 0xc79c84,
        on_land: [0.50, 0.46, 0.48],
    },
    Light {
        sky: [0x3a1f4d, 0x8c2f5c, 0xe8553f, 0xffb347],
        disc: 0xffe08a,
        glow: 0xff9a50,
        haze: 0xd9654f,
        on_land: [0.50, 0.32, 0.40],
    },
];
const NIGHT: [Light; 3] = [
    Light {
        sky: [0x070b1f, 0x0f1a3d, 0x1d3160, 0x3f5a8a],
        disc: 0xf5f0dc,
        glow: 0xb9c8e8,
        haze: 0x35507f,
        on_land: [0.20, 0.24, 0.38],
    },
    Light {
        sky: [0x04141f, 0x08303f, 0x11525c, 0x3a8683],
        disc: 0xf2f5e2,
        glow: 0xa8e0d4,
        haze: 0x2a6e70,
        on_land: [0.18, 0.27, 0.34],
    },
    Light {
        sky: [0x120a2a, 0x2a1a52, 0x4c2f7a, 0x8a5aa0],
        disc: 0xfbeee0,
        glow: 0xd9b8e8,
        haze: 0x6a4a8c,
        on_land: [0.26, 0.22, 0.40],
    },
];

impl Palette {
    pub(super) fn of(theme: &Theme, random: &mut Random) -> Self {
        let lights: &[Light] = match theme.time {
            Time::Dawn => &DAWN,
            Time::Day => &DAY,
            Time::Golden => &GOLDEN,
            Time::Dusk => &DUSK,
            Time::Night => &NIGHT,
        };
        let chosen = lights.get(random.below(lights.len())).unwrap_or(&DAY_OF_NO_CHOICE);
        let (near, far) = land(theme.terrain);
        let [red, green, blue] = chosen.on_land;
        let dark = matches!(theme.time, Time::Dusk | Time::Night);
        let mut palette = Self {
            sky: chosen.sky.map(Color::hex),
            disc: Color::hex(chosen.disc),
            glow: Color::hex(chosen.glow),
            clouds: (Color::hex(chosen.sky[3]).mix(Color::hex(0xffffff), 0.35), Color::hex(chosen.sky[1])),
            haze: Color::hex(chosen.haze),
            light: Color([red, green, blue]),
            land: (Color::hex(near), Color::hex(far)),
            lamp: Color::hex(0xffd98a),
            dark,
        };
        if let Some(tint) = theme.sky_tint() {
            palette.tint(Color::hex(tint), theme.time);
        }
        if theme.has(Motif::Rain) || theme.has(Motif::Fog) {
            palette.dull(theme);
        }
        palette
    }

    /// A colour that the prompt names colours sky and haze.
    fn tint(&mut self, tint: Color, time: Time) {
        let depth = if time == Time::Night { 0.35 } else { 0.8 };
        for (color, strength) in self.sky.iter_mut().zip([0.45, 0.5, 0.5, 0.3]) {
            *color = color.mix(tint.scaled(depth), strength);
        }
        self.haze = self.haze.mix(tint.scaled(depth), 0.45);
        self.clouds.1 = self.clouds.1.mix(tint, 0.4);
    }

    /// Rain and fog take colour and contrast away.
    fn dull(&mut self, theme: &Theme) {
        let brightness = match theme.time {
            Time::Night => 0.16,
            Time::Dusk => 0.42,
            _ => 0.72,
        };
        let gray = Color([brightness * 0.96, brightness, brightness * 1.05]);
        for color in &mut self.sky {
            *color = color.mix(gray, 0.6);
        }
        self.haze = self.haze.mix(gray, 0.65);
        self.glow = self.glow.mix(gray, 0.4);
        self.clouds = (self.clouds.0.mix(gray, 0.5), self.clouds.1.mix(gray, 0.7).scaled(0.85));
    }

    /// A thing's colour in this light, faded by distance: 0 is far, 1 near.
    pub(super) fn thing(&self, color: Color, near: f32) -> Color {
        color.lit(self.light).mix(self.haze, (1.0 - near) * 0.85)
    }

    /// The land's colour at this distance: 0 is far, 1 near.
    pub(super) fn land(&self, near: f32) -> Color {
        let (front, back) = self.land;
        self.thing(back.mix(front, near), 0.12 + 0.88 * near)
    }

    /// The sky's colour between the picture's top (0) and the horizon (1).
    pub(super) fn sky_at(&self, t: f32) -> Color {
        let [top, upper, lower, horizon] = self.sky;
        let t = t.clamp(0.0, 1.0) * 3.0;
        if t < 1.0 {
            top.mix(upper, t)
        } else if t < 2.0 {
            upper.mix(lower, t - 1.0)
        } else {
            lower.mix(horizon, t - 2.0)
        }
    }
}

const DAY_OF_NO_CHOICE: Light = Light {
    sky: [0x3a82cc, 0x66a9de, 0xa4d2ee, 0xe4f3f6],
    disc: 0xfffdf0,
    glow: 0xffffff,
    haze: 0xc9e3ef,
    on_land: [1.0, 1.0, 1.0],
};

/// The land's own colours, near and far.
const fn land(terrain: Terrain) -> (u32, u32) {
    match terrain {
        Terrain::Mountains => (0x2f4a3a, 0x66788c),
        Terrain::Lake => (0x29463a, 0x5e7a86),
        Terrain::Forest => (0x18382a, 0x4f7a66),
        Terrain::Sea => (0x39443c, 0x7c8f94),
        Terrain::Desert => (0xb8622c, 0xe3ab6a),
        Terrain::Snow => (0xdfe9f5, 0xc3d4e8),
        Terrain::City => (0x272d40, 0x6f7c98),
        Terrain::Meadow => (0x44702f, 0x8db070),
    }
}
