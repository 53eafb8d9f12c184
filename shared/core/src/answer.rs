//! What a provider's answer means, and what it does to the job, the key and the scope: one table.

use std::time::Duration;

use crate::job_error::JobErrorCode;
use crate::key::{CoolReason, KeyDisabled, KeyState, ScopeDisabled, ScopeState};
use crate::time::Timestamp;

/// What a provider said when it did not give a picture. `detail` is for support: a provider's token such as a
/// finish reason or a status, never its free text, which can contain the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The content is refused.
    ContentBlocked {
        /// The provider's word for why.
        detail: String,
    },
    /// It answered without a usable picture.
    NoImage {
        /// The provider's word, or what is wrong with the bytes.
        detail: String,
    },
    /// It cannot do this request.
    InvalidRequest {
        /// The provider's status.
        detail: String,
    },
    /// It does not know the key.
    InvalidKey,
    /// The key's account has no billing, or not in this region.
    Billing,
    /// The key's account must pay first.
    AccountParked,
    /// It suspended the key.
    Suspended,
    /// It does not have the model.
    ModelRetired,
    /// It grants this project none of this model.
    ZeroQuota,
    /// The day's quota is used up.
    DailyQuota,
    /// The minute's quota is used up.
    RateLimited {
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// It failed, or did not answer in time.
    Unavailable {
        /// The status, or what happened on the wire.
        detail: String,
    },
}

/// What becomes of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEffect {
    /// It fails and is refunded.
    Fail(JobErrorCode),
    /// It is tried once more; a second time it fails with this code.
    RetryOnce(JobErrorCode),
    /// Another key or scope is tried in the same attempt.
    OtherScope,
    /// It is tried again after a pause; when nothing is left it fails with this code.
    Retry(JobErrorCode),
}

/// What an answer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// To the job.
    pub job: JobEffect,
    /// To the key; `None` leaves it.
    pub key: Option<KeyState>,
    /// To the scope; `None` leaves it.
    pub scope: Option<ScopeState>,
}

/// A minute's quota that names no time rests this long.
const COOL: Duration = Duration::from_secs(60);
/// No minute's quota rests longer.
const COOL_MAX: Duration = Duration::from_secs(300);

impl Refusal {
    /// The effect on job, key and scope. Exhaustive: a new answer does not compile without one.
    pub fn effect(&self, now: Timestamp) -> Effect {
        let key_disabled = |reason| Effect {
            job: JobEffect::OtherScope,
            key: Some(KeyState::Disabled { reason, at: now }),
            scope: None,
        };
        let job_only = |job| Effect { job, key: None, scope: None };
        let scope_only = |job, scope| Effect { job, key: None, scope: Some(scope) };
        match self {
            Self::ContentBlocked { .. } => job_only(JobEffect::Fail(JobErrorCode::ContentBlocked)),
            Self::NoImage { .. } => job_only(JobEffect::RetryOnce(JobErrorCode::NoImage)),
            Self::InvalidRequest { .. } => job_only(JobEffect::Fail(JobErrorCode::InvalidRequest)),
            Self::InvalidKey => key_disabled(KeyDisabled::Invalid),
            Self::Billing => key_disabled(KeyDisabled::Billing),
            Self::AccountParked => key_disabled(KeyDisabled::AccountParked),
            Self::Suspended => key_disabled(KeyDisabled::Suspended),
            Self::ModelRetired => scope_only(
                JobEffect::Fail(JobErrorCode::ModelRetired),
                ScopeState::Disabled { reason: ScopeDisabled::ModelRetired, at: now },
            ),
            Self::ZeroQuota => scope_only(
                JobEffect::OtherScope,
                ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: now },
            ),
            Self::DailyQuota => scope_only(
                JobEffect::OtherScope,
                ScopeState::Cooling { reason: CoolReason::DailyQuota, until: now.next_pacific_midnight() },
            ),
            Self::RateLimited { retry_after } => scope_only(
                JobEffect::OtherScope,
                ScopeState::Cooling {
                    reason: CoolReason::RateLimited,
                    until: now.plus(retry_after.unwrap_or(COOL).min(COOL_MAX)),
                },
            ),
            Self::Unavailable { .. } => job_only(JobEffect::Retry(JobErrorCode::ProviderUnavailable)),
        }
    }

    /// A stable word for logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ContentBlocked { .. } => "content_blocked",
            Self::NoImage { .. } => "no_image",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::InvalidKey => "invalid_key",
            Self::Billing => "billing",
            Self::AccountParked => "account_parked",
            Self::Suspended => "suspended",
            Self::ModelRetired => "model_retired",
            Self::ZeroQuota => "zero_quota",
            Self::DailyQuota => "daily_quota",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// What was seen, for the record and for support.
    pub fn detail(&self) -> String {
        match self {
            Self::ContentBlocked { detail }
            | Self::NoImage { detail }
            | Self::InvalidRequest { detail }
            | Self::Unavailable { detail } => format!("{}: {detail}", self.as_str()),
            _ => self.as_str().to_owned(),
        }
    }
}
