//! Keys, scopes, breakers, models and signs of life: each write names what it saw, and only that lets it through.

use std::time::Duration;

use anyhow::{bail, ensure};
use darkroom_aws::{Heartbeat, KeyWrite, Written};
use darkroom_core::breaker::Breaker;
use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{
    ApiKey, CoolReason, KeyDisabled, KeyState, Probe, Scope, ScopeDisabled, ScopeState, Secret, Standing,
};
use darkroom_core::limits::HEARTBEAT_EVERY;
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::quota::{Mark, Slots, Usage};
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;

use super::Case;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const GEMINI: ProviderName = ProviderName::Gemini;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("scope", a_scope_is_written_as_it_was_seen),
        Case::new("scope's state", a_scope_s_state_names_the_state_it_replaces),
        Case::new("scope's trial", the_end_of_a_trial_names_state_and_standing),
        Case::new("key", a_key_is_written_as_it_was_seen),
        Case::new("added once", what_is_there_is_not_added_again),
        Case::new("breaker", a_breaker_is_written_as_it_was_seen),
        Case::new("models", models_are_changed_as_they_were_seen),
        Case::new("sign of life", a_sign_of_life_is_written_when_the_last_is_old),
    ]
}

fn model() -> ModelName {
    ModelName::parse("m").unwrap()
}

fn scope() -> Scope {
    Scope {
        provider: GEMINI,
        project: ProjectName::parse("p").unwrap(),
        model: model(),
        requests_per_minute: 10,
        requests_per_day: Some(100),
        state: ScopeState::Active,
        standing: Standing::UNTRIED,
        usage: Usage::default(),
        version: 0,
    }
}

fn key() -> ApiKey {
    ApiKey {
        id: KeyId::derive("gemini", "AIza-one"),
        provider: GEMINI,
        project: ProjectName::parse("p").unwrap(),
        account: ProjectName::parse("p").unwrap(),
        state: KeyState::Active,
        standing: Standing::UNTRIED,
        probe: None,
        version: 0,
    }
}

const DISABLED: ScopeState = ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: NOW };
const ON_TRIAL: Standing = Standing::Unproven { trial_until: NOW };

/// What was written.
fn applied<T>(written: Written<T>) -> anyhow::Result<T> {
    match written {
        Written::Applied(value) => Ok(value),
        Written::Refused(_) => bail!("refused, although it was as seen"),
    }
}

/// That it was refused, and answered with what is there.
fn refused<T: PartialEq>(written: Written<T>, there: &T) -> anyhow::Result<()> {
    match written {
        Written::Applied(_) => bail!("written over what had not been seen"),
        Written::Refused(now) => {
            ensure!(now.as_ref() == Some(there), "the refusal does not show what is there");
            Ok(())
        }
    }
}

async fn stored_scope(writes: &Writes) -> anyhow::Result<Scope> {
    let scopes = writes.keys.scopes(GEMINI, &model()).await?;
    scopes.into_iter().next().ok_or_else(|| anyhow::anyhow!("no scope"))
}

async fn a_scope_is_written_as_it_was_seen(writes: Writes) -> anyhow::Result<()> {
    writes.keys.add_scope(&scope()).await?;
    let mark = Mark { at: NOW, count: 1 };
    let slots =
        Slots { at: vec![NOW], usage: Usage { marks: vec![mark], ..Usage::default() }, standing: ON_TRIAL };
    let first = applied(writes.keys.reserve(&scope(), &slots, NOW).await?)?;
    ensure!(first.version == 1 && first == stored_scope(&writes).await?, "{:?}", first.version);
    refused(writes.keys.reserve(&scope(), &slots, NOW).await?, &first)?;
    refused(writes.keys.set_scope_limits(&scope(), 5, None).await?, &first)?;
    let second = applied(writes.keys.set_scope_limits(&first, 5, None).await?)?;
    let third = applied(writes.keys.set_scope_limits(&second, 7, Some(9)).await?)?;
    refused(writes.keys.set_scope_limits(&second, 5, Some(1)).await?, &third)?;
    ensure!(third == stored_scope(&writes).await?, "{third:?}");
    Ok(())
}

async fn a_scope_s_state_names_the_state_it_replaces(writes: Writes) -> anyhow::Result<()> {
    writes.keys.add_scope(&scope()).await?;
    let disabled = applied(writes.keys.set_scope_state(&scope(), DISABLED).await?)?;
    // An answer of before, that would open it again.
    let cooling = ScopeState::Cooling { until: NOW, reason: CoolReason::RateLimited, at: NOW };
    refused(writes.keys.set_scope_state(&scope(), cooling).await?, &disabled)?;
    ensure!(disabled == stored_scope(&writes).await?, "{disabled:?}");
    Ok(())
}

async fn the_end_of_a_trial_names_state_and_standing(writes: Writes) -> anyhow::Result<()> {
    writes.keys.add_scope(&Scope { standing: ON_TRIAL, ..scope() }).await?;
    let seen = stored_scope(&writes).await?;
    let other_state = Scope { state: DISABLED, ..seen.clone() };
    refused(writes.keys.end_scope_trial(&other_state, Standing::Proven).await?, &seen)?;
    let other_standing = Scope { standing: Standing::UNTRIED, ..seen.clone() };
    refused(writes.keys.end_scope_trial(&other_standing, Standing::Proven).await?, &seen)?;
    let proven = applied(writes.keys.end_scope_trial(&seen, Standing::Proven).await?)?;
    ensure!(proven == stored_scope(&writes).await?, "{proven:?}");
    Ok(())
}

