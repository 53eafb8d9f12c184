//! `darkroom local`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::binaries;
use crate::connect::{KMS_KEY, default_data};
use crate::local_system::{LocalSettings, LocalSystem, function_names};
use crate::output::line;

/// Starts the local system.
#[derive(Args)]
pub(super) struct Local {
    /// The HTTP API's port; 0 takes any free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The folder that holds everything; data survive a restart.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Worker environments at most, each drawing up to ten jobs at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=100))]
    workers: u16,
    /// The worker's time-out instead of the template's 230 s: a killed worker's job comes back that much sooner.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=900))]
    worker_timeout: Option<u64>,
}

impl Local {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let binaries = binaries::up_to_date(&function_names()?).await?;
        let data = self.data.unwrap_or_else(default_data);
        let system = LocalSystem::start(LocalSettings {
            port: self.port,
            workers: usize::from(self.workers),
            // Settings in this shell's environment reach the functions, as the template's would. Not the KMS key: one of
            // AWS, named for `keys add --stack`, is none of the local KMS's.
            variables: std::env::vars()
                .filter(|(name, _)| name.starts_with("DARKROOM_") && name != KMS_KEY)
                .collect(),
            timeouts: self
                .worker_timeout
                .map(|seconds| ("worker".to_owned(), Duration::from_secs(seconds)))
                .into_iter()
                .collect(),
            ..LocalSettings::new(&data, binaries)
        })
        .await?;
        let running = system.running();
        line(&format!("Darkroom runs at {}", running.api_url));
        line(&format!("  WebSocket       {}", system.websocket_url()));
        line(&format!("  data and logs   {}", data.display()));
        line(&format!("  DynamoDB        {}", running.dynamodb_url));
        line(&format!("  KMS             {}", running.kms_url));
        line(&format!("  S3              {}", running.s3_url));
        line(&format!("  SQS             {}", running.sqs_url));
        line("Give somebody tokens from another terminal:  cargo run --release -- tokens grant alice 10");
        line("Then ask for a picture:");
        line(&format!(
            "  curl -s {}/v1/jobs -H 'Authorization: Bearer alice' -H 'Idempotency-Key: k1' \\\n       \
             -H 'Content-Type: application/json' -d '{{\"prompt\":\"a lighthouse at dusk\"}}'",
            running.api_url
        ));
        line("Ctrl-C stops it.");
        stopped().await?;
        line("\nStopping.");
        system.shutdown().await;
        Ok(())
    }
}

/// Ctrl-C, or SIGTERM.
async fn stopped() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => Ok(result?),
        _ = terminate.recv() => Ok(()),
    }
}
