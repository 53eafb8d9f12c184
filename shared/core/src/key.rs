//! API keys of the pool and the quota scopes that they draw on.

use serde::{Deserialize, Serialize};

use crate::id::{KeyId, ModelName, ProjectName};
use crate::model::ProviderName;
use crate::quota::Usage;
use crate::time::Timestamp;

/// A secret. It has no `Debug`, `Display` or `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret; white space at its ends is a slip of copying and is dropped.
    ///
    /// # Errors
    /// When it is empty, longer than 512 characters or has characters that no HTTP header may carry.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the secret is empty: give it on standard input");
        }
        if text.len() > 512 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a secret is 1 to 512 printable ASCII characters without spaces, on one line");
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself, for the provider's header and the store alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Why a key is out of use. Only a person clears these: each is called again only after `keys enable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyDisabled {
    /// An operator switched it off.
    ByOperator,
    /// The provider does not know it.
    Invalid,
    /// Its account has no billing, or not in this region.
    Billing,
    /// The provider suspended it.
    Suspended,
    /// Its account must pay first.
    AccountParked,
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum KeyState {
    /// May be used.
    Active,
    /// Out of use until a person enables it.
    Disabled {
        /// Why.
        reason: KeyDisabled,
        /// Since when.
        at: Timestamp,
    },
}

/// A key of the pool, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id; the secret cannot be read from it.
    pub id: KeyId,
    /// Whose API it opens.
    pub provider: ProviderName,
    /// The project that its quota belongs to.
    pub project: ProjectName,
    /// Whether it may be used.
    pub state: KeyState,
}

/// Why a scope is out of use until a person clears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeDisabled {
    /// The provider grants this project none of this model.
    ZeroQuota,
    /// The provider does not have this model.
    ModelRetired,
}

/// Why a scope rests for a while. The time clears these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoolReason {
    /// The provider's minute is used up.
    RateLimited,
    /// The provider's day is used up.
    DailyQuota,
}

/// Whether a scope may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ScopeState {
    /// May be used.
    Active,
    /// Rests until then.
    Cooling {
        /// Why.
        reason: CoolReason,
        /// Free again then.
        until: Timestamp,
    },
    /// Out of use until a person enables it.
    Disabled {
        /// Why.
        reason: ScopeDisabled,
        /// Since when.
        at: Timestamp,
    },
}

/// Where limits live: one project's quota of one model at one provider. Several keys of the project share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whose API.
    pub provider: ProviderName,
    /// The project.
    pub project: ProjectName,
    /// The provider's name of the model.
    pub model: ModelName,
    /// Calls per minute.
    pub requests_per_minute: u32,
    /// Calls per provider's day; `None` has no daily limit.
    pub requests_per_day: Option<u32>,
    /// Whether it may be used.
    pub state: ScopeState,
    /// What was reserved.
    pub usage: Usage,
    /// Rises with every write; each write names the one it saw.
    pub version: u64,
}
