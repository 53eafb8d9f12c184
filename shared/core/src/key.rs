//! API keys of the pool and the quota scopes that they draw on.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::id::{KeyId, ModelName, ProjectName};
use crate::model::ProviderName;
use crate::quota::Usage;
use crate::time::Timestamp;

/// A secret. It has no `Debug`, `Display` or `Serialize`, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

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
        Ok(Self(Zeroizing::new(text.to_owned())))
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
    /// Its stored secret cannot be opened: it was altered, or was not sealed for this key. It must be added again.
    Unreadable,
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

/// Whether the provider has accepted a call of this key or scope since it was added, enabled or cooled.
///
/// Unproven, it has one call in flight until the first answer: a dead key costs one call, not a block of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// It has: as many calls at once as the limits allow.
    Proven,
    /// It has not.
    Unproven {
        /// The one call is under way, at the latest until then; then somebody else may try. The epoch: none is.
        trial_until: Timestamp,
    },
}

impl Standing {
    /// Nobody has tried it yet.
    pub const UNTRIED: Self = Self::Unproven { trial_until: Timestamp::EPOCH };

    /// Until when somebody else's first call may be under way at `now`.
    pub fn on_trial(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Unproven { trial_until } if trial_until > now => Some(trial_until),
            Self::Unproven { .. } | Self::Proven => None,
        }
    }

    /// Whether a person has cleared it, or somebody has begun another trial, since a call was made with it as `called`: the
    /// call's answer is about what it was.
    pub fn is_cleared_since(self, called: Self) -> bool {
        !self.is_proven() && self != called
    }

    /// Whether calls are known to be accepted.
    pub const fn is_proven(self) -> bool {
        matches!(self, Self::Proven)
    }
}

/// What came of asking the provider about a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When.
    pub at: Timestamp,
    /// `ok`, or a refusal's word.
    pub outcome: String,
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
    /// The account that pays for the project. Unless the operator tells otherwise, it has the project's name.
    pub account: ProjectName,
    /// Whether it may be used.
    pub state: KeyState,
    /// Whether the provider is known to accept it.
    pub standing: Standing,
    /// The latest probe, if an operator ever asked for one.
    pub probe: Option<Probe>,
    /// Rises with every write; each write names the one it saw.
    pub version: u64,
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
        /// Since when.
        at: Timestamp,
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
    /// Whether the provider is known to grant calls of it.
    pub standing: Standing,
    /// What was reserved.
    pub usage: Usage,
    /// Rises with every write; each write names the one it saw.
    pub version: u64,
}

impl Scope {
    /// Calls that follow its first one when that is granted: the rest of a minute.
    pub const fn promises(&self) -> u32 {
        self.requests_per_minute.saturating_sub(1)
    }
}
