//! The procedural generator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::io::Cursor;
use std::time::Duration;

use darkroom_core::id::{JobId, ModelName};
use darkroom_core::image::ImageFormat;
use darkroom_core::limits::{IMAGE_BYTES_MAX, IMAGE_SIDE_MAX};
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_providers::image_check::{CheckedImage, check};
use darkroom_providers::{DrawRequest, DrawnImage, Progress, Providers, Settings};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

fn providers() -> Providers {
    Providers::new(Settings::default())
}

async fn draw(prompt: &str, seed: u64, aspect_ratio: AspectRatio, size: ImageSize) -> DrawnImage {
    draw_from(None, prompt, seed, Shape { aspect_ratio, size }).await
}

async fn draw_from(reference: Option<&CheckedImage>, prompt: &str, seed: u64, shape: Shape) -> DrawnImage {
    let request = DrawRequest {
        job: &JobId::parse(&format!("job_{}", "a".repeat(52))).unwrap(),
        call: 1,
        model: &ModelName::parse("darkroom-local").unwrap(),
        prompt: &Prompt::parse(prompt).unwrap(),
        reference,
        shape,
        seed,
        secret: None,
        progress: &Progress::unknown(),
    };
    providers().get(ProviderName::Local).draw(request, Duration::from_secs(60)).await.expect("a picture")
}

/// These hashes are the same on every machine. They change with the generator, and with the `png` crate's encoder.
#[tokio::test]
async fn the_same_request_gives_the_same_bytes() {
    let mut hashes = Vec::new();
    for (prompt, seed) in [
        ("a lighthouse at dusk", 1),
        ("aurora over a mountain lake", 2),
        ("desert with cacti, golden hour", 3),
        ("city at night in the rain", 4),
        ("kar yağışı, ormanda bir kulübe", u64::MAX),
        ("balloons over flowers and a castle, day", 6),
    ] {
        let image = draw(prompt, seed, AspectRatio::R1x1, ImageSize::K1).await;
        assert_eq!(image, draw(prompt, seed, AspectRatio::R1x1, ImageSize::K1).await, "{prompt}");
        assert_eq!(image.sha256, HEXLOWER.encode(&Sha256::digest(&image.bytes)));
        hashes.push(image.sha256[..16].to_owned());
    }
    assert_eq!(hashes, EXPECTED);
}

const EXPECTED: [&str; 6] = [
    "30214fdea00ee606",
    "5602370346ffcb22",
    "9735ef162178fc40",
    "68e4e734c19e0ec9",
    "3cd6e659c1767bc1",
    "51875594a20a458c",
];

