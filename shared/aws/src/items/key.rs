//! API keys, scopes and models as items of the keys table.

use darkroom_core::breaker::Breaker;
use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{ApiKey, Scope};
use darkroom_core::model::{Model, ProviderName};

use crate::attributes::{Item, ItemError, Reader, binary, json, number, text};
use crate::keys::Key;
use crate::secret_box::{SCHEME, Sealed, Unusable};

/// Names of the keys table's attributes.
pub(crate) mod name {
    pub(crate) const PROVIDER: &str = "provider";
    pub(crate) const PROJECT: &str = "project";
    pub(crate) const KEY_ID: &str = "key_id";
    /// The secret's ciphertext. Earlier, unsealed items have a string here.
    pub(crate) const SECRET: &str = "secret";
    pub(crate) const SECRET_NONCE: &str = "secret_nonce";
    /// The data key, encrypted under the KMS key.
    pub(crate) const SECRET_DATA_KEY: &str = "secret_data_key";
    pub(crate) const SECRET_SCHEME: &str = "secret_scheme";
    pub(crate) const STATE: &str = "state";
    pub(crate) const MODEL: &str = "model";
    pub(crate) const RPM: &str = "requests_per_minute";
    pub(crate) const RPD: &str = "requests_per_day";
    pub(crate) const USAGE: &str = "usage";
    pub(crate) const VERSION: &str = "ver";
    pub(crate) const STANDING: &str = "standing";
    pub(crate) const ACCOUNT: &str = "account";
    pub(crate) const PROBE: &str = "probe";
    pub(crate) const EPOCH: &str = "epoch";
    pub(crate) const OP: &str = "op";
    pub(crate) const AT: &str = "at";
}

/// The attributes that describe a key, without its secret. The policies of api and sweeper let them read no others.
pub const KEY_PROJECTION: [&str; 8] = [
    name::PROVIDER,
    name::PROJECT,
    name::ACCOUNT,
    name::KEY_ID,
    name::STATE,
    name::STANDING,
    name::PROBE,
    name::VERSION,
];

/// The item of a key with its sealed secret.
pub(crate) fn api_key_item(key: &ApiKey, secret: &Sealed) -> Item {
    let mut item = Key::ApiKey(key.provider, &key.project, &key.id).attributes();
    item.extend(
        [
            (name::PROVIDER, text(key.provider.as_str())),
            (name::PROJECT, text(key.project.as_str())),
            (name::KEY_ID, text(key.id.as_str())),
            (name::ACCOUNT, text(key.account.as_str())),
            (name::SECRET, binary(&secret.ciphertext)),
            (name::SECRET_NONCE, binary(&secret.nonce)),
            (name::SECRET_DATA_KEY, binary(&secret.data_key)),
            (name::SECRET_SCHEME, number(SCHEME)),
            (name::STATE, json(&key.state)),
            (name::STANDING, json(&key.standing)),
            (name::VERSION, number(key.version)),
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
        account: read.parsed(name::ACCOUNT, |text| ProjectName::parse(text).ok())?,
        state: read.json(name::STATE)?,
        standing: read.json(name::STANDING)?,
        probe: if read.has(name::PROBE) { Some(read.json(name::PROBE)?) } else { None },
        version: read.number(name::VERSION)?,
    })
}

/// The sealed secret of an item.
///
/// # Errors
/// What is wrong with the envelope's parts. It concerns this key alone, so it is not an [`ItemError`].
pub(crate) fn sealed_secret(item: &Item) -> Result<Sealed, Unusable> {
    let read = Reader(item);
    let part = |name| read.binary(name).map_err(|error| Unusable::Incomplete(error.attribute));
    if read.text(name::SECRET).is_ok() {
        return Err(Unusable::Plain);
    }
    match read.number(name::SECRET_SCHEME) {
        Ok(SCHEME) => {}
        Ok(other) => return Err(Unusable::Scheme(other)),
        Err(error) => return Err(Unusable::Incomplete(error.attribute)),
    }
    let nonce = part(name::SECRET_NONCE)?;
    Ok(Sealed {
        ciphertext: part(name::SECRET)?.to_vec(),
        nonce: nonce.try_into().map_err(|_| Unusable::Incomplete(name::SECRET_NONCE))?,
        data_key: part(name::SECRET_DATA_KEY)?.to_vec(),
    })
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
            (name::STANDING, json(&scope.standing)),
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
        standing: read.json(name::STANDING)?,
        usage: read.json(name::USAGE)?,
        version: read.number(name::VERSION)?,
    })
}

/// The breaker of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn breaker(item: &Item) -> Result<Breaker, ItemError> {
    let read = Reader(item);
    Ok(Breaker {
        epoch: read.number(name::EPOCH)?,
        version: read.number(name::VERSION)?,
        state: read.json(name::STATE)?,
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
