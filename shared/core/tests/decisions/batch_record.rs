//! A batch's record: the jobs that its lines become, where they stand in the queue, and what a sweep does with it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{at, rules, seconds, stamp};
use darkroom_core::batch::{Batch, BatchCommand, BatchEnding, BatchStage};
use darkroom_core::batch_record::{BatchOrder, BatchRecord, BatchSweep, batch_deadline};
use darkroom_core::batch_request::{Line, judge, read_list};
use darkroom_core::batch_view::{BatchCounts, BatchView};
use darkroom_core::id::{BatchId, IdempotencyKey, JobId, ModelName, UserId};
use darkroom_core::job::{Job, Stage, Status};
use darkroom_core::limits::{DEADLINE_MAX, WAKE};
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::sweep::{SweepAction, sweep_action};
use serde_json::json;

const TTL_DAYS: u64 = 90;

fn lines(count: u32) -> Vec<Line> {
    let model = Model {
        name: ModelName::parse("m").unwrap(),
        provider: ProviderName::Local,
        provider_model: ModelName::parse("m").unwrap(),
        price: 3,
        description: String::new(),
        typical_milliseconds: 1,
        default: true,
        retired_on: None,
        fallback: None,
        replacement: None,
    };
    let list: Vec<_> = (0..count)
        .map(|number| match number % 3 {
            // Two writes, one, three.
            0 => json!({"prompt": format!("{number} {}", "x".repeat(600))}),
            1 => json!({"prompt": number.to_string()}),
            _ => json!({"prompt": format!("{number} {}", "x".repeat(600)), "metadata": {"n": 1}}),
        })
        .collect();
    judge(read_list(&list), &[model], "2026-12-01", &BTreeMap::new()).lines
}

fn batch(lines: u32) -> BatchRecord {
    let user = UserId::parse("alice").unwrap();
    let order = BatchOrder {
        request_hash: "h".to_owned(),
        cost: 3 * u64::from(lines),
        invalid: 0,
        models: vec![(ModelName::parse("m").unwrap(), lines)],
        lines_sha256: "0f".repeat(32),
        created_at: at(100),
        deadline_at: at(100 + 3_600),
        spacing: seconds(10),
    };
    let id = BatchId::derive(&user, &IdempotencyKey::parse("k").unwrap());
    BatchRecord::submitted(id, user, order, stamp(0), WAKE)
}

#[test]
fn a_batch_has_an_hour_or_twice_what_it_takes_and_no_more_than_a_day() {
    for (eta, deadline) in [
        (Some(seconds(1)), seconds(3_600)),
        (Some(seconds(1_800)), seconds(3_600)),
        (Some(seconds(3_600)), seconds(7_200)),
        (Some(seconds(43_201)), DEADLINE_MAX),
        (Some(Duration::MAX), DEADLINE_MAX),
        (None, DEADLINE_MAX),
    ] {
        assert_eq!(batch_deadline(eta), deadline, "{eta:?}");
    }
}

#[test]
fn as_many_lines_become_jobs_as_fit_in_a_transaction_and_at_least_one() {
    let (record, lines) = (batch(7), lines(7));
    let count = |made: u32, writes: usize| {
        let state = Batch { made, ..record.state };
        BatchRecord { state, ..record.clone() }.next_lines(&lines, writes).len()
    };
    assert_eq!([1, 2, 3, 5, 6, 7, 99].map(|writes| count(0, writes)), [1, 1, 2, 2, 3, 3, 7]);
    assert_eq!((count(6, 99), count(7, 99), count(9, 99)), (1, 0, 0));
    assert_eq!((record.make(&[], at(200), WAKE), record.next_lines(&lines[..3], 99).len()), (None, 3));
}

