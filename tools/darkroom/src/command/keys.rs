//! `darkroom keys`. Secrets come on standard input and are never shown; a key is named by its id.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use darkroom_aws::{KeyTable, KeyWrite, Written, now};
use darkroom_core::id::{KeyId, ModelName, ProjectName};
use darkroom_core::key::{ApiKey, KeyDisabled, KeyState, Scope, ScopeState, Secret, Standing};
use darkroom_core::message::{Message, ProbeMessage};
use darkroom_core::model::ProviderName;
use darkroom_core::quota::{Calendar, Usage, state_at, used};
use darkroom_core::time::{Timestamp, readable};
use serde_json::json;

use super::Target;
use crate::connect::Stores;
use crate::output::{print, table};

/// The pool of API keys.
#[derive(Subcommand)]
pub(super) enum Keys {
    /// Adds a key, with its secret on standard input, and its project's limits for a model.
    Add(Add),
    /// Lists keys and limits, without secrets.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Puts a key, and its project's limits, into use again.
    Enable {
        /// The key's id.
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Takes a key out of use; calls under way end.
    Disable {
        /// The key's id.
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Has a worker ask the provider about keys: one call each, which draws nothing where the provider allows that.
    Probe {
        /// The key's id; without one, every key that is in use.
        id: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Removes a key and its secret for good.
    Remove {
        /// The key's id.
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

/// A key and its project's limits.
#[derive(Args)]
pub(super) struct Add {
    /// Whose API: gemini, openai or forge. Forge's secret is `user:password`, or `none` when it asks for none.
    #[arg(long)]
    provider: String,
    /// The provider's project that the key belongs to; for Forge, a name for the machine. Limits are the project's: more
    /// keys of it add nothing.
    #[arg(long)]
    project: String,
    /// The account that pays for the project, when several projects share one: it is parked as a whole.
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// The provider's name of the model.
    #[arg(long)]
    model: String,
    /// The project's calls per minute for this model; for Forge, how many pictures the machine draws in a minute.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rpm: u32,
    /// The project's calls per day for this model; without it there is no daily limit.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rpd: Option<u32>,
    #[command(flatten)]
    target: Target,
}

impl Keys {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List { target } => list(&target).await,
            Self::Enable { id, target } => enable(&id, &target).await,
            Self::Disable { id, target } => disable(&id, &target).await,
            Self::Probe { id, target } => probe(id.as_deref(), &target).await,
            Self::Remove { id, target } => remove(&id, &target).await,
        }
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let provider = ProviderName::parse(&self.provider).filter(|provider| provider.needs_key());
        let Some(provider) = provider else {
            let known: Vec<_> = ProviderName::ALL
                .iter()
                .filter(|p| p.needs_key())
                .map(|provider| provider.as_str())
                .collect();
            bail!("--provider {} is none that needs keys: use {}", self.provider, known.join(" or "));
        };
        let project = ProjectName::parse(&self.project).context("--project")?;
        let model = ModelName::parse(&self.model).context("--model")?;
        let secret = read_secret()?;
        let Stores { keys, secrets, .. } = self.target.stores().await?;
        let id = KeyId::derive(provider.as_str(), secret.reveal());
        let account =
            self.account.as_deref().map_or(Ok(project.clone()), ProjectName::parse).context("--account")?;
        let key = ApiKey {
            id: id.clone(),
            provider,
            project: project.clone(),
            account,
            state: KeyState::Active,
            standing: Standing::UNTRIED,
            probe: None,
            version: 0,
        };
        let added = keys.add_key(&key, &secret, &secrets).await? == KeyWrite::Applied;
        let all = keys.keys().await?;
        if let Some(there) = all.iter().find(|there| there.id == id && there.project != project) {
            keys.remove_key(&key).await?;
            bail!("this secret is there already, as {id} of project {}: remove it first", there.project);
        }
        let scope = Scope {
            provider,
            project: project.clone(),
            model: model.clone(),
            requests_per_minute: self.rpm,
            requests_per_day: self.rpd,
            state: ScopeState::Active,
            standing: Standing::UNTRIED,
            usage: Usage::default(),
            version: 0,
        };
        set_limits(&keys, &scope).await?;
        print(
            self.target.json,
            &json!({"id": id, "added": added, "project": project, "model": model}),
            || {
                let what = if added { "added" } else { "is there already" };
                let per_day =
                    self.rpd.map_or_else(|| "no daily limit".to_owned(), |rpd| format!("{rpd} a day"));
                format!("{id} {what}; {project} may call {model} {} times a minute, {per_day}", self.rpm)
            },
        );
        Ok(())
    }
}

/// The secret: all of standard input, so that it is in no history and no process list.
fn read_secret() -> anyhow::Result<Secret> {
    let mut text = String::new();
    std::io::stdin().lock().take(4_096).read_to_string(&mut text).context("standard input cannot be read")?;
    Secret::parse(&text).map_err(anyhow::Error::msg)
}

async fn set_limits(keys: &KeyTable, scope: &Scope) -> anyhow::Result<()> {
    for _ in 0..5 {
        if keys.add_scope(scope).await? == KeyWrite::Applied {
            return Ok(());
        }
        let there = keys.scopes(scope.provider, &scope.model).await?;
        let Some(there) = there.into_iter().find(|there| there.project == scope.project) else { continue };
        let limits = (scope.requests_per_minute, scope.requests_per_day);
        if (there.requests_per_minute, there.requests_per_day) == limits
            || is_applied(&keys.set_scope_limits(&there, limits.0, limits.1).await?)
        {
            return Ok(());
        }
    }
    bail!("the limits are being written by others without pause: try again")
}

/// Every scope that some key of the pool may use.
async fn scopes(keys: &KeyTable, all: &[ApiKey]) -> anyhow::Result<Vec<Scope>> {
    let mut scopes = Vec::new();
    for scope in keys.all_scopes().await? {
        if all.iter().any(|key| key.provider == scope.provider && key.project == scope.project) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

async fn list(target: &Target) -> anyhow::Result<()> {
    let stores = target.stores().await?;
    let (keys, quota_minute) = (stores.keys, stores.quota_minute);
    let all = keys.keys().await?;
    let scopes = scopes(&keys, &all).await?;
    let at = now();
    let value: Vec<_> = all
        .iter()
        .map(|key| {
            let limits: Vec<_> = scopes
                .iter()
                .filter(|scope| is_of(scope, key))
                .map(|scope| {
                    let (minute, day) = used(&scope.usage, at, quota_minute);
                    json!({
                        "model": scope.model, "requests_per_minute": scope.requests_per_minute,
                        "requests_per_day": scope.requests_per_day, "used_this_minute": minute, "used_today": day,
                        "state": state_at(scope.state, at), "standing": scope.standing,
                        "free_at": free_at(scope, at, quota_minute),
                    })
                })
                .collect();
            json!({
                "id": key.id, "provider": key.provider, "project": key.project, "account": key.account,
                "state": key.state, "standing": key.standing, "probe": key.probe, "scopes": limits,
            })
        })
        .collect();
    print(target.json, &json!(value), || words(&all, &scopes, at, quota_minute));
    Ok(())
}

fn is_of(scope: &Scope, key: &ApiKey) -> bool {
    scope.provider == key.provider && scope.project == key.project
}

/// When the scope has a call again; `None` when only a person can tell.
fn free_at(scope: &Scope, at: Timestamp, quota_minute: Duration) -> Option<Timestamp> {
    Calendar::of(scope, at, quota_minute).map(|calendar| calendar.peek())
}

fn words(keys: &[ApiKey], scopes: &[Scope], at: Timestamp, quota_minute: Duration) -> String {
    if keys.is_empty() {
        return "The pool has no keys. Add one: darkroom keys add --provider gemini --project P --model M --rpm N < secret"
            .to_owned();
    }
    let mut rows = Vec::new();
    for key in keys {
        let about = [key.id.to_string(), key.provider.to_string(), key.project.to_string()];
        let mine: Vec<_> = scopes.iter().filter(|scope| is_of(scope, key)).collect();
        if mine.is_empty() {
            let no_quota = ["-", &key_state(key, at), "none: add it with --model and --rpm", "-", "-", "-"];
            rows.push(about.into_iter().chain(no_quota.map(str::to_owned)).collect());
            continue;
        }
        for scope in mine {
            let (minute, day) = used(&scope.usage, at, quota_minute);
            let per_day = scope.requests_per_day.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
            let quota = [
                scope.model.to_string(),
                key_state(key, at),
                scope_state(scope, at),
                format!("{minute}/{}", scope.requests_per_minute),
                format!("{day}/{per_day}"),
                free(key, free_at(scope, at, quota_minute), at),
            ];
            rows.push(about.iter().cloned().chain(quota).collect());
        }
    }
    table(&["key", "provider", "project", "model", "key is", "quota is", "minute", "day", "free"], &rows)
}

/// When a call may be made again.
fn free(key: &ApiKey, free_at: Option<Timestamp>, at: Timestamp) -> String {
    match free_at.filter(|_| key.state == KeyState::Active) {
        None => "after `keys enable`".to_owned(),
        Some(free_at) if free_at <= at => "now".to_owned(),
        Some(free_at) => format!("in {}", readable(free_at.since(at))),
    }
}

fn key_state(key: &ApiKey, at: Timestamp) -> String {
    let state = match key.state {
        KeyState::Active => standing("active", key.standing, at),
        KeyState::Disabled { reason, at } => {
            let why = match reason {
                KeyDisabled::ByOperator => "disabled by an operator",
                KeyDisabled::Invalid => "invalid",
                KeyDisabled::Billing => "without billing",
                KeyDisabled::Suspended => "suspended",
                KeyDisabled::AccountParked => "parked: its account must pay",
                KeyDisabled::Unreadable => "unreadable: remove it and add it again",
            };
            format!("{why} since {at}")
        }
    };
    match &key.probe {
        None => state,
        Some(probe) => format!("{state}; probed {} ago: {}", readable(at.since(probe.at)), probe.outcome),
    }
}

/// A state, and whether it is known to be so.
fn standing(state: &str, standing: Standing, at: Timestamp) -> String {
    match standing {
        Standing::Proven => state.to_owned(),
        Standing::Unproven { .. } if standing.on_trial(at).is_some() => {
            format!("{state}, first call under way")
        }
        Standing::Unproven { .. } => format!("{state}, not tried yet"),
    }
}

fn scope_state(scope: &Scope, at: Timestamp) -> String {
    use darkroom_core::key::{CoolReason, ScopeDisabled};
    match state_at(scope.state, at) {
        ScopeState::Active => standing("active", scope.standing, at),
        ScopeState::Cooling { reason, until, .. } => {
            let why = match reason {
                CoolReason::RateLimited => "throttled",
                CoolReason::DailyQuota => "day used up",
            };
            format!("{why} for {}", readable(until.since(at)))
        }
        ScopeState::Disabled { reason, at } => {
            let why = match reason {
                ScopeDisabled::ZeroQuota => "zero quota",
                ScopeDisabled::ModelRetired => "model retired",
            };
            format!("{why} since {at}")
        }
    }
}

const fn is_applied<T>(written: &Written<T>) -> bool {
    matches!(written, Written::Applied(_))
}

async fn key_of(keys: &KeyTable, id: &str) -> anyhow::Result<ApiKey> {
    let id = KeyId::parse(id)?;
    keys.key(&id).await?.with_context(|| format!("there is no key {id}: `darkroom keys list` shows all"))
}

/// A person has looked: the key and what its project was barred from are tried again.
async fn enable(id: &str, target: &Target) -> anyhow::Result<()> {
    let keys = target.stores().await?.keys;
    let key = key_of(&keys, id).await?;
    if key.state != KeyState::Active && !is_applied(&keys.set_key_state(&key, KeyState::Active).await?) {
        bail!("the key has changed meanwhile: look at it with `darkroom keys list` and try again");
    }
    let mine = std::slice::from_ref(&key);
    for scope in scopes(&keys, mine).await?.iter().filter(|scope| scope.state != ScopeState::Active) {
        if !is_applied(&keys.set_scope_state(scope, ScopeState::Active).await?) {
            bail!("the quota of {} has changed meanwhile: try again", scope.model);
        }
    }
    print(target.json, &json!({"id": key.id, "state": KeyState::Active}), || format!("{} is active", key.id));
    Ok(())
}

async fn disable(id: &str, target: &Target) -> anyhow::Result<()> {
    let keys = target.stores().await?.keys;
    let key = key_of(&keys, id).await?;
    let state = KeyState::Disabled { reason: KeyDisabled::ByOperator, at: now() };
    if !is_applied(&keys.set_key_state(&key, state).await?) {
        bail!("the key has changed meanwhile: look at it with `darkroom keys list` and try again");
    }
    print(target.json, &json!({"id": key.id, "state": state}), || format!("{} is disabled", key.id));
    Ok(())
}

/// A worker that is alive has answered by then.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);
/// From one look at the keys to the next.
const PROBE_LOOK: Duration = Duration::from_millis(200);

async fn probe(id: Option<&str>, target: &Target) -> anyhow::Result<()> {
    let stores = target.stores().await?;
    let keys = if let Some(id) = id {
        vec![key_of(&stores.keys, id).await?]
    } else {
        let mut keys = stores.keys.keys().await?;
        keys.retain(|key| key.state == KeyState::Active);
        keys
    };
    let asked_at = now();
    for key in &keys {
        let message = Message::Probe(ProbeMessage::new(key.id.clone()));
        stores.sweep.queue.send(&message, Duration::ZERO).await?;
    }
    let answered = |key: &&ApiKey| key.probe.as_ref().is_some_and(|probe| probe.at >= asked_at);
    let probed = loop {
        let mut probed = stores.keys.keys().await?;
        probed.retain(|key| keys.iter().any(|asked| asked.id == key.id));
        let answers = probed.iter().filter(answered).count();
        if answers == probed.len() {
            break probed;
        }
        if now().since(asked_at) > PROBE_PATIENCE {
            bail!(
                "{answers} of {} keys were probed in {} s: is a worker running? `darkroom keys list` shows what comes later",
                probed.len(),
                PROBE_PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(PROBE_LOOK).await;
    };
    let outcome = |key: &ApiKey| key.probe.as_ref().map(|probe| probe.outcome.clone()).unwrap_or_default();
    let value: Vec<_> =
        probed.iter().map(|key| json!({"id": key.id, "probe": key.probe, "state": key.state})).collect();
    print(target.json, &json!(value), || {
        let row = |key: &ApiKey| vec![key.id.to_string(), outcome(key), key_state(key, now())];
        let rows: Vec<_> = probed.iter().map(row).collect();
        if rows.is_empty() {
            "No key is in use.".to_owned()
        } else {
            table(&["key", "probe", "key is"], &rows)
        }
    });
    Ok(())
}

async fn remove(id: &str, target: &Target) -> anyhow::Result<()> {
    let keys = target.stores().await?.keys;
    let key = key_of(&keys, id).await?;
    keys.remove_key(&key).await?;
    print(target.json, &json!({"id": key.id, "removed": true}), || {
        format!("{} is removed. The project's limits stay for its other keys.", key.id)
    });
    Ok(())
}
