//! `darkroom sweep`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use darkroom_aws::{SweepReport, SweepResult, now};
use darkroom_core::time::readable;
use serde_json::json;

use super::Target;
use crate::output::{print, table};

/// One sweep, now.
#[derive(Args)]
pub(super) struct SweepCommand {
    /// Show what would happen and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// End every unsettled job older than this (90s, 15m, 1h, 2d) and refund it, whatever it waits for. A job in a
    /// living worker's hands is only asked to end.
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    max_age: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

impl SweepCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let sweep = self.target.stores().await?.sweep;
        let report = match self.max_age {
            Some(max_age) => sweep.by_age(now(), max_age, self.dry_run).await?,
            None => sweep.pass(now(), self.dry_run).await?,
        };
        let swept: Vec<_> = report
            .swept
            .iter()
            .map(|swept| {
                json!({
                    "id": swept.id, "user": swept.user, "status": swept.status, "age_seconds": swept.age.as_secs(),
                    "action": swept.action, "detail": swept.detail, "result": swept.result.as_str(),
                })
            })
            .collect();
        let value = json!({"dry_run": self.dry_run, "counts": report.counts(), "swept": swept, "complete": report.complete});
        print(self.target.json, &value, || words(&report, self.dry_run));
        if report.swept.iter().any(|swept| swept.result == SweepResult::Failed) {
            bail!("a store failed for some of it: run the sweep again");
        }
        Ok(())
    }
}

fn words(report: &SweepReport, dry_run: bool) -> String {
    if report.swept.is_empty() {
        return "Nothing is due.".to_owned();
    }
    let rows: Vec<_> = report
        .swept
        .iter()
        .map(|swept| {
            vec![
                swept.id.clone(),
                swept.user.to_string(),
                swept.status.to_owned(),
                readable(swept.age),
                swept.action.to_owned(),
                swept.result.as_str().to_owned(),
                swept.detail.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let counts: Vec<_> = report.counts().iter().map(|(action, count)| format!("{action} {count}")).collect();
    let head = if dry_run { "Nothing was changed. A sweep now would do this:\n" } else { "" };
    let more = if report.complete { "" } else { "\nMore is due: run it again." };
    format!(
        "{head}{}\n{}{more}",
        table(&["id", "user", "status", "age", "action", "result", "why"], &rows),
        counts.join(", ")
    )
}

/// `90s`, `15m`, `1h`, `2d`.
fn parse_age(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) =
        text.split_at(text.len().saturating_sub(text.chars().last().map_or(0, char::len_utf8)));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => bail!("write a number and s, m, h or d, such as 90s or 1h"),
    };
    let number: u64 = number.parse().context("write a whole number and s, m, h or d, such as 90s or 1h")?;
    Ok(Duration::from_secs(number.checked_mul(seconds).context("that is too long")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let seconds = |text| parse_age(text).ok().map(|age| age.as_secs());
        assert_eq!(["90s", "15m", "1h", "2d", "0s"].map(seconds), [90, 900, 3_600, 172_800, 0].map(Some));
        assert_eq!(
            ["", "1", "h", "-1h", "1.5h", "1w", "99999999999999999999d", "1é"].map(seconds),
            [None; 8]
        );
    }
}
