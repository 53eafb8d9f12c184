//! A short run of what `just chaos` does for as long as one likes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use darkroom_tests::chaos::{Settings, run};

/// Users, kills and a failing provider: nothing that was acknowledged is lost, nothing is paid twice, and what came to nothing is
/// the kills' doing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_processes_die() -> anyhow::Result<()> {
    let settings = Settings { seed: 7, lasts: Duration::from_secs(15), users: 6, kills: true };
    let report = run(&settings, |_| {}).await?;
    assert!(report.faults.is_empty(), "\n{report}");
    // Enough has happened to say so.
    assert!(report.acknowledged >= 20 && report.settled >= report.acknowledged, "\n{report}");
    assert!(report.kills.values().sum::<usize>() >= 5, "\n{report}");
    Ok(())
}

/// The same without the kills: then no call is counted that is not made, and no picture comes to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wasted_while_nobody_dies() -> anyhow::Result<()> {
    let settings = Settings { seed: 8, lasts: Duration::from_secs(8), users: 6, kills: false };
    let report = run(&settings, |_| {}).await?;
    assert!(report.faults.is_empty(), "\n{report}");
    assert!(report.acknowledged >= 10 && report.lost_pictures == 0, "\n{report}");
    assert_eq!(report.calls_made, report.calls_counted, "\n{report}");
    Ok(())
}
