//! Pictures whose files say or hold more than they are.

use std::sync::PoisonError;

use darkroom_core::limits::IMAGE_BYTES_MAX;
use darkroom_providers::image_check::{ImageFault, check};
use darkroom_tests::hostile::IMAGE;

use super::{MB, counted};
use crate::pictures::{black, chunk, frame, header, jpeg, png, riff_chunk, scan, segment, webp, zeros};
use crate::{QUIET, corpus};

/// Judging a picture works in the file's own bytes.
const IMAGE_HEAP_MAX: usize = MB;

/// As many of these as fit beside the others into the longest file.
fn filled(with: &[u8], others: usize) -> Vec<u8> {
    with.repeat((IMAGE_BYTES_MAX - others) / with.len())
}

fn pngs() -> Vec<(&'static str, Vec<u8>, Result<usize, ImageFault>)> {
    let rgb = || header(2, 2, 8, 2);
    let (data, end) = (chunk(b"IDAT", b"not decompressed here"), chunk(b"IEND", b""));
    let bare = png(&[rgb(), data.clone(), end.clone()]).len();
    let compressed = zeros(64 << 20);
    let dressed = |name: &[u8; 4], head: &[u8]| {
        let bomb = chunk(name, &[head, &compressed].concat());
        png(&[rgb(), bomb, data.clone(), end.clone()])
    };
    let empty = |name| filled(&chunk(name, b""), bare);
    let frames: Vec<u8> = (0_u32..2_000)
        .flat_map(|at| {
            [chunk(b"fcTL", &[0; 26]), chunk(b"fdAT", &[&at.to_be_bytes(), &[0_u8; 40][..]].concat())]
                .concat()
        })
        .collect();
    let unfolding = black(4_096, 4_096);
    let length = unfolding.len();
    vec![
        ("PNG: 64 MB of pixels in a thousandth", unfolding, Ok(length)),
        (
            "PNG: 2^32 pixels wide and high",
            png(&[header(u32::MAX, u32::MAX, 16, 6)]),
            Err(ImageFault::TooLarge),
        ),
        ("PNG: 2^31 wide, 2 high", png(&[header(1 << 31, 2, 8, 6)]), Err(ImageFault::TooLarge)),
        ("PNG: zTXt of 64 MB", dressed(b"zTXt", b"Comment\0\0"), Ok(bare)),
        ("PNG: iTXt of 64 MB", dressed(b"iTXt", b"Comment\0\x01\0\0\0"), Ok(bare)),
        ("PNG: iCCP of 64 MB", dressed(b"iCCP", b"profile\0\0"), Ok(bare)),
        (
            "PNG: 2,000 frames",
            png(&[rgb(), chunk(b"acTL", &[0; 8]), data.clone(), frames, end.clone()]),
            Ok(bare),
        ),
        ("PNG: 1.7 million texts", png(&[rgb(), empty(b"tEXt"), data.clone(), end.clone()]), Ok(bare)),
        ("PNG: 1.7 million pieces of data", png(&[rgb(), empty(b"IDAT"), end.clone()]), Ok(IMAGE_BYTES_MAX)),
        (
            "PNG: one text of 20 MB",
            png(&[rgb(), chunk(b"tEXt", &filled(b"x", bare + 99)), data.clone(), end.clone()]),
            Ok(bare),
        ),
        (
            "PNG: nothing but a signature and zeros",
            [png(&[]), filled(&[0], 8)].concat(),
            Err(ImageFault::Damaged),
        ),
    ]
}

