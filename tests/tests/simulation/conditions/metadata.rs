//! Metadata: the first are made beside a record that is there, others are changed as they were seen, and those of an earlier job
//! of the same key are none.

use std::time::Duration;

use anyhow::{bail, ensure};
use darkroom_aws::{Beside, Created, Deleted, Patched};
use darkroom_core::id::{Stamp, UserId};
use darkroom_core::job::{Job, Outcome, Settled, Stage};
use darkroom_core::lifecycle::{Command, End};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::metadata::{JobMetadata, Metadata, MetadataPatch};
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;
use serde_json::{Value, json};

use super::choices::new_job;
use super::{Case, put};

const HOUR: Duration = Duration::from_secs(3_600);
const TTL_DAYS: u64 = 1;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("first metadata", the_first_are_made_once),
        Case::new("metadata of a job that is over", the_first_are_made_until_the_record_expires),
        Case::new("metadata of a published job", the_first_are_kept_longer_than_the_record),
        Case::new("metadata of a deleted job", none_are_made_beside_a_tombstone),
        Case::new("metadata of an absent job", none_are_made_without_the_record),
        Case::new("metadata changed", each_change_names_the_version_it_has_seen),
        Case::new("metadata of another submission", one_submission_s_are_none_of_another_s),
    ]
}

fn patch(patch: Value) -> MetadataPatch {
    MetadataPatch::parse(patch).unwrap_or_else(|violation| panic!("{}", violation.reason))
}

fn metadata(value: &Value) -> Metadata {
    Metadata::from_stored(&value.to_string()).expect("an object")
}

const fn created_at(job: &Job) -> Timestamp {
    job.order.created_at
}

/// The job of this key as it is submitted so much later than another, with these metadata.
async fn submitted(writes: &Writes, later: Duration, with: Option<&Value>) -> anyhow::Result<Job> {
    writes
        .ledger
        .grant(&UserId::parse("user")?, 3, &format!("g{later:?}"), Timestamp::from_millis(1))
        .await?;
    let mut job = new_job("k", 3, &format!("{later:?}"));
    job.order.created_at = created_at(&job).plus(later);
    let with = with.map(metadata);
    let expires_at = created_at(&job).plus(HOUR * 10);
    let beside = Beside { long_prompt: None, metadata: with.as_ref(), expires_at };
    match writes.jobs.create(job, Some(beside), 9).await? {
        Created::New(job) => Ok(job),
        Created::Existing(_) | Created::Deleted(_) | Created::Refused(_) => bail!("not made"),
    }
}

/// The job's end, with its record kept for an hour.
async fn ended(writes: &Writes, job: &Job) -> anyhow::Result<()> {
    let now = created_at(job);
    let cancel = Command::CancelPending { end: End { now, expires_at: now.plus(HOUR) } };
    let op = Stamp::from_stored("end".to_owned());
    writes.jobs.commit(job, &cancel, &op, now, SETTLE_PATIENCE).await?;
    Ok(())
}

/// A patch of what was seen so, so much after the job's submission.
async fn patched(
    writes: &Writes,
    job: &Job,
    seen: &JobMetadata,
    with: Value,
    later: Duration,
) -> anyhow::Result<Patched> {
    let now = created_at(job).plus(later);
    Ok(writes.jobs.patch_metadata(job, seen.clone(), &patch(with), TTL_DAYS, now).await?)
}

async fn are(writes: &Writes, job: &Job, version: u64, expected: &Value) -> anyhow::Result<JobMetadata> {
    let stored = writes.jobs.metadata(job).await?;
    ensure!(stored.value == metadata(expected), "{} is not {expected}", stored.value.text());
    ensure!(stored.version == version, "version {}", stored.version);
    Ok(stored)
}

const fn is_applied(patched: &Patched) -> bool {
    matches!(patched, Patched::Applied(_))
}

async fn the_first_are_made_once(writes: Writes) -> anyhow::Result<()> {
    let job = submitted(&writes, Duration::ZERO, None).await?;
    let none = are(&writes, &job, 0, &json!({})).await?;
    // Both have seen none.
    for with in [json!({"a": {"b": 1}}), json!({"a": {"c": 2}})] {
        ensure!(is_applied(&patched(&writes, &job, &none, with, Duration::ZERO).await?), "a patch");
    }
    are(&writes, &job, 2, &json!({"a": {"b": 1, "c": 2}})).await?;
    Ok(())
}

