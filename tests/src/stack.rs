//! A whole local system for one test, as its user sees it: HTTP, the operator's stores, and the functions' processes.
//!
//! [`TestStack::finish`] ends every test: it fails when a job is left behind or the books do not balance.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use darkroom::audit::{Audit, audit};
use darkroom::binaries;
use darkroom::connect::Stores;
use darkroom::local_system::{LocalSettings, LocalSystem, function_names};
use darkroom_core::id::UserId;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;

/// Waiting for a job ends after this.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One local system.
pub struct TestStack {
    /// The system.
    pub system: LocalSystem,
    /// An app's side.
    pub app: App,
    folder: TempDir,
}

/// An app: plain HTTP, as any user.
#[derive(Clone)]
pub struct App {
    http: reqwest::Client,
    url: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The JSON body; null when there is none.
    pub body: Value,
}

impl Answer {
    /// A text field of the body; empty when it is none.
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    /// A header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// The folder of the functions' binaries, built once per test program.
///
/// # Errors
/// When they do not build.
pub async fn function_binaries() -> anyhow::Result<&'static Path> {
    static BUILT: OnceCell<std::path::PathBuf> = OnceCell::const_new();
    BUILT
        .get_or_try_init(|| async { binaries::up_to_date(&function_names()?).await })
        .await
        .map(std::path::PathBuf::as_path)
}

impl TestStack {
    /// A system with the template's settings, on a folder of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// A system whose settings a test changes.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_with(change: impl FnOnce(&mut LocalSettings)) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut settings = LocalSettings::new(folder.path(), function_binaries().await?);
        change(&mut settings);
        let system = LocalSystem::start(settings).await?;
        let app = App::new(&system.running().api_url)?;
        Ok(Self { system, app, folder })
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The operator's stores.
    ///
    /// # Errors
    /// Never, once the system has started.
    pub fn stores(&self) -> anyhow::Result<Stores> {
        self.system.stores()
    }

    /// Gives a user tokens.
    ///
    /// # Errors
    /// When the ledger refuses.
    pub async fn grant(&self, user: &str, tokens: u64) -> anyhow::Result<()> {
        let op_id = darkroom_aws::random_stamp();
        let user = UserId::parse(user)?;
        self.stores()?.ledger.grant(&user, tokens, op_id.as_str(), darkroom_aws::now()).await?;
        Ok(())
    }

    /// Runs the operator's command on it, with this on its standard input.
    ///
    /// # Errors
    /// When it cannot be run; what it says and how it ends is in its output.
    pub async fn command(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut child = tokio::process::Command::new(function_binaries().await?.join("darkroom"))
            .args(arguments)
            .arg("--data")
            .arg(self.folder())
            .env("RUST_LOG", "debug")
            .env_remove("CARGO")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        Ok(child.wait_with_output().await?)
    }

    /// The audit's findings.
    ///
    /// # Errors
    /// When the stores do not answer.
    pub async fn audit(&self) -> anyhow::Result<Audit> {
        let stores = self.stores()?;
        Ok(audit(&stores.jobs, &stores.ledger).await?)
    }

    /// Waits until a function's log has a line that holds all of these texts.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn logged(&self, function: &str, texts: &[&str]) -> anyhow::Result<String> {
        let file = self.folder().join("logs").join(format!("darkroom-local-{function}.log"));
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(line) = log.lines().find(|line| texts.iter().all(|text| line.contains(text))) {
                return Ok(line.to_owned());
            }
            ensure!(started.elapsed() < PATIENCE, "{function} never logged {texts:?}:\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the test: every job is settled, the books balance, the system stops.
    ///
    /// # Errors
    /// What is left behind or does not add up.
    pub async fn finish(self) -> anyhow::Result<Audit> {
        let live = self.stores()?.jobs.all_live().await?;
        let left: Vec<_> = live.iter().map(|job| format!("{} {}", job.id, job.status().as_str())).collect();
        ensure!(left.is_empty(), "jobs were left behind: {left:?}");
        let audit = self.audit().await?;
        ensure!(audit.faults.is_empty(), "the books do not balance: {:?}", audit.faults);
        self.system.shutdown().await;
        Ok(audit)
    }
}

/// A client of servers on this machine: it trusts no certificate.
///
/// # Errors
/// Never, unless the HTTP client cannot be made.
pub fn plain_client() -> anyhow::Result<reqwest::Client> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build()?)
}

