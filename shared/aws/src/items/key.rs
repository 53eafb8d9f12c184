//! API keys, scopes and models as items of the keys table.

use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{ApiKey, Scope, Secret};
use darkroom_core::model::{Model, ProviderName};

use crate::attributes::{Item, ItemError, Reader, json, number, text};
use crate::keys::Key;

/// Names of the keys table's attributes.
pub(crate) mod name {
    pub(crate) const PROVIDER: &str = "provider";
    pub(crate) const PROJECT: &str = "project";
    pub(crate) const KEY_ID: &str = "key_id";
    pub(crate) const SECRET: &str = "secret";
    pub(crate) const STATE: &str = "state";
    pub(crate) const MODEL: &str = "model";
    pub(crate) const RPM: &str = "requests_per_minute";
    pub(crate) const RPD: &str = "requests_per_day";
    pub(crate) const USAGE: &str = "usage";
    pub(crate) const VERSION: &str = "ver";
    pub(crate) const AT: &str = "at";
}

/// The attributes that describe a key, without its secret.
pub(crate) const KEY_PROJECTION: [&str; 4] = [name::PROVIDER, name::PROJECT, name::KEY_ID, name::STATE];

/// The item of a key with its secret.
pub(crate) fn api_key_item(key: &ApiKey, secret: &Secret) -> Item {
    let mut item = Key::ApiKey(key.provider, &key.project, &key.id).attributes();
    item.extend(
        [
            (name::PROVIDER, text(key.provider.as_str())),
            (name::PROJECT, text(key.project.as_str())),
            (name::KEY_ID, text(key.id.as_str())),
            (name::SECRET, text(secret.reveal())),
            (name::STATE, json(&key.state)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    item
}

/// The key of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn api_key(item: &Item) -> Result<ApiKey, ItemError> {
    let read = Reader(item);
    Ok(ApiKey {
        id: read.parsed(name::KEY_ID, |text| KeyId::parse(text).ok())?,
        provider: read.parsed(name::PROVIDER, ProviderName::parse)?,
        project: read.parsed(name::PROJECT, |text| ProjectName::parse(text).ok())?,
        state: read.json(name::STATE)?,
    })
}

/// The secret of an item.
pub(crate) fn secret(item: &Item) -> Result<Secret, ItemError> {
    Reader(item).parsed(name::SECRET, |text| Secret::parse(text).ok())
}

/// The item of a scope.
pub fn scope_item(scope: &Scope) -> Item {
    let mut item = Key::Scope(scope.provider, &scope.model, &scope.project).attributes();
    item.extend(
        [
            (name::PROVIDER, text(scope.provider.as_str())),
            (name::PROJECT, text(scope.project.as_str())),
            (name::MODEL, text(scope.model.as_str())),
            (name::RPM, number(scope.requests_per_minute)),
            (name::STATE, json(&scope.state)),
            (name::USAGE, json(&scope.usage)),
            (name::VERSION, number(scope.version)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(limit) = scope.requests_per_day {
        item.insert(name::RPD.to_owned(), number(limit));
    }
    item
}

/// The scope of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn scope(item: &Item) -> Result<Scope, ItemError> {
    let read = Reader(item);
    let requests_per_day = match read.optional_number(name::RPD)? {
        None => None,
        Some(_) => Some(read.small(name::RPD)?),
    };
    Ok(Scope {
        provider: read.parsed(name::PROVIDER, ProviderName::parse)?,
        project: read.parsed(name::PROJECT, |text| ProjectName::parse(text).ok())?,
        model: read.parsed(name::MODEL, |text| ModelName::parse(text).ok())?,
        requests_per_minute: read.small(name::RPM)?,
        requests_per_day,
        state: read.json(name::STATE)?,
        usage: read.json(name::USAGE)?,
        version: read.number(name::VERSION)?,
    })
}

/// The item of a model of the catalogue.
pub fn model_item(model: &Model) -> Item {
    let mut item = Key::Model(&model.name).attributes();
    item.insert(name::MODEL.to_owned(), json(model));
    item
}

/// The model of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn model(item: &Item) -> Result<Model, ItemError> {
    Reader(item).json(name::MODEL)
}
