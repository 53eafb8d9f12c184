//! A function's process: started, listened to, ended.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::log::{LogSource, Tail, copy_lines};
use crate::pool::Pool;
use crate::variables;

/// How long the last lines of a process that has ended may take to arrive.
const LAST_LINES: Duration = Duration::from_millis(200);

/// A running process and the copying of its output.
pub(crate) struct Process {
    child: Child,
    pub(crate) id: u32,
    tail: Arc<Tail>,
    output: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts the function's binary: in its own process group, with Lambda's environment, without standard input.
    pub(crate) async fn start(pool: &Pool, runtime_api: SocketAddr, number: u64) -> io::Result<Self> {
        let lambda = &pool.house.settings;
        let mut command = lambda.launcher.command(&pool.settings.binary);
        command
            .env_clear()
            .envs(variables::of_environment(lambda, &pool.settings, runtime_api, number))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = pool.settings.binary.parent().filter(|folder| folder.is_dir()) {
            command.current_dir(folder);
        }
        let mut child = pool.house.spawner.spawn(command).await?;
        let id = child.id().ok_or_else(|| io::Error::other("the process ended at once"))?;
        let tail = Arc::new(Tail::default());
        let log = || Arc::clone(&pool.log);
        let stdout =
            child.stdout.take().map(|out| tokio::spawn(copy_lines(out, log(), id, LogSource::Stdout, None)));
        let stderr = child
            .stderr
            .take()
            .map(|err| tokio::spawn(copy_lines(err, log(), id, LogSource::Stderr, Some(Arc::clone(&tail)))));
        Ok(Self { child, id, tail, output: stdout.into_iter().chain(stderr).collect() })
    }

    /// Returns when the process has ended, with how.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("its end could not be observed: {error}"),
        }
    }

    /// Ends the process with SIGKILL, and whatever it has started with it; at once when it has ended already.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Asks the process to end, kills it when it has not within `grace`.
    pub(crate) async fn terminate(&mut self, grace: Duration) {
        if !grace.is_zero() {
            self.signal(Signal::TERM);
            let _ = tokio::time::timeout(grace, self.ended()).await;
        }
        self.kill().await;
    }

    /// Signals the process's group. Its number cannot belong to anybody else yet: `child.id()` is none as soon as
    /// the process has been waited for.
    fn signal(&self, signal: Signal) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // The only failure left is that all of them have just ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// `what` with the last lines of stderr, once they are all here.
    pub(crate) async fn explain(&mut self, what: &str) -> String {
        let arrived = async {
            for copying in &mut self.output {
                let _ = copying.await;
            }
        };
        // Bounded, because a grandchild may hold the pipe open.
        let _ = tokio::time::timeout(LAST_LINES, arrived).await;
        self.tail.explain(what)
    }
}
