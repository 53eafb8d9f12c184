//! What KMS answers when it refuses.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>

use http::StatusCode;

/// A refusal. Its message is for people and follows the wording of AWS where that is known.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub(super) struct KmsError {
    pub(super) code: Code,
    pub(super) message: String,
}

/// Every code answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    IncorrectKey,
    InvalidCiphertext,
    KmsInternal,
    MissingAuthenticationToken,
    NotFound,
    Serialization,
    UnknownOperation,
    UnrecognizedClient,
    Validation,
}

impl Code {
    /// The shape's name, as `__type`.
    pub(super) const fn shape(self) -> &'static str {
        match self {
            Self::IncorrectKey => "IncorrectKeyException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::KmsInternal => "KMSInternalException",
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::NotFound => "NotFoundException",
            Self::Serialization => "SerializationException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::Validation => "ValidationException",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::KmsInternal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl KmsError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The ciphertext was altered, or was encrypted in another context. AWS says no more, and neither does this.
    pub(super) fn invalid_ciphertext() -> Self {
        Self::new(Code::InvalidCiphertext, "")
    }

    pub(super) fn internal() -> Self {
        Self::new(
            Code::KmsInternal,
            "The random source failed: see the log of the local AWS, then try again.",
        )
    }
}
