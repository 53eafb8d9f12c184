//! PNG (W3C PNG, third edition): chunks of length, type, data and CRC.

use super::strip::Strip;
use super::{Dimensions, ImageFault};

const SIGNATURE: usize = 8;
/// Length, type and CRC around a chunk's data.
const AROUND: usize = 12;

/// What `IHDR` says.
#[derive(Clone, Copy)]
struct Header {
    dimensions: Dimensions,
    color_type: u8,
}

impl Header {
    fn parse(data: &[u8]) -> Result<Self, ImageFault> {
        let &[w0, w1, w2, w3, h0, h1, h2, h3, depth, color_type, 0, 0, 0..=1] = data else {
            return Err(ImageFault::Malformed);
        };
        let samples = match (color_type, depth) {
            (0, 1 | 2 | 4 | 8 | 16) | (3, 1 | 2 | 4 | 8) => 1,
            (2, 8 | 16) => 3,
            (4, 8 | 16) => 2,
            (6, 8 | 16) => 4,
            _ => return Err(ImageFault::Malformed),
        };
        let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
        Ok(Self { dimensions: Dimensions::new(width, height, samples * u32::from(depth))?, color_type })
    }
}

/// How far the file has come; chunks that may come once are marked.
#[derive(Default)]
struct Seen {
    palette_entries: Option<usize>,
    once: Vec<[u8; 4]>,
    data: Data,
}

/// Image data is in consecutive `IDAT` chunks.
#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Data {
    #[default]
    Before,
    Inside,
    After,
}

/// Checks lengths, CRCs and order of all chunks, and keeps the critical ones and the four small ancillary ones that change
/// what pixels mean: `tRNS` (transparency), `gAMA`, `cHRM` and `sRGB` (a few fixed numbers each). An animation's first
/// picture stays: the chunks that animate it are ancillary.
pub(super) fn check(strip: &mut Strip) -> Result<Dimensions, ImageFault> {
    strip.keep(0..SIGNATURE)?;
    let mut at = SIGNATURE;
    let mut header: Option<Header> = None;
    let mut seen = Seen::default();
    loop {
        let [l0, l1, l2, l3, name @ ..] = strip.array::<8>(at)?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let end =
            at.checked_add(AROUND).and_then(|end| end.checked_add(length)).ok_or(ImageFault::Truncated)?;
        let crc = strip.array(end.saturating_sub(4))?;
        let covered = strip.get(at + 4..end.saturating_sub(4))?;
        if crc32fast::hash(covered) != u32::from_be_bytes(crc) {
            return Err(ImageFault::Damaged);
        }
        let data = covered.get(4..).unwrap_or_default();
        let kept = match (header, &name) {
            (None, b"IHDR") => {
                header = Some(Header::parse(data)?);
                true
            }
            (None, _) | (Some(_), b"IHDR") => return Err(ImageFault::Malformed),
            (Some(header), _) => seen.chunk(header, name, data)?,
        };
        if kept {
            strip.keep(at..end)?;
        }
        match header {
            Some(header) if &name == b"IEND" => return Ok(header.dimensions),
            _ => at = end,
        }
    }
}

impl Seen {
    /// Whether a chunk after `IHDR` is kept.
    fn chunk(&mut self, header: Header, name: [u8; 4], data: &[u8]) -> Result<bool, ImageFault> {
        if !name.iter().all(u8::is_ascii_alphabetic) {
            return Err(ImageFault::Malformed);
        }
        if &name != b"IDAT" && self.data == Data::Inside {
            self.data = Data::After;
        }
        match &name {
            b"IDAT" => self.image_data(header),
            b"IEND" if data.is_empty() && self.data == Data::After => Ok(true),
            b"PLTE" => self.palette(header, data),
            b"tRNS" => {
                let fits = match header.color_type {
                    0 => data.len() == 2,
                    2 => data.len() == 6,
                    3 => self.palette_entries.is_some_and(|entries| (1..=entries).contains(&data.len())),
                    _ => false,
                };
                self.small(name, fits)
            }
            b"gAMA" => self.small(name, data.len() == 4),
            b"cHRM" => self.small(name, data.len() == 32),
            b"sRGB" => self.small(name, matches!(data, [0..=3])),
            // A lower-case first letter marks a chunk that decoding can do without.
            [first, ..] if first.is_ascii_lowercase() => Ok(false),
            _ => Err(ImageFault::Malformed),
        }
    }

    fn image_data(&mut self, header: Header) -> Result<bool, ImageFault> {
        let has_palette = header.color_type != 3 || self.palette_entries.is_some();
        if self.data == Data::After || !has_palette {
            return Err(ImageFault::Malformed);
        }
        self.data = Data::Inside;
        Ok(true)
    }

    fn palette(&mut self, header: Header, data: &[u8]) -> Result<bool, ImageFault> {
        let entries = data.len() / 3;
        let fits = data.len().is_multiple_of(3)
            && (1..=256).contains(&entries)
            && matches!(header.color_type, 2 | 3 | 6);
        self.palette_entries = Some(entries);
        self.small(*b"PLTE", fits)
    }

    /// A chunk that comes at most once, before the image data, with a fitting length.
    fn small(&mut self, name: [u8; 4], fits: bool) -> Result<bool, ImageFault> {
        if !fits || self.data != Data::Before || self.once.contains(&name) {
            return Err(ImageFault::Malformed);
        }
        self.once.push(name);
        Ok(true)
    }
}