async fn the_first_are_made_until_the_record_expires(writes: Writes) -> anyhow::Result<()> {
    let job = submitted(&writes, Duration::ZERO, None).await?;
    ended(&writes, &job).await?;
    let none = JobMetadata::default();
    let late = patched(&writes, &job, &none, json!({"late": 1}), HOUR).await?;
    ensure!(matches!(late, Patched::Absent), "the record has expired");
    are(&writes, &job, 0, &json!({})).await?;
    let second = Duration::from_secs(1);
    ensure!(
        is_applied(&patched(&writes, &job, &none, json!({"a": 1}), HOUR.saturating_sub(second)).await?),
        "it has not"
    );
    are(&writes, &job, 1, &json!({"a": 1})).await?;
    Ok(())
}

/// Who has read the record before it was published finds it kept for longer.
async fn the_first_are_kept_longer_than_the_record(writes: Writes) -> anyhow::Result<()> {
    for (minutes, days) in [(0, 400), (1, 2), (2, 1)] {
        let job = submitted(&writes, HOUR * (500 + minutes), None).await?;
        let expires_at = created_at(&job).plus(HOUR * 24 * days);
        let end = Settled { finished_at: created_at(&job), expires_at, outcome: Outcome::Cancelled };
        put(&writes, &Job { stage: Stage::Settled(end), ..job.clone() }).await?;
        let made = patched(&writes, &job, &JobMetadata::default(), json!({"a": 1}), Duration::ZERO).await?;
        ensure!(is_applied(&made), "beside a record of {days} days");
        are(&writes, &job, 1, &json!({"a": 1})).await?;
        let read = writes.clients.dynamodb.get_item().table_name(&writes.names.jobs);
        let key = read.key("pk", super::text(job.id.as_str())).key("sk", super::text("META"));
        let item = key.send().await?.item.expect("metadata");
        let ttl: u64 = item["ttl"].as_n().expect("a number").parse()?;
        ensure!(ttl > expires_at.as_seconds(), "{ttl} beside a record of {days} days");
        // Its key is free for the next.
        let gone = Job {
            stage: Stage::Settled(Settled { expires_at: created_at(&job), ..settled_of(&job) }),
            ..job
        };
        put(&writes, &gone).await?;
    }
    Ok(())
}

fn settled_of(job: &Job) -> Settled {
    Settled { finished_at: created_at(job), expires_at: created_at(job), outcome: Outcome::Cancelled }
}

/// Who has read the job before it was deleted makes nothing beside what is left of it, whatever was seen.
async fn none_are_made_beside_a_tombstone(writes: Writes) -> anyhow::Result<()> {
    for (hours, with) in [(700, None), (800, Some(json!({"b": 2})))] {
        let job = submitted(&writes, HOUR * hours, with.as_ref()).await?;
        let seen = writes.jobs.metadata(&job).await?;
        let expires_at = created_at(&job).plus(HOUR);
        let over = Job { stage: Stage::Settled(Settled { expires_at, ..settled_of(&job) }), ..job.clone() };
        put(&writes, &over).await?;
        let deleted = writes.jobs.delete(&over, &Stamp::from_stored("delete".to_owned())).await?;
        ensure!(matches!(deleted, Deleted::Done(_)), "not deleted");
        ensure!(writes.jobs.get_with_metadata(&job.id).await?.is_none(), "it is no job");
        for seen in [seen, JobMetadata::default()] {
            let made = patched(&writes, &job, &seen, json!({"a": 1}), Duration::ZERO).await?;
            ensure!(matches!(made, Patched::Absent), "there is a tombstone");
            are(&writes, &job, 0, &json!({})).await?;
        }
    }
    Ok(())
}