fn others() -> Vec<(&'static str, Vec<u8>, Result<usize, ImageFault>)> {
    let bare = jpeg(&[frame(5, 3), scan(b"data")]);
    let whole = |parts: &[Vec<u8>]| jpeg(&[parts, &[frame(5, 3), scan(b"data")]].concat());
    let lossy = || riff_chunk(b"VP8 ", &[0x10, 0, 0, 0x9d, 1, 0x2a, 5, 0, 3, 0]);
    let small = webp(&[lossy()]);
    let side = |byte| riff_chunk(b"VP8X", &[0x10, 0, 0, 0, byte, byte, byte, byte, byte, byte]);
    vec![
        ("JPEG: 65,535 × 65,535", jpeg(&[frame(65_535, 65_535), scan(b"data")]), Err(ImageFault::TooLarge)),
        ("JPEG: 5 million comments", whole(&[filled(&segment(0xfe, b""), 200)]), Ok(bare.len())),
        ("JPEG: 20 MB of fill bytes", whole(&[filled(&[0xff], 200)]), Ok(bare.len())),
        (
            "JPEG: 10 million stuffed zeros",
            jpeg(&[frame(5, 3), scan(&filled(b"\xff\0", 200))]),
            Ok(IMAGE_BYTES_MAX),
        ),
        (
            "JPEG: a scan of fill bytes",
            jpeg(&[frame(5, 3), scan(&filled(&[0xff], 200))]),
            Ok(IMAGE_BYTES_MAX),
        ),
        ("JPEG: a million scans", jpeg(&[frame(5, 3), filled(&scan(b"d"), 200)]), Err(ImageFault::Malformed)),
        ("WebP: 2^24 wide and high", webp(&[side(0xff), lossy()]), Err(ImageFault::TooLarge)),
        (
            "WebP: 2.6 million chunks",
            webp(&[filled(&riff_chunk(b"abcd", b""), 200), lossy()]),
            Ok(small.len()),
        ),
        (
            "WebP: a length of 2^32 - 1",
            [b"RIFF\xff\xff\xff\xffWEBP".as_slice(), &lossy()].concat(),
            Err(ImageFault::Truncated),
        ),
        (
            "WebP: a chunk of 2^32 - 1",
            webp(&[b"abcd\xff\xff\xff\xff".to_vec(), lossy()]),
            Err(ImageFault::Truncated),
        ),
    ]
}

#[test]
fn pictures_are_judged_in_their_own_bytes() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    for (what, file, expected) in pngs().into_iter().chain(others()) {
        assert!(file.len() <= IMAGE_BYTES_MAX, "{what}: {} bytes", file.len());
        let told = counted(what, IMAGE_HEAP_MAX, || check(file).map(|image| image.bytes.len()));
        match (told, expected) {
            (Ok(length), Ok(most)) => assert!(length <= most, "{what}: {length} bytes are left"),
            (told, expected) => assert_eq!(told, expected, "{what}"),
        }
    }
}

#[test]
fn no_beginning_of_a_picture_is_a_picture() {
    let _shared = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let mut files = 0;
    for seed in corpus(IMAGE).into_iter().filter(|seed| seed.name.starts_with("good")) {
        files += 1;
        let whole = check(seed.bytes.clone()).unwrap();
        for end in 0..seed.bytes.len() {
            // What follows the picture may be missing, nothing else.
            let cut = check(seed.bytes[..end].to_vec());
            assert!(cut.as_ref().is_ok_and(|cut| *cut == whole) || cut.is_err(), "{} at {end}", seed.name);
            assert!(cut.is_err() || seed.name.contains("trailing"), "{} at {end}", seed.name);
        }
    }
    assert!(files >= 10, "{files} files");
}

#[test]
fn a_wrong_sum_is_found_in_every_chunk() {
    let _shared = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let chunks =
        [header(2, 2, 8, 2), chunk(b"tEXt", b"Comment\0x"), chunk(b"IDAT", b"data"), chunk(b"IEND", b"")];
    for at in 0..chunks.len() {
        for byte in 1..=4 {
            let mut chunks = chunks.clone();
            let end = chunks[at].len();
            chunks[at][end - byte] ^= 1;
            assert_eq!(check(png(&chunks)), Err(ImageFault::Damaged), "chunk {at}");
        }
    }
}
