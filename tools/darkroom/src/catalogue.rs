//! The catalogue that a new system starts with.

use anyhow::{Context as _, bail};
use darkroom_aws::{KeyTable, KeyWrite};
use darkroom_core::model::Model;
use serde::Deserialize;

/// `infra/models.toml`.
const SEED: &str = include_str!("../../../infra/models.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    model: Vec<Model>,
}

/// Reads a catalogue file.
///
/// # Errors
/// When it is no catalogue, or has not exactly one default.
pub fn parse(text: &str) -> anyhow::Result<Vec<Model>> {
    let seed: Seed = toml::from_str(text).context("the catalogue cannot be read")?;
    let defaults = seed.model.iter().filter(|model| model.default).count();
    if defaults != 1 {
        bail!("a catalogue has exactly one model with `default = true`, this has {defaults}");
    }
    Ok(seed.model)
}

/// The catalogue that comes with this release.
///
/// # Errors
/// Never, unless the file was broken when this program was built.
pub fn built_in() -> anyhow::Result<Vec<Model>> {
    parse(SEED)
}

/// Adds models that are absent; changes none that is there. Returns the names of the added.
///
/// # Errors
/// When the table does not answer.
pub async fn seed(keys: &KeyTable, models: &[Model]) -> anyhow::Result<Vec<String>> {
    let mut added = Vec::new();
    for model in models {
        if keys.add_model(model).await? == KeyWrite::Applied {
            added.push(model.name.to_string());
        }
    }
    Ok(added)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_one() {
        let models = built_in().unwrap();
        let local = models.iter().find(|model| model.default).unwrap();
        assert!(local.description.contains("Procedural"), "the local model is labelled as what it is");
        assert!(models.iter().all(|model| model.price > 0));
    }

    #[test]
    fn a_catalogue_without_one_default_is_refused() {
        assert!(parse("model = []").is_err());
        assert!(parse(&SEED.replace("default = true", "")).is_err());
        assert!(parse(&SEED.replace("price = 6", "price = 6\ndefault = true")).is_err());
        assert!(parse("[[model]]\nname = \"x\"").is_err());
    }
}
