//! What owners do beside waiting: change metadata, publish, delete, try again, list drafts, and bring pictures of their own.

use std::time::Duration;

use anyhow::ensure;
use darkroom_core::job::Status;
use darkroom_tests::sim::World;
use futures::future::join;
use serde_json::json;

use super::{DRAWN, LOCAL, Scenario, a_job, ends_cancelled, submit};
use crate::{DEADLINE, PATIENCE};

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

const PICTURE: &[u8] = include_bytes!("../../../corpora/image/good_rgb.png");

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
