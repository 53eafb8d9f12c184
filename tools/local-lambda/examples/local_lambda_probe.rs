//! A function that does what its event (or `PROBE_INIT`, at the start) tells it to: the subject of this crate's tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::collections::BTreeMap;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    if let Ok(wish) = std::env::var("PROBE_TERM") {
        tokio::spawn(on_terminate(wish));
    }
    match std::env::var("PROBE_INIT").as_deref() {
        Ok("exit") => {
            eprintln!("the first reason");
            eprintln!("PROBE_REASON is not set");
            std::process::exit(3);
        }
        Ok("hang") => std::future::pending().await,
        Ok("refuse") => return report_init_error().await,
        Ok(slow) => tokio::time::sleep(Duration::from_millis(slow.parse().unwrap())).await,
        Err(_) => {}
    }
    lambda_runtime::run(service_fn(handle)).await
}

/// Ignores SIGTERM, or leaves a file and ends.
async fn on_terminate(wish: String) {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    loop {
        terminate.recv().await;
        if wish != "ignore" {
            std::fs::write(&wish, "").unwrap();
            std::process::exit(0);
        }
    }
}

/// What `lambda_runtime` sends when a hook of its own fails; written by hand, since a plain handler has no such hook.
async fn report_init_error() -> Result<(), Error> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(std::env::var("AWS_LAMBDA_RUNTIME_API")?).await?;
    let body = r#"{"errorType":"Config","errorMessage":"no table name"}"#;
    let request = format!(
        "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.read_u8().await?;
    // Lambda ends a process that has reported this; it need not end itself.
    std::future::pending().await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    if let Some(records) = event["Records"].as_array() {
        return batch(records, &event).await;
    }
    if event["requestContext"]["eventType"].is_string() {
        return socket(&event);
    }
    if let Some(sleep) = event["sleep_ms"].as_u64() {
        tokio::time::sleep(Duration::from_millis(sleep)).await;
    }
    match event["do"].as_str() {
        Some("error") => Err("the handler said no".into()),
        Some("panic") => panic!("the handler panicked"),
        Some("exit") => {
            eprintln!("leaving in the middle");
            std::process::exit(7)
        }
        Some("block") => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Some("leave_after_answer") => {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(30));
                std::process::exit(0)
            });
            Ok(json!({ "pid": std::process::id() }))
        }
        Some("block_after_answer") => {
            // The answer is sent by another task of the only thread; this one stops that thread soon after.
            tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            Ok(json!({ "pid": std::process::id() }))
        }
        Some("answer_and_exit") => {
            let path = format!("/2018-06-01/runtime/invocation/{}/response", context.request_id);
            post(&path, "\"by hand\"");
            std::process::exit(0)
        }
        Some("misuse_the_runtime_api") => tokio::task::spawn_blocking(misuse).await.map_err(Into::into),
        Some("start_child") => {
            let child = std::process::Command::new("sleep").arg("60").spawn()?;
            eprintln!("child {}", child.id());
            std::future::pending().await
        }
        Some("big") => Ok(json!("x".repeat(usize::try_from(event["bytes"].as_u64().unwrap()).unwrap()))),
        Some("environment") => Ok(json!({
            "variables": std::env::vars().collect::<BTreeMap<_, _>>(),
            "folder": std::env::current_dir()?,
            "request_id": context.request_id,
            "deadline": context.deadline,
            "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id,
            "pid": std::process::id(),
        })),
        Some("pid") => Ok(json!({ "pid": std::process::id() })),
        _ => Ok(event),
    }
}

fn connect() -> std::net::TcpStream {
    std::net::TcpStream::connect(std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap()).unwrap()
}

fn post(path: &str, body: &str) -> std::net::TcpStream {
    use std::io::Write as _;
    let mut stream = connect();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    stream
}

/// The statuses of requests a runtime should not make.
fn misuse() -> Value {
    use std::io::{Read as _, Write as _};
    let status = |mut stream: std::net::TcpStream| {
        let mut line = [0; 12];
        stream.read_exact(&mut line).unwrap();
        let status: u16 = std::str::from_utf8(&line[9..]).unwrap().parse().unwrap();
        status
    };
    let get = |path: &str| {
        let mut stream = connect();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    json!({
        "next while busy": status(get("/2018-06-01/runtime/invocation/next")),
        "answer to another": status(post("/2018-06-01/runtime/invocation/other/response", "1")),
        "error of another": status(post("/2018-06-01/runtime/invocation/other/error", "{}")),
        "init error while busy": status(post("/2018-06-01/runtime/init/error", "{}")),
        "unknown path": status(get("/2018-06-01/runtime/restore/next")),
        "wrong method": status(get("/2018-06-01/runtime/init/error")),
    })
}

/// Bodies are commands: `fail`, `sleep:<ms>`, `error`, `exit`, `answer:<json>`, anything else succeeds. Each batch is
/// noted in the file `PROBE_SEEN` names.
async fn batch(records: &[Value], event: &Value) -> Result<Value, Error> {
    note(event);
    let mut failures = Vec::new();
    for record in records {
        let body = record["body"].as_str().unwrap();
        match body.split_once(':').unwrap_or((body, "")) {
            ("fail", _) => failures.push(json!({ "itemIdentifier": record["messageId"] })),
            ("sleep", milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds.parse()?)).await,
            ("error", _) => return Err("the batch failed".into()),
            ("exit", _) => std::process::exit(7),
            ("answer", json) => return Ok(serde_json::from_str(json)?),
            _ => {}
        }
    }
    Ok(json!({ "batchItemFailures": failures }))
}

/// A WebSocket API's event, noted. `?status=` is what `$connect` is answered; a message `error` fails.
fn socket(event: &Value) -> Result<Value, Error> {
    note(event);
    if event["body"] == "error" {
        return Err("the handler said no".into());
    }
    match event["queryStringParameters"]["status"].as_str() {
        Some("none") => Ok(json!({})),
        Some(status) => Ok(json!({ "statusCode": status.parse::<u16>()? })),
        None => Ok(json!({ "statusCode": 200 })),
    }
}

fn note(event: &Value) {
    use std::io::Write as _;
    if let Ok(path) = std::env::var("PROBE_SEEN") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{event}\n").as_bytes()).unwrap();
    }
}
