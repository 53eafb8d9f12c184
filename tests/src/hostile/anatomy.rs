//! What a sound file consists of, told without the product's own reader. Each panics unless the parts are the whole file.

/// The names of a PNG's chunks.
pub(super) fn png_chunks(file: &[u8]) -> Vec<[u8; 4]> {
    let (mut rest, mut names) = (&file[8..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        names.push(rest[4..8].try_into().unwrap());
        rest = &rest[12 + length..];
    }
    assert_eq!(names.last(), Some(b"IEND"));
    names
}

/// A JPEG's markers, without fill bytes and restarts.
pub(super) fn jpeg_markers(file: &[u8]) -> Vec<u8> {
    let (mut at, mut markers) = (2, vec![0xd8]);
    assert_eq!(&file[..2], b"\xff\xd8");
    loop {
        assert_eq!(file[at], 0xff);
        while file[at + 1] == 0xff {
            at += 1;
        }
        let marker = file[at + 1];
        markers.push(marker);
        at += 2;
        if marker == 0xd9 {
            assert_eq!(at, file.len(), "something follows the end");
            return markers;
        }
        at += usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
        if marker == 0xda {
            while file[at] != 0xff || matches!(file[at + 1], 0x00 | 0xd0..=0xd7 | 0xff) {
                at += 1;
            }
        }
    }
}

/// The names of a WebP's chunks.
pub(super) fn webp_chunks(file: &[u8]) -> Vec<[u8; 4]> {
    let length = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(length(4) + 8, file.len());
    let (mut at, mut names) = (12, Vec::new());
    while at < file.len() {
        let name = file[at..at + 4].try_into().unwrap();
        assert!(&name != b"VP8X" || file[at + 8..at + 12] == [0x10, 0, 0, 0], "flags of what is not there");
        names.push(name);
        at += 8 + length(at + 4).next_multiple_of(2);
    }
    names
}
