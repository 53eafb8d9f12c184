//! Files of pictures, made by hand.
// Names of chunks are byte strings, which are references.
#![allow(clippy::trivially_copy_pass_by_ref)]

/// One chunk of a PNG.
pub(crate) fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let covered = [name.as_slice(), data].concat();
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [length.as_slice(), &covered, &crc32fast::hash(&covered).to_be_bytes()].concat()
}

/// A PNG's `IHDR`.
pub(crate) fn header(width: u32, height: u32, depth: u8, color: u8) -> Vec<u8> {
    let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[sizes.as_slice(), &[depth, color, 0, 0, 0]].concat())
}

/// A PNG of these chunks.
pub(crate) fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunks.concat()].concat()
}

/// One chunk of a WebP.
pub(crate) fn riff_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    [name.as_slice(), &length, data, &vec![0; data.len() % 2]].concat()
}

/// A WebP of these chunks.
pub(crate) fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = u32::try_from(chunks.len() + 4).unwrap().to_le_bytes();
    [b"RIFF".as_slice(), &length, b"WEBP", &chunks].concat()
}

/// A segment of a JPEG.
pub(crate) fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&[0xff, marker], length.as_slice(), data].concat()
}

/// A JPEG of these parts.
pub(crate) fn jpeg(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"\xff\xd8".as_slice(), &parts.concat(), b"\xff\xd9"].concat()
}

/// A JPEG's frame of three components.
pub(crate) fn frame(width: u16, height: u16) -> Vec<u8> {
    let ([w0, w1], [h0, h1]) = (width.to_be_bytes(), height.to_be_bytes());
    segment(0xc0, &[8, h0, h1, w0, w1, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
}

/// A scan with this data.
pub(crate) fn scan(data: &[u8]) -> Vec<u8> {
    [segment(0xda, &[1, 1, 0, 0, 63, 0]), data.to_vec()].concat()
}

/// A black picture of this size by the reference encoder.
pub(crate) fn black(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_deflate_compression(png::DeflateCompression::Level(6));
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; width as usize * height as usize * 4]).unwrap();
    writer.finish().unwrap();
    file
}

/// A stream of `length` zeros as zlib writes it: about a thousandth.
pub(crate) fn zeros(length: u32) -> Vec<u8> {
    let file = black(1_024, length / 4_096);
    // Behind the signature and `IHDR`: the data of each `IDAT`.
    let (mut rest, mut stream) = (&file[33..], Vec::new());
    while rest[4..8] == *b"IDAT" {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        stream.extend_from_slice(&rest[8..8 + length]);
        rest = &rest[12 + length..];
    }
    stream
}
