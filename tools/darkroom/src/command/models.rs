//! `darkroom models`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
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
}

impl Models {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { target } => list(&target).await,
            Self::Seed { file, target } => seed(file, &target).await,
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
                    model.retired_on.clone().unwrap_or_default(),
                    model.description.clone(),
                ]
            })
            .collect();
        table(&["model", "provider", "price", "default", "retired on", "what it is"], &rows)
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
