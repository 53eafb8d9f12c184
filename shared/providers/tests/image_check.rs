//! Pictures from the network, sound and otherwise. The files in `data` are 24 × 16 pixels, written by Pillow with metadata
//! that says `made for a test`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Names of chunks are byte strings, which are references.
#![allow(clippy::trivially_copy_pass_by_ref)]

use std::io::Cursor;

use darkroom_core::image::ImageFormat;
use darkroom_core::limits::{IMAGE_BYTES_MAX, IMAGE_DECODED_BYTES_MAX, IMAGE_SIDE_MAX};
use darkroom_providers::image_check::{CheckedImage, ImageFault, check};
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const JPEGS: [(&str, &[u8]); 4] = [
    ("baseline", include_bytes!("data/baseline.jpg")),
    ("progressive", include_bytes!("data/progressive.jpg")),
    ("cmyk", include_bytes!("data/cmyk.jpg")),
    ("gray", include_bytes!("data/gray.jpg")),
];
const WEBPS: [(&str, &[u8]); 5] = [
    ("plain", include_bytes!("data/plain.webp")),
    ("lossy", include_bytes!("data/lossy.webp")),
    ("alpha", include_bytes!("data/alpha.webp")),
    ("lossless", include_bytes!("data/lossless.webp")),
    ("lossless_exif", include_bytes!("data/lossless_exif.webp")),
];
const PNGS: [(&str, &[u8]); 2] =
    [("palette", include_bytes!("data/palette.png")), ("animation", include_bytes!("data/animation.png"))];

fn files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    JPEGS.into_iter().chain(WEBPS).chain(PNGS)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// One chunk of a PNG.
fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let covered = [name.as_slice(), data].concat();
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [length.as_slice(), &covered, &crc32fast::hash(&covered).to_be_bytes()].concat()
}

fn header(width: u32, height: u32, depth: u8, color: u8) -> Vec<u8> {
    let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[sizes.as_slice(), &[depth, color, 0, 0, 0]].concat())
}

fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunks.concat()].concat()
}

fn rgb() -> Vec<u8> {
    header(2, 2, 8, 2)
}

fn data() -> Vec<u8> {
    chunk(b"IDAT", b"not decompressed here")
}

fn end() -> Vec<u8> {
    chunk(b"IEND", b"")
}

