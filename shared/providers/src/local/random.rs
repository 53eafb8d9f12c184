//! Random numbers and noise that are the same on every machine: integers, and of floating point only the operations that
//! IEEE 754 fixes to the last bit (+ − × ÷ √ and rounding). No sine, power or logarithm, whose last bits differ between
//! libraries.

use sha2::{Digest as _, Sha256};

/// A stream of random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The stream that belongs to a text and a number.
    pub(super) fn new(text: &str, number: u64) -> Self {
        let digest = Sha256::new().chain_update(number.to_be_bytes()).chain_update(text).finalize();
        Self(digest.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte)))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 up to but not including 1.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    /// From `low` up to but not including `high`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// From 0 up to but not including `below`.
    pub(super) fn below(&mut self, below: usize) -> usize {
        (self.unit() * below as f32) as usize
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// One of several.
    pub(super) fn pick<T: Copy>(&mut self, first: T, rest: &[T]) -> T {
        let at = self.below(rest.len() + 1);
        at.checked_sub(1).and_then(|at| rest.get(at)).copied().unwrap_or(first)
    }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A value for a point of the integer grid, from −1 to 1.
fn lattice(seed: u32, x: i32, y: i32) -> f32 {
    let mut value = seed ^ (x as u32).wrapping_mul(0x85eb_ca6b) ^ (y as u32).wrapping_mul(0xc2b2_ae35);
    value = (value ^ (value >> 15)).wrapping_mul(0x2c1b_3c6d);
    value = (value ^ (value >> 12)).wrapping_mul(0x297a_2d39);
    value ^= value >> 15;
    (value >> 8) as f32 / 8_388_608.0 - 1.0
}

/// Smooth noise over a line, from −1 to 1.
pub(super) fn noise(seed: u32, x: f32) -> f32 {
    let (cell, t) = split(x);
    mix_f32(lattice(seed, cell, 0), lattice(seed, cell + 1, 0), smooth(t))
}

/// Noise over a line with straight flanks, from −1 to 1.
pub(super) fn angular_noise(seed: u32, x: f32) -> f32 {
    let (cell, t) = split(x);
    mix_f32(lattice(seed, cell, 0), lattice(seed, cell + 1, 0), t)
}

/// Smooth noise over the plane, from −1 to 1.
pub(super) fn plane_noise(seed: u32, x: f32, y: f32) -> f32 {
    let ((column, tx), (row, ty)) = (split(x), split(y));
    let tx = smooth(tx);
    let top = mix_f32(lattice(seed, column, row), lattice(seed, column + 1, row), tx);
    let bottom = mix_f32(lattice(seed, column, row + 1), lattice(seed, column + 1, row + 1), tx);
    mix_f32(top, bottom, smooth(ty))
}

/// Octaves of a noise, each twice as fine and `gain` as strong; about −1 to 1.
pub(super) fn octaves(count: u32, gain: f32, mut noise: impl FnMut(u32, f32) -> f32) -> f32 {
    let (mut sum, mut weight, mut weights, mut frequency) = (0.0, 1.0, 0.0, 1.0);
    for octave in 0..count {
        sum += weight * noise(octave, frequency);
        weights += weight;
        weight *= gain;
        frequency *= 2.0;
    }
    sum / weights
}

fn split(x: f32) -> (i32, f32) {
    // `floor` is a call on the plainest x86-64; this is not.
    let toward_zero = x as i32;
    let floor = toward_zero - i32::from(x < toward_zero as f32);
    (floor, x - floor as f32)
}

/// 0 to 1 with level ends.
pub(super) fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// `smooth` between two edges, 0 before and 1 after them.
pub(super) fn smooth_step(from: f32, to: f32, x: f32) -> f32 {
    smooth(((x - from) / (to - from)).clamp(0.0, 1.0))
}

pub(super) fn mix_f32(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}
