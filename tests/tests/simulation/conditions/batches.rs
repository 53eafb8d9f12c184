//! Batches: what is held for one, what makes jobs of its lines, what ends it, and what cancels its jobs.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use darkroom_aws::items::batch::to_item;
use darkroom_aws::{BatchCommit, BatchCreated, BatchTime, Commit};
use darkroom_core::batch::{Batch, BatchCommand, BatchEnding, BatchStage, apply};
use darkroom_core::batch_record::{BatchOrder, BatchRecord};
use darkroom_core::batch_request::{InvalidLine, Line, judge, read_list};
use darkroom_core::id::{BatchId, IdempotencyKey, ModelName, Stamp, UserId};
use darkroom_core::job::{Job, Stage};
use darkroom_core::ledger::{LedgerError, Settlement, Tokens};
use darkroom_core::lifecycle::{Command, End};
use darkroom_core::limits::{SETTLE_PATIENCE, WAKE};
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;
use serde_json::json;

use super::choices::Choices;
use super::{Case, damage, number, put_item, text};

const PRICE: Tokens = 3;
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TIME: BatchTime = BatchTime { now: NOW, ttl_days: 90 };

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("batch submit", the_balance_refuses_what_it_has_not),
        Case::new("batch again", a_key_makes_one_batch_until_its_record_expires),
        Case::new("batch writes agree with core", writes_agree_with_core),
        Case::new("batch mark", a_mark_is_of_an_open_batch),
        Case::new("batch makes jobs once", a_line_that_is_a_job_refuses_another),
        Case::new("batch lost answers", a_lost_answer_is_told_from_a_lost_race_by_the_stamp),
        Case::new("batch ends once", the_entry_alone_refuses_a_second_end),
        Case::new("batch ends with its hold", what_is_given_back_is_held),
        Case::new("batch jobs settle", jobs_settle_without_being_in_flight),
        Case::new("batch jobs are cancelled", waiting_jobs_are_cancelled_together),
    ]
}

fn user() -> UserId {
    UserId::parse("user").unwrap()
}

fn stamp(text: &str) -> Stamp {
    Stamp::from_stored(text.to_owned())
}

fn lines(count: usize) -> Vec<Line> {
    let name = ModelName::parse("m").unwrap();
    let model = Model {
        name: name.clone(),
        provider: ProviderName::Local,
        provider_model: name,
        price: PRICE,
        description: String::new(),
        typical_milliseconds: 1,
        default: true,
        retired_on: None,
        fallback: None,
        replacement: None,
    };
    let list: Vec<_> = (0..count).map(|number| json!({"prompt": number.to_string()})).collect();
    judge(read_list(&list), &[model], "2026-12-01", &BTreeMap::new()).lines
}

fn batch(key: &str, lines: u32, op: &str) -> BatchRecord {
    let order = BatchOrder {
        request_hash: "h".to_owned(),
        cost: PRICE * u64::from(lines),
        invalid: 1,
        models: vec![(ModelName::parse("m").unwrap(), lines)],
        lines_sha256: "0f".repeat(32),
        created_at: NOW,
        deadline_at: NOW.plus(WAKE * 30),
        spacing: WAKE,
    };
    let id = BatchId::derive(&user(), &IdempotencyKey::parse(key).unwrap());
    BatchRecord::submitted(id, user(), order, stamp(op), WAKE)
}

fn invalid() -> [InvalidLine; 1] {
    [InvalidLine { line: 7, code: "invalid_value".to_owned(), reason: "is wrong".to_owned() }]
}

async fn granted(writes: &Writes, tokens: Tokens) -> anyhow::Result<()> {
    writes.ledger.grant(&user(), tokens, "g", NOW).await?;
    Ok(())
}

async fn created(writes: &Writes, key: &str, lines: u32) -> anyhow::Result<BatchRecord> {
    match writes.jobs.create_batch(batch(key, lines, "made"), &invalid(), 90).await? {
        BatchCreated::New(batch) => Ok(batch),
        other => bail!("{other:?}"),
    }
}

