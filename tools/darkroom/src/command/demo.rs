//! `darkroom demo`: the main job once, from prompt to picture and books.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use darkroom_aws::now;
use darkroom_core::id::UserId;
use serde_json::{Value, json};

use crate::binaries;
use crate::local_system::{LocalSettings, LocalSystem, function_names};
use crate::output::line;

/// One picture.
#[derive(Args)]
pub(super) struct Demo {
    /// What to draw.
    prompt: String,
    /// 1:1, 2:3, 3:2, 3:4, 4:3, 4:5, 5:4, 9:16, 16:9 or 21:9.
    #[arg(long, default_value = "16:9")]
    aspect_ratio: String,
    /// 1K or 2K.
    #[arg(long, default_value = "1K")]
    size: String,
    /// Where the picture is written; darkroom-….png in this folder when absent.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const USER: &str = "demo";
const TOKENS: u64 = 10;
/// The demo gives up after this: the picture takes well under a second.
const PATIENCE: Duration = Duration::from_secs(60);

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let binaries = binaries::up_to_date(&function_names()?).await?;
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let system = LocalSystem::start(LocalSettings::new(folder.path(), binaries)).await?;
        line(&format!("A local system runs at {} until the picture is there.", system.running().api_url));
        let drawn = self.draw(&system).await;
        system.shutdown().await;
        drawn
    }

    async fn draw(&self, system: &LocalSystem) -> anyhow::Result<()> {
        let user = UserId::parse(USER)?;
        system.stores()?.ledger.grant(&user, TOKENS, "demo", now()).await?;
        line(&format!("Granted {TOKENS} tokens to {USER}."));
        let client = Client::new(&system.running().api_url)?;
        let body = json!({"prompt": self.prompt, "aspect_ratio": self.aspect_ratio, "size": self.size});
        let job = client.submit(&body).await?;
        line(&format!("POST /v1/jobs → 202 {} (price {})", text(&job, "id"), job["cost"]));
        let job = client.watch(&job).await?;
        if job["status"] != "draft" {
            bail!("no picture came: {}", job["error"]);
        }
        let bytes = client.image(&job).await?;
        let path = self.output.clone().unwrap_or_else(|| default_name(&job));
        std::fs::write(&path, &bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        let image = &job["image"];
        let shown = std::path::absolute(&path).unwrap_or(path);
        line(&format!(
            "Picture: {} ({} × {}, {} bytes)",
            shown.display(),
            image["width"],
            image["height"],
            bytes.len()
        ));
        let account = client.get("/v1/account").await?;
        line(&books(&account)?);
        Ok(())
    }
}

/// Proves on the printed figures that nothing was lost.
fn books(account: &Value) -> anyhow::Result<String> {
    let figure = |name: &str| account[name].as_u64().with_context(|| format!("the account has no {name}"));
    let (granted, available) = (figure("granted")?, figure("available")?);
    let (held, spent) = (figure("held")?, figure("spent")?);
    if granted != available + held + spent {
        bail!("the books do not balance: {account}");
    }
    Ok(format!("Account: granted {granted} = available {available} + held {held} + spent {spent}"))
}

fn default_name(job: &Value) -> PathBuf {
    let id = text(job, "id");
    let short: String = id.chars().skip(4).take(8).collect();
    Path::new(&format!("darkroom-{short}.png")).to_owned()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// An app's side: plain HTTP.
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn new(url: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(plain_tls()?).build()?;
        Ok(Self { http, url: url.to_owned() })
    }

    async fn submit(&self, body: &Value) -> anyhow::Result<Value> {
        let sent = self
            .http
            .post(format!("{}/v1/jobs", self.url))
            .bearer_auth(USER)
            .header("Idempotency-Key", "demo")
            .json(body)
            .send()
            .await?;
        let status = sent.status();
        let answer: Value = sent.json().await?;
        if status != 202 {
            bail!("the submission was refused: {} {}", text(&answer, "detail"), answer["errors"]);
        }
        Ok(answer)
    }

    /// Prints each change until the job has ended.
    async fn watch(&self, job: &Value) -> anyhow::Result<Value> {
        let path = format!("/v1/jobs/{}", text(job, "id"));
        let started = std::time::Instant::now();
        let mut shown = String::new();
        loop {
            // The first look is at once: the picture takes less than a second, and its place in the queue is worth seeing.
            let wait = if shown.is_empty() { "" } else { "?wait=5" };
            let job = self.get(&format!("{path}{wait}")).await?;
            let position = match &job["queue_position"] {
                Value::Null => String::new(),
                place => format!(", position {place}"),
            };
            let state = format!("{}{position}, progress {} %", text(&job, "status"), job["progress"]);
            if state != shown {
                line(&format!("  {:>5.2} s  {state}", started.elapsed().as_secs_f64()));
                shown = state;
            }
            if !job["settled"].is_null() {
                return Ok(job);
            }
            if started.elapsed() > PATIENCE {
                bail!("the job did not end within {} s: look at the logs", PATIENCE.as_secs());
            }
        }
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).bearer_auth(USER).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    async fn image(&self, job: &Value) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(text(job, "image_url")).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
    }
}

/// The demo speaks plain HTTP on loopback; reqwest wants a TLS configuration all the same.
fn plain_tls() -> anyhow::Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}
