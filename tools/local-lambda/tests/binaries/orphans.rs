//! No function outlives its owner, however the owner ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::common::{example, lives, until};

struct Owner {
    process: Child,
    output: BufReader<ChildStdout>,
    function: u32,
}

impl Owner {
    /// An owner with one environment, which has been given the event unless that is empty.
    fn start(launcher: &str, event: &str) -> Self {
        let mut process = Command::new(example("local_lambda_owner"))
            .args([launcher, example("local_lambda_probe").to_str().unwrap(), event])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let function = line.trim().parse().unwrap();
        assert!(lives(function));
        Self { process, output, function }
    }

    fn kill_9(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn ends_soon_after_its_owner(launcher: &str, event: &str) {
    let mut owner = Owner::start(launcher, event);
    // Long enough to be in the handler, if there is an event.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(lives(owner.function));
    owner.kill_9();
    let took = until("the function's end", || !lives(owner.function)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn with_the_program_as_its_own_launcher_idle_and_busy_functions_end_at_once() {
    ends_soon_after_its_owner("itself", "").await;
    ends_soon_after_its_owner("itself", r#"{"sleep_ms":30000}"#).await;
    ends_soon_after_its_owner("itself", r#"{"do":"block"}"#).await;
}

#[tokio::test]
async fn with_setpriv_idle_and_busy_functions_end_at_once() {
    if !Path::new("/usr/bin/setpriv").is_file() {
        return;
    }
    ends_soon_after_its_owner("setpriv", "").await;
    ends_soon_after_its_owner("setpriv", r#"{"do":"block"}"#).await;
}

#[tokio::test]
async fn without_a_launcher_idle_functions_end_at_once_and_busy_ones_with_their_invocation() {
    ends_soon_after_its_owner("direct", "").await;

    let mut owner = Owner::start("direct", r#"{"sleep_ms":1500}"#);
    tokio::time::sleep(Duration::from_millis(300)).await;
    owner.kill_9();
    let took = until("the end of its last invocation", || !lives(owner.function)).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn the_launched_process_is_the_function_and_works() {
    for launcher in ["itself", "setpriv", "direct"] {
        let mut owner = Owner::start(launcher, r#"{"do":"pid"}"#);
        let mut line = String::new();
        owner.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), format!("Ok(b\"{{\\\"pid\\\":{}}}\")", owner.function), "{launcher}");
        let command = std::fs::read(format!("/proc/{}/cmdline", owner.function)).unwrap();
        let name = example("local_lambda_probe").to_str().unwrap().to_owned() + "\0";
        assert_eq!(String::from_utf8(command).unwrap(), name, "{launcher}");
    }
}
