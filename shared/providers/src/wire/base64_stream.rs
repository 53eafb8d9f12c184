//! Base64 decoded as it arrives.

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use darkroom_core::answer::Refusal;

/// Why a picture could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base64Fault {
    /// Not base64 (RFC 4648, section 4).
    NotBase64,
    /// Decodes to more than the limit.
    TooLong,
}

impl Base64Fault {
    /// There is no picture, and this is why.
    pub(crate) fn refusal(self) -> Refusal {
        let detail = match self {
            Self::NotBase64 => "the picture is not base64",
            Self::TooLong => "the picture is too large",
        };
        Refusal::NoImage { detail: detail.to_owned() }
    }
}

/// Decodes standard base64, with or without padding, in pieces of any size.
#[derive(Debug)]
pub(crate) struct Base64Stream {
    decoded: Vec<u8>,
    limit: usize,
    /// Up to three characters that wait for the rest of their group of four.
    group: Vec<u8>,
    padded: bool,
}

impl Base64Stream {
    /// At most `limit` bytes are decoded; `expected` of them are made room for at once.
    pub(crate) fn new(limit: usize, expected: usize) -> Self {
        Self {
            // Room is asked for in whole groups of three bytes.
            decoded: Vec::with_capacity(expected.min(limit + 2)),
            limit,
            group: Vec::with_capacity(4),
            padded: false,
        }
    }

    pub(crate) fn push(&mut self, mut piece: &[u8]) -> Result<(), Base64Fault> {
        if !self.group.is_empty() {
            let (head, rest) = piece.split_at(piece.len().min(4 - self.group.len()));
            self.group.extend_from_slice(head);
            piece = rest;
            if self.group.len() < 4 {
                return Ok(());
            }
            // Its room is used again: an answer may escape every character, and each then comes alone.
            let mut group = std::mem::take(&mut self.group);
            self.decode(&group)?;
            group.clear();
            self.group = group;
        }
        let (whole, rest) = piece.split_at(piece.len() - piece.len() % 4);
        self.decode(whole)?;
        self.group.extend_from_slice(rest);
        Ok(())
    }

    /// The decoded bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Base64Fault> {
        if !self.group.is_empty() {
            if self.padded {
                return Err(Base64Fault::NotBase64);
            }
            let rest = std::mem::take(&mut self.group);
            self.fits(rest.len())?;
            STANDARD_NO_PAD.decode_append(&rest, &mut self.decoded).map_err(|_| Base64Fault::NotBase64)?;
        }
        Ok(self.decoded)
    }

    /// Decodes whole groups.
    fn decode(&mut self, groups: &[u8]) -> Result<(), Base64Fault> {
        if groups.is_empty() {
            return Ok(());
        }
        // Nothing may follow padding.
        if self.padded {
            return Err(Base64Fault::NotBase64);
        }
        self.padded = groups.last() == Some(&b'=');
        self.fits(groups.len())?;
        // `decode_append` makes room for exactly its own bytes; room that doubles is made here.
        self.decoded.reserve(groups.len() / 4 * 3);
        STANDARD.decode_append(groups, &mut self.decoded).map_err(|_| Base64Fault::NotBase64)
    }

    fn fits(&self, characters: usize) -> Result<(), Base64Fault> {
        // Padding makes the true length up to two bytes shorter; the limit need not be that exact.
        let decoded = self.decoded.len() + characters * 3 / 4;
        if decoded > self.limit + 2 { Err(Base64Fault::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]], limit: usize) -> Result<Vec<u8>, Base64Fault> {
        let mut stream = Base64Stream::new(limit, 0);
        for piece in pieces {
            stream.push(piece)?;
        }
        stream.finish()
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in
            ["A", "AAAAA", "AA=A", "A===", "AA==AAAA", "AA==A", "AA-_", "AA A", "AAA\n", "====", "QR=="]
        {
            assert_eq!(decode(&[text.as_bytes()], 99), Err(Base64Fault::NotBase64), "{text}");
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(decode(&single, 99), Err(Base64Fault::NotBase64), "{text} byte by byte");
        }
    }

    #[test]
    fn decoding_stops_at_the_limit() {
        let text = base64_simd::STANDARD.encode_to_string([7_u8; 300]);
        assert_eq!(decode(&[text.as_bytes()], 300).unwrap().len(), 300);
        assert_eq!(decode(&[text.as_bytes()], 297), Err(Base64Fault::TooLong));
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
        assert_eq!(decode(&pieces, 297), Err(Base64Fault::TooLong));
    }

    proptest! {
        #[test]
        fn gives_back_what_was_encoded(bytes: Vec<u8>, cut in 1_usize..40, padded: bool) {
            let engine = if padded { STANDARD } else { STANDARD_NO_PAD };
            let text = engine.encode_to_string(&bytes);
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(decode(&pieces, bytes.len()).unwrap(), bytes);
        }
    }
}
