//! Scopes and keys of a pool, and a provider that counts every call when it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{ApiKey, KeyState, Scope, ScopeState, Standing};
use darkroom_core::limits::{QUOTA_MINUTE, SLOT_WAIT_MAX};
use darkroom_core::model::ProviderName;
use darkroom_core::quota::{Ask, Usage};
use darkroom_core::time::Timestamp;

pub(crate) fn project(number: usize) -> ProjectName {
    ProjectName::parse(&format!("p{number}")).unwrap()
}

/// A proven scope of this project.
pub(crate) fn scope(number: usize, per_minute: u32) -> Scope {
    Scope {
        provider: ProviderName::Gemini,
        project: project(number),
        model: ModelName::parse("m").unwrap(),
        requests_per_minute: per_minute,
        requests_per_day: None,
        state: ScopeState::Active,
        standing: Standing::Proven,
        usage: Usage::default(),
        version: 1,
    }
}

/// A proven key of this project.
pub(crate) fn key(project_number: usize, number: usize) -> ApiKey {
    ApiKey {
        id: KeyId::derive("gemini", &format!("{project_number}/{number}")),
        provider: ProviderName::Gemini,
        project: project(project_number),
        account: project(project_number),
        state: KeyState::Active,
        standing: Standing::Proven,
        probe: None,
        version: 1,
    }
}

/// One scope with one key per limit.
pub(crate) fn pool(limits: &[u32]) -> (Vec<Scope>, Vec<ApiKey>) {
    let scopes = limits.iter().enumerate().map(|(number, limit)| scope(number, *limit)).collect();
    (scopes, (0..limits.len()).map(|number| key(number, 0)).collect())
}

/// What the first call may take.
pub(crate) const TRIAL: Duration = Duration::from_secs(110);

pub(crate) fn ask(now: Timestamp, wanted: u32) -> Ask {
    Ask { now, horizon: SLOT_WAIT_MAX, wanted, minute: QUOTA_MINUTE, trial: TRIAL, promised: 0 }
}

pub(crate) fn untried(key: ApiKey) -> ApiKey {
    ApiKey { standing: Standing::UNTRIED, ..key }
}

pub(crate) fn untried_scope(scope: Scope) -> Scope {
    Scope { standing: Standing::UNTRIED, ..scope }
}

/// One scope's calls of the minute before now, as the provider counts them.
#[derive(Default)]
pub(crate) struct Window(VecDeque<Timestamp>);

impl Window {
    /// Counts a call that arrives; `false` when it is one too many.
    pub(crate) fn admits(&mut self, at: Timestamp, limit: u32) -> bool {
        while self.0.front().is_some_and(|first| at.since(*first) >= QUOTA_MINUTE) {
            self.0.pop_front();
        }
        self.0.push_back(at);
        self.0.len() <= limit as usize
    }
}

/// A steady sequence of draws: the same ones in every run of a seed.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    /// In 0..1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// In 0..`bound`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Never negative, and small.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() * bound as f64) as u64
    }
}
