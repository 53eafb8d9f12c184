//! The catalogue: what can be asked for, what it costs, who draws it. It is data, kept in the keys table.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ModelName;
use crate::ledger::Tokens;
use crate::upload::Reference;

/// Whose API draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderName {
    /// The built-in procedural generator: no network, no key.
    Local,
    /// Google's Gemini API.
    Gemini,
    /// OpenAI's Images API, or another server with it.
    #[serde(rename = "openai")]
    OpenAi,
    /// Stable Diffusion WebUI Forge, or AUTOMATIC1111's WebUI.
    Forge,
}

impl ProviderName {
    /// Every provider.
    pub const ALL: [Self; 4] = [Self::Local, Self::Gemini, Self::OpenAi, Self::Forge];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Gemini => "gemini",
            Self::OpenAi => "openai",
            Self::Forge => "forge",
        }
    }

    /// Parses the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == text)
    }

    /// Whether its calls need a key, and therefore a slot. Forge draws one picture at a time and asks for no key by itself: it has one
    /// all the same, since its slots are what keeps calls from waiting at the server longer than they may last.
    pub const fn needs_key(self) -> bool {
        match self {
            Self::Local => false,
            Self::Gemini | Self::OpenAi | Self::Forge => true,
        }
    }
}

impl ProviderName {
    /// Whether a breaker stands before it: whatever is on the network can fail.
    pub const fn has_breaker(self) -> bool {
        !matches!(self, Self::Local)
    }
}

impl ProviderName {
    /// Whether its requests can carry a picture to draw from. OpenAI's and Forge's have other forms for that, which are
    /// not spoken here.
    const fn takes_reference(self) -> bool {
        match self {
            Self::Local | Self::Gemini => true,
            Self::OpenAi | Self::Forge => false,
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
    /// The model that draws while this one's breaker is open or its quota is used up. The price stays this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<ModelName>,
    /// What to ask for instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<ModelName>,
}

impl Model {
    /// How long a call takes as a rule.
    pub const fn typical(&self) -> Duration {
        Duration::from_millis(self.typical_milliseconds)
    }

    /// Whether it draws from a reference picture.
    pub const fn takes_reference(&self) -> bool {
        self.provider.takes_reference()
    }

    /// Whether it can draw what is drawn from this, or from a prompt alone.
    pub const fn can_draw(&self, reference: Option<&Reference>) -> bool {
        reference.is_none() || self.takes_reference()
    }

    /// Whether it may still be asked for on this day (`2026-11-22`).
    pub fn is_offered(&self, day: &str) -> bool {
        self.retired_on.as_deref().is_none_or(|retired| day < retired)
    }
}

/// Who may draw a job of `model`, in the order of preference: the model itself, then its fallback. The procedural
/// generator stands in for nobody: a picture that was not asked for is worse than none. `day` is today in UTC: a model that
/// is no longer offered stands in for nobody either.
pub fn routes<'a>(models: &'a [Model], model: &'a Model, day: &str) -> impl Iterator<Item = &'a Model> {
    let fallback = model.fallback.as_ref().and_then(|name| models.iter().find(|other| other.name == *name));
    let may_draw = |other: &&Model| {
        other.provider != ProviderName::Local && other.is_offered(day) && other.name != model.name
    };
    std::iter::once(model).chain(fallback.filter(may_draw))
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
