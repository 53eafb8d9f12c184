//! The catalogue: what can be asked for, what it costs, who draws it. It is data, kept in the keys table.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ModelName;
use crate::ledger::Tokens;

/// Whose API draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderName {
    /// The built-in procedural generator: no network, no key.
    Local,
    /// Google's Gemini API.
    Gemini,
}

impl ProviderName {
    /// Every provider.
    pub const ALL: [Self; 2] = [Self::Local, Self::Gemini];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Gemini => "gemini",
        }
    }

    /// Parses the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == text)
    }

    /// Whether its calls need a key, and therefore a slot.
    pub const fn needs_key(self) -> bool {
        match self {
            Self::Local => false,
            Self::Gemini => true,
        }
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A model of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What callers ask for.
    pub name: ModelName,
    /// Who draws it.
    pub provider: ProviderName,
    /// What the provider calls it.
    pub provider_model: ModelName,
    /// Tokens per picture.
    pub price: Tokens,
    /// What it is, in a sentence.
    pub description: String,
    /// How long a call takes as a rule: estimates only.
    pub typical_milliseconds: u64,
    /// Asked for when a request names no model. Exactly one is.
    #[serde(default)]
    pub default: bool,
    /// No longer offered since this day, `2026-11-22`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_on: Option<String>,
    /// What to ask for instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<ModelName>,
}

impl Model {
    /// How long a call takes as a rule.
    pub const fn typical(&self) -> Duration {
        Duration::from_millis(self.typical_milliseconds)
    }

    /// Whether it may still be asked for on this day (`2026-11-22`).
    pub fn is_offered(&self, day: &str) -> bool {
        self.retired_on.as_deref().is_none_or(|retired| day < retired)
    }
}

/// What a request for a model finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one.
    Offered(&'a Model),
    /// It is no longer offered.
    Retired(&'a Model),
    /// There is none of this name, or no default.
    Unknown,
}

/// Finds the model a request asks for; `None` asks for the default. `day` is today in UTC.
pub fn choose<'a>(models: &'a [Model], asked: Option<&ModelName>, day: &str) -> Choice<'a> {
    let found = models.iter().find(|model| asked.map_or(model.default, |name| *name == model.name));
    match found {
        None => Choice::Unknown,
        Some(model) if model.is_offered(day) => Choice::Offered(model),
        Some(model) => Choice::Retired(model),
    }
}
