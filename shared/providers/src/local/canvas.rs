//! Pixels, and the shapes that everything is made of.

use super::color::Color;

/// Sub-columns and sub-rows per pixel, for smooth edges.
pub(super) const SUB: usize = 4;

/// A picture being painted. Distances are in pixels; `unit` is the side of a square of the same area, so that a thing drawn
/// in units is as large in every ratio and size.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    height: usize,
    unit: f32,
    /// Red, green and blue of each pixel, row by row.
    pixels: Vec<u8>,
    /// How much of each pixel of a row a shape covers.
    coverage: Vec<f32>,
    /// Where a line crosses a polygon.
    crossings: Vec<f32>,
}

/// The upper edge of something that reaches down to the lower edge of the picture: `SUB` heights per column.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    tops: Vec<f32>,
}

impl Profile {
    /// `top` gives the height at a place on the x axis.
    pub(super) fn new(canvas: &Canvas, mut top: impl FnMut(f32) -> f32) -> Self {
        let tops = (0..canvas.width * SUB).map(|at| top((at as f32 + 0.5) / SUB as f32)).collect();
        Self { tops }
    }

    /// The height at a place; beyond the picture that of its edge.
    pub(super) fn at(&self, x: f32) -> f32 {
        let at = ((x * SUB as f32).max(0.0) as usize).min(self.tops.len().saturating_sub(1));
        self.tops.get(at).copied().unwrap_or(0.0)
    }

    /// Raises the edge where `top` is above it, for places from `from` to `to`.
    pub(super) fn raise(&mut self, from: f32, to: f32, mut top: impl FnMut(f32) -> f32) {
        let first = (from * SUB as f32).max(0.0) as usize;
        let last = (to * SUB as f32).max(0.0) as usize;
        for (at, height) in self.tops.iter_mut().enumerate().take(last).skip(first) {
            *height = height.min(top((at as f32 + 0.5) / SUB as f32));
        }
    }

    /// The highest point.
    pub(super) fn highest(&self) -> f32 {
        self.tops.iter().copied().fold(f32::MAX, f32::min)
    }

