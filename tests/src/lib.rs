//! What the tests and benches share.

pub mod caller;
pub mod chaos;
pub mod hostile;
pub mod interposer;
pub mod jobs;
pub mod keys;
pub mod local_command;
pub mod openapi;
pub mod receiver;
pub mod sim;
pub mod stack;
mod stand_in;
pub mod stand_in_forge;
pub mod stand_in_gemini;
pub mod stand_in_openai;
pub mod stores;
pub mod watcher;

/// `kill -9`, as a crash: one that is gone already is no error.
///
/// # Errors
/// When there is no such command, or it is not allowed.
pub async fn kill(process_id: u32) -> anyhow::Result<()> {
    let kill = tokio::process::Command::new("kill").args(["-9", &process_id.to_string()]).status().await?;
    anyhow::ensure!(kill.success() || kill.code() == Some(1), "kill -9 {process_id}: {kill}");
    Ok(())
}