#[test]
fn sound_files_pass_without_their_metadata() {
    for (name, file) in files() {
        let CheckedImage { bytes, sha256, width, height, format } =
            check(file.to_vec()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!((width, height), (24, 16), "{name}");
        assert_eq!(sha256, HEXLOWER.encode(&Sha256::digest(&bytes)), "{name}");
        for text in
            ["made for a test", "Exif", "EXIF", "XMP", "ICC_PROFILE", "ICCP", "acTL", "fcTL", "fdAT", "http"]
        {
            assert!(!contains(&bytes, text), "{name} still has {text}");
        }
        let again = check(bytes.to_vec()).unwrap();
        assert_eq!((again.bytes, again.format), (bytes, format), "{name}: nothing is left to drop");
    }
    assert!(contains(JPEGS[0].1, "Exif") && contains(WEBPS[1].1, "EXIF") && contains(PNGS[1].1, "acTL"));
}

#[test]
fn what_decoding_needs_stays() {
    let kept = |file: &[u8]| check(file.to_vec()).unwrap().bytes;
    assert!(contains(&kept(PNGS[0].1), "PLTE") && contains(&kept(PNGS[0].1), "tRNS"));
    assert!(contains(&kept(JPEGS[0].1), "JFIF"));
    assert!(contains(&kept(JPEGS[2].1), "Adobe"), "CMYK is told by Adobe's segment");
    assert!(contains(&kept(WEBPS[2].1), "ALPH") && contains(&kept(WEBPS[2].1), "VP8X"));
    assert!(!contains(&kept(WEBPS[1].1), "VP8X"), "without alpha the simple container does");
    assert!(contains(&kept(WEBPS[4].1), "VP8L") && !contains(&kept(WEBPS[4].1), "VP8X"));
    // Alpha's flag alone is left.
    let alpha = kept(WEBPS[2].1);
    assert_eq!(alpha[20..24], [0x10, 0, 0, 0]);
    for webp in WEBPS {
        let bytes = kept(webp.1);
        assert_eq!(
            u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize,
            bytes.len() - 8,
            "{}",
            webp.0
        );
    }
}

#[test]
fn the_first_picture_of_an_animation_is_the_picture() {
    let decode = |file: &[u8]| {
        let mut reader = png::Decoder::new(Cursor::new(file.to_vec())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (pixels, reader.info().is_animated())
    };
    let (first, animated) = decode(PNGS[1].1);
    assert!(animated);
    assert_eq!(decode(&check(PNGS[1].1.to_vec()).unwrap().bytes), (first, false));
    let webp = include_bytes!("data/animation.webp");
    assert_eq!(check(webp.to_vec()), Err(ImageFault::Unsupported), "of WebP there is no such picture");
}

#[test]
fn what_follows_the_picture_is_dropped() {
    for (name, file) in files() {
        let clean = check(file.to_vec()).unwrap();
        for trailing in [b"<script>".to_vec(), vec![0; 4096], file.to_vec(), vec![0xff; 3]] {
            assert_eq!(check([file, &trailing].concat()), Ok(clean.clone()), "{name}");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_is_cut() {
    for (name, file) in files() {
        let whole = check(file.to_vec()).unwrap().bytes;
        // The stripped file ends with its picture: every shorter one lacks a part of it.
        for length in 0..whole.len() {
            assert!(check(whole[..length].to_vec()).is_err(), "{name} cut to {length} of {}", whole.len());
        }
    }
}

#[test]
fn every_flipped_bit_of_a_png_is_noticed() {
    for (name, file) in PNGS {
        for bit in 0..file.len() * 8 {
            let mut damaged = file.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check(damaged).is_err(), "{name}, bit {bit}");
        }
    }
}

#[test]
fn other_formats_are_refused() {
    for file in [
        b"".as_slice(),
        b"GIF89a\x01\x00\x01\x00",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM\x00\x00",
        b"RIFF\x10\x00\x00\x00WAVEfmt ",
        b"\x89PNG\r\n\x1a",
        b"\x00\x00\x00\x20ftypavif",
    ] {
        assert_eq!(check(file.to_vec()), Err(ImageFault::UnknownFormat));
    }
    assert_eq!(check(vec![0; IMAGE_BYTES_MAX + 1]), Err(ImageFault::TooLong));
}

#[test]
fn sizes_are_read_before_anything_else() {
    let sized =
        |width, height, depth, color| check(png(&[header(width, height, depth, color), data(), end()]));
    let longest = IMAGE_SIDE_MAX;
    let deepest = sized(longest, longest, 16, 6).unwrap();
    assert_eq!(
        u64::from(deepest.width) * u64::from(deepest.height) * 8,
        IMAGE_DECODED_BYTES_MAX,
        "just within"
    );
    for (width, height) in [(longest + 1, 1), (1, longest + 1), (u32::MAX, u32::MAX), (0x8000_0000, 1)] {
        assert_eq!(sized(width, height, 8, 2), Err(ImageFault::TooLarge));
    }
    for (width, height) in [(0, 1), (1, 0), (0, 0)] {
        assert_eq!(sized(width, height, 8, 2), Err(ImageFault::Malformed));
    }
    // A header alone decides, whatever would come.
    assert_eq!(check(png(&[header(100_000, 100_000, 8, 2)])), Err(ImageFault::TooLarge));
    for (depth, color) in [(8, 1), (8, 5), (8, 7), (4, 2), (16, 3), (3, 0), (0, 0), (32, 6)] {
        assert_eq!(
            sized(1, 1, depth, color),
            Err(ImageFault::Malformed),
            "{depth} bits of colour type {color}"
        );
    }
}

#[test]
fn chunks_of_a_png_come_in_order() {
    let palette = || chunk(b"PLTE", &[1; 6]);
    let indexed = || header(2, 2, 8, 3);
    let text = || chunk(b"tEXt", b"Comment\0x");
    for (why, chunks, sound) in [
        ("the least", vec![rgb(), data(), end()], true),
        ("several data chunks", vec![rgb(), data(), data(), end()], true),
        ("an empty one among them", vec![rgb(), chunk(b"IDAT", b""), data(), end()], true),
        (
            "unknown ancillary chunks anywhere but inside",
            vec![rgb(), chunk(b"caBX", b"x"), data(), text(), end()],
            true,
        ),
        (
            "a palette for indexed colours",
            vec![indexed(), palette(), chunk(b"tRNS", &[0, 1]), data(), end()],
            true,
        ),
        (
            "numbers about colours",
            vec![
                rgb(),
                chunk(b"gAMA", &[0; 4]),
                chunk(b"cHRM", &[0; 32]),
                chunk(b"sRGB", &[0]),
                data(),
                end(),
            ],
            true,
        ),
        ("no header", vec![data(), end()], false),
        ("something before the header", vec![text(), rgb(), data(), end()], false),
        ("two headers", vec![rgb(), rgb(), data(), end()], false),
        ("no data", vec![rgb(), end()], false),
        ("data in two places", vec![rgb(), data(), text(), data(), end()], false),
        ("no end", vec![rgb(), data()], false),
        ("an end with content", vec![rgb(), data(), chunk(b"IEND", b"x")], false),
        ("indexed colours without a palette", vec![indexed(), data(), end()], false),
        ("a palette that is too late", vec![indexed(), data(), palette(), end()], false),
        ("two palettes", vec![indexed(), palette(), palette(), data(), end()], false),
        ("an empty palette", vec![indexed(), chunk(b"PLTE", b""), data(), end()], false),
        ("a palette of broken entries", vec![indexed(), chunk(b"PLTE", &[1; 7]), data(), end()], false),
        ("a palette that is too long", vec![indexed(), chunk(b"PLTE", &[1; 257 * 3]), data(), end()], false),
        ("a palette for gray", vec![header(2, 2, 8, 0), palette(), data(), end()], false),
        (
            "transparency without a palette",
            vec![indexed(), chunk(b"tRNS", &[0]), palette(), data(), end()],
            false,
        ),
        (
            "more transparency than palette",
            vec![indexed(), palette(), chunk(b"tRNS", &[0; 3]), data(), end()],
            false,
        ),
        (
            "transparency beside alpha",
            vec![header(2, 2, 8, 6), chunk(b"tRNS", &[0; 2]), data(), end()],
            false,
        ),
        ("a gamma of the wrong length", vec![rgb(), chunk(b"gAMA", &[0; 5]), data(), end()], false),
        ("a rendering intent that is none", vec![rgb(), chunk(b"sRGB", &[4]), data(), end()], false),
        ("an unknown critical chunk", vec![rgb(), chunk(b"ABCD", b""), data(), end()], false),
        ("a name that is none", vec![rgb(), chunk(b"a1cd", b""), data(), end()], false),
    ] {
        assert_eq!(check(png(&chunks)).is_ok(), sound, "{why}");
    }
    let clean =
        check(png(&[rgb(), chunk(b"iCCP", b"x"), text(), data(), chunk(b"eXIf", b"x"), end()])).unwrap();
    assert_eq!(clean.bytes, png(&[rgb(), data(), end()]));
}

#[test]
fn a_chunks_length_is_not_believed() {
    for length in [21_u32, 23, 1000, 0x7fff_ffff, 0xffff_ffff] {
        let mut file = png(&[rgb(), data(), end()]);
        let at = 8 + 25;
        file[at..at + 4].copy_from_slice(&length.to_be_bytes());
        let sound = length == u32::try_from(b"not decompressed here".len()).unwrap();
        assert_eq!(check(file).is_ok(), sound, "{length}");
    }
}

/// A segment of a JPEG.
fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&[0xff, marker], length.as_slice(), data].concat()
}

fn jpeg(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"\xff\xd8".as_slice(), &parts.concat(), b"\xff\xd9"].concat()
}

fn frame(marker: u8, precision: u8, width: u16, height: u16, components: u8) -> Vec<u8> {
    let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
    let mut data = vec![precision, height[0], height[1], width[0], width[1], components];
    data.extend((0..components).flat_map(|component| [component + 1, 0x11, 0]));
    segment(marker, &data)
}

fn scan(entropy: &[u8]) -> Vec<u8> {
    [segment(0xda, &[1, 1, 0, 0, 63, 0]), entropy.to_vec()].concat()
}

#[test]
fn jpegs_that_browsers_show_pass() {
    let quantisation = || segment(0xdb, &[0; 65]);
    let ok = |parts: &[Vec<u8>]| check(jpeg(parts));
    let plain = || frame(0xc0, 8, 5, 3, 3);
    for marker in [0xc0, 0xc1, 0xc2] {
        let image =
            ok(&[quantisation(), frame(marker, 8, 5, 3, 3), scan(b"\x01\xff\x00\xff\xd0\x02")]).unwrap();
        assert_eq!((image.width, image.height, image.format), (5, 3, ImageFormat::Jpeg));
    }
    for marker in [0xc3, 0xc5, 0xc9, 0xca, 0xcb, 0xcc, 0xdc, 0xde, 0xdf] {
        assert_eq!(ok(&[frame(marker, 8, 5, 3, 3), scan(b"x")]), Err(ImageFault::Unsupported), "{marker:x}");
    }
    assert_eq!(ok(&[frame(0xc1, 12, 5, 3, 3), scan(b"x")]), Err(ImageFault::Unsupported), "12 bits");
    assert_eq!(ok(&[frame(0xc0, 8, 5, 3, 2), scan(b"x")]), Err(ImageFault::Unsupported), "2 components");
    assert_eq!(ok(&[frame(0xc0, 8, 5, 0, 3), scan(b"x")]), Err(ImageFault::Malformed), "height in DNL");
    assert_eq!(ok(&[frame(0xc0, 8, 5000, 1, 3), scan(b"x")]), Err(ImageFault::TooLarge));
    assert_eq!(ok(&[plain()]), Err(ImageFault::Malformed), "no scan");
    assert_eq!(ok(&[scan(b"x"), plain()]), Err(ImageFault::Malformed), "scan before frame");
    assert_eq!(ok(&[plain(), plain(), scan(b"x")]), Err(ImageFault::Malformed), "two frames");
    assert_eq!(ok(&[plain(), segment(0x01, b""), scan(b"x")]), Err(ImageFault::Malformed), "reserved marker");
    assert_eq!(
        ok(&[plain(), b"x".to_vec(), scan(b"x")]),
        Err(ImageFault::Malformed),
        "bytes between segments"
    );
    assert_eq!(
        ok(&[plain(), vec![0xff, 0xdb, 0, 1], scan(b"x")]),
        Err(ImageFault::Malformed),
        "length below 2"
    );
    let many = |count: usize| [vec![plain()], vec![scan(b"x"); count]].concat();
    assert!(ok(&many(100)).is_ok());
    assert_eq!(ok(&many(101)), Err(ImageFault::Malformed), "more scans than any encoder writes");
}

#[test]
fn a_jpeg_keeps_its_picture_alone() {
    let jfif = segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    let adobe = segment(0xee, b"Adobe\0\x64\0\0\0\0\x01");
    let picture = [frame(0xc0, 8, 5, 3, 3), scan(b"data")];
    let dressed = jpeg(&[
        segment(0xe0, b"JFXX\0thumbnail"),
        jfif.clone(),
        segment(0xe1, b"Exif\0\0secret"),
        segment(0xe2, b"ICC_PROFILE\0secret"),
        segment(0xed, b"Photoshop 3.0\0secret"),
        adobe.clone(),
        segment(0xee, b"other secret"),
        segment(0xfe, b"secret"),
        vec![0xff, 0xff],
        picture[0].clone(),
        segment(0xfe, b"secret"),
        picture[1].clone(),
    ]);
    let bare = jpeg(&[jfif, adobe, picture[0].clone(), picture[1].clone()]);
    assert_eq!(check(dressed).unwrap().bytes, bare);
}

/// A chunk of a WebP.
fn riff_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    let padding = vec![0; data.len() % 2];
    [name.as_slice(), &length, data, &padding].concat()
}

fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = u32::try_from(chunks.len() + 4).unwrap().to_le_bytes();
    [b"RIFF".as_slice(), &length, b"WEBP", &chunks].concat()
}

#[test]
fn a_webp_keeps_its_picture_alone() {
    // 5 × 3 pixels each.
    let lossy = || riff_chunk(b"VP8 ", &[0x10, 0, 0, 0x9d, 1, 0x2a, 5, 0, 3, 0, 7]);
    let lossless = || riff_chunk(b"VP8L", &[0x2f, 4, 0x80, 0, 0]);
    let alpha = || riff_chunk(b"ALPH", &[0, 1, 2]);
    let extended = |flags, width: u8, height: u8| {
        riff_chunk(b"VP8X", &[flags, 1, 2, 3, width - 1, 0, 0, height - 1, 0, 0])
    };
    let secret = |name| riff_chunk(name, b"secret");
    for (why, chunks, expected) in [
        ("simple", vec![lossy()], Ok(webp(&[lossy()]))),
        ("lossless", vec![lossless()], Ok(webp(&[lossless()]))),
        (
            "profile, EXIF and unknown chunks go",
            vec![extended(0x2c, 5, 3), secret(b"ICCP"), secret(b"abcd"), lossy(), secret(b"EXIF")],
            Ok(webp(&[lossy()])),
        ),
        ("alpha stays", vec![extended(0x3c, 5, 3), secret(b"ICCP"), alpha(), lossy(), secret(b"XMP ")], {
            let bare = riff_chunk(b"VP8X", &[0x10, 0, 0, 0, 4, 0, 0, 2, 0, 0]);
            Ok(webp(&[bare, alpha(), lossy()]))
        }),
        (
            "animation",
            vec![extended(0x02, 5, 3), secret(b"ANIM"), secret(b"ANMF")],
            Err(ImageFault::Unsupported),
        ),
        ("frames without the flag", vec![extended(0, 5, 3), secret(b"ANMF")], Err(ImageFault::Unsupported)),
        ("another canvas", vec![extended(0, 6, 3), lossy()], Err(ImageFault::Malformed)),
        ("alpha without a header", vec![alpha(), lossy()], Err(ImageFault::Malformed)),
        ("alpha twice", vec![extended(0x10, 5, 3), alpha(), alpha(), lossy()], Err(ImageFault::Malformed)),
        (
            "alpha before lossless",
            vec![extended(0x10, 5, 3), alpha(), lossless()],
            Err(ImageFault::Malformed),
        ),
        ("a late header", vec![secret(b"abcd"), extended(0, 5, 3), lossy()], Err(ImageFault::Malformed)),
        ("nothing", vec![extended(0, 5, 3)], Err(ImageFault::Truncated)),
        (
            "no key frame",
            vec![riff_chunk(b"VP8 ", &[0x11, 0, 0, 0x9d, 1, 0x2a, 5, 0, 3, 0])],
            Err(ImageFault::Malformed),
        ),
        (
            "no start code",
            vec![riff_chunk(b"VP8 ", &[0x10, 0, 0, 0, 1, 0x2a, 5, 0, 3, 0])],
            Err(ImageFault::Malformed),
        ),
        (
            "a later version",
            vec![riff_chunk(b"VP8L", &[0x2f, 4, 0x80, 0, 0x20])],
            Err(ImageFault::Unsupported),
        ),
        ("too wide", vec![riff_chunk(b"VP8L", &[0x2f, 0xff, 0x3f, 0, 0])], Err(ImageFault::TooLarge)),
    ] {
        let checked = check(webp(&chunks));
        assert_eq!(checked.clone().map(|image| image.bytes.to_vec()), expected, "{why}");
        assert!(
            checked.is_err() || checked.is_ok_and(|image| (image.width, image.height) == (5, 3)),
            "{why}"
        );
    }
}

