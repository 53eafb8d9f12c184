//! What is known of a picture.

use serde::{Deserialize, Serialize};

/// The picture's file format, told from its bytes and never from what a provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageFormat {
    /// `image/png`
    #[serde(rename = "image/png")]
    Png,
    /// `image/jpeg`
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// `image/webp`
    #[serde(rename = "image/webp")]
    Webp,
}

impl ImageFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::Webp];

    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// The format of a media type.
    pub fn from_content_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.content_type() == text)
    }

    /// How files of it end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    /// The format of files that end so.
    pub fn from_extension(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == text)
    }
}

/// A stored picture: where it is and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredImage {
    /// The object's key in the image bucket. It contains the attempt, so attempts never overwrite each other.
    pub key: String,
    /// SHA-256 of the bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The file format.
    pub format: ImageFormat,
    /// The attempt that drew it.
    pub attempt: u32,
}
