//! Keys of the pool, as `darkroom keys add` makes them.

use darkroom::connect::Stores;
use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{ApiKey, KeyState, Scope, ScopeState, Secret};
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
    let key = ApiKey {
        id: KeyId::derive("gemini", secret),
        provider: ProviderName::Gemini,
        project: ProjectName::parse(project)?,
        state: KeyState::Active,
    };
    stores.keys.add_key(&key, &Secret::parse(secret).map_err(anyhow::Error::msg)?).await?;
    let scope = Scope {
        provider: ProviderName::Gemini,
        project: key.project.clone(),
        model: ModelName::parse(MODEL)?,
        requests_per_minute,
        requests_per_day: None,
        state: ScopeState::Active,
        usage: Usage::default(),
        version: 0,
    };
    stores.keys.add_scope(&scope).await?;
    Ok(key)
}