async fn make(writes: &Writes, batch: &BatchRecord, jobs: usize, op: &str) -> anyhow::Result<BatchCommit> {
    let lines = lines(batch.state.lines as usize);
    let next = &lines[batch.state.made as usize..][..jobs];
    let Some(command) = batch.make(next, NOW, WAKE) else { bail!("no line is left") };
    let mut number = 0;
    let made = batch.jobs(next, NOW, WAKE, || {
        number += 1;
        stamp(&format!("{op}-{number}"))
    });
    Ok(writes.jobs.make_jobs(batch, &command, &made, TIME, &stamp(op)).await?)
}

fn applied(commit: BatchCommit) -> anyhow::Result<BatchRecord> {
    match commit {
        BatchCommit::Applied(batch) => Ok(batch),
        other => bail!("{other:?}"),
    }
}

async fn the_balance_refuses_what_it_has_not(writes: Writes) -> anyhow::Result<()> {
    let refused = async |lines| match writes.jobs.create_batch(batch("k", lines, "a"), &invalid(), 90).await?
    {
        BatchCreated::Refused(error) => Ok(error),
        other => bail!("{other:?}"),
    };
    ensure!(refused(1).await? == LedgerError::Insufficient { price: 3, available: 0 }, "of nothing");
    granted(&writes, 8).await?;
    ensure!(refused(3).await? == LedgerError::Insufficient { price: 9, available: 8 }, "9 of 8");
    ensure!(writes.jobs.batch(&batch("k", 3, "a").id).await?.is_none(), "nothing was written");
    let made = created(&writes, "k", 2).await?;
    ensure!(writes.jobs.invalid_lines(&made).await? == invalid(), "what is wrong with others is kept");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.held, balance.inflight) == (2, 6, 0), "{balance:?}");
    Ok(())
}

async fn a_key_makes_one_batch_until_its_record_expires(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 12).await?;
    created(&writes, "k", 2).await?;
    // The same write again, as after a time-out: ours. Another one: somebody else's.
    let again = writes.jobs.create_batch(batch("k", 2, "made"), &[], 90).await?;
    ensure!(matches!(again, BatchCreated::New(_)), "ours");
    let other = writes.jobs.create_batch(batch("k", 2, "other"), &[], 90).await?;
    let BatchCreated::Existing(batch_there) = other else { bail!("{other:?}") };
    let ended = writes
        .jobs
        .end_batch(&batch_there, BatchEnding::Cancelled, TIME, &stamp("end"), SETTLE_PATIENCE)
        .await?;
    let expires_at = applied(ended)?.expires_at.unwrap_or_default();
    let at = |created_at| {
        let next = batch("k", 2, "next");
        BatchRecord { order: BatchOrder { created_at, ..next.order.clone() }, ..next }
    };
    let early = at(Timestamp::from_millis(expires_at.as_millis() - 1_000));
    ensure!(
        matches!(writes.jobs.create_batch(early, &[], 90).await?, BatchCreated::Existing(_)),
        "it is kept"
    );
    let late = writes.jobs.create_batch(at(expires_at), &[], 90).await?;
    ensure!(matches!(late, BatchCreated::New(_)), "it has expired");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.held) == (6, 6), "{balance:?}");
    Ok(())
}

/// What stands in a record that a write was not made for: as it was read, or with one thing other than it was.
fn others(seen: &Batch, due_at: Timestamp) -> Vec<Batch> {
    let stages = [
        BatchStage::Open { due_at: due_at.plus(WAKE) },
        BatchStage::Made,
        BatchStage::Ended(BatchEnding::Cancelled),
        BatchStage::Ended(BatchEnding::Expired),
    ];
    let other = |made, remaining| Batch { made, remaining, ..*seen };
    let made = [0, 1, 2].map(|made| other(made, seen.remaining));
    let remaining = [0, 3, 6, 9, 12].map(|remaining| other(seen.made, remaining));
    let stages = stages.map(|stage| Batch { stage, ..*seen });
    made.into_iter().chain(remaining).chain(stages).collect()
}

