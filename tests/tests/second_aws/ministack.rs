//! An independent emulator of AWS (ministack, MIT), and the template deployed on it by the SAM CLI.
//!
//! What 1.5.33 does: SAM's transform (by aws-sam-translator), tables, queues, keys, bucket, roles, functions, mapping and
//! rule; it runs a `provided.al2023` binary as a process of its own, with its role's credentials. What it leaves out and its
//! API takes, `complete.py` makes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use darkroom::connect::Stores;
use darkroom_aws::clients::Access;
use darkroom_aws::config::Environment;
use darkroom_template::{Stack, Template};
use darkroom_tests::stack::function_binaries;
use darkroom_tests::stores;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Server, free_port, tool, workspace};

/// The stack's name.
const STACK: &str = "dark";
const REGION: &str = "us-east-1";
/// The Python environment that it is installed in: its botocore is another than the SAM CLI's.
pub(crate) const ENVIRONMENT: &str = "ci-ministack";
/// Longer than a deploy has ever taken by far.
const PATIENCE: Duration = Duration::from_secs(150);

/// Whether the emulator asks, at each request, who sends it and what the policies say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policies {
    /// It does not: the template is deployed as it stands.
    Ignored,
    /// It does. Deployed without the conditions that name [`UNKNOWN`] keys, since what they allow would be denied; and without
    /// the bucket's policy, which refuses plain HTTP, as it should.
    Evaluated,
}

/// Condition keys that the emulator knows nothing of.
const UNKNOWN: [&str; 2] = ["dynamodb:LeadingKeys", "kms:EncryptionContext:table"];

/// A running emulator.
pub(crate) struct Ministack {
    url: String,
    policies: Policies,
    server: Server,
    folder: TempDir,
}

