//! What users do, and what may come of it.

use std::pin::Pin;
use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_core::limits::POSITION_SETTLE;
use darkroom_tests::keys::MODEL;
use darkroom_tests::sim::{Fault, Planned, Step, World};
use darkroom_tests::stand_in_gemini::Behaviour;
use futures::future::join;
use serde_json::json;

use crate::enumerate::{at_first, nothing};
use crate::{DEADLINE, PATIENCE};

type Done<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// What users do, and what may come of it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Faults that every run of it meets, by the calls of a run without any.
    pub(crate) base: fn(&[Step]) -> Vec<Planned>,
    pub(crate) run: for<'a> fn(&'a World) -> Done<'a>,
    /// One for each key (I12).
    pub(crate) jobs: usize,
    pub(crate) expected: &'static [Status],
}

/// All of them.
pub(crate) const ALL: [&Scenario; 32] = [
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

/// Submits a job that the image API is asked for, and asks to end it some time later.
async fn cancelled_after(world: &World, time: Duration) -> anyhow::Result<()> {
    let id = submit(world, "k", MODEL, DEADLINE).await?;
    world.pass(time).await;
    world.client("alice").cancel(&id).await.map(drop)
}

fn drawn(world: &World) -> Done<'_> {
    Box::pin(async { a_job(world).await.map(drop) })
}

pub(crate) const DRAWN: Scenario =
    Scenario { name: "drawn", base: nothing, run: drawn, jobs: 1, expected: &[Status::Draft] };

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

/// It comes with metadata, and is asked for once more; then two change them at once. Both are kept.
pub(crate) const METADATA: Scenario = Scenario {
    name: "metadata",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            world.grant("alice", 10).await?;
            let alice = world.client("alice");
            let prompt = "a lighthouse ".repeat(60);
            let body = json!({"prompt": prompt, "model": LOCAL, "metadata": {"tags": {"old": 1, "kept": 2}}});
            let id = alice.submit("k", &body).await?;
            ensure!(alice.submit("k", &body).await? == id, "another job");
            let patches = [json!({"tags": {"old": null, "one": 1}}), json!({"tags": {"two": {"deep": 2}}})];
            let (one, two) = join(alice.patch(&id, &patches[0]), alice.patch(&id, &patches[1])).await;
            ensure!(
                one?["metadata"]["tags"]["one"] == 1 && two?["metadata"]["tags"]["two"]["deep"] == 2,
                "lost"
            );
            let shown = &alice.show(&id).await?["metadata"];
            ensure!(*shown == json!({"tags": {"kept": 2, "one": 1, "two": {"deep": 2}}}), "{shown}");
            ends_cancelled(world, &id).await
        })
    },
    expected: &[Status::Cancelled],
    ..DRAWN
};

/// It comes without: the first patches make them.
pub(crate) const FIRST_METADATA: Scenario = Scenario {
    name: "first metadata",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            let id = a_job(world).await?;
            let alice = world.client("alice");
            let patches = [json!({"one": [1]}), json!({"two": {"deep": 2}})];
            let (one, two) = join(alice.patch(&id, &patches[0]), alice.patch(&id, &patches[1])).await;
            ensure!(one?["metadata"]["one"] == json!([1]) && two?["metadata"]["two"]["deep"] == 2, "lost");
            let shown = &alice.show(&id).await?["metadata"];
            ensure!(*shown == json!({"one": [1], "two": {"deep": 2}}), "{shown}");
            ends_cancelled(world, &id).await
        })
    },
    expected: &[Status::Cancelled],
    ..DRAWN
};