    /// For each column the highest and the lowest of its heights.
    fn extremes(&self) -> Vec<(f32, f32)> {
        let extremes = |tops: &[f32]| {
            tops.iter().fold((f32::MAX, f32::MIN), |(low, high), top| (low.min(*top), high.max(*top)))
        };
        self.tops.chunks(SUB).map(extremes).collect()
    }
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self {
            width,
            height,
            unit: (width as f32 * height as f32).sqrt(),
            pixels: vec![0; width * height * 3],
            coverage: Vec::new(),
            crossings: Vec::new(),
        }
    }

    pub(super) const fn width(&self) -> f32 {
        self.width as f32
    }

    pub(super) const fn height(&self) -> f32 {
        self.height as f32
    }

    pub(super) const fn unit(&self) -> f32 {
        self.unit
    }

    pub(super) fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Each row of pixels from one to another, with its number.
    pub(super) fn rows(&mut self, from: f32, to: f32) -> impl Iterator<Item = (usize, &mut [u8])> {
        let from = (from.max(0.0) as usize).min(self.height);
        let to = (to.max(0.0) as usize).min(self.height);
        let length = self.width * 3;
        self.pixels.chunks_exact_mut(length).enumerate().take(to).skip(from)
    }

    /// A copy of a row, the nearest one when it lies outside.
    pub(super) fn copy_row(&self, y: f32, into: &mut Vec<u8>) {
        let length = self.width * 3;
        let row = (y.max(0.0) as usize).min(self.height - 1);
        into.clear();
        into.extend_from_slice(self.pixels.get(row * length..(row + 1) * length).unwrap_or_default());
    }

    /// Paints a row of pixels over, from a fractional place to another.
    fn blend_row(row: &mut [u8], from: usize, coverage: &[f32], paint: &impl Fn(f32) -> (Color, f32)) {
        for ((at, pixel), covered) in
            row.chunks_exact_mut(3).enumerate().skip(from).zip(coverage).filter(|(_, c)| **c > 0.0)
        {
            let (color, alpha) = paint(at as f32 + 0.5);
            blend(pixel, color.to_bytes(), alpha * covered.min(1.0));
        }
    }

    /// Paints what lies below a profile, where it is above `below`; `paint` knows the pixel's x and y.
    pub(super) fn land(
        &mut self,
        profile: &Profile,
        below: Option<&Profile>,
        paint: impl Fn(usize, f32) -> [u8; 3],
    ) {
        let edges = profile.extremes();
        let hidden: Vec<f32> = match below {
            Some(below) => below.extremes().iter().map(|(_, lowest)| lowest + 1.0).collect(),
            None => vec![f32::MAX; edges.len()],
        };
        let end = hidden.iter().copied().fold(0.0, f32::max).min(self.height());
        for (y, row) in self.rows(profile.highest(), end + 1.0) {
            let y = y as f32;
            let columns = row.chunks_exact_mut(3).zip(&edges).zip(&hidden).zip(profile.tops.chunks(SUB));
            for (x, (((pixel, (highest, lowest)), hidden), tops)) in columns.enumerate() {
                if y + 1.0 <= *highest || y > *hidden {
                    continue;
                }
                let color = paint(x, y);
                if y >= *lowest {
                    pixel.copy_from_slice(&color);
                } else {
                    let covered: f32 = tops.iter().map(|top| (y + 1.0 - top).clamp(0.0, 1.0)).sum();
                    blend(pixel, color, covered / SUB as f32);
                }
            }
        }
    }

    /// Fills a polygon; `paint` gives colour and opacity of a point.
    pub(super) fn polygon(&mut self, points: &[(f32, f32)], paint: impl Fn(f32, f32) -> (Color, f32)) {
        let bounds = |pick: fn(&(f32, f32)) -> f32| {
            points.iter().map(pick).fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((left, right), (top, bottom)) = (bounds(|point| point.0), bounds(|point| point.1));
        let first = left.max(0.0) as usize;
        let columns = (right.min(self.width()) - first as f32).max(0.0) as usize + 1;
        let mut coverage = std::mem::take(&mut self.coverage);
        let mut crossings = std::mem::take(&mut self.crossings);
        for (y, row) in self.rows(top, bottom + 1.0) {
            coverage.clear();
            coverage.resize(columns, 0.0);
            for sub in 0..SUB {
                cross(points, y as f32 + (sub as f32 + 0.5) / SUB as f32, &mut crossings);
                for span in crossings.chunks_exact(2) {
                    if let [from, to] = span {
                        cover(&mut coverage, from - first as f32, to - first as f32, 1.0 / SUB as f32);
                    }
                }
            }
            Self::blend_row(row, first, &coverage, &|x| paint(x, y as f32 + 0.5));
        }
        self.coverage = coverage;
        self.crossings = crossings;
    }

    /// Fills a polygon with one colour.
    pub(super) fn shape(&mut self, points: &[(f32, f32)], color: Color, alpha: f32) {
        self.polygon(points, |_, _| (color, alpha));
    }

    /// Fills an upright rectangle with one colour.
    pub(super) fn rectangle(
        &mut self,
        (left, top): (f32, f32),
        (right, bottom): (f32, f32),
        color: Color,
        alpha: f32,
    ) {
        let first = left.max(0.0) as usize;
        let columns = (right.min(self.width()) - first as f32).max(0.0) as usize + 1;
        let mut coverage = std::mem::take(&mut self.coverage);
        for (y, row) in self.rows(top, bottom + 1.0) {
            let y = y as f32;
            let high = (bottom.min(y + 1.0) - top.max(y)).max(0.0);
            coverage.clear();
            coverage.resize(columns, 0.0);
            cover(&mut coverage, left - first as f32, right - first as f32, high);
            Self::blend_row(row, first, &coverage, &|_| (color, alpha));
        }
        self.coverage = coverage;
    }

    /// Fills an ellipse; `paint` gives colour and opacity of a point.
    pub(super) fn ellipse(
        &mut self,
        (x, y): (f32, f32),
        (across, up): (f32, f32),
        paint: impl Fn(f32, f32) -> (Color, f32),
    ) {
        for (row_at, row) in self.rows(y - up - 1.0, y + up + 2.0) {
            let dy = (row_at as f32 + 0.5 - y) / up;
            for (column, pixel) in columns(row, x - across - 1.0, x + across + 2.0) {
                let dx = (column as f32 + 0.5 - x) / across;
                // The distance to the edge in pixels, near enough for shapes that are not extremely flat.
                let distance = (1.0 - (dx * dx + dy * dy).sqrt()) * across.min(up);
                let covered = (distance + 0.5).clamp(0.0, 1.0);
                if covered > 0.0 {
                    let (color, alpha) = paint(column as f32 + 0.5, row_at as f32 + 0.5);
                    blend(pixel, color.to_bytes(), alpha * covered);
                }
            }
        }
    }

    /// Fills a disc with one colour.
    pub(super) fn disc(&mut self, center: (f32, f32), radius: f32, color: Color, alpha: f32) {
        self.ellipse(center, (radius, radius), |_, _| (color, alpha));
    }

    /// Lightens around a point, fading to nothing at `radius`.
    pub(super) fn glow(&mut self, (x, y): (f32, f32), radius: f32, color: Color, strength: f32) {
        let color = color.to_bytes();
        for (row_at, row) in self.rows(y - radius, y + radius + 1.0) {
            let dy = (row_at as f32 + 0.5 - y) / radius;
            for (column, pixel) in columns(row, x - radius, x + radius + 1.0) {
                let dx = (column as f32 + 0.5 - x) / radius;
                let left = 1.0 - (dx * dx + dy * dy);
                if left > 0.0 {
                    blend(pixel, color, strength * left * left * left);
                }
            }
        }
    }
}

