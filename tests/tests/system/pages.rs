//! The pages that show how the API is called: their commands are run by a shell against a running system, and what they show of
//! the answers is what came.
//!
//! A block of `sh` that speaks to the local system is run, in the order of the page. A block of `json` (a body) or `http` (with
//! `curl -i`: status, headers and body) after it is what it printed, but for what is new each time. After a change,
//! `DARKROOM_WRITE_PAGES=1` writes what came into the page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use darkroom_tests::openapi::NOT_TOLD;
use darkroom_tests::stack::{TestStack, function_binaries};
use darkroom_tests::stand_in_gemini::{Latency, Settings, StandIn};
use serde_json::{Map, Value, json};

/// Where the pages say that the system is.
const HERE: &str = "http://127.0.0.1:3000";

/// How the pages start the operator's command.
const COMMAND: &str = "cargo run --release -- ";

/// How a block begins that needs no system but its stores.
const GRANT: &str = "cargo run --release -- tokens ";

/// Members that differ from one run to the next, beside points in time.
const NEW_EACH_TIME: [&str; 17] = [
    "bytes",
    "download_url",
    "end_date",
    "eta_seconds",
    "image_url",
    "oldest_pending_seconds",
    "seconds",
    "secret",
    "sha256",
    "start_date",
    "sweeper",
    "ticket",
    "tries",
    "upload_id",
    "url",
    "version",
    "x-amz-checksum-sha256",
];

/// What the shell knows beside its own: an answer that refuses fails the command.
const PRELUDE: &str = r#"
darkroom() { "$DARKROOM_BINARY" "$@" --data "$DARKROOM_FOLDER"; }
curl() { command curl --fail-with-body "$@"; }
"#;

/// One command of a page, and what is shown of its answer.
#[derive(Debug)]
struct Example {
    script: String,
    shown: Option<Shown>,
}

/// A block with an answer.
#[derive(Debug)]
struct Shown {
    /// `json` or `http`.
    kind: String,
    text: String,
    /// Its lines on the page.
    lines: std::ops::Range<usize>,
}

/// The commands of a page that speak to the local system.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let lines: Vec<_> = page.lines().collect();
    // What the last block was: an answer belongs to the command right before it.
    let mut follows = false;
    for (number, line) in lines.iter().enumerate() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let Some((kind, start)) = open.take() else {
            open = Some((kind.to_owned(), number + 1));
            continue;
        };
        let text = lines[start..number].join("\n");
        let is_shown = kind == "json" || kind == "http";
        if is_shown && follows {
            examples.last_mut().unwrap().shown = Some(Shown { kind, text, lines: start..number });
            follows = false;
            continue;
        }
        follows = kind == "sh" && (text.contains(HERE) || text.starts_with(GRANT));
        if follows {
            examples.push(Example { script: text, shown: None });
        }
    }
    examples
}

