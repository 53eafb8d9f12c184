//! What a sweep does with each job, and that every job ends although nobody works.

use crate::common::{
    Shown, at, cancelling, cases, command, drawn, failure, job, jobs, pending, processing, rules, seconds,
    settled, stamp, submitted,
};
use darkroom_core::job::{Job, Outcome, Pending, Stage, Status, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::lifecycle::{Bounds, Command, End, Seen, apply};
use darkroom_core::limits::{DEADLINE, LEASE_MAX, SWEEP, SWEEP_READ, WAKES_MAX};
use darkroom_core::sweep::{AgeAction, Rules, SweepAction, sweep_action, sweep_by_age, sweep_own};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

fn waiting(wait_at: u64, due_at: u64, wakes: u32) -> Stage {
    Stage::Pending(Pending {
        wait_at: at(wait_at),
        not_before: at(wait_at),
        due_at: at(due_at),
        wakes,
        reason: WaitReason::Capacity,
    })
}

fn with_deadline(deadline: u64, mut job: Job) -> Job {
    job.order.deadline_at = at(deadline);
    job
}

/// The word for the action, with the code of a failure.
fn word(action: &SweepAction) -> (&'static str, Option<JobErrorCode>) {
    match action {
        SweepAction::End { failure, .. } => (action.as_str(), failure.as_ref().map(|failure| failure.code)),
        _ => (action.as_str(), None),
    }
}

#[test]
fn what_is_seen_and_what_is_done() {
    let leave = ("leave", None);
    let fail = |code| ("fail", Some(code));
    let spent = |attempt, calls, stage| Job { calls, ..job(attempt, stage) };
    let cases = [
        // Waiting: left until it is due, 20 s ahead of its second.
        (job(0, waiting(0, 1_020, 0)), ("send", None)),
        (job(0, waiting(0, 1_021, 0)), leave),
        (job(0, waiting(0, 900, 2)), ("send", None)),
        (job(0, waiting(0, 900, 3)), leave),
        (job(3, waiting(900, 900, 0)), ("send", None)),
        // Waiting past its deadline: also when it is not due, and after its last wake.
        (with_deadline(1_000, job(0, waiting(0, 9_000, 0))), fail(JobErrorCode::Stuck)),
        (with_deadline(1_000, job(1, waiting(900, 900, 3))), fail(JobErrorCode::Stuck)),
        (with_deadline(1_001, job(1, waiting(900, 900, 0))), ("send", None)),
        // Held: a live lease is never touched, whatever else is true.
        (job(1, processing(at(1_001))), leave),
        (with_deadline(10, spent(3, 6, cancelling(at(1_001)))), leave),
        // Held by nobody: put back while something is left.
        (job(1, processing(at(1_000))), ("requeue", None)),
        (spent(2, 5, processing(at(1_000))), ("requeue", None)),
        (spent(3, 3, processing(at(1_000))), fail(JobErrorCode::Timeout)),
        (spent(1, 6, processing(at(1_000))), fail(JobErrorCode::Timeout)),
        (with_deadline(1_000, job(1, processing(at(1_000)))), fail(JobErrorCode::DeadlineExceeded)),
        (with_deadline(1_000, spent(3, 6, processing(at(1_000)))), fail(JobErrorCode::DeadlineExceeded)),
        // Its owner's wish comes first.
        (with_deadline(1_000, spent(3, 6, cancelling(at(1_000)))), ("cancel", None)),
        (job(1, cancelling(at(1_000))), ("cancel", None)),
        (job(1, settled(drawn())), leave),
        (job(1, settled(Outcome::Failed(failure()))), leave),
        (job(1, settled(Outcome::Cancelled)), leave),
    ];
    for (job, expected) in cases {
        assert_eq!(word(&sweep_action(&job, at(1_000), &rules())), expected, "{:?}", Shown(job));
    }
}

#[test]
fn a_list_of_drafts_ends_what_a_sweep_would_end_and_sends_nothing() {
    for (job, expected) in [
        (with_deadline(1_000, job(1, processing(at(1_000)))), "fail"),
        (job(1, cancelling(at(1_000))), "cancel"),
        (with_deadline(1_000, submitted(3_600)), "fail"),
        // Due to be sent, or put back and sent.
        (submitted(3_600), "leave"),
        (job(1, processing(at(1_000))), "leave"),
        // Its worker may be at it.
        (with_deadline(1_000, job(1, processing(at(1_001)))), "leave"),
        (job(1, settled(drawn())), "leave"),
    ] {
        assert_eq!(sweep_own(&job, at(1_000), &rules()).as_str(), expected, "{:?}", Shown(job));
    }
    assert_eq!(sweep_action(&submitted(3_600), at(1_000), &rules()).as_str(), "send");
}

#[test]
fn age_limits_per_state_end_a_job_before_its_deadline() {
    let limits =
        Rules { pending_max: seconds(500), retry_max: seconds(200), processing_max: seconds(700), ..rules() };
    let done = |job: &Job, now| word(&sweep_action(job, at(now), &limits));
    let stuck = ("fail", Some(JobErrorCode::Stuck));
    // Never claimed: from its submission, whatever its place in the queue.
    assert_eq!(done(&job(0, waiting(0, 400, 0)), 499), ("send", None));
    assert_eq!(done(&job(0, waiting(400, 400, 0)), 500), stuck);
    // Claimed before: from the beginning of this wait.
    assert_eq!(done(&job(1, waiting(400, 400, 0)), 599), ("send", None));
    assert_eq!(done(&job(1, waiting(400, 400, 0)), 600), stuck);
    // Held: from its first claim, which these jobs had at second 1.
    assert_eq!(done(&job(1, processing(at(400))), 701), ("requeue", None));
    assert_eq!(done(&job(1, processing(at(400))), 702), ("fail", Some(JobErrorCode::Timeout)));
    assert_eq!(done(&job(1, processing(at(703))), 702), ("leave", None));
    let SweepAction::End { failure: Some(failure), .. } =
        sweep_action(&job(0, waiting(0, 4_320, 3)), at(4_320), &rules())
    else {
        panic!("not ended");
    };
    assert_eq!(failure.detail, "stuck in pending for 1.2 h");
}

#[test]
fn a_message_is_sent_for_its_second_and_looked_after_four_times_later_each() {
    let due = |wakes, due_at, now| match sweep_action(&job(0, waiting(0, due_at, wakes)), at(now), &rules()) {
        SweepAction::Send { command: Command::Mark { due_at_seen, due_at: next }, delay } => {
            assert_eq!(due_at_seen, at(due_at));
            (next.since(at(0)).as_secs(), delay.as_secs())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(due(0, 120, 120), (240, 0));
    assert_eq!(due(1, 240, 240), (720, 0));
    // After the last one it is due when its time is over.
    assert_eq!(due(2, 720, 720), (3_600, 0));
    // A wait that is not over yet: the message is delayed to its second, and looked after from there.
    let deferred = job(0, pending(at(0), at(115)));
    let SweepAction::Send { command: Command::Mark { due_at, .. }, delay } =
        sweep_action(&deferred, at(100), &rules())
    else {
        panic!("not sent");
    };
    assert_eq!((due_at, delay), (at(235), seconds(15)));
}

#[test]
fn no_message_is_sent_for_a_job_that_is_only_due_for_its_end() {
    // Its last wake would be a message every few seconds in its last 20 seconds.
    for (job, now) in [
        (submitted(30), 15),
        (submitted(120), 110),
        (job(0, waiting(0, 3_600, 1)), 3_590),
        (with_deadline(1_000, job(1, waiting(990, 1_000, 0))), 995),
    ] {
        assert_eq!(sweep_action(&job, at(now), &rules()), SweepAction::Leave, "{:?}", Shown(job));
    }
}

#[test]
fn a_requeued_job_is_looked_after_like_a_submitted_one() {
    let dead = job(1, processing(at(1_000)));
    let SweepAction::Requeue { command: Command::Requeue { due_at, now, .. } } =
        sweep_action(&dead, at(1_000), &rules())
    else {
        panic!("not requeued");
    };
    assert_eq!((now, due_at), (at(1_000), at(1_120)));
    let near_its_end = with_deadline(1_060, dead);
    let SweepAction::Requeue { command: Command::Requeue { due_at, .. } } =
        sweep_action(&near_its_end, at(1_000), &rules())
    else {
        panic!("not requeued");
    };
    assert_eq!(due_at, at(1_060));
}

#[test]
fn a_sweep_by_age_ends_what_waits_or_is_dead_and_asks_the_living() {
    let sweep = |job: &Job, now| sweep_by_age(job, at(now), &rules(), seconds(3_600));
    let ended = |job: &Job| match sweep(job, 3_601) {
        Some(AgeAction::End(action)) => word(&action),
        other => panic!("{other:?}"),
    };
    let waits = job(0, waiting(0, 9_000, 0));
    assert_eq!(sweep(&waits, 3_600), None);
    assert_eq!(ended(&waits), ("fail", Some(JobErrorCode::Stuck)));
    assert_eq!(ended(&job(1, processing(at(3_601)))), ("fail", Some(JobErrorCode::Timeout)));
    assert_eq!(ended(&job(1, cancelling(at(3_601)))), ("cancel", None));
    let asked = Some(AgeAction::RequestCancel(Command::RequestCancel));
    assert_eq!(sweep(&job(1, processing(at(3_602))), 3_601), asked);
    assert_eq!(sweep(&job(1, cancelling(at(3_602))), 3_601), None);
    assert_eq!(sweep(&job(1, settled(drawn())), 9_000), None);
}

/// The end that a sweep writes is kept for the days of the rules.
#[test]
fn ends_keep_the_record_as_long_as_the_rules_say() {
    let rules = Rules { ttl_days: 7, ..rules() };
    let kept = |action: &SweepAction| match command(action) {
        Some(Command::EndAsSeen { end: End { now, expires_at }, .. }) => expires_at.since(*now),
        other => panic!("{other:?}"),
    };
    for stage in [waiting(0, 0, 0), processing(at(4_000)), cancelling(at(4_000))] {
        assert_eq!(kept(&sweep_action(&job(1, stage), at(4_000), &rules)), seconds(7 * 86_400));
    }
}

/// What happens to a job before everybody stops working on it.
#[derive(Clone, Copy, Debug)]
enum Work {
    Claim,
    Retry(u64),
    Defer(u64),
    Count,
    Progress,
    AskToCancel,
    Sweep,
}

fn works() -> impl Strategy<Value = Vec<(u64, Work)>> {
    let work = prop_oneof![
        4 => Just(Work::Claim),
        2 => (0..90_000_u64).prop_map(Work::Retry),
        2 => (0..90_000_u64).prop_map(Work::Defer),
        1 => (0..60_u64).prop_map(Work::Retry),
        1 => (0..60_u64).prop_map(Work::Defer),
        1 => Just(Work::Count),
        1 => Just(Work::Progress),
        1 => Just(Work::AskToCancel),
        4 => Just(Work::Sweep),
    ];
    proptest::collection::vec((0..200_u64, work), 0..14)
}

fn sweep_rules() -> impl Strategy<Value = Rules> {
    let limit = || prop_oneof![2 => Just(3_600_u64), 1 => 60..3_600_u64];
    (1..4_u32, 0..3_u32, limit(), limit(), limit(), 60..300_u64, 0..=20_u64).prop_map(
        |(attempts_max, more_calls, pending, retry, processing, wake, ahead)| Rules {
            bounds: Bounds { attempts_max, calls_max: attempts_max + more_calls },
            pending_max: seconds(pending),
            retry_max: seconds(retry),
            processing_max: seconds(processing),
            wake: seconds(wake),
            ahead: seconds(ahead),
            ttl_days: 90,
        },
    )
}

/// The due index lists it for a sweep at this time.
fn is_listed(job: &Job, now: Timestamp, rules: &Rules) -> bool {
    job.due_at().is_some_and(|due_at| due_at <= now.plus(rules.ahead))
}

/// One sweep: the job after it, and what was done.
fn sweep(job: Job, now: Timestamp, rules: &Rules) -> (Job, SweepAction) {
    let action =
        if is_listed(&job, now, rules) { sweep_action(&job, now, rules) } else { SweepAction::Leave };
    let next = match command(&action) {
        Some(command) => apply(&job, command, stamp(8)).unwrap_or_else(|e| panic!("{command:?}: {e}")),
        None => job,
    };
    (next, action)
}

/// The job that these works lead to, and when the last of them was done.
fn worked(deadline: u64, works: &[(u64, Work)], rules: &Rules) -> (Job, Timestamp) {
    let mut job = submitted(deadline);
    let mut now = at(0);
    for (pause, work) in works {
        now = now.plus(seconds(*pause));
        let command = match work {
            Work::Claim => Command::Claim { now, lease_until: now.plus(LEASE_MAX), bounds: rules.bounds },
            Work::Retry(wait) => {
                Command::retry(&job, now, now.plus(seconds(*wait)), JobErrorCode::ProviderUnavailable)
            }
            Work::Defer(wait) => Command::defer(&job, now.plus(seconds(*wait)), WaitReason::Quota),
            Work::Count => Command::CountCall { attempt: job.attempt, calls_max: rules.bounds.calls_max },
            Work::Progress => Command::Progress { attempt: job.attempt, now, progress: 50 },
            Work::AskToCancel => Command::RequestCancel,
            Work::Sweep => {
                job = sweep(job, now, rules).0;
                continue;
            }
        };
        // A worker acts under its own lease alone.
        let lapsed = matches!(&job.stage, Stage::Processing(p) if p.lease_until <= now);
        if matches!(work, Work::Claim) || !lapsed {
            job = apply(&job, &command, stamp(7)).unwrap_or(job);
        }
    }
    (job, now)
}

/// Sweeps until the job is settled, as often as `every`; the times of the messages sent for each wait.
fn sweep_to_the_end(
    mut job: Job,
    from: Timestamp,
    every: std::time::Duration,
    rules: &Rules,
) -> (Job, Timestamp, Vec<Vec<Timestamp>>) {
    let mut now = from;
    let mut waits = vec![Vec::new()];
    while job.settlement().is_none() && now < from.plus(DEADLINE * 3) {
        now = now.plus(every);
        let (next, action) = sweep(job, now, rules);
        match action {
            SweepAction::Send { delay, .. } => waits.last_mut().unwrap().push(now.plus(delay)),
            SweepAction::Requeue { .. } => waits.push(Vec::new()),
            SweepAction::Leave | SweepAction::Wait { .. } | SweepAction::End { .. } => {}
        }
        job = next;
    }
    (job, now, waits)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_decision_fits_the_job_that_it_was_made_for(job in jobs(), now in 0..10_u64, rules in sweep_rules()) {
        let now = at(now);
        let action = sweep_action(&job, now, &rules);
        if let Stage::Processing(p) = &job.stage && p.lease_until > now {
            prop_assert_eq!(&action, &SweepAction::Leave, "a live lease");
        }
        if let Some(command) = command(&action) {
            let next = apply(&job, command, stamp(9));
            prop_assert!(next.is_ok(), "{:?}: {:?}", command, next.err());
            let status = next.unwrap().status();
            let expected = match &action {
                SweepAction::Send { .. } | SweepAction::Requeue { .. } => Status::Pending,
                SweepAction::End { failure: Some(_), .. } => Status::Failed,
                SweepAction::End { failure: None, .. } => Status::Cancelled,
                SweepAction::Leave | SweepAction::Wait { .. } => unreachable!(),
            };
            prop_assert_eq!(status, expected);
        } else {
            prop_assert_eq!(action, SweepAction::Leave);
        }
    }

    #[test]
    fn a_sweep_by_age_never_ends_a_live_lease(job in jobs(), now in 0..10_u64, age in 0..8_u64) {
        let now = at(now);
        let live = matches!(&job.stage, Stage::Processing(p) if p.lease_until > now);
        match sweep_by_age(&job, now, &rules(), seconds(age)) {
            Some(AgeAction::RequestCancel(command)) => {
                prop_assert!(live);
                prop_assert!(apply(&job, &command, stamp(9)).is_ok_and(|job| job.is_cancel_requested()));
            }
            Some(AgeAction::End(action)) => {
                prop_assert!(!live);
                let command = command(&action).unwrap();
                prop_assert!(apply(&job, command, stamp(9)).is_ok_and(|job| job.settlement().is_some()));
            }
            None => {
                let young = now.since(job.order.created_at) <= seconds(age);
                prop_assert!(young || Seen::of(&job).is_none() || job.is_cancel_requested());
            }
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_live_job_is_due_by_its_deadline_or_when_its_lease_ends(
        deadline in 30..3_600_u64,
        works in works(),
        rules in sweep_rules(),
    ) {
        let (job, _) = worked(deadline, &works, &rules);
        match &job.stage {
            Stage::Pending(p) => prop_assert!(p.due_at <= job.order.deadline_at, "due after its deadline"),
            Stage::Processing(p) => prop_assert_eq!(job.due_at(), Some(p.lease_until)),
            Stage::Settled(_) => prop_assert_eq!(job.due_at(), None),
        }
    }

    #[test]
    fn a_job_that_nobody_works_on_is_settled_in_time_with_few_messages(
        deadline in 30..3_600_u64,
        works in works(),
        rules in sweep_rules(),
        often in any::<bool>(),
    ) {
        let (job, from) = worked(deadline, &works, &rules);
        let latest = job.order.deadline_at.max(from).plus(LEASE_MAX).plus(SWEEP * 2);
        let wakes = match &job.stage { Stage::Pending(p) => p.wakes, _ => 0 };
        let every = if often { SWEEP_READ } else { SWEEP };
        let (ended, now, waits) = sweep_to_the_end(job, from, every, &rules);
        prop_assert!(ended.settlement().is_some(), "never settled: {:?}", Shown(ended));
        prop_assert!(now <= latest, "settled {:?} late: {:?}", now.since(latest), Shown(ended));
        for (wait, sent) in waits.iter().enumerate() {
            let before = if wait == 0 { wakes } else { 0 };
            prop_assert!(before as usize + sent.len() <= WAKES_MAX as usize, "{:?}", sent);
            let apart = sent.windows(2).map(|pair| pair[1].since(pair[0])).min();
            prop_assert!(apart.is_none_or(|apart| apart + rules.ahead >= rules.wake), "{:?}", sent);
        }
    }

    #[test]
    fn a_list_of_drafts_does_no_more_than_a_sweep(
        deadline in 30..3_600_u64,
        works in works(),
        rules in sweep_rules(),
    ) {
        let (job, now) = worked(deadline, &works, &rules);
        let (own, swept) = (sweep_own(&job, now, &rules), sweep_action(&job, now, &rules));
        match own {
            SweepAction::End { .. } => prop_assert_eq!(own, swept),
            own => {
                prop_assert_eq!(own, SweepAction::Leave);
                prop_assert!(!matches!(swept, SweepAction::End { .. }), "its tokens are left held");
            }
        }
    }

    #[test]
    fn sweeping_twice_at_once_does_everything_once(
        deadline in 30..3_600_u64,
        works in works(),
        rules in sweep_rules(),
    ) {
        let (job, now) = worked(deadline, &works, &rules);
        let action = sweep_action(&job, now, &rules);
        if let Some(command) = command(&action) {
            let next = apply(&job, command, stamp(8)).unwrap();
            prop_assert!(apply(&next, command, stamp(9)).is_err(), "{:?} was done twice", command);
        }
    }
}