/// The pixels of a row from one place to another.
fn columns(row: &mut [u8], from: f32, to: f32) -> impl Iterator<Item = (usize, &mut [u8])> {
    let (from, to) = (from.max(0.0) as usize, to.max(0.0) as usize);
    row.chunks_exact_mut(3).enumerate().take(to).skip(from)
}

/// Lays a colour over a pixel.
pub(super) fn blend(pixel: &mut [u8], color: [u8; 3], alpha: f32) {
    let alpha = (alpha * 256.0) as i32;
    for (channel, over) in pixel.iter_mut().zip(color) {
        let under = i32::from(*channel);
        *channel = (under + (((i32::from(over) - under) * alpha + 128) >> 8)) as u8;
    }
}

/// Lays one colour over a whole row.
pub(super) fn blend_all(row: &mut [u8], color: [u8; 3], alpha: f32) {
    let tables = color.map(|over| {
        let mut table = [0; 256];
        for (under, mixed) in (0..=255_u8).zip(&mut table) {
            let mut channel = [under];
            blend(&mut channel, [over; 3], alpha);
            *mixed = channel[0];
        }
        table
    });
    for pixel in row.chunks_exact_mut(3) {
        for (channel, table) in pixel.iter_mut().zip(&tables) {
            *channel = table.get(usize::from(*channel)).copied().unwrap_or_default();
        }
    }
}

/// Where a horizontal line enters and leaves a polygon.
fn cross(points: &[(f32, f32)], y: f32, crossings: &mut Vec<f32>) {
    crossings.clear();
    let following = points.iter().cycle().skip(1);
    let crossing = points
        .iter()
        .zip(following)
        .filter(|((_, y0), (_, y1))| (*y0 <= y) != (*y1 <= y))
        .map(|((x0, y0), (x1, y1))| x0 + (x1 - x0) * (y - y0) / (y1 - y0));
    crossings.extend(crossing);
    crossings.sort_by(f32::total_cmp);
}

/// Adds a span of a row to the coverage of its pixels, with fractions at both ends.
fn cover(coverage: &mut [f32], from: f32, to: f32, weight: f32) {
    let (from, to) = (from.max(0.0), to.max(0.0));
    for (at, covered) in coverage.iter_mut().enumerate().take(to as usize + 1).skip(from as usize) {
        let left = from.max(at as f32);
        let right = to.min(at as f32 + 1.0);
        *covered += weight * (right - left).max(0.0);
    }
}
