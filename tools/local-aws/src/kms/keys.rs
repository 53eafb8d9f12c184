//! Which keys and aliases there are. They are declared at each start, as the template says, and not stored: what was
//! encrypted under a key opens again once a key of the same id is declared.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::error::{Code, KmsError};
use crate::EnsureError;

/// The keys of one account and region.
#[derive(Clone)]
pub(super) struct Keys {
    region: Arc<str>,
    pub(super) account: Arc<str>,
    declared: Arc<RwLock<Declared>>,
}

#[derive(Default)]
struct Declared {
    /// Key ids, and when each was declared, in seconds since 1970.
    keys: BTreeMap<Arc<str>, u64>,
    /// Alias names (`alias/…`) to key ids.
    aliases: BTreeMap<String, Arc<str>>,
}

/// A key that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: Arc<str>,
    pub(super) arn: String,
    /// Seconds since 1970.
    pub(super) created_at: u64,
}

impl Keys {
    pub(super) fn new(region: &str, account: &str) -> Self {
        Self { region: region.into(), account: account.into(), declared: Arc::default() }
    }

    pub(super) fn ensure(&self, id: &str) -> Result<(), EnsureError> {
        let is_id =
            (1..=256).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_id {
            let reason = "its id must be 1 to 256 letters, digits and hyphens";
            return Err(EnsureError::refused(&format!("key {id}"), reason));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut declared = self.declared.write().unwrap_or_else(PoisonError::into_inner);
        declared.keys.entry(id.into()).or_insert(now.as_secs());
        Ok(())
    }

    pub(super) fn ensure_alias(&self, name: &str, key_id: &str) -> Result<(), EnsureError> {
        let refused = |reason: &str| Err(EnsureError::refused(&format!("alias {name}"), reason));
        let rest = name.strip_prefix("alias/").unwrap_or_default();
        if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b)) {
            return refused("its name must be `alias/` and letters, digits, hyphens, underscores or slashes");
        }
        let mut declared = self.declared.write().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = declared.keys.get_key_value(key_id).map(|(id, _)| id.clone()) else {
            return refused(&format!("there is no key {key_id}: make the key first"));
        };
        declared.aliases.insert(name.to_owned(), id);
        Ok(())
    }

    /// The key of this id, key ARN, alias name or alias ARN.
    pub(super) fn find(&self, name: &str) -> Result<Key, KmsError> {
        let not_found = |message| Err(KmsError::new(Code::NotFound, message));
        let prefix = self.arn("");
        if name.starts_with("arn:") && !name.starts_with(&prefix) {
            return not_found(format!("Invalid arn {name}"));
        }
        let local = name.strip_prefix(&prefix).unwrap_or(name);
        let declared = self.declared.read().unwrap_or_else(PoisonError::into_inner);
        let id = if local.starts_with("alias/") {
            let Some(id) = declared.aliases.get(local) else {
                return not_found(format!("Alias {} is not found.", self.arn(local)));
            };
            id.as_ref()
        } else {
            local.strip_prefix("key/").unwrap_or(local)
        };
        match declared.keys.get_key_value(id) {
            Some((id, created_at)) => {
                Ok(Key { id: id.clone(), arn: self.arn(&format!("key/{id}")), created_at: *created_at })
            }
            None => not_found(format!("Key '{}' does not exist", self.arn(&format!("key/{id}")))),
        }
    }

    fn arn(&self, rest: &str) -> String {
        format!("arn:aws:kms:{}:{}:{rest}", self.region, self.account)
    }
}