impl App {
    /// An app of the API at this URL.
    ///
    /// # Errors
    /// Never, unless the HTTP client cannot be made.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { http: plain_client()?, url: url.to_owned() })
    }

    /// A request as it stands: method, path, headers, body.
    ///
    /// # Errors
    /// When no answer comes, or one whose body is no JSON.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let bytes = answer.bytes().await?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&bytes)))?
        };
        Ok(Answer { status, headers, body })
    }

    /// Submits a job.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn submit(&self, user: &str, key: &str, body: &Value) -> anyhow::Result<Answer> {
        let authorization = format!("Bearer {user}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        self.send("POST", "/v1/jobs", &headers, Some(body.to_string().into_bytes())).await
    }

    /// Submits a batch.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn submit_batch(&self, user: &str, key: &str, body: &Value) -> anyhow::Result<Answer> {
        let authorization = format!("Bearer {user}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        self.send("POST", "/v1/batches", &headers, Some(body.to_string().into_bytes())).await
    }

    /// Promises bytes and is given a place for them, as a user.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn begin_upload(&self, user: &str, content_type: &str, bytes: &[u8]) -> anyhow::Result<Answer> {
        let sha256 = HEXLOWER.encode(&Sha256::digest(bytes));
        let kind = if content_type.starts_with("image/") { "reference" } else { "batch" };
        let promise =
            json!({"kind": kind, "content_type": content_type, "bytes": bytes.len(), "sha256": sha256});
        let authorization = format!("Bearer {user}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.send("POST", "/v1/uploads", &headers, Some(promise.to_string().into_bytes())).await
    }

    /// Puts bytes at a place that was given; the status, and what was said.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn put(&self, place: &Answer, bytes: &[u8]) -> anyhow::Result<(u16, String)> {
        let mut request = self.http.put(place.text("url")).body(bytes.to_vec());
        for (name, value) in place.body["headers"].as_object().into_iter().flatten() {
            request = request.header(name, value.as_str().unwrap_or_default());
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Uploads bytes as a user; the upload's id.
    ///
    /// # Errors
    /// When they are not taken.
    pub async fn upload(&self, user: &str, content_type: &str, bytes: &[u8]) -> anyhow::Result<String> {
        let place = self.begin_upload(user, content_type, bytes).await?;
        ensure!(place.status == 201, "{} {}", place.status, place.body);
        let (status, text) = self.put(&place, bytes).await?;
        ensure!(status == 200, "{status} {text}");
        Ok(place.text("upload_id").to_owned())
    }

    /// Reads a path as a user.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn get(&self, user: &str, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, &[("authorization", &format!("Bearer {user}"))], None).await
    }

    /// Posts nothing to a path as a user.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, user: &str, path: &str) -> anyhow::Result<Answer> {
        self.send("POST", path, &[("authorization", &format!("Bearer {user}"))], None).await
    }

    /// Merges a patch into a job's metadata as a user.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn patch(&self, user: &str, id: &str, changes: &Value) -> anyhow::Result<Answer> {
        let authorization = format!("Bearer {user}");
        let headers =
            [("authorization", authorization.as_str()), ("content-type", "application/merge-patch+json")];
        let path = format!("/v1/jobs/{id}/metadata");
        self.send("PATCH", &path, &headers, Some(changes.to_string().into_bytes())).await
    }

    /// Deletes a path as a user.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn delete(&self, user: &str, path: &str) -> anyhow::Result<Answer> {
        self.send("DELETE", path, &[("authorization", &format!("Bearer {user}"))], None).await
    }

    /// Waits until a job has ended and returns it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn settled(&self, user: &str, id: &str) -> anyhow::Result<Value> {
        let started = Instant::now();
        loop {
            let job = self.get(user, &format!("/v1/jobs/{id}?wait=5")).await?;
            if job.status == 200 && !job.body["settled"].is_null() {
                return Ok(job.body);
            }
            if started.elapsed() > PATIENCE {
                bail!("job {id} has not ended: {} {}", job.status, job.body);
            }
        }
    }

    /// The bytes behind a link.
    ///
    /// # Errors
    /// When the link does not answer with 200.
    pub async fn download(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(url).send().await?;
        ensure!(answer.status() == 200, "{} for {url}", answer.status());
        Ok(answer.bytes().await?.to_vec())
    }
}