/// An answer, without what is new each time.
#[derive(Debug, PartialEq)]
struct Printed {
    /// Of `curl -i`.
    status: Option<u16>,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Printed {
    fn read(kind: &str, text: &str) -> anyhow::Result<Self> {
        if kind == "json" {
            let body = serde_json::from_str(text).with_context(|| text.to_owned())?;
            return Ok(Self { status: None, headers: BTreeMap::new(), body });
        }
        let text = text.replace('\r', "");
        let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let mut head = head.lines();
        let status = head.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = head.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let told = |name: &str| name == "content-type" || !NOT_TOLD.contains(&name);
        let body = if body.trim().is_empty() { Value::Null } else { serde_json::from_str(body)? };
        Ok(Self {
            status: Some(status.context("no status")?),
            headers: headers.filter(|(name, _)| told(name)).collect(),
            body,
        })
    }

    fn is_refusal(&self) -> bool {
        self.status.is_some_and(|status| status >= 400)
            || self.body["status"].as_u64().is_some_and(|status| status >= 400)
    }

    fn without_what_is_new(mut self) -> Self {
        forget(&mut self.body);
        if let Some(tag) = self.headers.get_mut("etag") {
            *tag = tag.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        }
        self
    }

    /// As a page shows it: each member of the body in a line of its own, and so each entry of a list.
    fn shown(&self) -> String {
        let body = lines_of(&self.body);
        let Some(status) = self.status else { return body };
        let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let mut lines = vec![format!("HTTP/1.1 {status} {}", reason.unwrap_or_default())];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if !self.body.is_null() {
            lines.extend([String::new(), body]);
        }
        lines.join("\n")
    }
}

fn lines_of(body: &Value) -> String {
    let mut body = body.clone();
    cut_links(&mut body);
    let Some(members) = body.as_object() else { return body.to_string() };
    let of_member = |(name, value): (&String, &Value)| match value.as_array() {
        Some(entries) if !entries.is_empty() => {
            let entries: Vec<_> = entries.iter().map(|entry| format!("    {entry}")).collect();
            format!("  {}: [\n{}\n  ]", json!(name), entries.join(",\n"))
        }
        _ => format!("  {}: {value}", json!(name)),
    };
    format!("{{\n{}\n}}", members.iter().map(of_member).collect::<Vec<_>>().join(",\n"))
}

/// Nobody reads a signature.
fn cut_links(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(cut_links),
        Value::Object(members) => members.values_mut().for_each(cut_links),
        Value::String(text) => {
            if let Some((link, _)) = text.split_once("?x-id=") {
                *text = format!("{link}?\u{2026}");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Leaves of what is new each time its type alone.
fn forget(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(forget),
        Value::Object(members) => forget_members(members),
        Value::String(text) if is_time(text) => "a time".clone_into(text),
        // Those of jobs are derived; these are random, or derived from the time.
        Value::String(text) if text.starts_with("whk_") || text.starts_with("msg_") => {
            "an id".clone_into(text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn forget_members(members: &mut Map<String, Value>) {
    // The id of a job that tries another one again is derived from when that one was submitted.
    if members.get("retry_of").is_some_and(Value::is_string) {
        members.insert("id".to_owned(), json!("an id"));
    }
    for (name, value) in members {
        match value {
            Value::Number(_) if NEW_EACH_TIME.contains(&name.as_str()) => *value = json!("a number"),
            Value::String(_) if NEW_EACH_TIME.contains(&name.as_str()) => *value = json!("a text"),
            _ => forget(value),
        }
    }
}

fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.as_bytes()[4] == b'-'
}

/// A page and the system that it is tried on.
struct Tried<'a> {
    stack: &'a TestStack,
    binary: std::path::PathBuf,
}

impl Tried<'_> {
    async fn run(&self, script: &str) -> anyhow::Result<Output> {
        let script = script.replace(HERE, &self.stack.system.running().api_url).replace(COMMAND, "darkroom ");
        let shell = tokio::process::Command::new("sh")
            .args(["-e", "-c", &format!("{PRELUDE}{script}")])
            .current_dir(self.stack.folder())
            .env("DARKROOM_BINARY", &self.binary)
            .env("DARKROOM_FOLDER", self.stack.folder())
            .env_remove("CARGO")
            .kill_on_drop(true)
            .output();
        Ok(tokio::time::timeout(Duration::from_secs(120), shell).await??)
    }

    /// What an example printed; `None` when it shows nothing.
    async fn printed(&self, example: &Example) -> anyhow::Result<Option<Printed>> {
        let output = self.run(&example.script).await?;
        let text = String::from_utf8(output.stdout)?;
        let said = || format!("{}\n{text}\n{}", example.script, String::from_utf8_lossy(&output.stderr));
        let printed = match &example.shown {
            None => None,
            Some(shown) => Some(Printed::read(&shown.kind, &text).with_context(said)?),
        };
        let refused = printed.as_ref().is_some_and(Printed::is_refusal);
        ensure!(output.status.success() != refused, "{}: {}", output.status, said());
        Ok(printed)
    }
}

/// Runs a page, and compares or writes.
async fn page(name: &str, least: usize) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name);
    let text = std::fs::read_to_string(&path)?;
    let examples = examples(&text);
    assert!(examples.len() >= least, "{name}: {examples:#?}");
    let gemini = StandIn::start(Settings {
        latency: Latency::None,
        accept_unknown_keys: true,
        ..Settings::default()
    })?;
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), gemini.base_url());
    })
    .await?;
    let tried = Tried { stack: &stack, binary: function_binaries().await?.join("darkroom") };
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let is_written = std::env::var_os("DARKROOM_WRITE_PAGES").is_some();
    let mut written = Vec::new();
    for example in &examples {
        let printed = tried.printed(example).await.with_context(|| name.to_owned())?;
        let (Some(printed), Some(shown)) = (printed, &example.shown) else { continue };
        if is_written {
            written.push((shown.lines.clone(), printed.shown()));
            continue;
        }
        let promised = Printed::read(&shown.kind, &shown.text)?.without_what_is_new();
        assert_eq!(printed.without_what_is_new(), promised, "{name}: {}", example.script);
    }
    for (range, text) in written.into_iter().rev() {
        lines.splice(range, text.lines().map(str::to_owned));
    }
    for job in stack.stores()?.jobs.all_live().await? {
        stack.app.settled(job.user.as_str(), job.id.as_str()).await?;
    }
    if is_written {
        std::fs::write(&path, lines.join("\n") + "\n")?;
    }
    stack.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_through_shows_what_is_answered() -> anyhow::Result<()> {
    page("docs/api.md", 15).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_is_answered() -> anyhow::Result<()> {
    page("README.md", 1).await
}

/// Each route of the contract is called on the page.
#[test]
fn the_walk_through_calls_every_route() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    let examples = examples(&text);
    let document = darkroom_tests::openapi::Document::read().unwrap();
    for operation in document.operations() {
        let calls = |example: &&Example| {
            example.shown.is_some() && is_call_of(&example.script, &operation.method, &operation.path)
        };
        assert!(
            examples.iter().any(|example| calls(&example)),
            "docs/api.md never shows {}",
            operation.route
        );
    }
}

