//! One function under AWS's Lambda Runtime Interface Emulator, which the SAM CLI brings along.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use darkroom::connect::{LOCAL_ACCESS_KEY, LOCAL_SECRET_KEY};
use darkroom_tests::stack::{TestStack, function_binaries, plain_client};
use darkroom_tests::stores;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, free_port, packages, tool, workspace};

/// An event of `tests/fixtures/events`: as AWS sends them, and as `sam local invoke --event` takes them.
///
/// # Errors
/// When there is no such file.
pub(crate) fn event(name: &str) -> anyhow::Result<Vec<u8>> {
    let file = workspace().join("tests/fixtures/events").join(name);
    std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))
}

/// A function's real binary, asked over the emulator's HTTP.
pub(crate) struct Emulator {
    http: reqwest::Client,
    url: String,
    server: Server,
    _folder: TempDir,
}

fn program() -> anyhow::Result<PathBuf> {
    let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let file = format!("samcli/local/rapid/aws-lambda-rie-{processor}");
    tool("ci-tools", &format!("{}/{file}", packages("ci-tools")?))
}

impl Emulator {
    /// Starts a function with the template's variables on a local system's stores. These variables stand over the
    /// template's.
    ///
    /// # Errors
    /// When the emulator is missing or does not start.
    pub(crate) async fn start(
        system: &TestStack,
        function: &str,
        over: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, runtime_port) = (free_port()?, free_port()?);
        let arguments = [
            "--runtime-interface-emulator-address".to_owned(),
            format!("127.0.0.1:{port}"),
            "--runtime-api-address".to_owned(),
            format!("127.0.0.1:{runtime_port}"),
            function_binaries().await?.join(function).display().to_string(),
        ];
        let mut variables = variables(system, function)?;
        variables.extend(over.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let server = Server::start(&program()?, &arguments, variables, folder.path(), port).await?;
        let url = format!("http://127.0.0.1:{port}/2015-03-31/functions/function/invocations");
        Ok(Self { http: plain_client()?, url, server, _folder: folder })
    }

    /// Sends an event as it stands and returns what the function answers, an error included.
    ///
    /// # Errors
    /// When the emulator answers with anything but 200 and JSON: so it does when the function's process ended.
    pub(crate) async fn invoke(&self, event: Vec<u8>) -> anyhow::Result<Value> {
        let answer = self.http.post(&self.url).body(event).send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        let text = String::from_utf8_lossy(&body);
        anyhow::ensure!(status == 200, "{status} {text}\n{}", self.server.log());
        serde_json::from_slice(&body).with_context(|| format!("{text}\n{}", self.server.log()))
    }

    /// How often the function's process was started: more than once is a crash.
    pub(crate) fn starts(&self) -> usize {
        self.server.log().matches("INIT START").count()
    }
}

/// What Lambda gives a function: the template's variables, credentials, region, memory and time-out; and where the local stores
/// are.
fn variables(system: &TestStack, function: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let running = system.system.running();
    let stack = stores::stack("darkroom-local", &running.sqs_url)?;
    let mut functions = stack.functions.into_iter();
    let function =
        functions.find(|one| one.binary == function).context("the template has no such function")?;
    let mut variables = function.environment;
    let (timeout, memory) = (function.timeout.as_secs().to_string(), function.memory_mb.to_string());
    let around = [
        ("AWS_ACCESS_KEY_ID", LOCAL_ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", LOCAL_SECRET_KEY),
        ("AWS_REGION", running.region.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", function.name.as_str()),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", timeout.as_str()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.as_str()),
        ("AWS_LAMBDA_LOG_FORMAT", function.logging.format.as_str()),
        ("AWS_LAMBDA_LOG_LEVEL", function.logging.level.as_str()),
        ("AWS_ENDPOINT_URL_DYNAMODB", running.dynamodb_url.as_str()),
        ("AWS_ENDPOINT_URL_KMS", running.kms_url.as_str()),
        ("AWS_ENDPOINT_URL_S3", running.s3_url.as_str()),
        ("AWS_ENDPOINT_URL_SQS", running.sqs_url.as_str()),
    ];
    variables.extend(around.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(variables)
}
