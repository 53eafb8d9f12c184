//! JPEG (ITU-T T.81): marker segments, and entropy-coded data after each `SOS`.

use memchr::memchr;

use super::strip::Strip;
use super::{Dimensions, ImageFault};

/// More scans than any encoder writes make decoders slow out of proportion to the file.
const SCANS_MAX: u32 = 100;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

/// Checks the segments' lengths and order, and keeps the picture's tables, frame and scans, `JFIF` without a thumbnail
/// and Adobe's colour transform. Of the kinds of JPEG those pass that browsers show: baseline, extended and
/// progressive, Huffman coded, 8 bits, 1, 3 or 4 components.
pub(super) fn check(strip: &mut Strip) -> Result<Dimensions, ImageFault> {
    strip.keep(0..2)?;
    let mut at = 2;
    let mut frame = None;
    let mut scans = 0;
    loop {
        let (marker, start) = next_marker(strip, at)?;
        if marker == EOI {
            strip.keep(start - 2..start)?;
            return frame.filter(|_| scans > 0).ok_or(ImageFault::Malformed);
        }
        let length = usize::from(u16::from_be_bytes(strip.array(start)?));
        let end = start + length;
        // The length counts its own two bytes.
        let data = strip.get((start + 2).min(end)..end)?;
        if length < 2 {
            return Err(ImageFault::Malformed);
        }
        let kept = match marker {
            0xc0..=0xc2 if frame.is_none() => {
                frame = Some(parse_frame(data)?);
                true
            }
            SOS => {
                scans += 1;
                check_scan(data, frame.is_some() && scans <= SCANS_MAX)?;
                true
            }
            // Tables of Huffman codes, quantisation, restart interval.
            0xc4 | 0xdb | 0xdd => true,
            0xe0 => data.starts_with(b"JFIF\0") && data.len() == 14,
            0xee => data.starts_with(b"Adobe") && data.len() == 12,
            0xe1..=0xed | 0xef | 0xfe => false,
            // Lossless, hierarchical and arithmetic coding, and a height that only its end tells.
            0xc3 | 0xc5..=0xc7 | 0xc8..=0xcf | 0xdc | 0xde | 0xdf => return Err(ImageFault::Unsupported),
            _ => return Err(ImageFault::Malformed),
        };
        at = if marker == SOS { end_of_scan(strip, end)? } else { end };
        if kept {
            strip.keep(start - 2..at)?;
        }
    }
}

/// The marker at `at`, and where what follows it starts. Fill bytes before it are skipped.
fn next_marker(strip: &Strip, at: usize) -> Result<(u8, usize), ImageFault> {
    let mut at = at;
    if strip.array(at)? != [0xff] {
        return Err(ImageFault::Malformed);
    }
    loop {
        match strip.array(at + 1)? {
            [0xff] => at += 1,
            [0x00 | SOI] => return Err(ImageFault::Malformed),
            [marker] => return Ok((marker, at + 2)),
        }
    }
}

fn parse_frame(data: &[u8]) -> Result<Dimensions, ImageFault> {
    let [precision, h0, h1, w0, w1, components, rest @ ..] = data else { return Err(ImageFault::Malformed) };
    if *precision != 8 || !matches!(components, 1 | 3 | 4) {
        return Err(ImageFault::Unsupported);
    }
    if rest.len() != 3 * usize::from(*components) {
        return Err(ImageFault::Malformed);
    }
    let (width, height) = (u16::from_be_bytes([*w0, *w1]), u16::from_be_bytes([*h0, *h1]));
    Dimensions::new(u32::from(width), u32::from(height), 8 * u32::from(*components))
}

fn check_scan(data: &[u8], expected: bool) -> Result<(), ImageFault> {
    let fits = match data {
        [components @ 1..=4, rest @ ..] => rest.len() == 2 * usize::from(*components) + 3,
        _ => false,
    };
    if fits && expected { Ok(()) } else { Err(ImageFault::Malformed) }
}

/// The first marker in entropy-coded data that is neither a stuffed zero nor a restart.
fn end_of_scan(strip: &Strip, start: usize) -> Result<usize, ImageFault> {
    let mut at = start;
    loop {
        let rest = strip.get(at..strip.len())?;
        let found = memchr(0xff, rest).ok_or(ImageFault::Truncated)?;
        at += found;
        match strip.array(at + 1)? {
            [0x00 | 0xd0..=0xd7] => at += 2,
            [0xff] => at += 1,
            _ => return Ok(at),
        }
    }
}
