//! Jobs for the system to draw.

use std::time::{Duration, Instant};

use anyhow::ensure;
use darkroom_tests::keys::MODEL;
use darkroom_tests::stack::TestStack;
use serde_json::json;

/// Submits jobs with prompts of their own, by so many users side by side; `name` tells them from those of another call.
pub(crate) async fn submit(stack: &TestStack, name: &str, jobs: usize, users: usize) -> anyhow::Result<()> {
    let mut submitting = Vec::new();
    for user in 0..users {
        let (app, user_name, name) = (stack.app.clone(), format!("user{user}"), name.to_owned());
        stack.grant(&user_name, 1_000_000).await?;
        submitting.push(tokio::spawn(async move {
            for number in (user..jobs).step_by(users) {
                let body = json!({"prompt": format!("{name} {number}"), "model": MODEL});
                let answer = app.submit(&user_name, &format!("{name}-{number}"), &body).await?;
                ensure!(answer.status == 202, "{} {}", answer.status, answer.body);
            }
            Ok(())
        }));
    }
    for user in submitting {
        user.await??;
    }
    Ok(())
}

/// Waits until no job is live.
pub(crate) async fn settled(stack: &TestStack, patience: Duration) -> anyhow::Result<()> {
    let jobs = stack.stores()?.jobs;
    let started = Instant::now();
    loop {
        let live = jobs.all_live().await?.len();
        if live == 0 {
            return Ok(());
        }
        ensure!(started.elapsed() < patience, "{live} jobs have not ended after {} s", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