#[test]
fn each_line_is_one_job_wherever_its_making_broke_off() {
    let (record, lines) = (batch(7), lines(7));
    let mut ids = Vec::new();
    let mut left = record.clone();
    while left.is_open(at(200)) {
        let next = left.next_lines(&lines, 3);
        let jobs = left.jobs(next, at(200), WAKE, || stamp(1));
        let command = left.make(next, at(200), WAKE).unwrap();
        for (made, line) in jobs.iter().zip(next) {
            let order = &made.job.order;
            let of = order.batch.as_ref().unwrap();
            assert_eq!((&of.batch, of.number, order.cost), (&record.id, line.number, 3));
            assert_eq!((order.created_at, order.deadline_at), (at(200), record.order.deadline_at));
            let prompt = order.prompt.as_ref().or(made.long_prompt.as_ref()).unwrap();
            assert!(*prompt == line.prompt && made.metadata == line.metadata);
            assert_eq!(order.request_hash, line.hash);
        }
        ids.extend(jobs.into_iter().map(|made| made.job.id));
        left = left.after(&command, stamp(2), at(200), TTL_DAYS).unwrap();
    }
    assert_eq!(
        (left.state.stage, left.state.remaining, left.finished_at),
        (BatchStage::Made, 0, Some(at(200)))
    );
    assert_eq!(left.job_ids().collect::<Vec<_>>(), ids);
    let distinct: std::collections::BTreeSet<&JobId> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (7, 7));
    // The record outlives its jobs, which end by its deadline.
    assert_eq!(left.expires_at, Some(at(3_700).plus(seconds(TTL_DAYS * 86_400))));
    assert!(
        left.belongs_to(&left.user, at(3_700)) && !left.belongs_to(&UserId::parse("bob").unwrap(), at(3_700))
    );
    assert!(!left.belongs_to(&left.user, left.expires_at.unwrap()));
}

fn made_at(record: &BatchRecord, lines: &[Line], now: u64) -> Vec<Job> {
    record.jobs(lines, at(now), WAKE, || stamp(1)).into_iter().map(|made| made.job).collect()
}

#[test]
fn lines_queue_as_if_each_were_submitted_when_its_turn_comes() {
    let (record, lines) = (batch(7), lines(7));
    let waits: Vec<_> = made_at(&record, &lines, 125)
        .iter()
        .map(|job| match &job.stage {
            Stage::Pending(pending) => (pending.wait_at, pending.not_before, pending.due_at),
            _ => panic!("it waits"),
        })
        .collect();
    // Since its own time at least; may be drawn at once; looked for when it should have been.
    let places: Vec<_> = waits.iter().map(|(wait_at, ..)| *wait_at).collect();
    assert_eq!(places, [125, 125, 125, 130, 140, 150, 160].map(at));
    assert!(
        waits
            .iter()
            .all(|(wait_at, not_before, due_at)| *not_before == at(125) && *due_at == wait_at.plus(WAKE))
    );
}

/// It waits behind the rest of its batch: the limits of single jobs' waits are not its own.
#[test]
fn a_job_of_a_batch_may_wait_until_its_batch_is_over() {
    let record = batch(7);
    let deadline_at = at(100 + 86_400);
    let order = BatchOrder { deadline_at, ..record.order.clone() };
    let job = made_at(&BatchRecord { order, ..record }, &lines(1), 100).remove(0);
    let ends = |now| matches!(sweep_action(&job, at(now), &rules()), SweepAction::End { .. });
    assert!(!ends(100 + 3_601) && !ends(100 + 86_399) && ends(100 + 86_400));
    let alone = Job { order: darkroom_core::job::Order { batch: None, ..job.order.clone() }, ..job.clone() };
    assert!(matches!(sweep_action(&alone, at(100 + 3_601), &rules()), SweepAction::End { .. }));
}

