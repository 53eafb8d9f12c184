//! A picture from the network: told by its bytes, measured by its header, stripped to what draws it.
//!
//! Nothing is decompressed. What decoding the pixels needs is kept, everything else is dropped: texts, EXIF, XMP, comments,
//! thumbnails, further frames, trailing data, and colour profiles too. A profile is a program of any length that viewers
//! parse; without one a picture is sRGB, which is what image models draw. EXIF's orientation goes with EXIF: a picture is
//! shown as its pixels lie, and those of a generated one lie upright.

mod jpeg;
mod png;
mod strip;
mod webp;

use bytes::Bytes;
use darkroom_core::image::ImageFormat;
use darkroom_core::limits::{IMAGE_BYTES_MAX, IMAGE_DECODED_BYTES_MAX, IMAGE_SIDE_MAX};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use self::strip::Strip;

/// A sound picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedImage {
    /// The file without what it does not need.
    pub bytes: Bytes,
    /// SHA-256 of `bytes`, 64 hexadecimal digits.
    pub sha256: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The format.
    pub format: ImageFormat,
}

/// What is wrong with a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImageFault {
    /// None of the formats.
    #[error("the picture is no PNG, JPEG or WebP")]
    UnknownFormat,
    /// The file is too long.
    #[error("the picture's file is too long")]
    TooLong,
    /// A side or the decoded size is above the limits.
    #[error("the picture is too large")]
    TooLarge,
    /// The file ends before its picture does.
    #[error("the picture is cut off")]
    Truncated,
    /// A checksum does not match.
    #[error("the picture is damaged")]
    Damaged,
    /// The structure breaks the format's rules.
    #[error("the picture's file breaks its format's rules")]
    Malformed,
    /// A kind of file that browsers do not show.
    #[error("the picture is of a kind that browsers do not show")]
    Unsupported,
}

/// Width, height and bytes per pixel, within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dimensions {
    width: u32,
    height: u32,
}

impl Dimensions {
    /// `decoded_bits` is the size of one decoded pixel.
    fn new(width: u32, height: u32, decoded_bits: u32) -> Result<Self, ImageFault> {
        if width == 0 || height == 0 {
            return Err(ImageFault::Malformed);
        }
        let row = (u64::from(width) * u64::from(decoded_bits)).div_ceil(8);
        let decoded = row * u64::from(height);
        if width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX || decoded > IMAGE_DECODED_BYTES_MAX {
            return Err(ImageFault::TooLarge);
        }
        Ok(Self { width, height })
    }
}

/// Checks a picture and strips it. Takes the bytes to work in place: no second copy is made.
///
/// # Errors
/// What is wrong with it.
pub fn check(bytes: Vec<u8>) -> Result<CheckedImage, ImageFault> {
    if bytes.len() > IMAGE_BYTES_MAX {
        return Err(ImageFault::TooLong);
    }
    let format = format(&bytes).ok_or(ImageFault::UnknownFormat)?;
    let mut strip = Strip::new(bytes);
    let Dimensions { width, height } = match format {
        ImageFormat::Png => png::check(&mut strip)?,
        ImageFormat::Jpeg => jpeg::check(&mut strip)?,
        ImageFormat::Webp => webp::check(&mut strip)?,
    };
    let bytes = Bytes::from(strip.into_kept());
    let sha256 = HEXLOWER.encode(&Sha256::digest(&bytes));
    Ok(CheckedImage { bytes, sha256, width, height, format })
}

/// The format by its signature.
fn format(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(ImageFormat::Png),
        [0xff, 0xd8, 0xff, ..] => Some(ImageFormat::Jpeg),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::Webp),
        _ => None,
    }
}
