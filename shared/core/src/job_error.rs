//! Why a job ended without a picture: stable codes, with words in English and Turkish.

use serde::{Deserialize, Serialize};

use crate::error_code::Language;

/// Why a job failed. The text form is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobErrorCode {
    /// The lease was lost and nothing is left to try.
    Timeout,
    /// It waited past its limit.
    Stuck,
    /// It was still running when its time was over.
    DeadlineExceeded,
    /// The provider failed every time.
    ProviderUnavailable,
    /// The provider refuses this content.
    ContentBlocked,
    /// The provider answered without a usable picture.
    NoImage,
    /// The provider refuses the request as it is.
    InvalidRequest,
    /// The picture that it was to be drawn from is gone.
    ReferenceMissing,
    /// The picture that it was to be drawn from is no picture, or not the promised one.
    InvalidReference,
    /// Every attempt or call was used.
    AttemptsExhausted,
    /// No key of the pool may be used for this model.
    NoUsableKey,
    /// The provider no longer has the model.
    ModelRetired,
    /// A fault of ours.
    Internal,
}

impl JobErrorCode {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::Timeout,
        Self::Stuck,
        Self::DeadlineExceeded,
        Self::ProviderUnavailable,
        Self::ContentBlocked,
        Self::NoImage,
        Self::InvalidRequest,
        Self::ReferenceMissing,
        Self::InvalidReference,
        Self::AttemptsExhausted,
        Self::NoUsableKey,
        Self::ModelRetired,
        Self::Internal,
    ];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Stuck => "stuck",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ContentBlocked => "content_blocked",
            Self::NoImage => "no_image",
            Self::InvalidRequest => "invalid_request",
            Self::ReferenceMissing => "reference_missing",
            Self::InvalidReference => "invalid_reference",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::NoUsableKey => "no_usable_key",
            Self::ModelRetired => "model_retired",
            Self::Internal => "internal",
        }
    }

    /// Parses the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The code as it was stored. One that a newer release wrote reads as [`Self::Internal`], so that two releases can
    /// work off the same jobs.
    pub fn from_stored(text: &str) -> Self {
        Self::parse(text).unwrap_or(Self::Internal)
    }

    /// Whether the same request may succeed later.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Timeout
            | Self::Stuck
            | Self::DeadlineExceeded
            | Self::ProviderUnavailable
            | Self::NoImage
            | Self::AttemptsExhausted
            | Self::NoUsableKey
            | Self::Internal => true,
            Self::ContentBlocked
            | Self::InvalidRequest
            | Self::ReferenceMissing
            | Self::InvalidReference
            | Self::ModelRetired => false,
        }
    }

    /// What happened and what to do next, for the person who asked.
    pub const fn message(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::Timeout, Language::En) => {
                "The image took too long and was given up. Your tokens are back; please try again."
            }
            (Self::Timeout, Language::Tr) => {
                "Görsel çok uzun sürdü ve bırakıldı. Jetonlarınız iade edildi; lütfen yeniden deneyin."
            }
            (Self::Stuck, Language::En) => {
                "The image waited too long in the queue. Your tokens are back; please try again later."
            }
            (Self::Stuck, Language::Tr) => {
                "Görsel kuyrukta çok uzun bekledi. Jetonlarınız iade edildi; lütfen daha sonra yeniden deneyin."
            }
            (Self::DeadlineExceeded, Language::En) => {
                "The image was not ready by its deadline. Your tokens are back; please try again."
            }
            (Self::DeadlineExceeded, Language::Tr) => {
                "Görsel süresi içinde hazırlanamadı. Jetonlarınız iade edildi; lütfen yeniden deneyin."
            }
            (Self::ProviderUnavailable, Language::En) => {
                "The image service is not answering. Your tokens are back; please try again in a few minutes."
            }
            (Self::ProviderUnavailable, Language::Tr) => {
                "Görsel servisi yanıt vermiyor. Jetonlarınız iade edildi; lütfen birkaç dakika sonra yeniden deneyin."
            }
            (Self::ContentBlocked, Language::En) => {
                "The image service refused this prompt. Your tokens are back; please describe the image differently."
            }
            (Self::ContentBlocked, Language::Tr) => {
                "Görsel servisi bu istemi reddetti. Jetonlarınız iade edildi; lütfen görseli başka sözcüklerle anlatın."
            }
            (Self::NoImage, Language::En) => {
                "The image service answered without an image. Your tokens are back; please try again or reword the prompt."
            }
            (Self::NoImage, Language::Tr) => {
                "Görsel servisi görsel üretmeden yanıt verdi. Jetonlarınız iade edildi; lütfen yeniden deneyin ya da istemi değiştirin."
            }
            (Self::InvalidRequest, Language::En) => {
                "The image service cannot draw this request. Your tokens are back; please change the prompt, size or aspect ratio."
            }
            (Self::InvalidRequest, Language::Tr) => {
                "Görsel servisi bu isteği çizemiyor. Jetonlarınız iade edildi; lütfen istemi, boyutu ya da en-boy oranını değiştirin."
            }
            (Self::ReferenceMissing, Language::En) => {
                "The reference image is no longer there. Your tokens are back; please upload it again and ask once more."
            }
            (Self::ReferenceMissing, Language::Tr) => {
                "Referans görsel artık yok. Jetonlarınız iade edildi; lütfen görseli yeniden yükleyip bir daha isteyin."
            }
            (Self::InvalidReference, Language::En) => {
                "The reference image cannot be used. Your tokens are back; please upload a sound PNG, JPEG or WebP of at most 4,096 pixels a side."
            }
            (Self::InvalidReference, Language::Tr) => {
                "Referans görsel kullanılamıyor. Jetonlarınız iade edildi; lütfen kenarları en çok 4.096 piksel olan sağlam bir PNG, JPEG ya da WebP yükleyin."
            }
            (Self::AttemptsExhausted, Language::En) => {
                "Every attempt to draw the image failed. Your tokens are back; please try again later."
            }
            (Self::AttemptsExhausted, Language::Tr) => {
                "Görseli çizmek için yapılan tüm denemeler başarısız oldu. Jetonlarınız iade edildi; lütfen daha sonra yeniden deneyin."
            }
            (Self::NoUsableKey, Language::En) => {
                "This model cannot be used right now. Your tokens are back; please try again later or choose another model."
            }
            (Self::NoUsableKey, Language::Tr) => {
                "Bu model şu anda kullanılamıyor. Jetonlarınız iade edildi; lütfen daha sonra deneyin ya da başka bir model seçin."
            }
            (Self::ModelRetired, Language::En) => {
                "This model is no longer offered. Your tokens are back; please choose another model."
            }
            (Self::ModelRetired, Language::Tr) => {
                "Bu model artık sunulmuyor. Jetonlarınız iade edildi; lütfen başka bir model seçin."
            }
            (Self::Internal, Language::En) => {
                "Something failed on our side. Your tokens are back; please try again."
            }
            (Self::Internal, Language::Tr) => {
                "Bizim tarafımızda bir hata oluştu. Jetonlarınız iade edildi; lütfen yeniden deneyin."
            }
        }
    }
}

/// Why this job failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobFailure {
    /// The stable code.
    pub code: JobErrorCode,
    /// What was seen, for support: never a prompt, a secret or a provider's free text.
    pub detail: String,
}

impl JobFailure {
    /// A failure with what was seen.
    pub fn new(code: JobErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