/// Every write, made for a batch as it was read, of a batch as it is: it is taken exactly when core would take it.
async fn writes_agree_with_core(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 1_000_000).await?;
    let balance = (writes.names.ledger.as_str(), "user", "BAL");
    damage(&writes, balance, "SET held = :n", &[], &[(":n", number(1_000_000))]).await?;
    let due_at = NOW.plus(WAKE);
    let mut key = 0;
    for made in [0, 1] {
        let state = Batch {
            lines: 3,
            made,
            remaining: 9 - PRICE * u64::from(made),
            stage: BatchStage::Open { due_at },
        };
        for other in others(&state, due_at) {
            for what in 0..5 {
                key += 1;
                let seen = BatchRecord { state, ..batch(&key.to_string(), 3, "seen") };
                let there = BatchRecord { state: other, ..seen.clone() };
                put_item(&writes, &writes.names.jobs, to_item(&there)).await?;
                let op = stamp("op");
                let lines = lines(3);
                let (command, commit) = match what {
                    0 | 1 => {
                        let jobs = if what == 0 { 1 } else { 3 - made as usize };
                        let next = &lines[made as usize..][..jobs];
                        let command = seen.make(next, NOW, WAKE).unwrap();
                        let jobs = seen.jobs(next, NOW, WAKE, || stamp("job"));
                        (command, writes.jobs.make_jobs(&seen, &command, &jobs, TIME, &op).await?)
                    }
                    2 | 3 => {
                        let ending = if what == 2 { BatchEnding::Cancelled } else { BatchEnding::Expired };
                        let commit = writes.jobs.end_batch(&seen, ending, TIME, &op, SETTLE_PATIENCE).await?;
                        (seen.end(ending), commit)
                    }
                    _ => {
                        let command =
                            BatchCommand::Mark { due_at_seen: due_at, due_at: due_at.plus(WAKE * 2) };
                        (command, writes.jobs.mark_batch(&seen, &command, TIME, &op, SETTLE_PATIENCE).await?)
                    }
                };
                let (next, is) = (apply(&other, &command), writes.jobs.batch(&seen.id).await?);
                let is = is.map(|batch| batch.state);
                match (next, commit) {
                    (Ok(next), BatchCommit::Applied(_)) => {
                        ensure!(is == Some(next), "{other:?} {command:?}: {is:?}");
                    }
                    (Err(_), BatchCommit::Refused(_)) => {
                        ensure!(is == Some(other), "{other:?} {command:?}: {is:?}");
                    }
                    (next, commit) => bail!("{other:?} {command:?}: core {next:?}, the store {commit:?}"),
                }
            }
        }
    }
    Ok(())
}

/// An ended one has no due time. If it had one by hand, a mark would leave it alone all the same.
async fn a_mark_is_of_an_open_batch(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 9).await?;
    let new = created(&writes, "k", 3).await?;
    let due_at_seen = new.state.due_at().unwrap_or_default();
    let command = BatchCommand::Mark { due_at_seen, due_at: due_at_seen.plus(WAKE) };
    let place = (writes.names.jobs.as_str(), new.id.as_str(), "BATCH");
    damage(&writes, place, "SET stage = :s", &[], &[(":s", text("made"))]).await?;
    let mark = async |op| writes.jobs.mark_batch(&new, &command, TIME, &stamp(op), SETTLE_PATIENCE).await;
    ensure!(matches!(mark("a").await?, BatchCommit::Refused(_)), "marked after its end");
    damage(&writes, place, "SET stage = :s", &[], &[(":s", text("open"))]).await?;
    applied(mark("b").await?).map(drop)
}

