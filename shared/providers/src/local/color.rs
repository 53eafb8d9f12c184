//! Colours.

/// Red, green and blue, each 0 to 1, as sRGB stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Color(pub(super) [f32; 3]);

impl Color {
    /// `0xRRGGBB`
    pub(super) const fn hex(hex: u32) -> Self {
        Self([
            ((hex >> 16) & 0xff) as f32 / 255.0,
            ((hex >> 8) & 0xff) as f32 / 255.0,
            (hex & 0xff) as f32 / 255.0,
        ])
    }

    /// This colour towards another one: 0 is this, 1 the other.
    pub(super) fn mix(self, other: Self, t: f32) -> Self {
        let [a, b, c] = self.0;
        let [x, y, z] = other.0;
        Self([a + (x - a) * t, b + (y - b) * t, c + (z - c) * t])
    }

    /// This colour under a coloured light.
    pub(super) fn lit(self, light: Self) -> Self {
        let [a, b, c] = self.0;
        let [x, y, z] = light.0;
        Self([a * x, b * y, c * z])
    }

    pub(super) fn scaled(self, by: f32) -> Self {
        Self(self.0.map(|channel| channel * by))
    }

    pub(super) fn to_bytes(self) -> [u8; 3] {
        // Casting saturates.
        self.0.map(|channel| (channel * 255.0 + 0.5) as u8)
    }
}
