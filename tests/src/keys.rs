//! Keys of the pool, as `darkroom keys add` makes them.

use darkroom::connect::Stores;
use darkroom_aws::{KeyTable, SecretBox};
use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{ApiKey, KeyState, Scope, ScopeState, Secret, Standing};
use darkroom_core::model::ProviderName;
use darkroom_core::quota::Usage;

/// The model that tests and benches ask the stand-in for.
pub const MODEL: &str = "gemini-3.1-flash-image";

/// Adds a Gemini key in a project, with a limit per minute for [`MODEL`].
///
/// # Errors
/// When the table does not answer.
pub async fn add(
    stores: &Stores,
    secret: &str,
    project: &str,
    requests_per_minute: u32,
) -> anyhow::Result<ApiKey> {
    add_for(stores, (ProviderName::Gemini, MODEL), secret, project, requests_per_minute).await
}

/// Adds a key of a provider in a project, with a limit per minute for the provider's model.
///
/// # Errors
/// When the table does not answer.
pub async fn add_for(
    stores: &Stores,
    (provider, model): (ProviderName, &str),
    secret: &str,
    project: &str,
    requests_per_minute: u32,
) -> anyhow::Result<ApiKey> {
    add_to(&stores.keys, &stores.secrets, (provider, model), secret, project, requests_per_minute).await
}

pub(crate) async fn add_to(
    keys: &KeyTable,
    secrets: &SecretBox,
    (provider, model): (ProviderName, &str),
    secret: &str,
    project: &str,
    requests_per_minute: u32,
) -> anyhow::Result<ApiKey> {
    let key = ApiKey {
        id: KeyId::derive(provider.as_str(), secret),
        provider,
        project: ProjectName::parse(project)?,
        account: ProjectName::parse(project)?,
        state: KeyState::Active,
        standing: Standing::UNTRIED,
        probe: None,
        version: 0,
    };
    let secret = Secret::parse(secret).map_err(anyhow::Error::msg)?;
    keys.add_key(&key, &secret, secrets).await?;
    keys.add_scope(&scope((provider, model), project, requests_per_minute)?).await?;
    Ok(key)
}

/// Adds a project's limit per minute for a provider's model.
///
/// # Errors
/// When the table does not answer.
pub async fn add_scope(
    stores: &Stores,
    (provider, model): (ProviderName, &str),
    project: &str,
    requests_per_minute: u32,
) -> anyhow::Result<()> {
    stores.keys.add_scope(&scope((provider, model), project, requests_per_minute)?).await?;
    Ok(())
}

fn scope(
    (provider, model): (ProviderName, &str),
    project: &str,
    requests_per_minute: u32,
) -> anyhow::Result<Scope> {
    Ok(Scope {
        provider,
        project: ProjectName::parse(project)?,
        model: ModelName::parse(model)?,
        requests_per_minute,
        requests_per_day: None,
        state: ScopeState::Active,
        standing: Standing::UNTRIED,
        usage: Usage::default(),
        version: 0,
    })
}
