//! A picture's file: what passes is small, clean, and passes again as the same file.

use darkroom_core::image::ImageFormat;
use darkroom_core::limits::{IMAGE_BYTES_MAX, IMAGE_DECODED_BYTES_MAX, IMAGE_SIDE_MAX};
use darkroom_providers::image_check::check;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::Verdict;
use super::anatomy::{jpeg_markers, png_chunks, webp_chunks};

/// Pixels are compared of pictures up to this many: decoding is the slow part.
const PIXELS_MAX: u32 = 64 * 64;

pub(super) fn run(file: &[u8]) -> Verdict {
    let Ok(image) = check(file.to_vec()) else { return Verdict::Refused };
    assert!(image.bytes.len() <= file.len().min(IMAGE_BYTES_MAX));
    assert!((1..=IMAGE_SIDE_MAX).contains(&image.width) && (1..=IMAGE_SIDE_MAX).contains(&image.height));
    assert!(u64::from(image.width) * u64::from(image.height) <= IMAGE_DECODED_BYTES_MAX);
    assert_eq!(image.sha256, HEXLOWER.encode(&Sha256::digest(&image.bytes)));
    assert_eq!(check(image.bytes.to_vec()).as_ref(), Ok(&image), "what passed passes again");
    is_clean(&image.bytes, image.format);
    if image.format == ImageFormat::Png && image.width * image.height <= PIXELS_MAX {
        let (before, after) = (pixels(file), pixels(&image.bytes));
        assert!(before.is_none() || before == after, "stripping changed the pixels");
    }
    Verdict::Taken
}

/// A stored file holds what draws it and nothing else, to its last byte.
pub(super) fn is_clean(file: &[u8], format: ImageFormat) {
    match format {
        ImageFormat::Png => {
            let names = png_chunks(file);
            let kept: [&[u8; 4]; 8] =
                [b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"IDAT", b"IEND"];
            assert!(names.iter().all(|name| kept.contains(&name)), "{names:?}");
        }
        ImageFormat::Jpeg => {
            let markers = jpeg_markers(file);
            let kept = [0xc0, 0xc1, 0xc2, 0xc4, 0xd8, 0xd9, 0xda, 0xdb, 0xdd, 0xe0, 0xee];
            assert!(markers.iter().all(|marker| kept.contains(marker)), "{markers:x?}");
        }
        ImageFormat::Webp => {
            let names = webp_chunks(file);
            let kept: [&[&[u8; 4]]; 3] = [&[b"VP8 "], &[b"VP8L"], &[b"VP8X", b"ALPH", b"VP8 "]];
            assert!(kept.iter().any(|kept| names.iter().eq(kept.iter().copied())), "{names:?}");
        }
    }
}

/// The picture's pixels, as another reader of the format sees them; `None` when that one refuses it.
fn pixels(file: &[u8]) -> Option<Vec<u8>> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().ok()?;
    let mut pixels = vec![0; reader.output_buffer_size()?];
    reader.next_frame(&mut pixels).ok()?;
    Some(pixels)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn png(names: &[&[u8; 4]]) -> Vec<u8> {
        let chunk = |name: &&[u8; 4]| [b"\0\0\0\x01".as_slice(), *name, b"x", b"\0\0\0\0"].concat();
        [b"\x89PNG\r\n\x1a\n".to_vec(), names.iter().flat_map(chunk).collect()].concat()
    }

    fn jpeg(marker: u8, rest: &[u8]) -> Vec<u8> {
        [
            b"\xff\xd8\xff",
            [marker].as_slice(),
            b"\0\x03x\xff\xda\0\x02entropy\xff\0\xff\xd0\xff\xff\xd9",
            rest,
        ]
        .concat()
    }

    fn webp(chunks: &[&[u8]], length_off: u8) -> Vec<u8> {
        let chunks = chunks.concat();
        let length = u8::try_from(chunks.len()).unwrap() + 4 + length_off;
        [b"RIFF", [length, 0, 0, 0].as_slice(), b"WEBP", &chunks].concat()
    }

    #[test]
    fn what_was_left_in_a_file_is_noticed() {
        let (lossy, odd) = (b"VP8 \x02\0\0\0xx".as_slice(), b"VP8L\x01\0\0\0x\0".as_slice());
        let alpha = b"ALPH\x02\0\0\0xx".as_slice();
        let (extended, flags) = (
            b"VP8X\x0a\0\0\0\x10\x00\x00\x00123456".as_slice(),
            b"VP8X\x0a\0\0\0\x18\x00\x00\x00123456".as_slice(),
        );
        for (what, file, format, clean) in [
            ("the least", png(&[b"IHDR", b"IDAT", b"IEND"]), ImageFormat::Png, true),
            ("a text", png(&[b"IHDR", b"tEXt", b"IDAT", b"IEND"]), ImageFormat::Png, false),
            ("a profile", png(&[b"IHDR", b"iCCP", b"IDAT", b"IEND"]), ImageFormat::Png, false),
            ("no end", png(&[b"IHDR", b"IDAT"]), ImageFormat::Png, false),
            ("more", png(&[b"IHDR", b"IDAT", b"IEND", b"IDAT"]), ImageFormat::Png, false),
            ("tables and a scan", jpeg(0xdb, b""), ImageFormat::Jpeg, true),
            ("a comment", jpeg(0xfe, b""), ImageFormat::Jpeg, false),
            ("EXIF", jpeg(0xe1, b""), ImageFormat::Jpeg, false),
            ("more", jpeg(0xdb, b"x"), ImageFormat::Jpeg, false),
            ("lossy", webp(&[lossy], 0), ImageFormat::Webp, true),
            ("lossless", webp(&[odd], 0), ImageFormat::Webp, true),
            ("alpha", webp(&[extended, alpha, lossy], 0), ImageFormat::Webp, true),
            ("a flag of EXIF", webp(&[flags, alpha, lossy], 0), ImageFormat::Webp, false),
            ("EXIF", webp(&[lossy, b"EXIF\x02\0\0\0xx"], 0), ImageFormat::Webp, false),
            ("a length that is wrong", webp(&[lossy], 2), ImageFormat::Webp, false),
        ] {
            assert_eq!(catch_unwind(|| is_clean(&file, format)).is_ok(), clean, "{what}");
        }
    }
}