#[test]
fn a_webps_lengths_are_not_believed() {
    for (name, file) in WEBPS {
        let length = u32::from_le_bytes(file[4..8].try_into().unwrap());
        for other in [0, 4, 12, length - 2, length + 2, u32::MAX, u32::MAX - 7] {
            let mut file = file.to_vec();
            file[4..8].copy_from_slice(&other.to_le_bytes());
            // Shorter ones may cut off metadata alone; then the picture is whole.
            if let Ok(image) = check(file) {
                assert!(
                    other < length && image.bytes == check(image.bytes.to_vec()).unwrap().bytes,
                    "{name}, {other}"
                );
            }
        }
    }
}

fn sound_or_refused(bytes: Vec<u8>) {
    if let Ok(image) = check(bytes) {
        assert!(image.width <= IMAGE_SIDE_MAX && image.height <= IMAGE_SIDE_MAX);
        assert!(image.bytes.len() <= IMAGE_BYTES_MAX);
        let again = check(image.bytes.to_vec()).expect("what passed passes again");
        assert_eq!(again, image);
    }
}

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    (0..files().count()).prop_map(|at| files().nth(at).unwrap().1.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_are_sound_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), signature in 0_usize..4) {
        let signatures: [&[u8]; 4] = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0"];
        sound_or_refused([signatures[signature], &bytes].concat());
    }

    #[test]
    fn any_damage_is_sound_or_refused(
        mut file in any_file(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        inserted in prop::collection::vec(any::<u8>(), 0..20),
        shorten: bool,
    ) {
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let at = cut.index(file.len());
        if shorten {
            file.drain(at..(at + inserted.len()).min(file.len()));
        } else {
            file.splice(at..at, inserted);
        }
        sound_or_refused(file);
    }

    #[test]
    fn any_chunks_with_right_sums_are_sound_or_refused(chunks in prop::collection::vec((0_usize..12, prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
        let names: [&[u8; 4]; 12] = [
            b"IHDR", b"IDAT", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"tEXt", b"fdAT", b"ABCD",
        ];
        let chunks: Vec<_> = chunks.iter().map(|(name, data)| chunk(names[*name], data)).collect();
        sound_or_refused(png(&chunks));
        sound_or_refused(png(&[vec![rgb()], chunks].concat()));
    }
}
