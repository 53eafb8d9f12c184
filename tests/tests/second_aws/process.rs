//! Programs of others that a test starts, and where they are.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file of a Python environment that `.ci/run` makes below `target/`, such as `bin/sam`.
///
/// # Errors
/// Says what is missing and who installs it.
pub(crate) fn tool(environment: &str, file: &str) -> anyhow::Result<PathBuf> {
    let file = workspace().join("target").join(environment).join(file);
    if !file.is_file() {
        bail!("{} is missing: `.ci/run second_aws` installs it and runs these tests", file.display());
    }
    Ok(file)
}

/// Packages of such an environment: `lib/python3.x/site-packages`.
///
/// # Errors
/// As above.
pub(crate) fn packages(environment: &str) -> anyhow::Result<String> {
    let folder = workspace().join("target").join(environment).join("lib");
    let versions = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut names = versions.map(|version| version.file_name().to_string_lossy().into_owned());
    let python = names.find(|name| name.starts_with("python3")).with_context(|| {
        format!(
            "{} holds no Python packages: `.ci/run second_aws` installs them and runs these tests",
            folder.display()
        )
    })?;
    Ok(format!("lib/{python}/site-packages"))
}

/// A port of 127.0.0.1 that nobody listens on at this moment.
///
/// # Errors
/// When there is none.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether the one address that this port is listened on is 127.0.0.1 (proc(5), "/proc/net/tcp").
fn is_on_loopback_alone(port: u16) -> bool {
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let mut listening = Vec::new();
    for line in sockets.iter().flatten().flat_map(|table| table.lines().skip(1)) {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1));
        if local.ends_with(&format!(":{port:04X}")) && state == Some("0A") {
            listening.push(local.to_owned());
        }
    }
    listening == [format!("0100007F:{port:04X}")]
}

/// A server on 127.0.0.1 with an environment of its own. It and the processes that it starts go with it; it itself also goes
/// with the thread that started it, however that ends. Its output is in a file.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it listens there.
    ///
    /// # Errors
    /// When it ends or does not listen in time; its output is in the error.
    pub(crate) async fn start(
        program: &Path,
        arguments: &[String],
        environment: impl IntoIterator<Item = (String, String)>,
        folder: &Path,
        port: u16,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{port}.log"));
        let output = std::fs::File::create(&log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("setpriv of util-linux does not start")?;
        let mut server = Self { child, log };
        let started = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || started.elapsed() > PATIENCE {
                bail!("{} does not listen on port {port}:\n{}", program.display(), server.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(is_on_loopback_alone(port), "{} listens for other machines too", program.display());
        Ok(server)
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(process_id) = self.child.id() else { return };
        let group = format!("-{process_id}");
        let _ = std::process::Command::new("kill").args(["-9", "--", &group]).status();
    }
}
