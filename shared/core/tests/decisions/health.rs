//! What counts as missing, and which keys count as available.

use crate::common::{at, seconds};
use darkroom_core::health::{available_keys, is_stale, sweeper_is_missing, worker_is_missing};
use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{
    ApiKey, CoolReason, KeyDisabled, KeyState, Scope, ScopeDisabled, ScopeState, Standing,
};
use darkroom_core::limits::HEARTBEAT_STALE;
use darkroom_core::model::ProviderName;
use darkroom_core::quota::Usage;

const NOW: u64 = 10_000;

#[test]
fn a_sign_of_life_is_good_for_as_long_as_the_limit_says() {
    let stale = HEARTBEAT_STALE.as_secs();
    assert!(!is_stale(Some(at(NOW - stale)), at(NOW)));
    assert!(is_stale(Some(at(NOW - stale - 1)), at(NOW)));
    assert!(is_stale(None, at(NOW)));
    assert!(!is_stale(Some(at(NOW + 5)), at(NOW)), "clocks differ a little");
}

#[test]
fn a_worker_is_missing_when_a_job_waits_as_long_as_its_sign_of_life_is_old() {
    let stale = HEARTBEAT_STALE.as_secs();
    let ago = |seconds: u64| Some(at(NOW - seconds));
    for (beat, oldest, missing) in [
        // The first job after two idle minutes.
        (ago(stale + 60), ago(1), false),
        (ago(stale + 60), ago(stale), false),
        (ago(stale + 60), ago(stale + 1), true),
        (None, ago(stale + 1), true),
        (None, ago(1), false),
        // Nothing waits; or much waits, and a worker works.
        (ago(stale + 60), None, false),
        (ago(stale), ago(stale + 3_600), false),
    ] {
        assert_eq!(worker_is_missing(beat, oldest, at(NOW)), missing, "{beat:?} {oldest:?}");
    }
}

#[test]
fn a_sweeper_is_missing_when_a_job_is_due() {
    let stale = HEARTBEAT_STALE.as_secs();
    for (beat, due, missing) in [
        (Some(at(NOW - stale - 1)), true, true),
        (None, true, true),
        (Some(at(NOW - stale - 1)), false, false),
        (Some(at(NOW - stale)), true, false),
    ] {
        assert_eq!(sweeper_is_missing(beat, due, at(NOW)), missing, "{beat:?} {due}");
    }
}

fn key(project: &str, state: KeyState) -> ApiKey {
    ApiKey {
        id: KeyId::derive("gemini", project),
        provider: ProviderName::Gemini,
        project: ProjectName::parse(project).unwrap(),
        account: ProjectName::parse(project).unwrap(),
        state,
        standing: Standing::UNTRIED,
        probe: None,
        version: 0,
    }
}

fn scope(project: &str, state: ScopeState) -> Scope {
    Scope {
        provider: ProviderName::Gemini,
        project: ProjectName::parse(project).unwrap(),
        model: ModelName::parse("m").unwrap(),
        requests_per_minute: 10,
        requests_per_day: Some(100),
        state,
        standing: Standing::UNTRIED,
        usage: Usage::default(),
        version: 0,
    }
}

#[test]
fn a_key_is_available_when_it_is_active_and_its_project_has_a_usable_scope() {
    let active = key("one", KeyState::Active);
    let disabled = key("one", KeyState::Disabled { reason: KeyDisabled::Invalid, at: at(1) });
    let cooling = |until| ScopeState::Cooling { reason: CoolReason::RateLimited, at: at(0), until };
    let zero = ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(1) };
    let spent = |day_count| Scope {
        usage: Usage { marks: Vec::new(), day: at(NOW).pacific_day(), day_count },
        ..scope("one", ScopeState::Active)
    };
    let other_provider = Scope { provider: ProviderName::Local, ..scope("one", ScopeState::Active) };
    for (key, scopes, available) in [
        (&active, vec![scope("one", ScopeState::Active)], 1),
        (&disabled, vec![scope("one", ScopeState::Active)], 0),
        (&active, vec![], 0),
        (&active, vec![scope("two", ScopeState::Active)], 0),
        (&active, vec![other_provider], 0),
        (&active, vec![scope("one", zero)], 0),
        (&active, vec![scope("one", cooling(at(NOW).plus(seconds(1))))], 0),
        (&active, vec![scope("one", cooling(at(NOW)))], 1),
        (&active, vec![spent(99)], 1),
        (&active, vec![spent(100)], 0),
        (&active, vec![Scope { requests_per_day: None, ..spent(100) }], 1),
        (&active, vec![Scope { requests_per_minute: 0, ..scope("one", ScopeState::Active) }], 0),
        // One usable scope is enough.
        (&active, vec![scope("one", zero), scope("one", ScopeState::Active)], 1),
    ] {
        let found = available_keys(std::slice::from_ref(key), &scopes, at(NOW));
        assert_eq!(found, available, "{key:?} {scopes:?}");
    }
    let both = [key("one", KeyState::Active), key("two", KeyState::Active)];
    assert_eq!(available_keys(&both, &[scope("two", ScopeState::Active)], at(NOW)), 1);
}
