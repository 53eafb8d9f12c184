//! Exports: one of a key, so many of a user at a time, and nobody writes who was overtaken.

use anyhow::ensure;
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::{ExportTable, Exported};
use darkroom_core::export::{Export, ExportFailure, ExportFile, ExportRequest, ExportSubmission};
use darkroom_core::id::{ExportId, IdempotencyKey, Stamp, UserId};
use darkroom_core::limits::EXPORTS_LIVE_MAX;
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;
use serde_json::json;

use super::{Case, damage, number};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("export", a_key_makes_one_export_until_its_record_has_expired),
        Case::new("exports at a time", a_user_has_so_many_at_a_time),
        Case::new("export as seen", who_was_overtaken_writes_nothing),
        Case::new("export ends once", an_export_ends_once_and_makes_room_once),
        Case::new("export not counted", one_that_is_not_counted_does_not_end),
    ]
}

fn table(writes: &Writes) -> ExportTable {
    ExportTable::new(writes.clients.dynamodb.clone(), writes.names.jobs.clone())
}

fn stamp(name: &str) -> Stamp {
    Stamp::from_stored(name.to_owned())
}

fn asked_at(user: &str, key: &str, asked_at: Timestamp) -> Export {
    let user = UserId::parse(user).unwrap();
    let id = ExportId::derive(&user, &IdempotencyKey::parse(key).unwrap());
    let days = json!({"kind": "jobs", "format": "csv", "start_date": "2026-01-01", "end_date": "2026-01-31"});
    let request = ExportRequest::parse(&days).unwrap();
    let op = stamp(&format!("asked {user} {key} {}", asked_at.as_millis()));
    Export::submitted(ExportSubmission { id, user, request, asked_at, op })
}

fn asked(user: &str, key: &str) -> Export {
    asked_at(user, key, NOW)
}

fn file() -> ExportFile {
    ExportFile { key: "exports/x".to_owned(), bytes: 1 }
}

async fn live(writes: &Writes, user: &str) -> anyhow::Result<u64> {
    Ok(table(writes).live(&UserId::parse(user)?).await?)
}

async fn a_key_makes_one_export_until_its_record_has_expired(writes: Writes) -> anyhow::Result<()> {
    let (exports, first) = (table(&writes), asked("alice", "k"));
    ensure!(exports.create(first.clone()).await? == Exported::New(first.clone()), "the first");
    ensure!(exports.create(first.clone()).await? == Exported::New(first.clone()), "its answer was lost");
    let mut second = first.clone();
    second.op = stamp("another");
    ensure!(exports.create(second).await? == Exported::Existing(first.clone()), "the same key again");
    ensure!(live(&writes, "alice").await? == 1, "counted once");
    let ready = first.ready(file(), 7, NOW, stamp("ready"));
    ensure!(exports.replace(&first, &ready).await?, "it ends");
    let expires_at = ready.expires_at().unwrap();
    let just_before = Timestamp::from_millis(expires_at.as_millis() - 1_000);
    let too_soon = asked_at("alice", "k", just_before);
    ensure!(exports.create(too_soon).await? == Exported::Existing(ready), "before it expires");
    let anew = asked_at("alice", "k", expires_at);
    ensure!(exports.create(anew.clone()).await? == Exported::New(anew.clone()), "once it has expired");
    ensure!(exports.get(&anew.id).await? == Some(anew), "and nothing of the old one is left");
    Ok(())
}

async fn a_user_has_so_many_at_a_time(writes: Writes) -> anyhow::Result<()> {
    let exports = table(&writes);
    for number in 0..EXPORTS_LIVE_MAX {
        let made = exports.create(asked("alice", &format!("k{number}"))).await?;
        ensure!(matches!(made, Exported::New(_)), "{number}: {made:?}");
    }
    let one_more = asked("alice", "one more");
    ensure!(exports.create(one_more.clone()).await? == Exported::TooMany, "one more");
    ensure!(exports.get(&one_more.id).await?.is_none(), "and recorded all the same");
    ensure!(matches!(exports.create(asked("bob", "k")).await?, Exported::New(_)), "somebody else");
    let first = asked("alice", "k0");
    ensure!(exports.create(first.clone()).await? == Exported::New(first.clone()), "one that is there");
    let failed = first.failed(ExportFailure::TooLarge, NOW, stamp("failed"));
    ensure!(exports.replace(&first, &failed).await?, "it ends");
    ensure!(exports.create(one_more.clone()).await? == Exported::New(one_more), "there is room");
    Ok(())
}

async fn who_was_overtaken_writes_nothing(writes: Writes) -> anyhow::Result<()> {
    let (exports, first) = (table(&writes), asked("alice", "k"));
    exports.create(first.clone()).await?;
    let one = first.claim(NOW, stamp("one")).unwrap();
    let two = first.claim(NOW, stamp("two")).unwrap();
    ensure!(exports.replace(&first, &one).await?, "the first claim");
    ensure!(exports.replace(&first, &one).await?, "whose answer was lost");
    ensure!(!exports.replace(&first, &two).await?, "a second claim of the same record");
    // Whatever the second would have written.
    let of_two = two.progress().unwrap().clone();
    for late in [
        two.renewed(of_two.clone(), NOW, stamp("renewed")),
        two.released(of_two.clone(), NOW, stamp("released")),
        two.ready(file(), 7, NOW, stamp("ready")),
        two.failed(ExportFailure::AttemptsExhausted, NOW, stamp("failed")),
    ] {
        ensure!(!exports.replace(&two, &late).await?, "{}", late.op.as_str());
    }
    ensure!(exports.get(&first.id).await? == Some(one), "the first one's record");
    ensure!(live(&writes, "alice").await? == 1, "it is under way");
    Ok(())
}

async fn an_export_ends_once_and_makes_room_once(writes: Writes) -> anyhow::Result<()> {
    let exports = table(&writes);
    let (first, other) = (asked("alice", "k"), asked("alice", "other"));
    for export in [&first, &other] {
        exports.create(export.clone()).await?;
    }
    let ready = first.ready(file(), 7, NOW, stamp("ready"));
    let failed = first.failed(ExportFailure::DeadlineExceeded, NOW, stamp("failed"));
    ensure!(exports.replace(&first, &ready).await?, "the first end");
    ensure!(exports.replace(&first, &ready).await?, "whose answer was lost");
    ensure!(!exports.replace(&first, &failed).await?, "another end of the same record");
    ensure!(exports.get(&first.id).await? == Some(ready), "the first end stays");
    ensure!(live(&writes, "alice").await? == 1, "the other is under way");
    Ok(())
}

async fn one_that_is_not_counted_does_not_end(writes: Writes) -> anyhow::Result<()> {
    let (exports, first) = (table(&writes), asked("alice", "k"));
    exports.create(first.clone()).await?;
    let zero: AttributeValue = number(0);
    let place = (writes.names.jobs.as_str(), "EXPORTS#alice", "LIVE");
    damage(&writes, place, "SET #live = :zero", &[("#live", "live")], &[(":zero", zero)]).await?;
    let ready = first.ready(file(), 7, NOW, stamp("ready"));
    ensure!(exports.replace(&first, &ready).await.is_err(), "a count below zero");
    ensure!(exports.get(&first.id).await? == Some(first), "nothing was written");
    Ok(())
}
