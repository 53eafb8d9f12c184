//! A picture to draw from, before a provider sees it: the promised bytes, and a sound picture.

use bytes::Bytes;
use darkroom_core::image::ImageFormat;
use darkroom_core::upload::Reference;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::image_check::{CheckedImage, ImageFault, check};

/// Why a picture is not drawn from. No variant shows any of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReferenceFault {
    /// Other bytes than their owner promised.
    #[error("the bytes are not the promised ones")]
    OtherBytes,
    /// Another format than was promised.
    #[error("the picture is {}, and {} was promised", .found.content_type(), .promised.content_type())]
    OtherFormat {
        /// By its bytes.
        found: ImageFormat,
        /// By its owner's words.
        promised: ImageFormat,
    },
    /// No sound picture.
    #[error("{0}")]
    Image(#[from] ImageFault),
    /// The look at it stopped, by a fault of ours.
    #[error("the picture could not be checked")]
    Unchecked,
}

/// Checks that these are the promised bytes, and the picture as any other from the network: what is sent on has no EXIF (so
/// nothing of where it was taken), no further frames and nothing behind its end.
///
/// # Errors
/// What is wrong with it.
pub async fn check_reference(bytes: Bytes, promised: &Reference) -> Result<CheckedImage, ReferenceFault> {
    let promised = promised.clone();
    // Hashing some MB takes milliseconds: not on a thread that serves others.
    let checking = tokio::task::spawn_blocking(move || look(bytes, &promised));
    checking.await.unwrap_or(Err(ReferenceFault::Unchecked))
}

fn look(bytes: Bytes, promised: &Reference) -> Result<CheckedImage, ReferenceFault> {
    if HEXLOWER.encode(&Sha256::digest(&bytes)) != promised.sha256 {
        return Err(ReferenceFault::OtherBytes);
    }
    let image = check(bytes.into())?;
    if image.format != promised.format {
        return Err(ReferenceFault::OtherFormat { found: image.format, promised: promised.format });
    }
    Ok(image)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use darkroom_core::id::UploadId;
    use darkroom_core::time::Timestamp;

    use super::*;

    const PNG: &[u8] = include_bytes!("../tests/data/palette.png");
    const JPEG: &[u8] = include_bytes!("../tests/data/baseline.jpg");

    fn promise(bytes: &[u8], format: ImageFormat) -> Reference {
        Reference {
            upload: UploadId::new(Timestamp::from_millis(1), [0; 10]),
            sha256: HEXLOWER.encode(&Sha256::digest(bytes)),
            bytes: bytes.len() as u64,
            format,
        }
    }

    async fn fault(bytes: &[u8], promised: &Reference) -> ReferenceFault {
        check_reference(Bytes::copy_from_slice(bytes), promised).await.unwrap_err()
    }

    #[tokio::test]
    async fn the_promised_picture_is_taken_and_anything_else_is_not() {
        let promised = promise(PNG, ImageFormat::Png);
        let taken = check_reference(Bytes::from_static(PNG), &promised).await.unwrap();
        assert_eq!(taken, check(PNG.to_vec()).unwrap());
        for other in [JPEG, &PNG[..PNG.len() - 1], &[PNG, b"x"].concat(), b""] {
            assert_eq!(fault(other, &promised).await, ReferenceFault::OtherBytes);
        }
        let (found, promised) = (ImageFormat::Jpeg, ImageFormat::Png);
        let lie = promise(JPEG, promised);
        assert_eq!(fault(JPEG, &lie).await, ReferenceFault::OtherFormat { found, promised });
        let text = b"<svg onload=alert(1)>";
        let lie = promise(text, ImageFormat::Png);
        assert_eq!(fault(text, &lie).await, ReferenceFault::Image(ImageFault::UnknownFormat));
        let cut = &PNG[..PNG.len() - 20];
        let broken = promise(cut, ImageFormat::Png);
        assert_eq!(fault(cut, &broken).await, ReferenceFault::Image(ImageFault::Truncated));
    }
}
