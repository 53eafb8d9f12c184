//! Jobs that the image API is asked for: keys, quota, and answers of every kind.

use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_core::limits::POSITION_SETTLE;
use darkroom_tests::keys::MODEL;
use darkroom_tests::sim::{Fault, World};
use darkroom_tests::stand_in_gemini::Behaviour;

use super::{DRAWN, Scenario, THREE_LEASES, submit};
use crate::DEADLINE;
use crate::enumerate::at_first;

/// Submits a job that the image API is asked for, and asks to end it some time later.
async fn cancelled_after(world: &World, time: Duration) -> anyhow::Result<()> {
    let id = submit(world, "k", MODEL, DEADLINE).await?;
    world.pass(time).await;
    world.client("alice").cancel(&id).await.map(drop)
}

async fn with_two_projects(world: &World, requests_per_minute: u32) -> anyhow::Result<()> {
    world.grant("alice", 100).await?;
    world.add_key("one", requests_per_minute).await?;
    world.add_key("two", requests_per_minute).await
}

/// A job for the image API, with two projects to draw it.
pub(crate) const NETWORK: Scenario = Scenario {
    name: "network, drawn",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            submit(world, "k", MODEL, DEADLINE).await.map(drop)
        })
    },
    ..DRAWN
};

/// There is no key for the model: it cannot be drawn.
pub(crate) const NO_KEY: Scenario = Scenario {
    name: "no key",
    run: |world| {
        Box::pin(async {
            world.grant("alice", 10).await?;
            submit(world, "k", MODEL, DEADLINE).await.map(drop)
        })
    },
    expected: &[Status::Failed],
    ..DRAWN
};

/// The first project has no quota left when it is asked: the other draws it, in the same attempt.
pub(crate) const REFUSED_ONCE: Scenario = Scenario {
    name: "network, refused once",
    base: |steps| at_first(steps, "worker: Draw", Fault::Throttled),
    ..NETWORK
};

/// The provider fails once: another attempt, after a pause.
pub(crate) const FAILED_ONCE: Scenario = Scenario {
    name: "network, failed once",
    base: |steps| at_first(steps, "worker: Draw", Fault::Failed),
    ..NETWORK
};

/// The worker dies with the picture in its hands, after it has shown a sign of life.
pub(crate) const NETWORK_WORKER_DIED: Scenario = Scenario {
    name: "network, worker died",
    base: |steps| at_first(steps, "worker: PutObject", Fault::KilledBefore),
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            submit(world, "k", MODEL, THREE_LEASES).await.map(drop)
        })
    },
    ..NETWORK
};

/// The same, and its owner asks to end it before the sweeper finds it.
pub(crate) const NETWORK_CANCELLED_WORKER_DIED: Scenario = Scenario {
    name: "network, cancelled, worker died",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            cancelled_after(world, Duration::from_secs(30)).await
        })
    },
    expected: &[Status::Cancelled],
    ..NETWORK_WORKER_DIED
};

/// Every worker dies so: after the last one nothing is left for the job.
pub(crate) const NETWORK_WORKERS_DIE: Scenario = Scenario {
    name: "network, workers die",
    run: |world| {
        Box::pin(async {
            world.always("worker: PutObject", Fault::KilledBefore);
            with_two_projects(world, 10).await?;
            submit(world, "k", MODEL, THREE_LEASES).await.map(drop)
        })
    },
    expected: &[Status::Failed],
    ..NETWORK
};

/// The provider does not draw such things.
pub(crate) const BLOCKED: Scenario = Scenario {
    name: "network, blocked",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            answer_all(world, &Behaviour::Finish("IMAGE_SAFETY".to_owned()));
            submit(world, "k", MODEL, DEADLINE).await.map(drop)
        })
    },
    expected: &[Status::Failed],
    ..DRAWN
};

/// Its owner asks to end it while it is drawn, and no picture comes: there is no other try.
pub(crate) const CANCELLED_CALLING: Scenario = Scenario {
    name: "network, cancelled",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            answer_all(world, &Behaviour::Status(500));
            cancelled_after(world, Duration::from_secs(4)).await
        })
    },
    expected: &[Status::Cancelled],
    ..DRAWN
};

/// The first call of each project is refused: what was to follow it up waits, its call not made.
pub(crate) const FIRST_REFUSED: Scenario = Scenario {
    name: "network, first calls refused",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 3).await?;
            world.consume(false);
            for name in ["one", "two"] {
                world.gemini().queue_behaviours(&format!("AIza-{name}"), [Behaviour::BareRateLimit]);
            }
            for key in ["k1", "k2", "k3", "k4", "k5", "k6"] {
                submit(world, key, MODEL, DEADLINE).await?;
            }
            world.consume(true);
            Ok(())
        })
    },
    jobs: 6,
    ..DRAWN
};

/// One key is invalid, the other draws.
pub(crate) const DEAD_KEY: Scenario = Scenario {
    name: "network, dead key",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            world.gemini().set_behaviour("AIza-one", Behaviour::InvalidKey);
            submit(world, "k1", MODEL, DEADLINE).await?;
            submit(world, "k2", MODEL, DEADLINE).await.map(drop)
        })
    },
    jobs: 2,
    ..DRAWN
};

/// Two calls a minute, and six jobs: they wait on their records for their turns.
pub(crate) const NO_QUOTA: Scenario = Scenario {
    name: "network, no quota",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 1).await?;
            for key in ["k1", "k2", "k3", "k4", "k5", "k6"] {
                submit(world, key, MODEL, DEADLINE).await?;
            }
            Ok(())
        })
    },
    jobs: 6,
    ..DRAWN
};

/// The provider fails until the breaker has opened, and draws again when it is asked the next time.
pub(crate) const PROVIDER_DOWN: Scenario = Scenario {
    name: "network, provider down",
    run: |world| {
        Box::pin(async {
            with_two_projects(world, 10).await?;
            answer_all(world, &Behaviour::Status(503));
            for key in ["k1", "k2", "k3"] {
                submit(world, key, MODEL, DEADLINE).await?;
            }
            world.pass(Duration::from_secs(30)).await;
            answer_all(world, &Behaviour::Draw);
            Ok(())
        })
    },
    jobs: 3,
    expected: &[Status::Draft, Status::Failed],
    ..DRAWN
};

/// Its owner looks when it would be drawn, which the pool tells, and ends it.
pub(crate) const NETWORK_WATCHED: Scenario = Scenario {
    name: "network, watched",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            with_two_projects(world, 10).await?;
            let id = submit(world, "k", MODEL, DEADLINE).await?;
            world.pass(POSITION_SETTLE + Duration::from_secs(1)).await;
            let job = world.client("alice").show(&id).await?;
            ensure!(job["status"] == "pending", "{job}");
            world.client("alice").cancel(&id).await.map(drop)
        })
    },
    expected: &[Status::Cancelled],
    ..DRAWN
};

/// Every key is answered so from now on.
pub(crate) fn answer_all(world: &World, behaviour: &Behaviour) {
    for name in ["one", "two"] {
        world.gemini().set_behaviour(&format!("AIza-{name}"), behaviour.clone());
    }
}
