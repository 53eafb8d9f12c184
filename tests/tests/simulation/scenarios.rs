//! What users do, and what may come of it. Here are the jobs that Darkroom draws itself.

mod batches;
mod network;
mod owners;

use std::pin::Pin;
use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_tests::sim::{Fault, Planned, Step, World};
use serde_json::json;

use crate::DEADLINE;
use crate::enumerate::{at_first, nothing};

pub(crate) use batches::*;
pub(crate) use network::*;
pub(crate) use owners::*;

type Done<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// What users do, and what may come of it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Faults that every run of it meets, by the calls of a run without any.
    pub(crate) base: fn(&[Step]) -> Vec<Planned>,
    pub(crate) run: for<'a> fn(&'a World) -> Done<'a>,
    /// One for each key (I12), and for each line.
    pub(crate) jobs: usize,
    /// Whether there may be fewer: of a batch that was ended while jobs were made of it.
    pub(crate) or_fewer: bool,
    pub(crate) expected: &'static [Status],
}

/// All of them.
pub(crate) const ALL: [&Scenario; 35] = [
    &DRAWN,
    &NEVER_SENT,
    &SEND_FAILED,
    &WORKER_DIED,
    &WORKERS_DIE,
    &CANCELLED_WAITING,
    &CANCELLED_WORKER_DIED,
    &NOBODY_DRAWS,
    &LONG_PROMPT,
    &METADATA,
    &FIRST_METADATA,
    &NO_KEY,
    &NETWORK,
    &NETWORK_WORKER_DIED,
    &NETWORK_CANCELLED_WORKER_DIED,
    &NETWORK_WORKERS_DIE,
    &REFUSED_ONCE,
    &FAILED_ONCE,
    &BLOCKED,
    &CANCELLED_CALLING,
    &FIRST_REFUSED,
    &DEAD_KEY,
    &NO_QUOTA,
    &PROVIDER_DOWN,
    &PUBLISHED,
    &DELETED,
    &DELETED_WITHOUT_A_PICTURE,
    &RETRIED,
    &NETWORK_WATCHED,
    &DRAFTS_LISTED,
    &REFERENCE,
    &REFERENCE_GONE,
    &BATCH,
    &BATCH_UPLOADED,
    &BATCH_CANCELLED,
];

const LOCAL: &str = "darkroom-local";
/// Time for three workers to die after one another, or for two and a picture.
const THREE_LEASES: Duration = Duration::from_secs(1_500);

async fn submit(world: &World, key: &str, model: &str, deadline: Duration) -> anyhow::Result<String> {
    let prompt = format!("a lighthouse, {key}");
    let body = json!({"prompt": prompt, "model": model, "deadline_seconds": deadline.as_secs()});
    world.client("alice").submit(key, &body).await
}

async fn a_job(world: &World) -> anyhow::Result<String> {
    world.grant("alice", 10).await?;
    submit(world, "k", LOCAL, DEADLINE).await
}

fn drawn(world: &World) -> Done<'_> {
    Box::pin(async { a_job(world).await.map(drop) })
}

pub(crate) const DRAWN: Scenario = Scenario {
    name: "drawn",
    base: nothing,
    run: drawn,
    jobs: 1,
    or_fewer: false,
    expected: &[Status::Draft],
};

/// Submit dies between the transaction and its message: the sweeper sends it.
pub(crate) const NEVER_SENT: Scenario = Scenario {
    name: "message never sent",
    base: |steps| at_first(steps, "submit: TransactWriteItems", Fault::KilledAfter),
    ..DRAWN
};

/// The message cannot be sent, and submit has the job looked at sooner.
pub(crate) const SEND_FAILED: Scenario = Scenario {
    name: "message cannot be sent",
    base: |steps| {
        let all = |planned| Planned { in_all_tries: true, ..planned };
        at_first(steps, "submit: SendMessage", Fault::Failed).into_iter().map(all).collect()
    },
    ..DRAWN
};

/// The worker dies with the picture in its hands: the sweeper puts the job back when its lease is over.
pub(crate) const WORKER_DIED: Scenario = Scenario {
    name: "worker died",
    base: |steps| at_first(steps, "worker: PutObject", Fault::KilledBefore),
    run: |world| {
        Box::pin(async {
            world.grant("alice", 10).await?;
            submit(world, "k", LOCAL, THREE_LEASES).await.map(drop)
        })
    },
    ..DRAWN
};

/// Every worker that tries dies, until there is no try left.
pub(crate) const WORKERS_DIE: Scenario = Scenario {
    name: "workers die",
    run: |world| {
        Box::pin(async {
            world.always("worker: PutObject", Fault::KilledBefore);
            world.grant("alice", 10).await?;
            submit(world, "k", LOCAL, THREE_LEASES).await.map(drop)
        })
    },
    expected: &[Status::Failed],
    ..DRAWN
};

pub(crate) const CANCELLED_WAITING: Scenario = Scenario {
    name: "cancelled, waiting",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            let id = a_job(world).await?;
            ends_cancelled(world, &id).await
        })
    },
    expected: &[Status::Cancelled],
    ..DRAWN
};

/// The worker has died: nobody will draw it, and the sweeper ends it when its lease is over.
pub(crate) const CANCELLED_WORKER_DIED: Scenario = Scenario {
    name: "cancelled, worker died",
    run: |world| {
        Box::pin(async {
            let id = a_job(world).await?;
            world.pass(Duration::from_secs(10)).await;
            world.client("alice").cancel(&id).await.map(drop)
        })
    },
    expected: &[Status::Cancelled],
    ..WORKER_DIED
};

pub(crate) const NOBODY_DRAWS: Scenario = Scenario {
    name: "nobody draws",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            world.grant("alice", 10).await?;
            submit(world, "k", LOCAL, Duration::from_secs(60)).await.map(drop)
        })
    },
    expected: &[Status::Failed],
    ..DRAWN
};

/// Its prompt is kept beside the record.
pub(crate) const LONG_PROMPT: Scenario = Scenario {
    name: "long prompt",
    run: |world| {
        Box::pin(async {
            world.grant("alice", 10).await?;
            submit(world, &"k".repeat(250), LOCAL, DEADLINE).await?;
            let body = json!({"prompt": "a lighthouse ".repeat(60), "model": LOCAL});
            world.client("alice").submit("long", &body).await.map(drop)
        })
    },
    jobs: 2,
    ..DRAWN
};

async fn ends_cancelled(world: &World, id: &str) -> anyhow::Result<()> {
    let status = world.client("alice").cancel(id).await?;
    ensure!(status == 200, "{status}");
    world.consume(true);
    Ok(())
}
