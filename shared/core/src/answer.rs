//! What a provider's answer means, and what it does to the job, the key, the scope and the breaker: one table.

use std::time::Duration;

use crate::job_error::JobErrorCode;
use crate::key::{CoolReason, KeyDisabled, ScopeDisabled, ScopeState};
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
    /// It denies the key's whole project.
    ProjectDenied,
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

/// What came of a call.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// A picture.
    Image,
    /// No picture, and why. The provider may have counted the call.
    Refused(&'a Refusal),
    /// Not a byte of the request left.
    NotSent,
}

/// What becomes of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEffect {
    /// The picture is delivered.
    Deliver,
    /// It fails and is refunded.
    Fail(JobErrorCode),
    /// It is tried once more; a second time it fails with this code.
    RetryOnce(JobErrorCode),
    /// Another key or scope is tried in the same attempt.
    OtherScope,
    /// It is tried again after a pause; when nothing is left it fails with this code.
    Retry(JobErrorCode),
}

/// What is learnt about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEffect {
    /// Nothing.
    Unknown,
    /// The provider accepts it.
    Proven,
    /// It is out of use from now on, and so are all that it shares this with.
    Disabled(KeyDisabled, Reach),
}

/// Which keys share a fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one that was called.
    Key,
    /// All of its project.
    Project,
    /// All of its account.
    Account,
}

/// What is learnt about the scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeEffect {
    /// Nothing.
    Unknown,
    /// It grants calls.
    Proven,
    /// It rests, or is out of use, and is unproven when it comes back.
    State(ScopeState),
}

/// What is learnt about the (provider, model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerEffect {
    /// It answers.
    Answered,
    /// It fails.
    Failed,
    /// It says that this scope has had enough; when all have, the breaker opens.
    Refused,
    /// It was not reached: a failure, but no verdict for a probe.
    NotReached,
}

/// What an answer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// To the job.
    pub job: JobEffect,
    /// To the key.
    pub key: KeyEffect,
    /// To the scope.
    pub scope: ScopeEffect,
    /// To the breaker.
    pub breaker: BreakerEffect,
}

/// A minute's quota that names no time rests this long.
const COOL: Duration = Duration::from_secs(60);
/// No minute's quota rests longer.
const COOL_MAX: Duration = Duration::from_secs(300);

impl Answer<'_> {
    /// The effect on job, key, scope and breaker. Exhaustive: a new answer does not compile without one.
    pub fn effect(&self, now: Timestamp) -> Effect {
        match self {
            Self::Image => good(JobEffect::Deliver),
            Self::NotSent => Effect {
                job: JobEffect::Retry(JobErrorCode::ProviderUnavailable),
                key: KeyEffect::Unknown,
                scope: ScopeEffect::Unknown,
                breaker: BreakerEffect::NotReached,
            },
            Self::Refused(refusal) => refusal.effect(now),
        }
    }
}

/// Key and scope did their part.
const fn good(job: JobEffect) -> Effect {
    Effect { job, key: KeyEffect::Proven, scope: ScopeEffect::Proven, breaker: BreakerEffect::Answered }
}

const fn key_disabled(reason: KeyDisabled, reach: Reach) -> Effect {
    Effect {
        job: JobEffect::OtherScope,
        key: KeyEffect::Disabled(reason, reach),
        scope: ScopeEffect::Unknown,
        breaker: BreakerEffect::Answered,
    }
}

/// Who is told so much about a quota has a key that is known.
const fn scope_only(job: JobEffect, state: ScopeState, breaker: BreakerEffect) -> Effect {
    Effect { job, key: KeyEffect::Proven, scope: ScopeEffect::State(state), breaker }
}

impl Refusal {
    fn effect(&self, now: Timestamp) -> Effect {
        match self {
            Self::ContentBlocked { .. } => good(JobEffect::Fail(JobErrorCode::ContentBlocked)),
            Self::NoImage { .. } => good(JobEffect::RetryOnce(JobErrorCode::NoImage)),
            Self::InvalidRequest { .. } => good(JobEffect::Fail(JobErrorCode::InvalidRequest)),
            Self::InvalidKey => key_disabled(KeyDisabled::Invalid, Reach::Key),
            Self::Billing => key_disabled(KeyDisabled::Billing, Reach::Key),
            Self::AccountParked => key_disabled(KeyDisabled::AccountParked, Reach::Account),
            Self::Suspended => key_disabled(KeyDisabled::Suspended, Reach::Key),
            Self::ProjectDenied => key_disabled(KeyDisabled::Suspended, Reach::Project),
            Self::ModelRetired => scope_only(
                JobEffect::Fail(JobErrorCode::ModelRetired),
                ScopeState::Disabled { reason: ScopeDisabled::ModelRetired, at: now },
                BreakerEffect::Answered,
            ),
            Self::ZeroQuota => scope_only(
                JobEffect::OtherScope,
                ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: now },
                BreakerEffect::Refused,
            ),
            Self::DailyQuota => scope_only(
                JobEffect::OtherScope,
                ScopeState::Cooling {
                    reason: CoolReason::DailyQuota,
                    at: now,
                    until: now.next_pacific_midnight(),
                },
                BreakerEffect::Refused,
            ),
            Self::RateLimited { retry_after } => scope_only(
                JobEffect::OtherScope,
                ScopeState::Cooling {
                    reason: CoolReason::RateLimited,
                    at: now,
                    until: now.plus(retry_after.unwrap_or(COOL).min(COOL_MAX)),
                },
                BreakerEffect::Refused,
            ),
            Self::Unavailable { .. } => Effect {
                job: JobEffect::Retry(JobErrorCode::ProviderUnavailable),
                key: KeyEffect::Unknown,
                scope: ScopeEffect::Unknown,
                breaker: BreakerEffect::Failed,
            },
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
            Self::ProjectDenied => "project_denied",
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