async fn a_line_that_is_a_job_refuses_another(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 12).await?;
    let new = created(&writes, "k", 3).await?;
    let first = applied(make(&writes, &new, 2, "a").await?)?;
    ensure!((first.state.made, first.state.remaining) == (2, 3), "{first:?}");
    // Who has read it before makes nothing, and is told how it is.
    let late = make(&writes, &new, 2, "b").await?;
    ensure!(matches!(late, BatchCommit::Refused(now) if now.state == first.state), "a second maker");
    // By hand it is as before: the jobs stand behind it.
    put_item(&writes, &writes.names.jobs, to_item(&new)).await?;
    ensure!(
        make(&writes, &new, 2, "c").await.is_err_and(|error| error.to_string().contains("do not add up")),
        "made twice"
    );
    let ids: Vec<_> = first.job_ids().collect();
    let jobs = writes.jobs.read_many(&ids).await?;
    ensure!(jobs.len() == 2 && jobs.iter().all(|job| job.op.as_str().starts_with("a-")), "written over");
    // Once what stood there has expired, it is no job any more.
    let (table, id) = (writes.names.jobs.as_str(), ids[0].as_str());
    damage(
        &writes,
        (table, id, "JOB"),
        "SET #ttl = :n",
        &[("#ttl", "ttl")],
        &[(":n", number(NOW.as_seconds()))],
    )
    .await?;
    ensure!(make(&writes, &new, 1, "d").await.is_ok_and(|commit| applied(commit).is_ok()), "expired");
    let ended = applied(make(&writes, &first, 1, "e").await?);
    ensure!(ended.is_err(), "it is at its second line again");
    Ok(())
}

async fn a_lost_answer_is_told_from_a_lost_race_by_the_stamp(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 12).await?;
    let new = created(&writes, "k", 3).await?;
    let first = applied(make(&writes, &new, 1, "a").await?)?;
    ensure!(applied(make(&writes, &new, 1, "a").await?)?.state == first.state, "our own success");
    ensure!(matches!(make(&writes, &new, 1, "b").await?, BatchCommit::Refused(_)), "somebody else's");
    let end = async |op| {
        writes.jobs.end_batch(&first, BatchEnding::Cancelled, TIME, &stamp(op), SETTLE_PATIENCE).await
    };
    let ended = applied(end("c").await?)?;
    ensure!(ended.state.stage == BatchStage::Ended(BatchEnding::Cancelled), "{ended:?}");
    ensure!(applied(end("c").await?).is_ok() && applied(end("d").await?).is_err(), "ended twice");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.held) == (9, 3), "given back once: {balance:?}");
    let absent = BatchRecord { id: batch("other", 1, "x").id, ..first };
    let gone =
        writes.jobs.end_batch(&absent, BatchEnding::Expired, TIME, &stamp("e"), SETTLE_PATIENCE).await?;
    ensure!(matches!(gone, BatchCommit::Absent), "{gone:?}");
    Ok(())
}

async fn the_entry_alone_refuses_a_second_end(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 12).await?;
    let new = created(&writes, "k", 3).await?;
    let end =
        async |op| writes.jobs.end_batch(&new, BatchEnding::Expired, TIME, &stamp(op), SETTLE_PATIENCE).await;
    applied(end("a").await?)?;
    // The record is open again by hand, and there is enough to give back once more.
    put_item(&writes, &writes.names.jobs, to_item(&new)).await?;
    let balance = (writes.names.ledger.as_str(), "user", "BAL");
    damage(&writes, balance, "SET held = :n", &[], &[(":n", number(9))]).await?;
    ensure!(end("b").await.is_err_and(|error| error.to_string().contains("do not add up")), "ended twice");
    ensure!(writes.ledger.balance(&user()).await?.available == 12, "paid twice");
    Ok(())
}

async fn what_is_given_back_is_held(writes: Writes) -> anyhow::Result<()> {
    granted(&writes, 12).await?;
    let new = created(&writes, "k", 3).await?;
    let balance = (writes.names.ledger.as_str(), "user", "BAL");
    let end =
        async |op| writes.jobs.end_batch(&new, BatchEnding::Expired, TIME, &stamp(op), SETTLE_PATIENCE).await;
    damage(&writes, balance, "SET held = :n", &[], &[(":n", number(8))]).await?;
    ensure!(end("a").await.is_err(), "more than is held");
    damage(&writes, balance, "SET held = :n", &[], &[(":n", number(9))]).await?;
    applied(end("b").await?).map(drop)
}

