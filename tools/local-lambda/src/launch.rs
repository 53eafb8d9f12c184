//! How a function's process is started, so that it cannot outlive its owner.
//!
//! A worker that lived on after its owner was killed with SIGKILL would go on writing to the same data as the next
//! owner's workers. Two things prevent it, and the first alone is enough on Linux:
//!
//! 1. **Parent death signal.** The process is started through a launcher that asks the kernel for SIGKILL when its
//!    parent ends (`prctl(PR_SET_PDEATHSIG)`) and then becomes the function (`execve` keeps the setting). The
//!    launcher is this very program, started again, or util-linux's `setpriv`.
//! 2. **The Runtime API goes with its owner.** `lambda_runtime` ends when its next call is refused. So without a
//!    launcher an idle environment ends at once, and a busy one at the end of the invocation it is in: it can
//!    finish one, never start another.
//!
//! The kernel counts the *thread* that started the child as its parent, so all children are started by one thread
//! that lives as long as its [`Lambda`](crate::Lambda) ([`Spawner`]).

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// `argv[0]` that tells the program it was started to become a function.
const MARKER: &str = "darkroom-function-launcher";

/// Set once this program's `main` has shown that it knows how to be a launcher.
static CAN_LAUNCH: OnceLock<()> = OnceLock::new();

/// What stands between the owner and a function's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// This program, started again (Linux). Its `main` must begin with [`become_function_if_asked`].
    Itself,
    /// util-linux's `setpriv --pdeathsig KILL` at this path (Linux).
    Setpriv(PathBuf),
    /// Nothing: a busy environment may outlive a killed owner until the end of the invocation it is in.
    Direct,
}

impl Launcher {
    /// The strongest that is at hand: [`Itself`](Self::Itself) when [`become_function_if_asked`] was called in this
    /// process, else `setpriv` from `PATH`, else [`Direct`](Self::Direct).
    pub fn detect() -> Self {
        if !cfg!(target_os = "linux") {
            Self::Direct
        } else if CAN_LAUNCH.get().is_some() {
            Self::Itself
        } else {
            find_in_path("setpriv").map_or(Self::Direct, Self::Setpriv)
        }
    }

    /// Refuses [`Itself`](Self::Itself) in a program that cannot do it: it would run as itself once more.
    pub(crate) fn check(&self) -> io::Result<()> {
        if *self == Self::Itself && CAN_LAUNCH.get().is_none() {
            return Err(io::Error::other(
                "call become_function_if_asked first in main, or take another launcher",
            ));
        }
        Ok(())
    }

    /// A command for `binary`, without variables. The process id stays the same through every `exec`, so the
    /// command's child is the function itself.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        match self {
            Self::Itself => {
                let mut command = Command::new("/proc/self/exe");
                command.arg0(MARKER).arg(std::process::id().to_string()).arg(binary);
                command
            }
            Self::Setpriv(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
                command
            }
            Self::Direct => Command::new(binary),
        }
    }
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// To be called first in `main` of a program that owns a [`Lambda`](crate::Lambda), before any thread is started.
///
/// In a process started as a launcher it never returns: the process becomes the function, or says on stderr why it
/// could not and exits with status 126. In any other process it returns at once and lets
/// [`Launcher::detect`] choose [`Launcher::Itself`].
pub fn become_function_if_asked() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(MARKER)) {
        let _ = CAN_LAUNCH.set(());
        return;
    }
    let failure = become_function(arguments.next(), arguments.next());
    let _ = writeln!(io::stderr(), "the function could not be started: {failure}");
    std::process::exit(126)
}

#[cfg(target_os = "linux")]
fn become_function(owner: Option<OsString>, binary: Option<OsString>) -> io::Error {
    use std::os::unix::process::CommandExt as _;

    let (Some(owner), Some(binary)) = (owner, binary) else {
        return io::Error::other("a launcher needs the owner's process id and a binary");
    };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        return error.into();
    }
    // The owner may have ended between fork and prctl; then no signal will ever come.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_deref() != owner.to_str() {
        return io::Error::other("its owner has ended");
    }
    std::process::Command::new(binary).exec()
}

#[cfg(not(target_os = "linux"))]
fn become_function(_owner: Option<OsString>, _binary: Option<OsString>) -> io::Error {
    io::Error::other("parent death signals exist on Linux only")
}

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that is every function process's parent in the kernel's eyes.
pub(crate) struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    /// Starts the thread; it ends when the `Spawner` is dropped, and takes with it what it started.
    pub(crate) fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("function-spawner".to_owned()).spawn(move || {
            for Order { mut command, runtime, reply } in inbox {
                let _context = runtime.enter();
                // A caller that has gone drops the child, and `kill_on_drop` ends it.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts the command's process.
    pub(crate) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let order = Order { command, runtime: Handle::current(), reply };
        self.orders.send(order).map_err(|_| io::Error::other("the spawner thread has ended"))?;
        child.await.map_err(|_| io::Error::other("the spawner thread has ended"))?
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_never_said_it_can_launch_is_not_used_as_a_launcher() {
        assert_ne!(Launcher::detect(), Launcher::Itself);
        assert!(Launcher::Itself.check().is_err());
        assert!(Launcher::Direct.check().is_ok());
    }

    #[test]
    fn setpriv_gets_the_binary_as_its_program_and_not_as_an_option() {
        let command = Launcher::Setpriv("/usr/bin/setpriv".into()).command(Path::new("--odd"));
        let arguments: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(arguments, ["--pdeathsig", "KILL", "--", "--odd"]);
    }
}
