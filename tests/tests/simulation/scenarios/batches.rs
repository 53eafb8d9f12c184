//! Many jobs on one hold: each line becomes one, whoever makes it and whatever breaks off.

use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_tests::sim::World;
use serde_json::{Value, json};

use super::{DRAWN, LOCAL, Scenario};

/// Three lines that can be drawn and one that cannot: two transactions, since one takes two writes here.
fn three_lines() -> Vec<Value> {
    vec![
        json!({"prompt": "a lighthouse", "model": LOCAL}),
        json!({"prompt": "a bridge", "model": LOCAL}),
        json!({"prompt": "a harbour", "model": "nobody"}),
        json!({"prompt": "a harbour ".repeat(60), "model": LOCAL, "metadata": {"of": "long"}}),
    ]
}

fn is_as_submitted(batch: &Value) -> anyhow::Result<String> {
    ensure!(batch["lines"] == 3 && batch["invalid_lines"] == 1 && batch["cost"] == 3, "{batch}");
    ensure!(batch["invalid"][0]["line"] == 3, "{batch}");
    Ok(batch["id"].as_str().unwrap_or_default().to_owned())
}

/// Its lines are in its body: submit makes all the jobs, unless it dies.
pub(crate) const BATCH: Scenario = Scenario {
    name: "batch",
    run: |world| {
        Box::pin(async {
            world.grant("alice", 3).await?;
            let alice = world.client("alice");
            let body = json!({"jobs": three_lines()});
            let id = is_as_submitted(&alice.submit_batch("k", &body).await?)?;
            let again = is_as_submitted(&alice.submit_batch("k", &body).await?)?;
            ensure!(id == again, "another batch");
            is_as_submitted(&alice.show_batch(&id).await?).map(drop)
        })
    },
    jobs: 3,
    expected: &[Status::Draft],
    ..DRAWN
};

async fn uploaded(world: &World) -> anyhow::Result<String> {
    world.grant("alice", 3).await?;
    let alice = world.client("alice");
    let lines: Vec<_> = three_lines().iter().map(Value::to_string).collect();
    let upload = alice.upload_lines(&lines.join("\n")).await?;
    is_as_submitted(&alice.submit_batch("k", &json!({"upload_id": upload})).await?)
}

/// They are in an upload: bulk makes the jobs.
pub(crate) const BATCH_UPLOADED: Scenario = Scenario {
    name: "batch, uploaded",
    run: |world| Box::pin(async { uploaded(world).await.map(drop) }),
    ..BATCH
};

/// Milliseconds in which bulk has made the first of its jobs, if it lives.
const MOMENTS: usize = 1_000;

/// Its owner cancels it while bulk makes jobs of it: what became none is given back, and what became one is cancelled.
pub(crate) const BATCH_CANCELLED: Scenario = Scenario {
    name: "batch, cancelled",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            let id = uploaded(world).await?;
            // Bulk may have died before the first.
            for _ in 0..MOMENTS {
                if !world.jobs().await?.is_empty() {
                    break;
                }
                world.pass(Duration::from_millis(1)).await;
            }
            let alice = world.client("alice");
            let cancelled = alice.cancel_batch(&id).await?;
            let again = alice.cancel_batch(&id).await?;
            ensure!(cancelled["made"] == again["made"] && again["remaining"] == 0, "{again}");
            world.consume(true);
            Ok(())
        })
    },
    or_fewer: true,
    expected: &[Status::Cancelled],
    ..BATCH
};