async fn a_key_is_written_as_it_was_seen(writes: Writes) -> anyhow::Result<()> {
    let secret = Secret::parse("AIza-one").map_err(anyhow::Error::msg)?;
    writes.keys.add_key(&key(), &secret, &writes.secrets).await?;
    let invalid = KeyState::Disabled { reason: KeyDisabled::Invalid, at: NOW };
    let first = applied(writes.keys.set_key_state(&key(), invalid).await?)?;
    refused(writes.keys.set_key_state(&key(), KeyState::Active).await?, &first)?;
    refused(writes.keys.set_key_standing(&key(), Standing::Proven).await?, &first)?;
    let probe = Probe { at: NOW, outcome: "ok".to_owned() };
    refused(writes.keys.set_key_probe(&key(), probe.clone()).await?, &first)?;
    let second = applied(writes.keys.set_key_standing(&first, Standing::Proven).await?)?;
    let third = applied(writes.keys.set_key_probe(&second, probe).await?)?;
    ensure!(writes.keys.key(&key().id).await?.as_ref() == Some(&third), "{:?}", third.version);
    Ok(())
}

async fn what_is_there_is_not_added_again(writes: Writes) -> anyhow::Result<()> {
    let [one, other] = ["AIza-one", "AIza-other"].map(|text| Secret::parse(text).unwrap());
    let keys = &writes.keys;
    ensure!(keys.add_key(&key(), &one, &writes.secrets).await? == KeyWrite::Applied, "a new key");
    ensure!(keys.add_key(&key(), &other, &writes.secrets).await? == KeyWrite::Refused, "a key again");
    ensure!(keys.remove_key(&key()).await? == KeyWrite::Applied, "removed");
    ensure!(keys.remove_key(&key()).await? == KeyWrite::Refused, "removed again");
    ensure!(keys.add_scope(&scope()).await? == KeyWrite::Applied, "a new scope");
    let larger = Scope { requests_per_minute: 99, ..scope() };
    ensure!(keys.add_scope(&larger).await? == KeyWrite::Refused, "a scope again");
    ensure!(stored_scope(&writes).await?.requests_per_minute == 10, "a scope was written over");
    ensure!(keys.add_model(&a_model()).await? == KeyWrite::Applied, "a new model");
    let dearer = Model { price: 99, ..a_model() };
    ensure!(keys.add_model(&dearer).await? == KeyWrite::Refused, "a model again");
    ensure!(keys.models().await? == [a_model()], "a model was written over");
    Ok(())
}

fn a_model() -> Model {
    Model {
        name: model(),
        provider: GEMINI,
        provider_model: model(),
        price: 2,
        description: "a model".to_owned(),
        typical_milliseconds: 1_000,
        default: true,
        retired_on: None,
        fallback: None,
        replacement: None,
    }
}

async fn a_breaker_is_written_as_it_was_seen(writes: Writes) -> anyhow::Result<()> {
    let set = |seen: Breaker, next: Breaker| {
        let keys = writes.keys.clone();
        async move { keys.set_breaker(GEMINI, &model(), &seen, next).await }
    };
    let of = |version, epoch| Breaker { version, epoch, ..Breaker::default() };
    let first = applied(set(of(0, 0), of(1, 1)).await?)?;
    // Another that had seen none either, and one that had seen an older one.
    refused(set(of(0, 0), of(1, 7)).await?, &first)?;
    let second = applied(set(of(1, 1), of(2, 2)).await?)?;
    refused(set(of(1, 1), of(2, 7)).await?, &second)?;
    ensure!(writes.keys.breaker(GEMINI, &model()).await? == second, "{second:?}");
    Ok(())
}

async fn models_are_changed_as_they_were_seen(writes: Writes) -> anyhow::Result<()> {
    writes.keys.add_model(&a_model()).await?;
    let dearer = Model { price: 3, ..a_model() };
    let change = |seen: &Model, next: &Model| {
        let (keys, changes) = (writes.keys.clone(), [(seen.clone(), next.clone())]);
        async move { keys.change_models(&changes).await }
    };
    ensure!(change(&a_model(), &dearer).await? == KeyWrite::Applied, "as it was seen");
    let cheaper = Model { price: 1, ..a_model() };
    ensure!(change(&a_model(), &cheaper).await? == KeyWrite::Refused, "as it was before");
    ensure!(writes.keys.models().await? == [dearer], "the models");
    Ok(())
}

async fn a_sign_of_life_is_written_when_the_last_is_old(writes: Writes) -> anyhow::Result<()> {
    // Two processes: one remembers its own last.
    let beat = async |at| Heartbeat::new(writes.keys.clone(), "worker").beat(at).await;
    let last = async || writes.keys.last_beat("worker").await;
    beat(NOW).await?;
    ensure!(last().await? == Some(NOW), "the first");
    beat(NOW.plus(HEARTBEAT_EVERY)).await?;
    ensure!(last().await? == Some(NOW), "soon after");
    let later = NOW.plus(HEARTBEAT_EVERY + Duration::from_millis(1));
    beat(later).await?;
    ensure!(last().await? == Some(later), "later");
    Ok(())
}
