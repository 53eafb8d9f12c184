//! Small things that unfold, and large ones that look small: what they cost is counted.
//!
//! No time is asserted, but each answer has to be read within the time of a call.

use std::sync::PoisonError;
use std::time::Instant;

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::limits::{BODY_BYTES_MAX, IMAGE_BYTES_MAX};
use darkroom_core::model::ProviderName::{self, Forge, Gemini, OpenAi};
use darkroom_providers::image_check::{ImageFault, check};
use darkroom_providers::{DrawError, DrawnImage};
use darkroom_tests::hostile::provider::{Answer, Bench};
use darkroom_tests::hostile::{IMAGE, SUBMIT_BODY, Verdict};
use data_encoding::BASE64;

use crate::pictures::{black, chunk, frame, header, jpeg, png, riff_chunk, scan, segment, webp, zeros};
use crate::{HEAP, QUIET, corpus};

const MB: usize = 1024 * 1024;
/// Judging a picture works in the file's own bytes.
const IMAGE_HEAP_MAX: usize = MB;
/// Two pictures at their limit whose lengths are not told: a draft, in a buffer of up to twice its length, and the one being read,
/// whose buffer doubles: for a moment the old one and the new one are there.
const ANSWER_HEAP_MAX: usize = 5 * IMAGE_BYTES_MAX + 8 * MB;
/// A submission of 16 KB with everything that is asked of the stores for it, and they are in this process.
const SUBMIT_HEAP_MAX: usize = 8 * MB;

/// The most that was allocated while this was done, beside what was there before. Nothing else runs meanwhile.
fn counted<T>(what: &str, heap_max: usize, work: impl FnOnce() -> T) -> T {
    let (before, started) = (HEAP.current_usage(), Instant::now());
    HEAP.reset_peak_usage();
    let done = work();
    let (peak, took) = (HEAP.peak_usage().saturating_sub(before), started.elapsed());
    println!("{what:<58} {:>10} KB {:>8.1} ms", peak / 1024, took.as_secs_f64() * 1e3);
    assert!(peak <= heap_max, "{what}: {peak} bytes were allocated, {heap_max} are allowed");
    done
}

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

/// The longest picture there may be, of bytes that do not repeat.
fn longest() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(IMAGE_BYTES_MAX - 57).collect();
    png(&[header(2, 2, 8, 2), chunk(b"IDAT", &noise), chunk(b"IEND", b"")])
}

