//! The operator's command `darkroom local` as a process of its own, which can be killed and started again on the same data.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use darkroom::connect::{Running, Stores};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::kill;
use crate::stack::{App, function_binaries};

/// The command with its data folder.
pub struct LocalCommand {
    program: PathBuf,
    variables: Vec<(String, String)>,
    child: Child,
    folder: TempDir,
}

impl LocalCommand {
    /// Starts it on a new folder, with these variables, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let program = function_binaries().await?.join("darkroom");
        let folder = tempfile::tempdir()?;
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let child = spawn(&program, folder.path(), &variables)?;
        let command = Self { program, variables, child, folder };
        command.answers().await?;
        Ok(command)
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The operator's stores.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stores(&self) -> anyhow::Result<Stores> {
        Stores::local(self.folder()).await
    }

    /// Kills it with -9, and starts it again once it is gone.
    ///
    /// # Errors
    /// When it cannot be killed, or does not start.
    pub async fn kill_and_start(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.child = spawn(&self.program, self.folder.path(), &self.variables)?;
        self.answers().await
    }

    /// Kills it with -9.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        kill(self.child.id().context("it has ended by itself")?).await?;
        self.child.wait().await?;
        Ok(())
    }

    /// The processes of a function, as Linux tells a process's children.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn function_processes(&self, function: &str) -> anyhow::Result<Vec<u32>> {
        let parent = self.child.id().context("it has ended by itself")?.to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(process_id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile cannot be read.
            let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
            // `1234 (name) S parent …`
            let named = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
            let Some((name, rest)) = named else { continue };
            if name == function && rest.split_whitespace().nth(1) == Some(&parent) {
                found.push(process_id);
            }
        }
        Ok(found)
    }

    async fn answers(&self) -> anyhow::Result<()> {
        for _ in 0..300 {
            if Running::read(self.folder()).is_ok_and(|running| Some(running.process_id) == self.child.id()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the system does not start")
    }
}

/// An app of the system that runs on this folder now.
///
/// # Errors
/// When none does.
pub fn app(folder: &Path) -> anyhow::Result<App> {
    App::new(&Running::read(folder)?.api_url)
}

fn spawn(program: &Path, folder: &Path, variables: &[(String, String)]) -> std::io::Result<Child> {
    Command::new(program)
        .args(["local", "--port", "0", "--worker-timeout", "28", "--data"])
        .arg(folder)
        .env_remove("CARGO")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}
