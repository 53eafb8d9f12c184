//! What one user does, and what may come of it.

use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_tests::keys::MODEL;
use darkroom_tests::sim::{Fault, Step, World};
use serde_json::json;

use crate::DEADLINE;
use crate::enumerate::{at_first, enumerate};

const LOCAL: &str = "darkroom-local";

async fn submit(world: &World, model: &str, deadline: Duration) -> anyhow::Result<String> {
    world.grant("alice", 10).await?;
    let body = json!({"prompt": "a lighthouse", "model": model, "deadline_seconds": deadline.as_secs()});
    world.client("alice").submit("k", &body).await
}

pub(crate) async fn a_job(world: &World) -> anyhow::Result<()> {
    submit(world, LOCAL, DEADLINE).await.map(drop)
}

/// A job for the image API, with two projects to draw it.
pub(crate) async fn a_job_over_the_network(world: &World) -> anyhow::Result<()> {
    world.add_key("one", 10).await?;
    world.add_key("two", 10).await?;
    submit(world, MODEL, DEADLINE).await.map(drop)
}

#[test]
fn a_job_is_drawn() -> anyhow::Result<()> {
    enumerate("drawn", |_| Vec::new(), a_job, &[Status::Draft])
}

/// Submit dies between the transaction and its message: the sweeper sends it.
#[test]
fn a_job_whose_message_was_never_sent_is_drawn() -> anyhow::Result<()> {
    let base = |steps: &[Step]| at_first(steps, "submit: TransactWriteItems", Fault::KilledAfter);
    enumerate("message never sent", base, a_job, &[Status::Draft])
}

/// The worker dies with the picture in its hands: the sweeper puts the job back when its lease is over.
#[test]
fn a_job_whose_worker_died_is_drawn() -> anyhow::Result<()> {
    let base = |steps: &[Step]| at_first(steps, "worker: PutObject", Fault::KilledBefore);
    enumerate("worker died", base, a_job, &[Status::Draft])
}

#[test]
fn a_waiting_job_is_cancelled() -> anyhow::Result<()> {
    let scenario = async |world: &World| {
        world.consume(false);
        let id = submit(world, LOCAL, DEADLINE).await?;
        let status = world.client("alice").cancel(&id).await?;
        ensure!(status == 200, "{status}");
        world.consume(true);
        Ok(())
    };
    enumerate("cancelled, waiting", |_| Vec::new(), scenario, &[Status::Cancelled])
}

/// The worker has died: nobody will draw it, and the sweeper ends it when its lease is over.
#[test]
fn a_job_whose_worker_died_is_cancelled() -> anyhow::Result<()> {
    let scenario = async |world: &World| {
        let id = submit(world, LOCAL, DEADLINE).await?;
        world.pass(Duration::from_secs(10)).await;
        world.client("alice").cancel(&id).await?;
        Ok(())
    };
    let base = |steps: &[Step]| at_first(steps, "worker: PutObject", Fault::KilledBefore);
    enumerate("cancelled, worker died", base, scenario, &[Status::Cancelled])
}

#[test]
fn a_job_that_nobody_draws_is_refunded() -> anyhow::Result<()> {
    let scenario = async |world: &World| {
        world.consume(false);
        submit(world, LOCAL, Duration::from_secs(60)).await.map(drop)
    };
    enumerate("nobody draws", |_| Vec::new(), scenario, &[Status::Failed])
}

#[test]
fn a_job_is_drawn_over_the_network() -> anyhow::Result<()> {
    enumerate("network, drawn", |_| Vec::new(), a_job_over_the_network, &[Status::Draft])
}

/// The first project has no quota left when it is asked: the other draws it, in the same attempt.
#[test]
fn a_job_whose_first_call_was_refused_is_drawn_with_another_key() -> anyhow::Result<()> {
    let base = |steps: &[Step]| at_first(steps, "worker: Draw", Fault::Throttled);
    enumerate("network, refused once", base, a_job_over_the_network, &[Status::Draft])
}

/// The provider fails once: another attempt, after a pause.
#[test]
fn a_job_whose_first_call_failed_is_drawn_after_a_pause() -> anyhow::Result<()> {
    let base = |steps: &[Step]| at_first(steps, "worker: Draw", Fault::Failed);
    enumerate("network, failed once", base, a_job_over_the_network, &[Status::Draft])
}