#[test]
fn a_sweep_tells_a_maker_when_it_is_due_and_ends_it_when_its_time_is_over() {
    let record = batch(7);
    let due = 100 + WAKE.as_secs();
    let mark = |now: u64, due_at| {
        BatchSweep::Send(BatchCommand::Mark { due_at_seen: at(due), due_at: at(due_at) })
            == record.sweep(at(now), WAKE)
    };
    assert_eq!(record.sweep(at(due - 1), WAKE), BatchSweep::Leave);
    assert!(mark(due, due + WAKE.as_secs()) && mark(3_699, 3_700));
    let end = BatchCommand::End { made_seen: 0, tokens: 21, ending: BatchEnding::Expired };
    assert_eq!(record.sweep(at(3_700), WAKE), BatchSweep::End(end));
    let words = [record.sweep(at(0), WAKE), record.sweep(at(due), WAKE), BatchSweep::End(end)];
    assert_eq!(words.map(|word| word.as_str()), ["leave", "send_batch", "expire_batch"]);
    let ended = record.after(&end, stamp(3), at(3_700), TTL_DAYS).unwrap();
    assert_eq!(ended.sweep(at(9_999), WAKE), BatchSweep::Leave);
    assert!(record.is_open(at(3_699)) && !record.is_open(at(3_700)) && !ended.is_open(at(0)));
}

#[test]
fn a_step_is_recognised_by_what_it_makes() {
    let record = batch(7);
    let make = BatchCommand::Make { made_seen: 0, jobs: 2, tokens: 6, due_at: at(300) };
    let last = BatchCommand::Make { made_seen: 0, jobs: 7, tokens: 21, due_at: at(300) };
    let mark = BatchCommand::Mark { due_at_seen: at(100).plus(WAKE), due_at: at(301) };
    let cancel = record.end(BatchEnding::Cancelled);
    let expire = record.end(BatchEnding::Expired);
    let commands = [make, last, mark, cancel, expire];
    for (number, command) in commands.iter().enumerate() {
        let next = record.after(command, stamp(5), at(200), TTL_DAYS).unwrap();
        assert_eq!((next.version, next.op.clone()), (2, stamp(5)));
        for (other, by) in commands.iter().enumerate() {
            assert_eq!(next.was_made_by(by), number == other, "{command:?} by {by:?}");
        }
        assert!(!record.was_made_by(command));
    }
}

#[test]
fn a_batch_is_completed_when_every_line_has_ended_and_the_index_shows_it() {
    let record = batch(2);
    let all = record.make(&lines(2), at(200), WAKE).unwrap();
    let made = record.after(&all, stamp(1), at(200), TTL_DAYS).unwrap();
    let mut counts = BatchCounts::default();
    counts.count(Status::Draft);
    let status = |batch: &BatchRecord, counts: Option<BatchCounts>, now: u64| {
        let view = BatchView { counts, ..BatchView::default() };
        view.render(batch, at(now))["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status(&record, Some(counts), 999), "in_progress");
    assert_eq!(status(&made, Some(counts), 202), "in_progress");
    assert_eq!(status(&made, None, 203), "in_progress");
    assert_eq!(status(&made, Some(counts), 203), "completed");
    counts.count(Status::Processing);
    counts.count(Status::Pending);
    assert_eq!((counts.live(), counts.of(Status::Draft), counts.of(Status::Failed)), (2, 1, 0));
    assert_eq!(status(&made, Some(counts), 203), "in_progress");
    for (ending, word) in [(BatchEnding::Cancelled, "cancelled"), (BatchEnding::Expired, "expired")] {
        let ended = record.after(&record.end(ending), stamp(1), at(200), TTL_DAYS).unwrap();
        assert_eq!(status(&ended, Some(counts), 200), word);
    }
    let shown =
        BatchView { counts: Some(counts), eta: Some(Duration::from_millis(1_001)), ..BatchView::default() }
            .render(&made, at(203));
    assert_eq!(
        (&shown["lines"], &shown["made"], &shown["cost"], &shown["remaining"]),
        (&json!(2), &json!(2), &json!(6), &json!(0))
    );
    assert_eq!(
        (&shown["eta_seconds"], &shown["counts"]["processing"], &shown["counts"]["cancelled"]),
        (&json!(2), &json!(1), &json!(0))
    );
}