async fn ends_cancelled(world: &World, id: &str) -> anyhow::Result<()> {
    let status = world.client("alice").cancel(id).await?;
    ensure!(status == 200, "{status}");
    world.consume(true);
    Ok(())
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

/// Two jobs, one of them with a prompt and metadata that are kept beside its record.
async fn submit_two(world: &World) -> anyhow::Result<[String; 2]> {
    world.grant("alice", 10).await?;
    let short = submit(world, "k", LOCAL, DEADLINE).await?;
    let body = json!({"prompt": "a lighthouse ".repeat(60), "model": LOCAL, "metadata": {"of": "long"},
                      "deadline_seconds": DEADLINE.as_secs()});
    Ok([short, world.client("alice").submit("long", &body).await?])
}

async fn two_drafts(world: &World) -> anyhow::Result<[String; 2]> {
    let ids = submit_two(world).await?;
    for id in &ids {
        world.until_settled(id, PATIENCE).await?;
    }
    Ok(ids)
}

async fn two_cancelled(world: &World) -> anyhow::Result<[String; 2]> {
    world.consume(false);
    let ids = submit_two(world).await?;
    for id in &ids {
        let status = world.client("alice").cancel(id).await?;
        ensure!(status == 200, "{status}");
    }
    world.consume(true);
    Ok(ids)
}

pub(crate) const PUBLISHED: Scenario = Scenario {
    name: "published",
    run: |world| {
        Box::pin(async {
            let ids = two_drafts(world).await?;
            for (id, published) in ids.iter().flat_map(|id| [true, false, true].map(|is| (id, is))) {
                let status = world.client("alice").publish(id, published).await?;
                ensure!(status == 200, "{status}");
            }
            // Which of the two is first: what is made beside the record is kept as long as that.
            let alice = world.client("alice");
            let patch = json!({"seen": true});
            let (unpublished, patched) =
                join(alice.publish(&ids[0], false), alice.patch(&ids[0], &patch)).await;
            ensure!(unpublished? == 200 && patched?["metadata"]["seen"] == true, "lost");
            let (published, patched) = join(alice.publish(&ids[0], true), alice.patch(&ids[1], &patch)).await;
            ensure!(published? == 200, "not published");
            ensure!(patched?["metadata"] == json!({"of": "long", "seen": true}), "lost");
            Ok(())
        })
    },
    jobs: 2,
    expected: &[Status::Published],
    ..DRAWN
};

async fn delete_both(world: &World, ids: [String; 2]) -> anyhow::Result<()> {
    let alice = world.client("alice");
    for id in &ids {
        // A patch is taken before, or finds no job.
        let late = json!({"late": true});
        let (status, _) = join(alice.delete(id), alice.patch(id, &late)).await;
        let status = status?;
        ensure!(status == 204, "{status}");
        ensure!(alice.patch(id, &json!({"later": true})).await.is_err(), "a deleted job has metadata");
    }
    Ok(())
}

pub(crate) const DELETED: Scenario = Scenario {
    name: "deleted",
    run: |world| Box::pin(async { delete_both(world, two_drafts(world).await?).await }),
    jobs: 0,
    expected: &[],
    ..DRAWN
};

pub(crate) const DELETED_WITHOUT_A_PICTURE: Scenario = Scenario {
    name: "deleted without a picture",
    run: |world| Box::pin(async { delete_both(world, two_cancelled(world).await?).await }),
    ..DELETED
};

pub(crate) const RETRIED: Scenario = Scenario {
    name: "retried",
    run: |world| {
        Box::pin(async {
            for id in &two_cancelled(world).await? {
                let retry = world.client("alice").retry(id).await?;
                let again = world.client("alice").retry(id).await?;
                ensure!(retry == again, "two retries of one job: {retry} and {again}");
                let (job, of) =
                    (world.client("alice").show(&retry).await?, world.client("alice").show(id).await?);
                ensure!(job["metadata"] == of["metadata"], "{} of {}", job["metadata"], of["metadata"]);
            }
            Ok(())
        })
    },
    jobs: 4,
    expected: &[Status::Cancelled, Status::Draft],
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

/// Nobody draws it, and its owner looks for the drafts before the sweeper comes.
pub(crate) const DRAFTS_LISTED: Scenario = Scenario {
    name: "drafts listed",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            world.grant("alice", 10).await?;
            submit(world, "k", LOCAL, Duration::from_secs(65)).await?;
            world.pass(Duration::from_secs(70)).await;
            let drafts = world.client("alice").drafts().await?;
            ensure!(drafts.is_empty(), "{drafts:?}");
            Ok(())
        })
    },
    expected: &[Status::Failed],
    ..DRAWN
};

/// Submits a job that is drawn from a picture of alice's own.
async fn from_a_picture(world: &World, key: &str) -> anyhow::Result<String> {
    let alice = world.client("alice");
    let upload = alice.upload(PICTURE).await?;
    let body = json!({"prompt": "a lighthouse", "model": LOCAL, "reference_upload_id": upload,
                      "deadline_seconds": DEADLINE.as_secs()});
    let id = alice.submit(key, &body).await?;
    ensure!(alice.show(&id).await?["reference"]["upload_id"] == *upload, "not shown");
    Ok(id)
}

const PICTURE: &[u8] = include_bytes!("../../corpora/image/good_rgb.png");

/// It is drawn from a picture that its owner has put.
pub(crate) const REFERENCE: Scenario = Scenario {
    name: "drawn with a reference",
    run: |world| {
        Box::pin(async {
            world.grant("alice", 10).await?;
            from_a_picture(world, "k").await.map(drop)
        })
    },
    ..DRAWN
};

/// The picture is gone when a worker comes to it: the job fails, and its tokens are back.
pub(crate) const REFERENCE_GONE: Scenario = Scenario {
    name: "reference gone",
    run: |world| {
        Box::pin(async {
            world.consume(false);
            world.grant("alice", 10).await?;
            from_a_picture(world, "k").await?;
            world.expire_uploads();
            world.consume(true);
            Ok(())
        })
    },
    expected: &[Status::Failed],
    ..DRAWN
};

/// Every key is answered so from now on.
pub(crate) fn answer_all(world: &World, behaviour: &Behaviour) {
    for name in ["one", "two"] {
        world.gemini().set_behaviour(&format!("AIza-{name}"), behaviour.clone());
    }
}