impl Ministack {
    /// Starts it, on loopback and in a folder of its own.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub(crate) async fn start(policies: Policies) -> anyhow::Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let url = format!("http://127.0.0.1:{port}");
        let path = folder.path().display().to_string();
        let settings = [
            ("AUTH", if policies == Policies::Evaluated { "true" } else { "false" }),
            ("BIND_HOST", "127.0.0.1"),
            ("MINISTACK_HOST", "127.0.0.1"),
            ("MINISTACK_REGION", REGION),
            ("GATEWAY_PORT", &port.to_string()),
            ("TMPDIR", &path),
            ("STATE_DIR", &format!("{path}/state")),
            ("S3_DATA_DIR", &format!("{path}/s3")),
        ];
        // The functions' processes inherit its environment, and so the endpoints.
        let environment = variables(&settings).chain(access(&url, &path));
        let program = tool(ENVIRONMENT, "bin/ministack")?;
        let server = Server::start(&program, &[], environment, folder.path(), port).await?;
        Ok(Self { url, policies, server, folder })
    }

    /// Deploys the template with these parameters, as `sam deploy` does what `sam build` has left.
    ///
    /// # Errors
    /// When the SAM CLI is not installed, or the stack does not come to be.
    pub(crate) async fn deploy(&self, parameters: &[(&str, &str)]) -> anyhow::Result<()> {
        let template = self.build().await?;
        let mut deploy = Command::new(tool("ci-tools", "bin/sam")?);
        deploy.args(["deploy", "--stack-name", STACK, "--resolve-s3", "--capabilities", "CAPABILITY_IAM"]);
        deploy.arg("--template-file").arg(template).arg("--parameter-overrides");
        deploy.args(parameters.iter().map(|(name, value)| format!("{name}={value}")));
        self.run(&mut deploy).await.context("sam deploy").map(drop)
    }

    /// What `sam build` leaves: a folder per function with its `bootstrap`, and the template that names them. The binaries are
    /// those of this build, not the smaller ones that are deployed.
    async fn build(&self) -> anyhow::Result<PathBuf> {
        let text = std::fs::read_to_string(workspace().join("infra/template.yaml"))?;
        let mut tree = Template::parse(&text)?.tree().clone();
        let globals = tree.pointer_mut("/Globals/Function").and_then(Value::as_object_mut);
        globals.context("the template has no globals")?.remove("CodeUri");
        for function in self.stack()?.functions {
            let name = function.logical_id;
            let folder = self.folder.path().join(&name);
            std::fs::create_dir(&folder)?;
            let binary = function_binaries().await?.join(&function.binary);
            std::fs::copy(binary, folder.join("bootstrap"))?;
            tree["Resources"][&name]["Properties"]["CodeUri"] = Value::from(name.as_str());
        }
        if self.policies == Policies::Evaluated {
            leave_out(&mut tree)?;
        }
        let file = self.folder.path().join("template.json");
        std::fs::write(&file, tree.to_string())?;
        Ok(file)
    }

    /// Makes what the emulator has left out of the stack. Returns the HTTP API's URL.
    ///
    /// # Errors
    /// When its API refuses.
    pub(crate) async fn complete(&self) -> anyhow::Result<String> {
        let mut python = Command::new(tool("ci-tools", "bin/python")?);
        python.arg(script("complete.py")).arg(STACK);
        let output = self.run(&mut python).await?;
        let api = String::from_utf8(output.stdout)?;
        // Its own name for what is `https://{api}.execute-api…` elsewhere.
        Ok(format!("{}/_aws/execute-api/{}/$default", self.url, api.trim()))
    }

    /// Runs the operator's command on the stack, as on a deployed one.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn darkroom(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(function_binaries().await?.join("darkroom"));
        command.args(arguments).args(["--stack", STACK]);
        let output = self.run(&mut command).await?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// How clients of ours reach it.
    ///
    /// # Errors
    /// Never: everything is set.
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        let variables = access(&self.url, "");
        Ok(Access::from_environment(&Environment::from_fn(|name| variables.get(name).cloned()))?)
    }

    /// The operator's stores.
    ///
    /// # Errors
    /// When the template is broken.
    pub(crate) fn stores(&self) -> anyhow::Result<Stores> {
        let functions = self.stack()?.functions;
        let sweeper = functions.into_iter().find(|one| one.binary == "sweeper");
        let variables = sweeper.context("the template has no sweeper")?.environment;
        let queue_url = variables["DARKROOM_QUEUE_URL"].clone();
        Stores::new(&self.access()?, &variables, queue_url, format!("alias/{STACK}-secrets"))
    }

    /// The template as it is deployed here.
    ///
    /// # Errors
    /// When it is broken.
    pub(crate) fn stack(&self) -> anyhow::Result<Stack> {
        stores::stack(STACK, &self.url)
    }

    /// What it has written so far, the functions' log lines included.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    async fn run(&self, command: &mut Command) -> anyhow::Result<Output> {
        let path = self.folder.path().display().to_string();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SAM_CLI_TELEMETRY", "0")
            .envs(access(&self.url, &path))
            .current_dir(self.folder.path())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await??;
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        ensure!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&said), self.log());
        Ok(output)
    }
}

/// See [`Policies::Evaluated`].
fn leave_out(tree: &mut Value) -> anyhow::Result<()> {
    let resources = tree["Resources"].as_object_mut().context("the template has no resources")?;
    resources.remove("ImageBucketPolicy").context("the template has no bucket policy")?;
    let mut left_out = BTreeSet::<&str>::new();
    for policy in resources.values_mut().flat_map(|resource| list(resource, "/Properties/Policies")) {
        for statement in list(policy, "/PolicyDocument/Statement") {
            let condition = statement.get("Condition").map(Value::to_string).unwrap_or_default();
            let unknown: Vec<_> = UNKNOWN.into_iter().filter(|key| condition.contains(key)).collect();
            if !unknown.is_empty() {
                statement.as_object_mut().context("a statement is no mapping")?.remove("Condition");
                left_out.extend(unknown);
            }
        }
    }
    ensure!(left_out.len() == UNKNOWN.len(), "no policy asks for one of these any more: {UNKNOWN:?}");
    Ok(())
}

/// What is in a list at this place; nothing where there is none.
fn list<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A Python program beside this file.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second_aws").join(name)
}

/// Where every AWS client finds the emulator, and a home that has no settings.
fn access(url: &str, home: &str) -> BTreeMap<String, String> {
    variables(&[
        ("HOME", home),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ENDPOINT_URL_DYNAMODB", url),
        ("AWS_ENDPOINT_URL_KMS", url),
        ("AWS_ENDPOINT_URL_S3", url),
        ("AWS_ENDPOINT_URL_SQS", url),
    ])
    .collect()
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}