/// A body as a provider writes it around these pictures, the last of which is not a draft. It is sent in pieces of 64 KB.
fn around(provider: ProviderName, pictures: &[&str]) -> Vec<Bytes> {
    let (head, before, after) = match provider {
        Gemini => {
            (r#"{"candidates":[{"content":{"parts":["#, r#"{"thought":true,"inlineData":{"data":""#, r#""}}"#)
        }
        OpenAi => (r#"{"data":["#, r#"{"b64_json":""#, r#""}"#),
        _ => (r#"{"images":["#, "\"", "\""),
    };
    let tail = if provider == Gemini { r#"]},"finishReason":"STOP"}],"modelVersion":"m"}"# } else { "]}" };
    let mut body = head.to_owned();
    for (at, &picture) in pictures.iter().enumerate() {
        let last = at + 1 == pictures.len();
        body.push_str(&if last { before.replace("true", "false") } else { before.to_owned() });
        for part in [picture, after, if last { tail } else { "," }] {
            body.push_str(part);
        }
    }
    let body = Bytes::from(body);
    body.chunks(64 * 1024).map(|piece| body.slice_ref(piece)).collect()
}

fn no_image(result: &Result<DrawnImage, DrawError>) -> &str {
    match result {
        Err(DrawError::Refused(Refusal::NoImage { detail })) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_read_in_a_few_times_its_picture() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start().unwrap();
    let draw = |what: &str, provider: ProviderName, answer: Answer| {
        counted(&format!("{provider}: {what}"), ANSWER_HEAP_MAX, || bench.draw(provider, answer))
    };
    let file = longest();
    let picture = BASE64.encode(&file);
    for provider in [Gemini, OpenAi, Forge] {
        let body = around(provider, &[&picture]);
        let length = Some(body.iter().map(Bytes::len).sum());
        for (what, length) in [("a picture of 20 MB", None), ("the same, its length told", length)] {
            let image = draw(what, provider, Answer { length, ..Answer::ok(body.clone()) }).unwrap();
            assert!(image.bytes == file, "{what}");
        }
        let escaped: String = picture.bytes().take(MB).map(|byte| format!("\\u{byte:04x}")).collect();
        let escaped = draw(
            "1 MB of base64, each character escaped",
            provider,
            Answer::ok(around(provider, &[&escaped])),
        );
        assert_eq!(no_image(&escaped), "the picture is cut off");

        // Room is made for what the whole answer could hold.
        let rest = format!("{},{}", &picture[..1_024], " ".repeat(24 * MB));
        let small = around(provider, &[&picture[..1_024], &rest]);
        let length = Some(small.iter().map(Bytes::len).sum());
        let small = draw("1 KB in an answer of 24 MB", provider, Answer { length, ..Answer::ok(small) });
        assert_eq!(no_image(&small), "the picture is cut off");
        let many = vec![&picture[..4]; 200_000];
        let many = draw("200,000 pictures of 3 bytes", provider, Answer::ok(around(provider, &many)));
        assert_eq!(no_image(&many), "the picture is no PNG, JPEG or WebP");

        let long = |byte: u8, times: usize| vec![Bytes::from(vec![byte; 64 * 1024]); times * 16];
        for (what, byte) in [("80 MB of [", b'['), ("80 MB of {", b'{'), ("80 MB of digits", b'7')] {
            assert_eq!(no_image(&draw(what, provider, Answer::ok(long(byte, 80)))), "the answer is not JSON");
        }
        assert_eq!(
            no_image(&draw("8 MB of spaces", provider, Answer::ok(long(b' ', 8)))),
            "the answer is not JSON"
        );
        for (what, head) in [("a name of 96 MB", "{\""), ("a text of 96 MB", "{\"x\":\"")] {
            let body = [vec![Bytes::from_static(head.as_bytes())], long(b' ', 96)].concat();
            assert_eq!(no_image(&draw(what, provider, Answer::ok(body))), "the answer is too long");
        }
    }
    let three = around(Gemini, &[&picture[..picture.len() - 4096]; 3]);
    assert_eq!(
        no_image(&draw("three pictures of 20 MB", Gemini, Answer::ok(three))),
        "the picture is cut off"
    );
}

/// Bodies of a refusal, and the most that is read of one.
#[test]
fn a_refusal_is_read_in_little() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start().unwrap();
    let details = format!(
        r#"{{"error":{{"message":"{}","details":[{}{{}}]}}}}"#,
        "limit: 0x".repeat(2_000),
        "[],".repeat(14_000)
    );
    let deep = format!(r#"{{"error":{}1{}}}"#, r#"{"error":"#.repeat(7_000), "}".repeat(1));
    for provider in [Gemini, OpenAi, Forge] {
        for (what, body) in [("14,000 details", &details), ("7,000 levels", &deep)] {
            for status in [400, 403, 404, 429, 500] {
                let answer = Answer {
                    status: http::StatusCode::from_u16(status).unwrap(),
                    ..Answer::ok(vec![Bytes::from(body.clone())])
                };
                let told = counted(&format!("{provider}: {status} with {what}"), 8 * MB, || {
                    bench.draw(provider, answer)
                });
                assert!(told.is_err());
            }
        }
    }
}

#[test]
fn a_submission_is_judged_in_little() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let names: String = (0..2_300).map(|at| format!("\"{at:x}\":0,")).collect();
    let prompt = |text: &str| format!(r#"{{"prompt":"{text}"}}"#);
    let marks = |mark: &str| prompt(&format!("a{}", mark.repeat((BODY_BYTES_MAX - 20) / mark.len())));
    // The functions' own start is not counted.
    assert_eq!((SUBMIT_BODY.run)(b"{}"), Verdict::Refused);
    for (what, body, expected) in [
        ("16,000 levels", "[".repeat(BODY_BYTES_MAX), Verdict::Refused),
        ("as deep as JSON may be", format!("{}{}", "[".repeat(127), "]".repeat(127)), Verdict::Refused),
        ("2,300 unknown fields", format!("{{{names}\"prompt\":\"x\"}}"), Verdict::Refused),
        ("8,000 marks on one letter", marks("\u{301}"), Verdict::Refused),
        ("marks in the worst order", marks("\u{301}\u{327}"), Verdict::Refused),
        (
            "3,900 marks in the worst order",
            prompt(&format!("a{}", "\u{301}\u{327}".repeat(1_950))),
            Verdict::Taken,
        ),
        ("letters of which each becomes three", marks("\u{1d160}"), Verdict::Refused),
        ("1,300 of them", prompt(&"\u{1d160}".repeat(1_300)), Verdict::Taken),
        ("one that an Arabic ligature is not", prompt(&"\u{fdfa}".repeat(4_000)), Verdict::Taken),
        ("one byte too many", prompt(&"x".repeat(BODY_BYTES_MAX - 12)), Verdict::Refused),
        ("a megabyte", prompt(&"x".repeat(MB)), Verdict::Refused),
    ] {
        let told =
            counted(&format!("submission: {what}"), SUBMIT_HEAP_MAX, || (SUBMIT_BODY.run)(body.as_bytes()));
        assert_eq!(told, expected, "{what}");
    }
}
