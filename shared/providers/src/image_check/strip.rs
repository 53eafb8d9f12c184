//! Dropping parts of a file in place.

use std::ops::Range;

use super::ImageFault;

/// A file that is read forwards while the kept parts move to its front.
pub(super) struct Strip {
    bytes: Vec<u8>,
    kept: usize,
}

impl Strip {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, kept: 0 }
    }

    /// The file's length as it came.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are not yet behind a kept part.
    pub(super) fn get(&self, range: Range<usize>) -> Result<&[u8], ImageFault> {
        self.bytes.get(range).ok_or(ImageFault::Truncated)
    }

    /// `N` bytes from `at` on.
    pub(super) fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], ImageFault> {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or(ImageFault::Truncated)
    }

    /// Keeps a part. Parts are kept in the file's order, each once.
    pub(super) fn keep(&mut self, range: Range<usize>) -> Result<(), ImageFault> {
        self.get(range.clone())?;
        // Reading runs ahead of writing; anything else is a mistake of this crate, and must not become a wrong picture.
        if range.start < self.kept {
            return Err(ImageFault::Malformed);
        }
        let length = range.len();
        if range.start != self.kept {
            self.bytes.copy_within(range, self.kept);
        }
        self.kept += length;
        Ok(())
    }

    /// Overwrites bytes of a part that was kept.
    pub(super) fn patch(&mut self, at: usize, with: &[u8]) -> Result<(), ImageFault> {
        let kept = self.bytes.get_mut(..self.kept).ok_or(ImageFault::Truncated)?;
        let place = kept.get_mut(at..at.saturating_add(with.len())).ok_or(ImageFault::Truncated)?;
        place.copy_from_slice(with);
        Ok(())
    }

    /// How much is kept so far.
    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// The kept parts.
    pub(super) fn into_kept(mut self) -> Vec<u8> {
        self.bytes.truncate(self.kept);
        self.bytes
    }
}
