//! Places in the queue, and the queue as a whole: who waits how far back, however many ask at once, and what a look costs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use darkroom_core::limits::{INDEX_SHARDS, POSITION_ENTRIES_MAX, POSITION_SETTLE};
use darkroom_tests::sim::{Plan, Reader, World};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::{runtime, settings};

/// A run in which nobody draws, and of which only what is read matters.
fn watch(users: impl AsyncFnOnce(&World) -> anyhow::Result<()>) -> anyhow::Result<()> {
    runtime().block_on(async {
        let world = World::start(settings(1, Plan::NONE)).await?;
        world.consume(false);
        users(&world).await?;
        ensure!(world.broken().is_empty(), "{}", world.broken().join("; "));
        Ok(())
    })
}

/// A user with so many jobs at most has a job waiting.
const JOBS_PER_USER: usize = 50;

fn user(job: usize) -> String {
    format!("user{}", job / JOBS_PER_USER)
}

/// So many jobs, submitted at the same moment; their ids.
async fn submit_at_once(world: &World, jobs: usize) -> anyhow::Result<Vec<String>> {
    for first in (0..jobs).step_by(JOBS_PER_USER) {
        world.grant(&user(first), 1_000).await?;
    }
    let submissions = (0..jobs).map(|job| async move {
        let body = json!({"prompt": "x", "model": "darkroom-local"});
        world.client(&user(job)).submit(&format!("k{job}"), &body).await
    });
    try_join_all(submissions).await
}

/// Each job's place, as one environment tells it; the number of the job is its key.
async fn places(reader: &Reader, ids: &BTreeMap<usize, String>) -> anyhow::Result<BTreeMap<usize, u64>> {
    let mut places = BTreeMap::new();
    for (job, id) in ids {
        let shown = reader.get(&user(*job), &format!("/v1/jobs/{id}")).await?;
        assert_eq!(shown["queue_position_exact"], true, "{shown}");
        places.insert(*job, shown["queue_position"].as_u64().unwrap());
    }
    Ok(places)
}

fn whoever_is_submitted_at_once_has_a_place_of_his_own(jobs: usize) -> anyhow::Result<()> {
    watch(async |world| {
        let ids = submit_at_once(world, jobs).await?;
        let mut ids: BTreeMap<usize, String> = ids.into_iter().enumerate().collect();
        world.pass(POSITION_SETTLE + Duration::from_secs(1)).await;
        let reader = world.reader()?;
        let mut before = places(&reader, &ids).await?;
        let mut sorted: Vec<_> = before.values().copied().collect();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=jobs as u64).collect::<Vec<_>>(), "a place each, without a gap");
        // One in the middle, the first and the last leave.
        for place in [jobs as u64 / 2, 1, jobs as u64 - 2] {
            let (leaves, _) = before.iter().find(|(_, other)| **other == place).unwrap();
            let leaves = *leaves;
            let id = ids.remove(&leaves).unwrap();
            assert_eq!(world.client(&user(leaves)).cancel(&id).await?, 200);
            // The next look.
            world.pass(Duration::from_secs(2)).await;
            before.remove(&leaves);
            let moved_up = |other: u64| if other > place { other - 1 } else { other };
            let expected: BTreeMap<_, _> =
                before.iter().map(|(job, other)| (*job, moved_up(*other))).collect();
            before = places(&reader, &ids).await?;
            assert_eq!(before, expected, "after {place} has left");
            // A page that is loaded anew, and an environment that has seen nothing before.
            assert_eq!(places(&reader, &ids).await?, expected, "asked again");
            assert_eq!(places(&world.reader()?, &ids).await?, expected, "asked of another");
        }
        Ok(())
    })
}

#[test]
fn ten_jobs_at_once_have_ten_places_and_move_up() {
    whoever_is_submitted_at_once_has_a_place_of_his_own(10).unwrap();
}

#[test]
fn five_hundred_jobs_at_once_have_five_hundred_places_and_move_up() {
    whoever_is_submitted_at_once_has_a_place_of_his_own(500).unwrap();
}

/// What a new environment asks of the stores for the place of the last of so many, and for the queue; and what these show.
fn with_waiting(jobs: usize) -> anyhow::Result<[(Value, Vec<String>); 2]> {
    let mut found = None;
    watch(async |world| {
        world.grant("alice", 10).await?;
        world.pass(Duration::from_secs(1)).await;
        let id =
            world.client("alice").submit("k", &json!({"prompt": "x", "model": "darkroom-local"})).await?;
        world.let_wait(jobs)?;
        world.pass(POSITION_SETTLE).await;
        let job = world.reader()?.get_counted("alice", &format!("/v1/jobs/{id}")).await?;
        let reader = world.reader()?;
        let queue = reader.get_counted("alice", "/v1/queue").await?;
        let (again, calls) = reader.get_counted("bob", "/v1/queue").await?;
        assert_eq!(
            (&again, calls.len()),
            (&queue.0, 0),
            "everybody is told the same, once a second: {calls:?}"
        );
        for (_, calls) in [&job, &queue] {
            let reads = ["api: GetItem", "api: Query", "api: BatchGetItem"];
            let is_read = |call: &&String| reads.iter().any(|read| call.starts_with(read));
            let others: Vec<_> = calls.iter().filter(|call| !is_read(call)).collect();
            assert!(others.is_empty(), "nothing is written for it: {others:?}");
        }
        found = Some([job, queue]);
        Ok(())
    })?;
    Ok(found.unwrap())
}

