//! WebP (RFC 9649): a RIFF container with one still picture.

use super::strip::Strip;
use super::{Dimensions, ImageFault};

/// `RIFF`, length, `WEBP`.
const HEADER: usize = 12;
/// A chunk's name and length.
const CHUNK_HEADER: usize = 8;
/// The extended header's flag that says there is an `ALPH` chunk.
const ALPHA: u8 = 0x10;
/// The flag that says the file is an animation.
const ANIMATION: u8 = 0x02;
/// Decoders make RGBA of every WebP.
const DECODED_BITS: u32 = 32;

/// What has been seen of the file.
#[derive(Default)]
struct Seen {
    /// Where the extended header is, in the file as it came, and its canvas.
    extended: Option<(usize, Dimensions)>,
    alpha: bool,
}

/// Checks the chunks' lengths and order, and keeps the picture: `VP8L`, or `VP8 ` with its alpha. The extended header is
/// kept only where alpha needs it, with every other flag cleared. An animation has no still picture and is refused.
pub(super) fn check(strip: &mut Strip) -> Result<Dimensions, ImageFault> {
    let [_, _, _, _, l0, l1, l2, l3, _, _, _, _] = strip.array::<HEADER>(0)?;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let file_end = length.checked_add(8).ok_or(ImageFault::Truncated)?;
    strip.get(0..file_end)?;
    strip.keep(0..HEADER)?;
    let mut seen = Seen::default();
    let mut at = HEADER;
    loop {
        let [name @ .., l0, l1, l2, l3] = strip.array::<CHUNK_HEADER>(at)?;
        let start = at + CHUNK_HEADER;
        let end = start.checked_add(u32::from_le_bytes([l0, l1, l2, l3]) as usize);
        let end = end.filter(|end| *end <= file_end).ok_or(ImageFault::Truncated)?;
        // A chunk of odd length is followed by one byte that its length does not count.
        let padded = end + end % 2;
        if padded > file_end {
            return Err(ImageFault::Truncated);
        }
        let data = strip.get(start..end)?;
        match &name {
            b"VP8X" => {
                let canvas = extended(data)?;
                if at != HEADER {
                    return Err(ImageFault::Malformed);
                }
                seen.extended = Some((at, canvas));
            }
            b"ALPH" => keep_alpha(strip, &mut seen, at..padded)?,
            b"VP8 " => return picture(strip, &seen, lossy(data)?, at..padded),
            b"VP8L" if !seen.alpha => return picture(strip, &seen, lossless(data)?, at..padded),
            b"VP8L" => return Err(ImageFault::Malformed),
            b"ANIM" | b"ANMF" => return Err(ImageFault::Unsupported),
            _ => {}
        }
        at = padded;
    }
}

fn keep_alpha(strip: &mut Strip, seen: &mut Seen, chunk: std::ops::Range<usize>) -> Result<(), ImageFault> {
    let Some((header, _)) = seen.extended else { return Err(ImageFault::Malformed) };
    if std::mem::replace(&mut seen.alpha, true) {
        return Err(ImageFault::Malformed);
    }
    let kept_header = strip.kept();
    strip.keep(header..header + CHUNK_HEADER + 10)?;
    strip.patch(kept_header + CHUNK_HEADER, &[ALPHA, 0, 0, 0])?;
    strip.keep(chunk)
}

/// The picture itself is the last chunk kept; the container's length is then known.
fn picture(
    strip: &mut Strip,
    seen: &Seen,
    dimensions: Dimensions,
    chunk: std::ops::Range<usize>,
) -> Result<Dimensions, ImageFault> {
    if seen.extended.is_some_and(|(_, canvas)| canvas != dimensions) {
        return Err(ImageFault::Malformed);
    }
    strip.keep(chunk)?;
    let length = u32::try_from(strip.kept() - 8).map_err(|_| ImageFault::TooLong)?;
    strip.patch(4, &length.to_le_bytes())?;
    Ok(dimensions)
}

fn extended(data: &[u8]) -> Result<Dimensions, ImageFault> {
    let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = data else { return Err(ImageFault::Malformed) };
    if flags & ANIMATION != 0 {
        return Err(ImageFault::Unsupported);
    }
    let (width, height) = (u32::from_le_bytes([w0, w1, w2, 0]), u32::from_le_bytes([h0, h1, h2, 0]));
    Dimensions::new(width + 1, height + 1, DECODED_BITS)
}

/// A key frame: three bytes of tag, a start code, 14 bits each of width and height with 2 bits of scale.
fn lossy(data: &[u8]) -> Result<Dimensions, ImageFault> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = data else { return Err(ImageFault::Malformed) };
    if tag & 1 != 0 {
        return Err(ImageFault::Malformed);
    }
    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    Dimensions::new(side([w0, w1]), side([h0, h1]), DECODED_BITS)
}

/// A signature, then 14 bits each of width and height less one, a hint of alpha, and a version of 0.
fn lossless(data: &[u8]) -> Result<Dimensions, ImageFault> {
    let &[0x2f, b0, b1, b2, b3, ..] = data else { return Err(ImageFault::Malformed) };
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    if bits >> 29 != 0 {
        return Err(ImageFault::Unsupported);
    }
    Dimensions::new((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1, DECODED_BITS)
}
