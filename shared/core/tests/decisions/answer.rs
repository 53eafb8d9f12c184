//! Every provider's answer, and what it does to the job, the key and the scope.

use std::time::Duration;

use crate::common::{at, cases, seconds};
use darkroom_core::answer::{
    Answer, BreakerEffect, Effect, JobEffect, KeyEffect, Reach, Refusal, ScopeEffect,
};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::key::{CoolReason, KeyDisabled, ScopeDisabled, ScopeState, Standing};
use darkroom_core::limits::QUOTA_MINUTE;
use darkroom_core::quota::state_at;
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

fn cooling(reason: CoolReason, seconds: u64) -> ScopeState {
    ScopeState::Cooling { reason, at: at(100), until: at(seconds) }
}

/// Every answer with its row of the table: job, key, scope, breaker. A new answer does not compile without one.
fn row(refusal: &Refusal) -> Effect {
    let good = |job| Effect {
        job,
        key: KeyEffect::Proven,
        scope: ScopeEffect::Proven,
        breaker: BreakerEffect::Answered,
    };
    let key = |reason, reach| Effect {
        job: JobEffect::OtherScope,
        key: KeyEffect::Disabled(reason, reach),
        scope: ScopeEffect::Unknown,
        breaker: BreakerEffect::Answered,
    };
    let scope = |job, state, breaker| Effect {
        job,
        key: KeyEffect::Proven,
        scope: ScopeEffect::State(state),
        breaker,
    };
    let off = |reason| ScopeState::Disabled { reason, at: at(100) };
    match refusal {
        Refusal::ContentBlocked { .. } => good(JobEffect::Fail(JobErrorCode::ContentBlocked)),
        Refusal::InvalidRequest { .. } => good(JobEffect::Fail(JobErrorCode::InvalidRequest)),
        Refusal::NoImage { .. } => good(JobEffect::RetryOnce(JobErrorCode::NoImage)),
        Refusal::Unavailable { .. } => Effect {
            job: JobEffect::Retry(JobErrorCode::ProviderUnavailable),
            key: KeyEffect::Unknown,
            scope: ScopeEffect::Unknown,
            breaker: BreakerEffect::Failed,
        },
        Refusal::InvalidKey => key(KeyDisabled::Invalid, Reach::Key),
        Refusal::Billing => key(KeyDisabled::Billing, Reach::Key),
        Refusal::AccountParked => key(KeyDisabled::AccountParked, Reach::Account),
        Refusal::Suspended => key(KeyDisabled::Suspended, Reach::Key),
        Refusal::ProjectDenied => key(KeyDisabled::Suspended, Reach::Project),
        Refusal::ModelRetired => scope(
            JobEffect::Fail(JobErrorCode::ModelRetired),
            off(ScopeDisabled::ModelRetired),
            BreakerEffect::Answered,
        ),
        Refusal::ZeroQuota => {
            scope(JobEffect::OtherScope, off(ScopeDisabled::ZeroQuota), BreakerEffect::Refused)
        }
        // 100 seconds after 10:00Z it is 22 hours less 100 seconds to midnight in Los Angeles.
        Refusal::DailyQuota => {
            scope(JobEffect::OtherScope, cooling(CoolReason::DailyQuota, 22 * 3_600), BreakerEffect::Refused)
        }
        Refusal::RateLimited { retry_after } => {
            let rest = retry_after.map_or(60, |asked| asked.as_secs().min(300));
            let state = cooling(CoolReason::RateLimited, 100 + rest);
            scope(JobEffect::OtherScope, state, BreakerEffect::Refused)
        }
    }
}

fn effect(refusal: &Refusal, now: Timestamp) -> Effect {
    Answer::Refused(refusal).effect(now)
}

