//! Every provider's answer, and what it does to the job, the key and the scope.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::{at, cases, seconds};
use darkroom_core::answer::{Effect, JobEffect, Refusal};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::key::{CoolReason, KeyDisabled, KeyState, ScopeDisabled, ScopeState};
use darkroom_core::limits::QUOTA_MINUTE;
use darkroom_core::quota::state_at;
use proptest::prelude::*;

fn cooling(reason: CoolReason, seconds: u64) -> ScopeState {
    ScopeState::Cooling { reason, until: at(seconds) }
}

/// Every answer with its row of the table: job, key, scope. A new answer does not compile without one.
fn row(refusal: &Refusal) -> Effect {
    let now = at(100);
    let fail = |code| Effect { job: JobEffect::Fail(code), key: None, scope: None };
    let key = |reason| Effect {
        job: JobEffect::OtherScope,
        key: Some(KeyState::Disabled { reason, at: now }),
        scope: None,
    };
    let scope = |job, state| Effect { job, key: None, scope: Some(state) };
    let off = |reason| ScopeState::Disabled { reason, at: now };
    match refusal {
        Refusal::ContentBlocked { .. } => fail(JobErrorCode::ContentBlocked),
        Refusal::InvalidRequest { .. } => fail(JobErrorCode::InvalidRequest),
        Refusal::NoImage { .. } => {
            Effect { job: JobEffect::RetryOnce(JobErrorCode::NoImage), key: None, scope: None }
        }
        Refusal::Unavailable { .. } => {
            Effect { job: JobEffect::Retry(JobErrorCode::ProviderUnavailable), key: None, scope: None }
        }
        Refusal::InvalidKey => key(KeyDisabled::Invalid),
        Refusal::Billing => key(KeyDisabled::Billing),
        Refusal::AccountParked => key(KeyDisabled::AccountParked),
        Refusal::Suspended => key(KeyDisabled::Suspended),
        Refusal::ModelRetired => {
            scope(JobEffect::Fail(JobErrorCode::ModelRetired), off(ScopeDisabled::ModelRetired))
        }
        Refusal::ZeroQuota => scope(JobEffect::OtherScope, off(ScopeDisabled::ZeroQuota)),
        // 100 seconds after 10:00Z it is 22 hours less 100 seconds to midnight in Los Angeles.
        Refusal::DailyQuota => scope(JobEffect::OtherScope, cooling(CoolReason::DailyQuota, 22 * 3_600)),
        Refusal::RateLimited { retry_after } => {
            let rest = retry_after.map_or(60, |asked| asked.as_secs().min(300));
            scope(JobEffect::OtherScope, cooling(CoolReason::RateLimited, 100 + rest))
        }
    }
}

fn all() -> Vec<Refusal> {
    let detail = || "X".to_owned();
    vec![
        Refusal::ContentBlocked { detail: detail() },
        Refusal::NoImage { detail: detail() },
        Refusal::InvalidRequest { detail: detail() },
        Refusal::InvalidKey,
        Refusal::Billing,
        Refusal::AccountParked,
        Refusal::Suspended,
        Refusal::ModelRetired,
        Refusal::ZeroQuota,
        Refusal::DailyQuota,
        Refusal::RateLimited { retry_after: None },
        Refusal::RateLimited { retry_after: Some(seconds(0)) },
        Refusal::RateLimited { retry_after: Some(seconds(59)) },
        Refusal::RateLimited { retry_after: Some(seconds(300)) },
        Refusal::RateLimited { retry_after: Some(seconds(301)) },
        Refusal::Unavailable { detail: detail() },
    ]
}

#[test]
fn each_answer_has_the_effect_of_the_table() {
    for refusal in all() {
        assert_eq!(refusal.effect(at(100)), row(&refusal), "{refusal:?}");
    }
}

#[test]
fn an_answer_is_told_by_a_word_of_its_own() {
    let mut words: Vec<_> = all().iter().map(Refusal::as_str).collect();
    words.dedup();
    assert_eq!(words.len(), 12);
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 12);
    assert_eq!(Refusal::NoImage { detail: "STOP".to_owned() }.detail(), "no_image: STOP");
    assert_eq!(Refusal::InvalidKey.detail(), "invalid_key");
    for refusal in all() {
        assert!(refusal.detail().starts_with(refusal.as_str()));
    }
}

#[test]
fn a_refusal_that_ends_the_job_tells_why_and_whether_to_ask_again() {
    for refusal in all() {
        let effect = refusal.effect(at(100));
        let code = match &effect.job {
            JobEffect::Fail(code) => {
                assert!(!code.is_retryable(), "{refusal:?} fails at once, so the same request fails again");
                continue;
            }
            JobEffect::RetryOnce(code) | JobEffect::Retry(code) => *code,
            JobEffect::OtherScope => {
                assert!(
                    effect.key.is_some() || effect.scope.is_some(),
                    "{refusal:?} would be answered again"
                );
                continue;
            }
        };
        assert!(code.is_retryable(), "{refusal:?}");
        assert_eq!((effect.key, effect.scope), (None, None), "{refusal:?}");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_scope_rests_as_long_as_asked_and_at_most_five_minutes(millis in any::<u64>(), now in 0..100_000_u64) {
        let asked = Duration::from_millis(millis);
        let effect = Refusal::RateLimited { retry_after: Some(asked) }.effect(at(now));
        let Some(ScopeState::Cooling { until, .. }) = effect.scope else { panic!("not cooling") };
        let rest = until.since(at(now));
        prop_assert_eq!(rest, asked.min(QUOTA_MINUTE * 5));
        prop_assert_eq!(state_at(ScopeState::Cooling { reason: CoolReason::RateLimited, until }, until), ScopeState::Active);
    }

    #[test]
    fn a_day_that_is_used_up_rests_until_the_next(now in 0..100_000_000_u64) {
        let effect = Refusal::DailyQuota.effect(at(now));
        let Some(ScopeState::Cooling { until, .. }) = effect.scope else { panic!("not cooling") };
        prop_assert!(until > at(now) && until.pacific_day() > at(now).pacific_day());
    }
}
