//! A missing or wrong setting stops a function at its start, and the variable is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::process::Stdio;

use darkroom_tests::stack::function_binaries;

fn complete() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "canary-secret"),
        ("DARKROOM_JOBS_TABLE", "jobs"),
        ("DARKROOM_LEDGER_TABLE", "ledger"),
        ("DARKROOM_KEYS_TABLE", "keys"),
        ("DARKROOM_QUEUE_URL", "http://127.0.0.1:9/q"),
        ("DARKROOM_BULK_QUEUE_URL", "http://127.0.0.1:9/b"),
        ("DARKROOM_IMAGE_BUCKET", "images"),
        ("DARKROOM_KMS_KEY", "alias/secrets"),
        ("DARKROOM_PUSH_TABLE", "push"),
        ("DARKROOM_WEBSOCKET_URL", "ws://127.0.0.1:9/ws"),
        ("DARKROOM_WEBHOOK_QUEUE_URL", "http://127.0.0.1:9/webhooks"),
    ])
}

/// Starts a function with these variables and returns what it printed; it must end by itself, and not well.
async fn start(function: &str, variables: &BTreeMap<&str, &str>) -> anyhow::Result<String> {
    let binary = function_binaries().await?.join(function);
    let child = tokio::process::Command::new(binary)
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait_with_output()).await??;
    assert!(!output.status.success(), "{function} started with {variables:?}");
    let printed = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_setting_is_named() -> anyhow::Result<()> {
    let tables = ["DARKROOM_JOBS_TABLE", "DARKROOM_LEDGER_TABLE", "DARKROOM_KEYS_TABLE"];
    for (function, own) in [
        ("submit", vec!["DARKROOM_QUEUE_URL", "DARKROOM_BULK_QUEUE_URL", "DARKROOM_IMAGE_BUCKET"]),
        (
            "api",
            vec![
                "DARKROOM_QUEUE_URL",
                "DARKROOM_IMAGE_BUCKET",
                "DARKROOM_PUSH_TABLE",
                "DARKROOM_WEBSOCKET_URL",
                "DARKROOM_KMS_KEY",
            ],
        ),
        (
            "notifier",
            vec![
                "DARKROOM_IMAGE_BUCKET",
                "DARKROOM_PUSH_TABLE",
                "DARKROOM_WEBSOCKET_URL",
                "DARKROOM_WEBHOOK_QUEUE_URL",
                "DARKROOM_KMS_KEY",
            ],
        ),
        ("worker", vec!["DARKROOM_IMAGE_BUCKET", "DARKROOM_KMS_KEY"]),
        (
            "sweeper",
            vec![
                "DARKROOM_QUEUE_URL",
                "DARKROOM_BULK_QUEUE_URL",
                "DARKROOM_PUSH_TABLE",
                "DARKROOM_WEBHOOK_QUEUE_URL",
            ],
        ),
        ("bulk", vec!["DARKROOM_QUEUE_URL", "DARKROOM_IMAGE_BUCKET"]),
    ] {
        for variable in tables.iter().copied().chain(own).chain(["AWS_REGION", "AWS_SECRET_ACCESS_KEY"]) {
            let mut variables = complete();
            variables.remove(variable);
            let printed = start(function, &variables).await?;
            assert!(
                printed.contains(&format!("{variable} is not set")),
                "{function} without {variable}:\n{printed}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_named_and_no_secret_is_shown() -> anyhow::Result<()> {
    for (function, variable, value) in [
        ("submit", "DARKROOM_INFLIGHT_MAX", "0"),
        ("submit", "DARKROOM_INFLIGHT_MAX", "many"),
        ("submit", "DARKROOM_REFUSE_WHEN_OPEN", "yes"),
        ("submit", "DARKROOM_DEADLINE_SECONDS", "10"),
        ("sweeper", "DARKROOM_BULK_QUEUE_URL", "bulk"),
        ("submit", "DARKROOM_QUEUE_URL", "arn:aws:sqs:us-east-1:000000000000:q"),
        ("worker", "DARKROOM_ATTEMPTS_MAX", "-1"),
        ("worker", "DARKROOM_CALLS_MAX", "2"),
        ("worker", "DARKROOM_CALL_TIMEOUT_SECONDS", "181"),
        ("worker", "DARKROOM_GEMINI_BASE_URL", "http://example.com"),
        ("worker", "DARKROOM_KMS_KEY", "the key"),
        ("worker", "DARKROOM_KMS_KEY", "alias/"),
        ("worker", "DARKROOM_KMS_KEY", "arn:aws:sqs:us-east-1:000000000000:key/x"),
        ("worker", "DARKROOM_OPENAI_BASE_URL", "api.openai.com"),
        ("worker", "DARKROOM_FORGE_BASE_URL", "http://10.0.0.7:7860"),
        ("api", "DARKROOM_TTL_DAYS", "401"),
        ("api", "DARKROOM_PUBLISHED_TTL_DAYS", "401"),
        ("api", "DARKROOM_PUBLISHED_TTL_DAYS", "89"),
        ("api", "DARKROOM_RETRY_MAX_SECONDS", "3601"),
        ("api", "DARKROOM_QUOTA_MINUTE_SECONDS", "0"),
        ("api", "DARKROOM_WEBSOCKET_URL", "https://abc.execute-api.us-east-1.amazonaws.com/ws"),
        ("notifier", "DARKROOM_WEBSOCKET_URL", "wss://"),
        ("notifier", "DARKROOM_WEBSOCKET_URL", "wss://abc/ws?ticket=x"),
        ("notifier", "DARKROOM_QUOTA_MINUTE_SECONDS", "0"),
        // Without another endpoint than AWS's own, as here.
        ("api", "DARKROOM_WEBHOOK_REACH", "anywhere"),
        ("notifier", "DARKROOM_WEBHOOK_REACH", "anywhere"),
        ("notifier", "DARKROOM_WEBHOOK_REACH", "private"),
        ("sweeper", "DARKROOM_WEBHOOK_QUEUE_URL", "arn:aws:sqs:us-east-1:000000000000:q"),
        ("sweeper", "DARKROOM_STUCK_SECONDS", "299"),
        ("sweeper", "DARKROOM_PENDING_MAX_SECONDS", "3601"),
        ("sweeper", "DARKROOM_SWEEP_SECONDS", "1.5"),
    ] {
        let mut variables = complete();
        variables.insert(variable, value);
        let printed = start(function, &variables).await?;
        assert!(printed.contains(&format!("{variable} ")), "{function} with {variable}={value}:\n{printed}");
        assert!(!printed.contains("canary-secret"), "{printed}");
    }
    Ok(())
}