#[test]
fn a_picture_proves_key_and_scope_and_a_call_that_was_not_sent_proves_nothing() {
    let image = Answer::Image.effect(at(100));
    assert_eq!((image.job, image.key), (JobEffect::Deliver, KeyEffect::Proven));
    assert_eq!((image.scope, image.breaker), (ScopeEffect::Proven, BreakerEffect::Answered));
    let not_sent = Answer::NotSent.effect(at(100));
    assert_eq!(not_sent.job, JobEffect::Retry(JobErrorCode::ProviderUnavailable));
    assert_eq!((not_sent.key, not_sent.scope), (KeyEffect::Unknown, ScopeEffect::Unknown));
    assert_eq!(not_sent.breaker, BreakerEffect::NotReached);
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
        Refusal::ProjectDenied,
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
        assert_eq!(effect(&refusal, at(100)), row(&refusal), "{refusal:?}");
    }
}

#[test]
fn an_answer_is_told_by_a_word_of_its_own() {
    let mut words: Vec<_> = all().iter().map(Refusal::as_str).collect();
    words.dedup();
    assert_eq!(words.len(), 13);
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 13);
    assert_eq!(Refusal::NoImage { detail: "STOP".to_owned() }.detail(), "no_image: STOP");
    assert_eq!(Refusal::InvalidKey.detail(), "invalid_key");
    for refusal in all() {
        assert!(refusal.detail().starts_with(refusal.as_str()));
    }
}

#[test]
fn a_refusal_that_ends_the_job_tells_why_and_whether_to_ask_again() {
    for refusal in all() {
        let effect = effect(&refusal, at(100));
        let code = match &effect.job {
            JobEffect::Deliver => panic!("{refusal:?} is no picture"),
            JobEffect::Fail(code) => {
                assert!(!code.is_retryable(), "{refusal:?} fails at once, so the same request fails again");
                continue;
            }
            JobEffect::RetryOnce(code) | JobEffect::Retry(code) => *code,
            JobEffect::OtherScope => {
                let key_is_out = matches!(effect.key, KeyEffect::Disabled(..));
                let scope_is_out = matches!(effect.scope, ScopeEffect::State(_));
                assert!(key_is_out || scope_is_out, "{refusal:?} would be answered again");
                continue;
            }
        };
        assert!(code.is_retryable(), "{refusal:?}");
        assert!(!matches!(effect.key, KeyEffect::Disabled(..)), "{refusal:?}");
        assert!(!matches!(effect.scope, ScopeEffect::State(_)), "{refusal:?}");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_scope_rests_as_long_as_asked_and_at_most_five_minutes(millis in any::<u64>(), now in 0..100_000_u64) {
        let asked = Duration::from_millis(millis);
        let effect = effect(&Refusal::RateLimited { retry_after: Some(asked) }, at(now));
        let ScopeEffect::State(ScopeState::Cooling { at: since, until, .. }) = effect.scope else { panic!("not cooling") };
        prop_assert_eq!(since, at(now));
        let rest = until.since(at(now));
        prop_assert_eq!(rest, asked.min(QUOTA_MINUTE * 5));
        prop_assert_eq!(state_at(ScopeState::Cooling { reason: CoolReason::RateLimited, at: since, until }, until), ScopeState::Active);
    }

    #[test]
    fn a_day_that_is_used_up_rests_until_the_next(now in 0..100_000_000_u64) {
        let effect = effect(&Refusal::DailyQuota, at(now));
        let ScopeEffect::State(ScopeState::Cooling { until, .. }) = effect.scope else { panic!("not cooling") };
        prop_assert!(until > at(now) && until.pacific_day() > at(now).pacific_day());
    }
}

#[test]
fn an_answer_is_not_about_a_key_that_a_person_has_cleared_since() {
    let trial = |until| Standing::Unproven { trial_until: at(until) };
    for (called, now, is_cleared) in [
        (Standing::Proven, Standing::Proven, false),
        (trial(70), trial(70), false),
        // Another call was answered well.
        (trial(70), Standing::Proven, false),
        (Standing::Proven, Standing::UNTRIED, true),
        (Standing::Proven, trial(90), true),
        (trial(70), Standing::UNTRIED, true),
        // Somebody else is trying it: that answer tells.
        (trial(70), trial(90), true),
    ] {
        assert_eq!(now.is_cleared_since(called), is_cleared, "{called:?} {now:?}");
    }
}