/// Whether a command calls this route.
fn is_call_of(script: &str, method: &str, path: &str) -> bool {
    let posts = script.contains(" -d ") || script.contains(" -X POST");
    let named = script.split_once(" -X ").and_then(|(_, rest)| rest.split_whitespace().next());
    let called = named.unwrap_or(if posts { "POST" } else { "GET" });
    let Some((_, address)) = script.split_once(HERE) else { return false };
    let address = address.split(['\n', ' ', '?', '\'', '"']).next().unwrap_or_default();
    let (wanted, found): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), address.trim_end().split('/').collect());
    let fits = |(wanted, found): (&&str, &&str)| wanted == found || wanted.starts_with('{');
    called == method && wanted.len() == found.len() && wanted.iter().zip(&found).all(fits)
}

#[test]
fn a_page_is_taken_apart_into_commands_and_answers() {
    let page = "# A\n```sh\ncurl -s http://127.0.0.1:3000/a\n```\nwords\n```json\n{\"a\":1}\n```\n```json\n{}\n```\n```sh\nls\n```\n\
                ```sh\ncargo run --release -- tokens grant a 1\n```\n";
    let examples = examples(page);
    assert_eq!(examples.len(), 2, "{examples:#?}");
    let shown = examples[0].shown.as_ref().unwrap();
    assert_eq!((shown.kind.as_str(), shown.text.as_str(), shown.lines.clone()), ("json", "{\"a\":1}", 6..7));
    assert!(examples[1].shown.is_none());
}

#[test]
fn only_what_is_new_each_time_may_differ() {
    let read = |text: &str| Printed::read("http", text).unwrap().without_what_is_new();
    let one = "HTTP/1.1 200 OK\r\nETag: \"v3-t298-en\"\r\nDate: now\r\n\r\n{\"id\":\"job_a\",\"created_at\":\"2026-11-22T10:00:00Z\",\"bytes\":7}";
    let same = "HTTP/1.1 200 OK\netag: \"v3-t299-en\"\n\n{\"id\":\"job_a\",\"created_at\":\"2026-11-23T10:00:01.5Z\",\"bytes\":8}";
    assert_eq!(read(one), read(same));
    for (part, other) in [
        ("200", "404"),
        ("-en", "-tr"),
        ("job_a", "job_b"),
        ("\"bytes\":8", "\"bytes\":null"),
        ("created_at", "at"),
        ("etag", "tag"),
        ("2026-11-23T10:00:01.5Z", "soon"),
    ] {
        assert!(same.contains(part), "{part}");
        assert_ne!(read(one), read(&same.replace(part, other)), "{part}");
    }
    for (script, method, path, fits) in [
        ("curl -s http://127.0.0.1:3000/v1/jobs -d '{}'", "POST", "/v1/jobs", true),
        ("curl -s http://127.0.0.1:3000/v1/jobs -d '{}'", "GET", "/v1/jobs", false),
        ("curl -s 'http://127.0.0.1:3000/v1/jobs?limit=1'", "GET", "/v1/jobs", true),
        ("curl -s http://127.0.0.1:3000/v1/jobs/job_a", "GET", "/v1/jobs/{id}", true),
        ("curl -s http://127.0.0.1:3000/v1/jobs/job_a", "GET", "/v1/jobs", false),
        ("curl -s -X DELETE http://127.0.0.1:3000/v1/jobs/job_a", "DELETE", "/v1/jobs/{id}", true),
    ] {
        assert_eq!(is_call_of(script, method, path), fits, "{script}");
    }
}