/// The jobs of a batch of three, two of which are made.
async fn two_jobs(writes: &Writes) -> anyhow::Result<Vec<Job>> {
    granted(writes, 12).await?;
    let new = created(writes, "k", 3).await?;
    let made = applied(make(writes, &new, 2, "a").await?)?;
    Ok(writes.jobs.read_many(&made.job_ids().collect::<Vec<_>>()).await?)
}

async fn jobs_settle_without_being_in_flight(writes: Writes) -> anyhow::Result<()> {
    let jobs = two_jobs(&writes).await?;
    let end = End { now: NOW, expires_at: NOW };
    let balance = (writes.names.ledger.as_str(), "user", "BAL");
    for (job, settlement) in jobs.iter().zip([Settlement::Refunded, Settlement::Captured]) {
        let command = match settlement {
            Settlement::Refunded => Command::CancelPending { end },
            Settlement::Captured => {
                Command::Capture { image: Choices(1).image(), drawn_by: "m".to_owned(), end }
            }
        };
        let held = writes.ledger.balance(&user()).await?.held;
        damage(&writes, balance, "SET held = :n", &[], &[(":n", number(2))]).await?;
        let op = stamp(settlement.as_str());
        let commit = writes.jobs.commit(job, &command, &op, NOW, SETTLE_PATIENCE).await;
        ensure!(!commit.is_ok_and(|commit| matches!(commit, Commit::Applied(_))), "more than is held");
        damage(&writes, balance, "SET held = :n", &[], &[(":n", number(held))]).await?;
        let commit = writes.jobs.commit(job, &command, &op, NOW, SETTLE_PATIENCE).await?;
        ensure!(matches!(commit, Commit::Applied(_)), "{settlement:?} with its hold");
    }
    let balance = writes.ledger.balance(&user()).await?;
    let found = (balance.available, balance.held, balance.spent, balance.inflight);
    ensure!(found == (6, 3, 3, 0), "{balance:?}");
    Ok(())
}

async fn waiting_jobs_are_cancelled_together(writes: Writes) -> anyhow::Result<()> {
    let jobs = two_jobs(&writes).await?;
    let end = End { now: NOW, expires_at: NOW.plus(WAKE) };
    let cancel = async |op: &str| {
        let mut number = 0;
        let stamps = || {
            number += 1;
            stamp(&format!("{op}-{number}"))
        };
        writes.jobs.cancel_waiting(&jobs, end, stamps, SETTLE_PATIENCE).await
    };
    // One of another time of the same key is none of these.
    let (table, first) = (writes.names.jobs.as_str(), jobs[0].id.as_str());
    let created_at = |value: Timestamp| [(":n", number(value.as_millis()))];
    damage(&writes, (table, first, "JOB"), "SET created_at = :n", &[], &created_at(NOW.plus(WAKE))).await?;
    ensure!(cancel("a").await? == 1, "the other one");
    damage(&writes, (table, first, "JOB"), "SET created_at = :n", &[], &created_at(NOW)).await?;
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.held, balance.inflight) == (6, 6, 0), "{balance:?}");
    ensure!(cancel("b").await? == 1, "the first, now");
    // Asked again with the same stamps, as after a lost answer, it is done; with others there is nothing to do.
    ensure!(cancel("c").await? == 0, "cancelled twice");
    let settled =
        writes.jobs.get(&jobs[0].id).await?.is_some_and(|job| matches!(job.stage, Stage::Settled(_)));
    ensure!(settled, "it has ended");
    // One whose record is live again by hand has an entry.
    put_item(&writes, table, darkroom_aws::items::job::to_item(&jobs[0])).await?;
    let again = writes.jobs.cancel_waiting(&jobs[..1], end, || stamp("d"), SETTLE_PATIENCE).await;
    ensure!(again.is_err_and(|error| error.to_string().contains("do not add up")), "paid twice");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.held) == (9, 3), "{balance:?}");
    Ok(())
}
