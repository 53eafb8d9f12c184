//! `darkroom breaker`.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use darkroom_aws::{Written, now};
use darkroom_core::breaker::{Breaker, OpenReason, State};
use darkroom_core::time::{Timestamp, readable};
use serde_json::json;

use super::Target;
use crate::output::{print, table};

/// The circuit breakers, one per model on the network.
#[derive(Subcommand)]
pub(super) enum Breakers {
    /// Shows where each stands.
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Closes a model's breaker: calls are made again at once.
    Reset {
        /// The model.
        model: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Breakers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show { target } => show(&target).await,
            Self::Reset { model, target } => reset(&model, &target).await,
        }
    }
}

async fn show(target: &Target) -> anyhow::Result<()> {
    let keys = target.stores().await?.keys;
    let mut breakers = Vec::new();
    for model in keys.models().await?.into_iter().filter(|model| model.provider.has_breaker()) {
        let breaker = keys.breaker(model.provider, &model.provider_model).await?;
        breakers.push((model.name, breaker));
    }
    let at = now();
    let value: Vec<_> =
        breakers.iter().map(|(model, breaker)| json!({"model": model, "breaker": breaker})).collect();
    print(target.json, &json!(value), || {
        let row = |(model, breaker): &(_, Breaker)| {
            vec![format!("{model}"), breaker.state.as_str().replace('_', "-"), words(&breaker.state, at)]
        };
        let rows: Vec<_> = breakers.iter().map(row).collect();
        if rows.is_empty() {
            return "The catalogue has no model with a breaker.".to_owned();
        }
        table(&["model", "breaker", ""], &rows)
    });
    Ok(())
}

fn words(state: &State, at: Timestamp) -> String {
    let why = |reason: &OpenReason| match reason {
        OpenReason::Failures => "the provider fails",
        OpenReason::Exhausted => "every scope is used up",
    };
    match state {
        State::Closed { failures: 0, exhausted: 0, .. } => String::new(),
        State::Closed { failures, exhausted, .. } => {
            format!("{failures} failures in a row, {exhausted} rounds without a scope")
        }
        State::Open { until, reason, openings, .. } if *until > at => {
            let left = readable(until.since(at));
            format!("{}; opened {openings} times in a row, next probe in {left}", why(reason))
        }
        State::Open { reason, .. } => format!("{}; the next job is the probe", why(reason)),
        State::HalfOpen { reason, .. } => format!("{}; a probe is under way", why(reason)),
    }
}

async fn reset(name: &str, target: &Target) -> anyhow::Result<()> {
    let keys = target.stores().await?.keys;
    let models = keys.models().await?;
    let model = models
        .iter()
        .find(|model| model.name.as_str() == name)
        .with_context(|| format!("the catalogue has no model {name}: `darkroom models list` shows all"))?;
    let seen = keys.breaker(model.provider, &model.provider_model).await?;
    let next = seen.reset(now());
    match keys.set_breaker(model.provider, &model.provider_model, &seen, next).await? {
        Written::Applied(breaker) => {
            print(target.json, &json!({"model": name, "breaker": breaker}), || {
                format!(
                    "The breaker of {name} is closed. Jobs that wait for it start as the sweeper wakes them."
                )
            });
            Ok(())
        }
        Written::Refused(_) => bail!("the breaker has changed meanwhile: `darkroom breaker show`"),
    }
}