fn row(queue: &Value) -> &Value {
    let rows = queue["models"].as_array().unwrap();
    rows.iter().find(|row| row["model"] == "darkroom-local").unwrap()
}

#[test]
fn a_look_costs_the_same_however_many_wait() {
    let [(few_job, few_calls), (few_queue, few_queue_calls)] = with_waiting(1_000).unwrap();
    let [(many_job, many_calls), (many_queue, many_queue_calls)] = with_waiting(100_000).unwrap();
    assert_eq!(few_calls, many_calls, "the calls for a job");
    assert_eq!(few_queue_calls, many_queue_calls, "the calls for the queue");
    let of_waiting = |calls: &[String]| calls.iter().filter(|call| call.contains("waiting")).count() as u64;
    assert_eq!((of_waiting(&few_calls), of_waiting(&few_queue_calls)), (INDEX_SHARDS, INDEX_SHARDS));
    // What is read is no more either, and what is beyond it is not told as if it were not there.
    for (job, queue) in [(&few_job, &few_queue), (&many_job, &many_queue)] {
        let pending = row(queue)["pending"].as_u64().unwrap();
        assert!((100..=POSITION_ENTRIES_MAX as u64).contains(&pending), "{queue}");
        assert_eq!(row(queue)["pending_exact"], false, "{queue}");
        assert_eq!(
            (&job["queue_position"], &job["queue_position_exact"]),
            (&json!(pending + 1), &json!(false))
        );
    }
}

#[test]
fn the_queue_is_counted_by_model_and_since_when_it_waits() {
    watch(async |world| {
        world.add_key("one", 2).await?;
        world.grant("alice", 100).await?;
        let reader = world.reader()?;
        let empty = reader.get("bob", "/v1/queue").await?;
        for row in empty["models"].as_array().unwrap() {
            assert_eq!((&row["pending"], &row["processing"]), (&json!(0), &json!(0)), "{row}");
            assert_eq!(
                (&row["pending_exact"], &row["processing_exact"]),
                (&json!(true), &json!(true)),
                "{row}"
            );
            assert_eq!(row["oldest_pending_seconds"], Value::Null, "{row}");
        }
        let submit = async |key: &str, model: &str| {
            world.client("alice").submit(key, &json!({"prompt": key, "model": model})).await
        };
        let first = submit("k1", "darkroom-local").await?;
        world.pass(Duration::from_secs(30)).await;
        submit("k2", "darkroom-local").await?;
        submit("k3", darkroom_tests::keys::MODEL).await?;
        world.pass(Duration::from_secs(10)).await;
        let of = |queue: &Value, model: &str| {
            let rows = queue["models"].as_array().unwrap();
            rows.iter().find(|row| row["model"] == model).unwrap().clone()
        };
        let queue = reader.get("bob", "/v1/queue").await?;
        let local = of(&queue, "darkroom-local");
        assert_eq!((&local["pending"], &local["oldest_pending_seconds"]), (&json!(2), &json!(40)), "{local}");
        assert_eq!((&local["processing"], &local["breaker"]), (&json!(0), &Value::Null), "{local}");
        let gemini = of(&queue, darkroom_tests::keys::MODEL);
        assert_eq!(
            (&gemini["pending"], &gemini["oldest_pending_seconds"]),
            (&json!(1), &json!(10)),
            "{gemini}"
        );
        assert_eq!(gemini["breaker"], "closed", "{gemini}");
        // Two a minute, and three stand before the next, as if all wanted this model: the second minute.
        let eta = gemini["eta_seconds"].as_u64().unwrap();
        assert!((60..=80).contains(&eta), "{gemini}");

        assert_eq!(world.client("alice").cancel(&first).await?, 200);
        world.consume(true);
        // A picture of this model takes seven seconds, one of the other none.
        world.pass(Duration::from_secs(3)).await;
        let queue = reader.get("bob", "/v1/queue").await?;
        let gemini = of(&queue, darkroom_tests::keys::MODEL);
        assert_eq!((&gemini["pending"], &gemini["processing"]), (&json!(0), &json!(1)), "{queue}");
        assert_eq!(of(&queue, "darkroom-local")["pending"], json!(0), "{queue}");
        world.pass(Duration::from_secs(20)).await;
        let queue = reader.get("bob", "/v1/queue").await?;
        assert_eq!(of(&queue, darkroom_tests::keys::MODEL)["processing"], json!(0), "{queue}");
        Ok(())
    })
    .unwrap();
}
