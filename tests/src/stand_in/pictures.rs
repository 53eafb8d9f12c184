//! Pictures of a wanted size and file length: a few, made once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// The pictures made so far, in base64. Thousands of simulated runs share them.
static MADE: Mutex<BTreeMap<Wanted, Bytes>> = Mutex::new(BTreeMap::new());

/// Width and height, and the file's length.
type Wanted = ((u32, u32), usize);

/// The base64 of a PNG of this width and height whose file is `length` bytes long, give or take the format's own few.
pub(crate) fn picture(size: (u32, u32), length: usize) -> Bytes {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let picture = made
        .entry((size, length))
        .or_insert_with(|| Bytes::from(data_encoding::BASE64.encode(&file(size, length)).into_bytes()));
    picture.clone()
}

/// As much noise as the file is to be long, then black, which takes next to no room.
fn file((width, height): (u32, u32), length: usize) -> Vec<u8> {
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for pixel in pixels.iter_mut().take(length.saturating_sub(4096)) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *pixel = state.to_be_bytes()[0];
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_filter(png::Filter::NoFilter);
    // Level 1 would leave 50 KB of a large black picture.
    encoder.set_deflate_compression(png::DeflateCompression::Level(6));
    // Writing to memory with such dimensions cannot fail; a picture that did would fail every test.
    if let Ok(mut writer) = encoder.write_header() {
        let written = writer.write_image_data(&pixels).and_then(|()| writer.finish());
        debug_assert!(written.is_ok(), "the stand-in's own picture");
    }
    file
}