#[tokio::test]
async fn every_shape_is_a_png_of_about_the_size_asked_for() {
    for aspect_ratio in AspectRatio::ALL {
        for (size, side, step) in [(ImageSize::K1, 1024_u32, 16), (ImageSize::K2, 2048, 32)] {
            let image = draw("mountains", 7, aspect_ratio, size).await;
            let (width, height) = (image.width, image.height);
            assert_eq!((image.format, image.drawn_by.as_str()), (ImageFormat::Png, "darkroom-local"));
            assert!(width.is_multiple_of(step) && height.is_multiple_of(step), "{width} × {height}");
            assert!(
                width <= IMAGE_SIDE_MAX && height <= IMAGE_SIDE_MAX && image.bytes.len() <= IMAGE_BYTES_MAX
            );
            let area = f64::from(width * height) / f64::from(side * side);
            assert!((0.97..=1.03).contains(&area), "{width} × {height}");
            let (across, up) = aspect_ratio.terms();
            let ratio = f64::from(width * up) / f64::from(height * across);
            assert!((0.98..=1.02).contains(&ratio), "{width} × {height} for {}", aspect_ratio.as_str());

            let mut reader = png::Decoder::new(Cursor::new(&image.bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            assert_eq!((info.width, info.height), (width, height));
            let texts = &reader.info().uncompressed_latin1_text;
            assert!(
                texts.iter().any(|text| text.keyword == "Description" && text.text.starts_with("procedural"))
            );
            assert!(texts.iter().any(|text| text.keyword == "Software" && text.text == "Darkroom"));
        }
    }
}

#[tokio::test]
async fn prompt_seed_and_shape_each_change_the_picture() {
    let mut seen = HashSet::new();
    for (prompt, seed, ratio, size) in [
        ("a lake", 1, AspectRatio::R1x1, ImageSize::K1),
        ("a lake", 2, AspectRatio::R1x1, ImageSize::K1),
        ("a lake.", 1, AspectRatio::R1x1, ImageSize::K1),
        ("a lake", 1, AspectRatio::R4x5, ImageSize::K1),
        ("a lake", 1, AspectRatio::R1x1, ImageSize::K2),
    ] {
        assert!(seen.insert(draw(prompt, seed, ratio, size).await.sha256), "{prompt} {seed}");
    }
}

/// The pixels of a picture, and in how many of them two differ: in the lower left corner, and elsewhere.
fn difference(one: &DrawnImage, two: &DrawnImage) -> (usize, usize) {
    let pixels = |image: &DrawnImage| {
        let mut reader = png::Decoder::new(Cursor::new(image.bytes.clone())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    };
    let (width, height, low) = (one.width as usize, one.height as usize, one.width.min(one.height) as usize);
    let (mut corner, mut elsewhere) = (0, 0);
    for (at, (one, two)) in pixels(one).chunks(3).zip(pixels(two).chunks(3)).enumerate() {
        let is_corner = at % width < low / 3 && at / width > height - low / 3;
        let count = if is_corner { &mut corner } else { &mut elsewhere };
        *count += usize::from(one != two);
    }
    (corner, elsewhere)
}

/// What is drawn from a picture shows it in a corner, each another one, and always the same.
#[tokio::test]
async fn a_reference_is_seen_in_the_picture() {
    let png = check(include_bytes!("data/palette.png").to_vec()).unwrap();
    let jpeg = check(include_bytes!("data/baseline.jpg").to_vec()).unwrap();
    for (aspect_ratio, size) in [(AspectRatio::R16x9, ImageSize::K1), (AspectRatio::R9x16, ImageSize::K2)] {
        let shape = Shape { aspect_ratio, size };
        let draw = async |reference| draw_from(reference, "a lake", 1, shape).await;
        let (without, of_png, of_jpeg) = (draw(None).await, draw(Some(&png)).await, draw(Some(&jpeg)).await);
        assert_eq!(of_png, draw(Some(&png)).await);
        let low = without.width.min(without.height) as usize;
        for (one, two) in [(&without, &of_png), (&without, &of_jpeg), (&of_png, &of_jpeg)] {
            let (corner, elsewhere) = difference(one, two);
            assert_eq!(elsewhere, 0);
            assert!(corner > low * low / 60, "{corner} pixels of {low}²");
        }
    }
}

/// Whatever the words and however many: every terrain, light and motif in every ratio.
#[tokio::test]
async fn any_words_make_a_picture() {
    let lands = ["mountains", "lake", "forest", "sea", "desert", "snow", "city", "meadow", "xyzzy"];
    let lights = ["dawn", "noon", "golden", "dusk", "night", ""];
    let things = [
        "lighthouse",
        "boat",
        "house",
        "castle",
        "balloon",
        "birds",
        "cactus",
        "tree flowers",
        "moon",
        "stars",
        "aurora",
        "fog",
        "rain",
        "snowfall",
        "clouds",
        "clear",
        "red",
        "purple boat",
    ];
    let mut ratios = AspectRatio::ALL.into_iter().cycle();
    for (at, land) in lands.iter().enumerate() {
        for (turn, thing) in things.iter().enumerate() {
            let light = lights[(at + turn) % lights.len()];
            let prompt = format!("{land} {light} {thing}");
            let image = draw(&prompt, turn as u64, ratios.next().unwrap(), ImageSize::K1).await;
            let kib = image.bytes.len() / 1024;
            assert!((48..=640).contains(&kib), "{prompt}: {kib} KiB");
        }
    }
    let everything = [lands.join(" "), things.join(" "), "kelime ".repeat(400)].join(" ");
    draw(&everything, 0, AspectRatio::R21x9, ImageSize::K1).await;
}
