//! What the tests share: the example functions, a Lambda for them, and bounded waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use darkroom_local_lambda::{Credentials, Function, FunctionSettings, InvokeError, Lambda, LambdaSettings};
use serde_json::Value;

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const ACCOUNT: &str = "000000000000";

/// Longest wait for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The binary of an example, which `cargo test` builds beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run cargo test without --test, or cargo build --examples",
        path.display()
    );
    path
}

pub(crate) fn settings() -> LambdaSettings {
    let credentials = Credentials {
        access_key_id: "AKIALOCAL".into(),
        secret_access_key: "not-a-secret".into(),
        session_token: Some("not-a-token".into()),
    };
    LambdaSettings::new(REGION, ACCOUNT, credentials)
}

pub(crate) fn lambda() -> Lambda {
    Lambda::new(settings()).unwrap()
}

/// A Lambda with the probe in it, changed as wanted.
pub(crate) fn probe(change: impl FnOnce(&mut FunctionSettings)) -> (Lambda, Arc<Function>) {
    let lambda = lambda();
    let function = add_probe(&lambda, change);
    (lambda, function)
}

pub(crate) fn add_probe(lambda: &Lambda, change: impl FnOnce(&mut FunctionSettings)) -> Arc<Function> {
    let mut settings = FunctionSettings::new("probe", example("local_lambda_probe"));
    settings.timeout = Duration::from_secs(20);
    change(&mut settings);
    lambda.add(settings).unwrap()
}

pub(crate) async fn call(function: &Function, event: Value) -> Result<Value, InvokeError> {
    let answer = function.invoke(Bytes::from(event.to_string())).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

/// Calls in the background and returns when the process has the event, as told by a first call's process id.
pub(crate) fn call_later(
    function: &Arc<Function>,
    event: Value,
) -> tokio::task::JoinHandle<Result<Value, InvokeError>> {
    let function = Arc::clone(function);
    tokio::spawn(async move { call(&function, event).await })
}

/// Waits until something holds; fails after [`SOON`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Whether a process runs (a zombie does not).
pub(crate) fn lives(process_id: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process_id}/stat")) else { return false };
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

pub(crate) fn kill_9(process_id: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process_id).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
