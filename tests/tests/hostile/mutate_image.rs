//! Changes that leave a picture's file to be one, or nearly: whole chunks move, and sums and lengths are put right again.

use fastrand::Rng;

use crate::pictures::{chunk, png, riff_chunk, webp};

/// Names of chunks that mean something to somebody.
const NAMES: [&[u8; 4]; 12] = [
    b"IDAT", b"IEND", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"fdAT", b"acTL", b"VP8X", b"ALPH", b"EXIF",
    b"ANMF",
];

/// One change; a file that is of no kind stays.
pub(crate) fn change(file: &mut Vec<u8>, random: &mut Rng) {
    if file.starts_with(b"\x89PNG") {
        let mut parts =
            parts(file.get(8..).unwrap_or_default(), |bytes| u32::from_be_bytes(bytes) as usize, 4);
        exchange(&mut parts, random);
        let chunks: Vec<_> = parts.iter().map(|(name, data)| chunk(name, data)).collect();
        *file = png(&chunks);
    } else if file.starts_with(b"RIFF") {
        let mut parts = riff_parts(file.get(12..).unwrap_or_default());
        exchange(&mut parts, random);
        let chunks: Vec<_> = parts.iter().map(|(name, data)| riff_chunk(name, data)).collect();
        *file = webp(&chunks);
    } else if file.starts_with(b"\xff\xd8") {
        segment(file, random);
    }
}

type Part = ([u8; 4], Vec<u8>);

/// The chunks of a PNG behind its signature, as far as their lengths go.
fn parts(mut rest: &[u8], length: impl Fn([u8; 4]) -> usize, sum: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [l0, l1, l2, l3, name @ ..] = *head;
        let length = length([l0, l1, l2, l3]).min(after.len());
        parts.push((name, after[..length].to_vec()));
        rest = after.get(length + sum..).unwrap_or_default();
    }
    parts
}

fn riff_parts(mut rest: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [name @ .., l0, l1, l2, l3] = *head;
        let length = (u32::from_le_bytes([l0, l1, l2, l3]) as usize).min(after.len());
        parts.push((name, after[..length].to_vec()));
        rest = after.get(length + length % 2..).unwrap_or_default();
    }
    parts
}

fn exchange(parts: &mut Vec<Part>, random: &mut Rng) {
    if parts.is_empty() {
        return;
    }
    let (at, other) = (random.usize(..parts.len()), random.usize(..parts.len()));
    let name = **random.choice(&NAMES).unwrap();
    match random.u8(..7) {
        0 => parts.swap(at, other),
        1 => drop(parts.remove(at)),
        2 => parts.insert(other, parts[at].clone()),
        3 => parts[at].0 = name,
        4 => {
            let length = random.usize(..40);
            let data = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            parts.insert(at, (name, data));
        }
        5 => {
            let length = random.usize(..=parts[at].1.len());
            parts[at].1.truncate(length);
        }
        _ => {
            let data = &mut parts[at].1;
            if !data.is_empty() {
                let byte = random.usize(..data.len().min(24));
                data[byte] = *random.choice(&[0, 1, 3, 8, 16, 0x7f, 0x80, 0xff]).unwrap();
            }
        }
    }
}

/// Another marker or another length somewhere in a JPEG.
fn segment(file: &mut Vec<u8>, random: &mut Rng) {
    let markers: Vec<_> =
        (0..file.len().saturating_sub(3)).filter(|at| file[*at] == 0xff && file[*at + 1] != 0).collect();
    let Some(at) = random.choice(&markers).copied() else { return };
    match random.u8(..4) {
        0 => {
            file[at + 1] = *random
                .choice(&[0xc0, 0xc2, 0xc3, 0xc4, 0xd0, 0xd9, 0xda, 0xdb, 0xdc, 0xe1, 0xfe, 0xff])
                .unwrap();
        }
        1 => {
            let length = random.choice(&[0_u16, 1, 2, 3, 0xff, 0xffff]).unwrap().to_be_bytes();
            file[at + 2..at + 4].copy_from_slice(&length);
        }
        2 => drop(file.splice(at..at, [0xff; 9])),
        _ => {
            let comment = [b"\xff\xfe\x00\x09".as_slice(), b"comment"].concat();
            file.splice(at..at, comment);
        }
    }
}
