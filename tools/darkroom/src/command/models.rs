//! `darkroom models`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use darkroom_aws::{KeyWrite, now};
use darkroom_core::id::ModelName;
use darkroom_core::model::{Model, ProviderName};
use serde_json::json;

use super::Target;
use crate::catalogue;
use crate::output::{print, table};

/// The catalogue of models.
#[derive(Subcommand)]
pub(super) enum Models {
    /// Lists the catalogue.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Adds the models of a file (of this release's own catalogue when none is named) that are absent.
    Seed {
        /// A catalogue in the form of infra/models.toml.
        file: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Changes what is named of a model, or adds one.
    Set(Set),
    /// Offers a model no longer. Jobs that wait for it are still drawn.
    Retire {
        /// The model.
        name: String,
        /// The first day (UTC) on which it is refused, as 2026-11-22; without it, today.
        #[arg(long)]
        on: Option<String>,
        /// What to ask for instead.
        #[arg(long)]
        replacement: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

/// What is to be changed of a model.
#[derive(Args)]
pub(super) struct Set {
    /// What callers ask for.
    name: String,
    /// Whose API draws. Needed for a new model.
    #[arg(long)]
    provider: Option<String>,
    /// What the provider calls it. Needed for a new model.
    #[arg(long)]
    provider_model: Option<String>,
    /// Tokens per picture. Needed for a new model.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    price: Option<u64>,
    /// What it is, in a sentence.
    #[arg(long)]
    description: Option<String>,
    /// How long a call takes as a rule, for estimates.
    #[arg(long, value_name = "MILLISECONDS")]
    typical: Option<u64>,
    /// The model of the catalogue that draws while this one's breaker is open or its quota is used up; `none` for no other.
    #[arg(long, value_name = "MODEL")]
    fallback: Option<String>,
    /// Asked for from now on when a request names no model.
    #[arg(long)]
    default: bool,
    #[command(flatten)]
    target: Target,
}

impl Models {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { target } => list(&target).await,
            Self::Seed { file, target } => seed(file, &target).await,
            Self::Set(set) => set.run().await,
            Self::Retire { name, on, replacement, target } => retire(&name, on, replacement, &target).await,
        }
    }
}

async fn list(target: &Target) -> anyhow::Result<()> {
    let models = target.stores().await?.keys.models().await?;
    print(target.json, &json!(models), || {
        let rows: Vec<_> = models
            .iter()
            .map(|model| {
                vec![
                    model.name.to_string(),
                    model.provider.to_string(),
                    model.price.to_string(),
                    if model.default { "yes" } else { "" }.to_owned(),
                    model.fallback.as_ref().map(ToString::to_string).unwrap_or_default(),
                    model.retired_on.clone().unwrap_or_default(),
                    model.description.clone(),
                ]
            })
            .collect();
        table(&["model", "provider", "price", "default", "fallback", "retired on", "what it is"], &rows)
    });
    Ok(())
}

async fn seed(file: Option<PathBuf>, target: &Target) -> anyhow::Result<()> {
    let models = match file {
        None => catalogue::built_in()?,
        Some(file) => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            catalogue::parse(&text)?
        }
    };
    let added = catalogue::seed(&target.stores().await?.keys, &models).await?;
    print(target.json, &json!({"added": added}), || match added.len() {
        0 => "Nothing to add: every model is in the catalogue.".to_owned(),
        _ => format!("Added: {}", added.join(", ")),
    });
    Ok(())
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let keys = self.target.stores().await?.keys;
        let name = ModelName::parse(&self.name)?;
        let models = keys.models().await?;
        let seen = models.iter().find(|model| model.name == name);
        let next = self.changed(seen, &name, &models)?;
        let written = match seen {
            None if next.default => bail!("add the model first, then make it the default"),
            None => keys.add_model(&next).await?,
            Some(seen) => {
                let mut changes = vec![(seen.clone(), next.clone())];
                // Exactly one is the default: the one that was ceases to be in the same transaction.
                let before =
                    models.iter().filter(|other| next.default && other.default && other.name != next.name);
                changes
                    .extend(before.map(|other| (other.clone(), Model { default: false, ..other.clone() })));
                keys.change_models(&changes).await?
            }
        };
        if written == KeyWrite::Refused {
            bail!(
                "the catalogue has changed meanwhile: look at it with `darkroom models list` and try again"
            );
        }
        print(self.target.json, &json!(next), || {
            format!("{} is set. Functions see it within a minute.", next.name)
        });
        Ok(())
    }

    fn changed(&self, seen: Option<&Model>, name: &ModelName, models: &[Model]) -> anyhow::Result<Model> {
        let provider = self.provider.as_deref().map(provider).transpose()?;
        let provider_model = self.provider_model.as_deref().map(ModelName::parse).transpose()?;
        let needed = |option: &str| format!("{name} is new: it needs {option}");
        let mut model = match seen {
            Some(seen) => seen.clone(),
            None => Model {
                provider: provider.with_context(|| needed("--provider"))?,
                provider_model: provider_model.clone().with_context(|| needed("--provider-model"))?,
                price: self.price.with_context(|| needed("--price"))?,
                name: name.clone(),
                description: String::new(),
                typical_milliseconds: 10_000,
                default: false,
                retired_on: None,
                fallback: None,
                replacement: None,
            },
        };
        model.provider = provider.unwrap_or(model.provider);
        model.provider_model = provider_model.unwrap_or(model.provider_model);
        model.price = self.price.unwrap_or(model.price);
        model.description = self.description.clone().unwrap_or(model.description);
        model.typical_milliseconds = self.typical.unwrap_or(model.typical_milliseconds);
        model.default |= self.default;
        match self.fallback.as_deref() {
            None => {}
            Some("none") => model.fallback = None,
            Some(other) => model.fallback = Some(fallback(other, &model, models)?),
        }
        Ok(model)
    }
}