async fn none_are_made_without_the_record(writes: Writes) -> anyhow::Result<()> {
    let job = new_job("k", 3, "never");
    let none = JobMetadata::default();
    let made = patched(&writes, &job, &none, json!({"a": 1}), Duration::ZERO).await?;
    ensure!(matches!(made, Patched::Absent), "there is no record");
    are(&writes, &job, 0, &json!({})).await?;
    // Those that were seen are gone, and so is the record.
    let seen = JobMetadata { version: 3, value: metadata(&json!({"b": 2})) };
    let changed = patched(&writes, &job, &seen, json!({"a": 1}), Duration::ZERO).await?;
    ensure!(matches!(changed, Patched::Absent), "there is no record");
    are(&writes, &job, 0, &json!({})).await?;
    // With the record they are made anew.
    put(&writes, &job).await?;
    ensure!(is_applied(&patched(&writes, &job, &seen, json!({"a": 1}), Duration::ZERO).await?), "a record");
    are(&writes, &job, 1, &json!({"a": 1})).await?;
    Ok(())
}

async fn each_change_names_the_version_it_has_seen(writes: Writes) -> anyhow::Result<()> {
    let job = submitted(&writes, Duration::ZERO, Some(&json!({"a": {"x": 0}}))).await?;
    let first = are(&writes, &job, 1, &json!({"a": {"x": 0}})).await?;
    // Both have seen the first.
    for with in [json!({"a": {"x": null, "y": 1}}), json!({"a": {"z": 2}})] {
        ensure!(is_applied(&patched(&writes, &job, &first, with, Duration::ZERO).await?), "a patch");
    }
    let third = are(&writes, &job, 3, &json!({"a": {"y": 1, "z": 2}})).await?;
    // What changes nothing writes nothing: a patch again, as after a lost answer.
    for seen in [&first, &third] {
        ensure!(
            is_applied(&patched(&writes, &job, seen, json!({"a": {"z": 2}}), Duration::ZERO).await?),
            "again"
        );
    }
    are(&writes, &job, 3, &json!({"a": {"y": 1, "z": 2}})).await?;
    Ok(())
}

async fn one_submission_s_are_none_of_another_s(writes: Writes) -> anyhow::Result<()> {
    let old = submitted(&writes, Duration::ZERO, Some(&json!({"old": 1}))).await?;
    let of_old = are(&writes, &old, 1, &json!({"old": 1})).await?;
    ended(&writes, &old).await?;
    // The key is used again, and nothing is kept with it.
    let new = submitted(&writes, HOUR, None).await?;
    let none = are(&writes, &new, 0, &json!({})).await?;
    let (found, beside) = writes.jobs.get_with_metadata(&new.id).await?.expect("a record");
    ensure!(found == new && beside == none, "{}", beside.value.text());
    // Who still holds the old one changes what is left of it, and the new one shows nothing of that.
    patched(&writes, &old, &of_old, json!({"late": 1}), Duration::ZERO).await?;
    are(&writes, &new, 0, &json!({})).await?;
    ensure!(
        is_applied(&patched(&writes, &new, &none, json!({"new": 1}), Duration::ZERO).await?),
        "the first"
    );
    are(&writes, &new, 1, &json!({"new": 1})).await?;
    // Of the same version, but not the same; and made anew by who has seen none.
    for seen in [&of_old, &JobMetadata::default()] {
        let stale = patched(&writes, &old, seen, json!({"late": 2}), Duration::ZERO).await?;
        ensure!(matches!(stale, Patched::Absent), "the old job is no more");
    }
    are(&writes, &new, 1, &json!({"new": 1})).await?;
    ended(&writes, &new).await?;
    // A record alone does not let the old one's be made.
    let third = submitted(&writes, HOUR * 2, None).await?;
    writes
        .clients
        .dynamodb
        .delete_item()
        .table_name(&writes.names.jobs)
        .key("pk", super::text(third.id.as_str()))
        .key("sk", super::text("META"))
        .send()
        .await?;
    let stale = patched(&writes, &old, &JobMetadata::default(), json!({"late": 3}), Duration::ZERO).await?;
    ensure!(matches!(stale, Patched::Absent), "another submission's record");
    are(&writes, &third, 0, &json!({})).await?;
    // One that comes with its own replaces what is there.
    ended(&writes, &third).await?;
    let fourth = submitted(&writes, HOUR * 3, Some(&json!({"fourth": 1}))).await?;
    are(&writes, &fourth, 1, &json!({"fourth": 1})).await?;
    Ok(())
}
