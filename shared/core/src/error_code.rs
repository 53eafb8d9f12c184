//! What an HTTP caller is told when a request is refused: the one place that knows a code's
//! status, whether trying again can help, and its words.

use serde::{Deserialize, Serialize};

/// A language that Darkroom speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// Turkish.
    Tr,
}

impl Language {
    /// The best language for an `Accept-Language` header (RFC 9110 §12.5.4): the highest weight wins,
    /// the first of equals; English where nothing fits.
    pub fn negotiate(header: &str) -> Self {
        let mut best = (Self::En, 0.0_f32);
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |text| {
                    text.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)
                });
            let language = match tag.split('-').next() {
                Some("tr") => Self::Tr,
                Some("en" | "*") => Self::En,
                _ => continue,
            };
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }

    /// The language's tag, for `Content-Language`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Tr => "tr",
        }
    }
}

/// Why a request was refused. The text form is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not JSON.
    MalformedJson,
    /// The body has a field that the request has not.
    UnknownField,
    /// `Idempotency-Key` is missing or not of its form.
    MissingIdempotencyKey,
    /// Nobody is signed in.
    Unauthenticated,
    /// There is no such thing, or it is somebody else's.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The price is more than the balance.
    InsufficientTokens,
    /// The job's state does not allow it.
    WrongState,
    /// The job of this key was deleted.
    JobDeleted,
    /// The caller has as many webhooks as one may have.
    TooManyWebhooks,
    /// Nothing is sent to a webhook that is disabled.
    WebhookDisabled,
    /// A value is not valid.
    InvalidValue,
    /// The same key came with another request.
    IdempotencyMismatch,
    /// The catalogue has no such model.
    UnknownModel,
    /// The model is no longer offered.
    ModelRetired,
    /// Too many of the caller's jobs are unsettled.
    TooManyInflight,
    /// Too many of the caller's exports are under way.
    TooManyExports,
    /// The stores are throttling us.
    StoreThrottled,
    /// The model's breaker is open, and the operator has chosen to refuse rather than to queue.
    CircuitOpen,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 22] = [
        Self::MalformedJson,
        Self::UnknownField,
        Self::MissingIdempotencyKey,
        Self::Unauthenticated,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InsufficientTokens,
        Self::WrongState,
        Self::JobDeleted,
        Self::TooManyWebhooks,
        Self::WebhookDisabled,
        Self::InvalidValue,
        Self::IdempotencyMismatch,
        Self::UnknownModel,
        Self::ModelRetired,
        Self::TooManyInflight,
        Self::TooManyExports,
        Self::StoreThrottled,
        Self::CircuitOpen,
        Self::Internal,
    ];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::UnknownField => "unknown_field",
            Self::MissingIdempotencyKey => "missing_idempotency_key",
            Self::Unauthenticated => "unauthenticated",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InsufficientTokens => "insufficient_tokens",
            Self::WrongState => "wrong_state",
            Self::JobDeleted => "job_deleted",
            Self::TooManyWebhooks => "too_many_webhooks",
            Self::WebhookDisabled => "webhook_disabled",
            Self::InvalidValue => "invalid_value",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::UnknownModel => "unknown_model",
            Self::ModelRetired => "model_retired",
            Self::TooManyInflight => "too_many_inflight",
            Self::TooManyExports => "too_many_exports",
            Self::StoreThrottled => "store_throttled",
            Self::CircuitOpen => "circuit_open",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::MalformedJson | Self::UnknownField | Self::MissingIdempotencyKey => 400,
            Self::Unauthenticated => 401,
            Self::InsufficientTokens => 402,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::WrongState | Self::JobDeleted | Self::TooManyWebhooks | Self::WebhookDisabled => 409,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidValue | Self::IdempotencyMismatch | Self::UnknownModel | Self::ModelRetired => 422,
            Self::TooManyInflight | Self::TooManyExports => 429,
            Self::Internal => 500,
            Self::StoreThrottled | Self::CircuitOpen => 503,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::TooManyInflight
                | Self::TooManyExports
                | Self::StoreThrottled
                | Self::CircuitOpen
                | Self::Internal
        )
    }

    /// Seconds for `Retry-After`, where the status calls for one and the occurrence does not tell.
    pub const fn retry_after_seconds(self) -> Option<u64> {
        match self {
            Self::TooManyInflight | Self::CircuitOpen => Some(10),
            Self::TooManyExports => Some(30),
            Self::StoreThrottled => Some(1),
            _ => None,
        }
    }

    /// A short title that is the same for every occurrence.
    pub const fn title(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::MalformedJson, Language::En) => "The body is not valid JSON",
            (Self::MalformedJson, Language::Tr) => "Gövde geçerli bir JSON değil",
            (Self::UnknownField, Language::En) => "The request has an unknown field",
            (Self::UnknownField, Language::Tr) => "İstekte bilinmeyen bir alan var",
            (Self::MissingIdempotencyKey, Language::En) => {
                "The Idempotency-Key header is missing or not valid"
            }
            (Self::MissingIdempotencyKey, Language::Tr) => "Idempotency-Key başlığı eksik ya da geçersiz",
            (Self::Unauthenticated, Language::En) => "You are not signed in",
            (Self::Unauthenticated, Language::Tr) => "Oturum açmadınız",
            (Self::NotFound, Language::En) => "There is no such thing here",
            (Self::NotFound, Language::Tr) => "Burada böyle bir şey yok",
            (Self::MethodNotAllowed, Language::En) => "This path does not have that method",
            (Self::MethodNotAllowed, Language::Tr) => "Bu yol o yöntemi desteklemiyor",
            (Self::BodyTooLarge, Language::En) => "The body is too large",
            (Self::BodyTooLarge, Language::Tr) => "Gövde çok büyük",
            (Self::UnsupportedMediaType, Language::En) => "The body must be application/json",
            (Self::UnsupportedMediaType, Language::Tr) => "Gövde application/json olmalı",
            (Self::InsufficientTokens, Language::En) => "There are not enough tokens",
            (Self::InsufficientTokens, Language::Tr) => "Yeterli jeton yok",
            (Self::WrongState, Language::En) => "The job's state does not allow this",
            (Self::WrongState, Language::Tr) => "İşin durumu buna izin vermiyor",
            (Self::JobDeleted, Language::En) => "The job of this request was deleted",
            (Self::JobDeleted, Language::Tr) => "Bu isteğin işi silindi",
            (Self::TooManyWebhooks, Language::En) => "You have as many webhooks as you may have",
            (Self::TooManyWebhooks, Language::Tr) => "En fazla sayıda web kancanız var",
            (Self::WebhookDisabled, Language::En) => "The webhook is disabled",
            (Self::WebhookDisabled, Language::Tr) => "Web kancası devre dışı",
            (Self::InvalidValue, Language::En) => "A value is not valid",
            (Self::InvalidValue, Language::Tr) => "Bir değer geçersiz",
            (Self::IdempotencyMismatch, Language::En) => "This Idempotency-Key was used for another request",
            (Self::IdempotencyMismatch, Language::Tr) => "Bu Idempotency-Key başka bir istek için kullanıldı",
            (Self::UnknownModel, Language::En) => "There is no such model",
            (Self::UnknownModel, Language::Tr) => "Böyle bir model yok",
            (Self::ModelRetired, Language::En) => "This model is no longer offered",
            (Self::ModelRetired, Language::Tr) => "Bu model artık sunulmuyor",
            (Self::TooManyInflight, Language::En) => "Too many of your jobs are in progress",
            (Self::TooManyInflight, Language::Tr) => "Sürmekte olan çok fazla işiniz var",
            (Self::TooManyExports, Language::En) => "Too many of your exports are under way",
            (Self::TooManyExports, Language::Tr) => "Sürmekte olan çok fazla dışa aktarmanız var",
            (Self::StoreThrottled, Language::En) => "The service is busy",
            (Self::StoreThrottled, Language::Tr) => "Servis şu anda yoğun",
            (Self::CircuitOpen, Language::En) => "The model is not available at the moment",
            (Self::CircuitOpen, Language::Tr) => "Model şu anda kullanılamıyor",
            (Self::Internal, Language::En) => "Something failed on our side",
            (Self::Internal, Language::Tr) => "Bizim tarafımızda bir hata oluştu",
        }
    }

    /// What to do next, where an occurrence has nothing more particular to say.
    pub const fn detail(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::MalformedJson, Language::En) => "Send one JSON object.",
            (Self::MalformedJson, Language::Tr) => "Tek bir JSON nesnesi gönderin.",
            (Self::UnknownField, Language::En) => "Remove the fields listed under errors.",
            (Self::UnknownField, Language::Tr) => "errors altında listelenen alanları kaldırın.",
            (Self::MissingIdempotencyKey, Language::En) => {
                "Send Idempotency-Key with 1 to 255 printable ASCII characters, a new one for each image and the same one when you try again."
            }
            (Self::MissingIdempotencyKey, Language::Tr) => {
                "Idempotency-Key başlığını 1-255 yazdırılabilir ASCII karakterle gönderin: her görsel için yeni, yeniden denerken aynı değer."
            }
            (Self::Unauthenticated, Language::En) => "Send a valid bearer token in the Authorization header.",
            (Self::Unauthenticated, Language::Tr) => {
                "Authorization başlığında geçerli bir belirteç gönderin."
            }
            (Self::NotFound, Language::En) => "Check the address and that it belongs to you.",
            (Self::NotFound, Language::Tr) => "Adresi ve size ait olduğunu denetleyin.",
            (Self::MethodNotAllowed, Language::En) => "The Allow header lists the methods of this path.",
            (Self::MethodNotAllowed, Language::Tr) => "Allow başlığı bu yolun yöntemlerini listeler.",
            (Self::BodyTooLarge, Language::En) => "Send at most 16 KB.",
            (Self::BodyTooLarge, Language::Tr) => "En çok 16 KB gönderin.",
            (Self::UnsupportedMediaType, Language::En) => "Send Content-Type: application/json.",
            (Self::UnsupportedMediaType, Language::Tr) => "Content-Type: application/json gönderin.",
            (Self::InsufficientTokens, Language::En) => {
                "Add tokens and try again with the same Idempotency-Key."
            }
            (Self::InsufficientTokens, Language::Tr) => {
                "Jeton ekleyin ve aynı Idempotency-Key ile yeniden deneyin."
            }
            (Self::WrongState, Language::En) => "Read the job to see its state.",
            (Self::WrongState, Language::Tr) => "Durumunu görmek için işi okuyun.",
            (Self::JobDeleted, Language::En) => "Use a new Idempotency-Key for a new image.",
            (Self::JobDeleted, Language::Tr) => "Yeni bir görsel için yeni bir Idempotency-Key kullanın.",
            (Self::TooManyWebhooks, Language::En) => "Delete one that you no longer need, then try again.",
            (Self::TooManyWebhooks, Language::Tr) => "Artık gerekmeyen birini silin, sonra yeniden deneyin.",
            (Self::WebhookDisabled, Language::En) => "Enable it, then have the delivery sent again.",
            (Self::WebhookDisabled, Language::Tr) => "Etkinleştirin, sonra gönderimi yeniden isteyin.",
            (Self::InvalidValue, Language::En) => "Correct the values listed under errors.",
            (Self::InvalidValue, Language::Tr) => "errors altında listelenen değerleri düzeltin.",
            (Self::IdempotencyMismatch, Language::En) => "Use a new Idempotency-Key for a new request.",
            (Self::IdempotencyMismatch, Language::Tr) => {
                "Yeni bir istek için yeni bir Idempotency-Key kullanın."
            }
            (Self::UnknownModel, Language::En) => "GET /v1/models lists what can be asked for.",
            (Self::UnknownModel, Language::Tr) => "GET /v1/models nelerin istenebileceğini listeler.",
            (Self::ModelRetired, Language::En) => {
                "GET /v1/models lists what can be asked for, and replacements."
            }
            (Self::ModelRetired, Language::Tr) => {
                "GET /v1/models nelerin istenebileceğini ve yerlerine geçenleri listeler."
            }
            (Self::TooManyInflight, Language::En) => "Wait until one of your jobs is done, then try again.",
            (Self::TooManyInflight, Language::Tr) => "İşlerinizden biri bitince yeniden deneyin.",
            (Self::TooManyExports, Language::En) => "Wait until one of your exports is done, then try again.",
            (Self::TooManyExports, Language::Tr) => "Dışa aktarmalarınızdan biri bitince yeniden deneyin.",
            (Self::StoreThrottled, Language::En) => "Try again in a second with the same Idempotency-Key.",
            (Self::StoreThrottled, Language::Tr) => {
                "Bir saniye sonra aynı Idempotency-Key ile yeniden deneyin."
            }
            (Self::CircuitOpen, Language::En) => {
                "Its provider fails, or its quota is used up. Try again after the time in Retry-After, or ask for another model."
            }
            (Self::CircuitOpen, Language::Tr) => {
                "Sağlayıcısı yanıt vermiyor ya da kotası doldu. Retry-After süresinden sonra yeniden deneyin ya da başka bir model isteyin."
            }
            (Self::Internal, Language::En) => {
                "Try again with the same Idempotency-Key; nothing is paid twice."
            }
            (Self::Internal, Language::Tr) => {
                "Aynı Idempotency-Key ile yeniden deneyin; hiçbir şey iki kez ödenmez."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_negotiated_by_weight() {
        for (header, language) in [
            ("", Language::En),
            ("tr", Language::Tr),
            ("tr-TR,tr;q=0.9,en;q=0.8", Language::Tr),
            ("en;q=0.8, tr;q=0.9", Language::Tr),
            ("en, tr", Language::En),
            ("de, tr;q=0.1", Language::Tr),
            ("de", Language::En),
            ("tr;q=0", Language::En),
            ("tr;q=nonsense, en;q=0.1", Language::En),
            ("TR;Q=1", Language::Tr),
        ] {
            assert_eq!(Language::negotiate(header), language, "{header}");
        }
    }

    #[test]
    fn codes_are_unique() {
        let mut texts: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
    }
}