/// A model that may stand in for another: one of the catalogue that really draws.
fn fallback(name: &str, model: &Model, models: &[Model]) -> anyhow::Result<ModelName> {
    let other = find(models, name)?;
    if other.name == model.name {
        bail!("a model cannot stand in for itself");
    }
    if other.provider == ProviderName::Local {
        bail!("{name} is procedural: it stands in for no model");
    }
    Ok(other.name.clone())
}

fn provider(text: &str) -> anyhow::Result<ProviderName> {
    let known: Vec<_> = ProviderName::ALL.iter().map(|provider| provider.as_str()).collect();
    ProviderName::parse(text)
        .with_context(|| format!("--provider {text} is unknown: use one of {}", known.join(", ")))
}

fn find<'a>(models: &'a [Model], name: &str) -> anyhow::Result<&'a Model> {
    models
        .iter()
        .find(|model| model.name.as_str() == name)
        .with_context(|| format!("the catalogue has no model {name}: `darkroom models list` shows all"))
}

async fn retire(
    name: &str,
    on: Option<String>,
    replacement: Option<String>,
    target: &Target,
) -> anyhow::Result<()> {
    let keys = target.stores().await?.keys;
    let models = keys.models().await?;
    let seen = find(&models, name)?;
    if seen.default {
        bail!("{name} is the default: make another one so first, `darkroom models set OTHER --default`");
    }
    let day = on.unwrap_or_else(|| now().utc_day());
    if !is_day(&day) {
        bail!("--on {day} is no day: write it as {}", now().utc_day());
    }
    let replacement = match replacement {
        Some(other) => Some(find(&models, &other)?.name.clone()),
        None => seen.replacement.clone(),
    };
    let next = Model { retired_on: Some(day.clone()), replacement, ..seen.clone() };
    if keys.change_models(&[(seen.clone(), next.clone())]).await? == KeyWrite::Refused {
        bail!("{name} has changed meanwhile: look at it with `darkroom models list` and try again");
    }
    print(target.json, &json!(next), || format!("{name} is refused from {day} on."));
    Ok(())
}

/// Whether this is a day in the form that days are compared in.
fn is_day(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let number = |part: &str, digits: usize| {
        (part.len() == digits).then(|| part.parse::<u32>().ok()).flatten().unwrap_or(0)
    };
    match parts.as_slice() {
        [year, month, day] => {
            number(year, 4) > 0 && (1..=12).contains(&number(month, 2)) && (1..=31).contains(&number(day, 2))
        }
        _ => false,
    }
}
