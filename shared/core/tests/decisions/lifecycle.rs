//! Every (stage, command) pair, what each command changes, and what no sequence of commands can do.

use crate::common::samples::{
    NOW, applied, capture, changes, claim, end_as_seen, end_held, expired, leased, mark, refused, release,
    requeue, retry, waiting,
};
use crate::common::{
    BOUNDS, COST, Shown, at, cancelling, cases, commands, drawn, end, failure, job, jobs, jobs_and_commands,
    paused, pending, published, seconds, seen_processing, settled, stamp, submitted,
};
use darkroom_core::job::{Job, Outcome, Pending, Processing, Stage, Status, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::lifecycle::Rejection::{
    self, CancelRequested, Changed, DeadlineOver, Exhausted, Leased, OtherState, Settled, TooEarly,
};
use darkroom_core::lifecycle::{
    Bounds, Command, Ending, RefusedClaim, Seen, SeenProcessing, apply, deadline_over, expires_at, next_wake,
    refused_claim,
};
use darkroom_core::limits::CLOCKS_DIFFER_MAX;
use darkroom_core::message::Message;
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

#[test]
fn each_command_on_each_stage() {
    type Cell = Result<Status, Rejection>;
    type Row = (&'static str, fn(&Job) -> Command, [Cell; 9]);
    const WAIT: Cell = Ok(Status::Pending);
    const WORK: Cell = Ok(Status::Processing);
    const DRAFT: Cell = Ok(Status::Draft);
    const FAIL: Cell = Ok(Status::Failed);
    const CANCEL: Cell = Ok(Status::Cancelled);
    const OVER: Cell = Err(Settled);
    const ELSE: Cell = Err(OtherState);
    const STOP: Cell = Err(CancelRequested);
    let stages = [
        waiting(),
        job(1, paused(at(10), at(NOW + 1))),
        leased(),
        expired(),
        job(1, cancelling(at(NOW))),
        job(1, settled(drawn())),
        job(1, settled(published())),
        job(1, settled(Outcome::Failed(failure()))),
        job(1, settled(Outcome::Cancelled)),
    ];
    #[rustfmt::skip]
    let table: [Row; 14] = [
        //                                                       waiting  too early      leased       expired cancelling settled
        ("claim",         |_| claim(),                          [WORK,   Err(TooEarly), Err(Leased), WORK,   STOP,   OVER, OVER, OVER, OVER]),
        ("count a call",  |_| Command::CountCall { attempt: 1, calls_max: 6 },
                                                                [ELSE,   ELSE,          WORK,        WORK,   STOP,   OVER, OVER, OVER, OVER]),
        ("retry",         |_| retry(1),                         [ELSE,   ELSE,          WAIT,        WAIT,   STOP,   OVER, OVER, OVER, OVER]),
        ("release",       |_| release(1),                       [ELSE,   ELSE,          WAIT,        WAIT,   STOP,   OVER, OVER, OVER, OVER]),
        ("defer",         |_| Command::Defer { attempt: 1, not_before: at(NOW + 2), reason: WaitReason::Quota },
                                                                [WAIT,   WAIT,          ELSE,        ELSE,   ELSE,   OVER, OVER, OVER, OVER]),
        ("progress",      |_| Command::Progress { attempt: 1, now: at(NOW), progress: 10 },
                                                                [ELSE,   ELSE,          WORK,        WORK,   WORK,   OVER, OVER, OVER, OVER]),
        ("capture",       |_| capture(1),                       [DRAFT,  DRAFT,         DRAFT,       DRAFT,  DRAFT,  OVER, OVER, OVER, OVER]),
        ("end held",      |_| end_held(1),                      [ELSE,   ELSE,          FAIL,        FAIL,   FAIL,   OVER, OVER, OVER, OVER]),
        ("end waiting",   |_| end_as_seen(Seen::Pending { attempt: 1 }),
                                                                [FAIL,   FAIL,          ELSE,        ELSE,   ELSE,   OVER, OVER, OVER, OVER]),
        ("end held as seen", |job| end_as_seen(Seen::Processing(seen_processing(job))),
                                                                [ELSE,   ELSE,          FAIL,        FAIL,   FAIL,   OVER, OVER, OVER, OVER]),
        ("cancel",        |_| Command::CancelPending { end: end(at(NOW)) },
                                                                [CANCEL, CANCEL,        ELSE,        ELSE,   ELSE,   OVER, OVER, OVER, OVER]),
        ("ask to cancel", |_| Command::RequestCancel,           [ELSE,   ELSE,          WORK,        WORK,   WORK,   OVER, OVER, OVER, OVER]),
        ("mark",          |job| mark(job.due_at().unwrap_or_default()),
                                                                [WAIT,   WAIT,          ELSE,        ELSE,   ELSE,   OVER, OVER, OVER, OVER]),
        ("requeue",       |job| requeue(seen_processing(job)),  [ELSE,   ELSE,          WAIT,        WAIT,   STOP,   OVER, OVER, OVER, OVER]),
    ];
    for (name, command, outcomes) in table {
        for (job, expected) in stages.iter().zip(outcomes) {
            let outcome = apply(job, &command(job), stamp(9)).map(|next| next.status());
            assert_eq!(outcome, expected, "{name} on {:?}", job.stage);
        }
    }
}

// What each command changes, and that it changes nothing else.

#[test]
fn a_claim_takes_the_lease_and_counts_attempt_and_call() {
    let first = job(0, pending(at(10), at(20)));
    let lease = Processing {
        lease_until: at(NOW + 240),
        claimed_at: at(NOW),
        heartbeat_at: None,
        progress: 0,
        cancel_requested: false,
    };
    changes(&first, &claim(), |job| {
        job.attempt = 1;
        job.tries = 1;
        job.calls = 1;
        job.started_at = Some(at(NOW));
        job.stage = Stage::Processing(lease.clone());
    });
    // A dead worker's progress and heartbeat are not its successor's; the first claim's time stays.
    let held = Processing { heartbeat_at: Some(at(50)), progress: 80, ..lease.clone() };
    let dead = job(1, Stage::Processing(Processing { lease_until: at(NOW), ..held }));
    changes(&dead, &claim(), |job| {
        job.attempt = 2;
        job.tries = 2;
        job.calls = 2;
        job.stage = Stage::Processing(lease);
    });
}

#[test]
fn another_call_is_counted_in_the_same_attempt() {
    changes(&leased(), &Command::CountCall { attempt: 1, calls_max: 2 }, |job| job.calls = 2);
}

#[test]
fn a_retry_waits_anew_at_the_end_of_the_queue() {
    changes(&leased(), &retry(1), |job| {
        job.last_failure = Some(JobErrorCode::NoImage);
        job.stage = Stage::Pending(Pending {
            wait_at: at(NOW),
            not_before: at(NOW + 2),
            due_at: at(NOW + 2),
            wakes: 0,
            reason: WaitReason::Retry,
        });
    });
}

#[test]
fn a_released_attempt_costs_no_try() {
    changes(&leased(), &release(1), |job| {
        (job.tries, job.calls) = (0, 0);
        job.stage = Stage::Pending(Pending {
            wait_at: at(NOW),
            not_before: at(NOW + 30),
            due_at: at(NOW + 30),
            wakes: 0,
            reason: WaitReason::BreakerOpen,
        });
    });
    // However often it had to wait, the claim goes by what was tried, and the fence rises all the same.
    let mut job = submitted(3_600);
    for round in 0..10_u32 {
        let now = at(u64::from(round) * 60);
        let bounds = Bounds { attempts_max: 1, calls_max: 20 };
        job = applied(&job, &Command::Claim { now, lease_until: now.plus(seconds(5)), bounds });
        assert_eq!((job.attempt, job.tries), (round + 1, 1));
        // Every other time its call was made before it had to wait.
        job = applied(&job, &Command::release(&job, now, now, WaitReason::Quota, round % 2));
    }
    assert_eq!(job.calls, 5);
}

#[test]
fn a_deferred_job_keeps_its_place_and_its_attempt() {
    let woken = Stage::Pending(Pending {
        wait_at: at(10),
        not_before: at(20),
        due_at: at(600),
        wakes: 3,
        reason: WaitReason::Capacity,
    });
    let defer = Command::Defer { attempt: 1, not_before: at(NOW + 30), reason: WaitReason::Quota };
    changes(&job(1, woken), &defer, |job| {
        job.stage = Stage::Pending(Pending {
            wait_at: at(10),
            not_before: at(NOW + 30),
            due_at: at(NOW + 30),
            wakes: 0,
            reason: WaitReason::Quota,
        });
    });
}

#[test]
fn progress_shows_life_and_never_renews_the_lease() {
    let progress = |progress| Command::Progress { attempt: 1, now: at(NOW), progress };
    let shown = |job: &mut Job, progress| {
        let Stage::Processing(p) = &mut job.stage else { panic!("not processing") };
        p.heartbeat_at = Some(at(NOW));
        p.progress = progress;
    };
    changes(&leased(), &progress(40), |job| shown(job, 40));
    let at_forty = applied(&leased(), &progress(40));
    changes(&at_forty, &progress(40), |job| shown(job, 40));
    assert_eq!(refused(&at_forty, &progress(39)), Changed);
}

#[test]
fn each_end_says_how_and_when() {
    let ended = |outcome| settled_at(NOW, outcome);
    changes(&leased(), &capture(1), |job| job.stage = ended(drawn()));
    changes(&leased(), &end_held(1), |job| job.stage = ended(Outcome::Failed(failure())));
    let by_owner = Command::EndHeld { attempt: 1, ending: Ending::Cancelled, end: end(at(NOW)) };
    changes(&leased(), &by_owner, |job| job.stage = ended(Outcome::Cancelled));
    let seen = Seen::of(&waiting()).unwrap();
    changes(&waiting(), &end_as_seen(seen), |job| job.stage = ended(Outcome::Failed(failure())));
    let cancel = Command::CancelPending { end: end(at(NOW)) };
    changes(&waiting(), &cancel, |job| job.stage = ended(Outcome::Cancelled));
}

fn settled_at(now: u64, outcome: Outcome) -> Stage {
    let Stage::Settled(stage) = settled(outcome) else { panic!("not settled") };
    let end = end(at(now));
    Stage::Settled(darkroom_core::job::Settled { finished_at: end.now, expires_at: end.expires_at, ..stage })
}

#[test]
fn a_cancel_request_is_remembered_and_nothing_else() {
    changes(&leased(), &Command::RequestCancel, |job| {
        let Stage::Processing(p) = &mut job.stage else { panic!("not processing") };
        p.cancel_requested = true;
    });
}

#[test]
fn a_mark_moves_the_due_time_on_and_counts_the_wake() {
    changes(&waiting(), &mark(at(20)), |job| {
        let Stage::Pending(p) = &mut job.stage else { panic!("not pending") };
        p.due_at = at(NOW + 120);
        p.wakes = 1;
    });
}

#[test]
fn a_requeued_job_waits_anew_and_says_why() {
    changes(&expired(), &requeue(seen_processing(&expired())), |job| {
        job.last_failure = Some(JobErrorCode::Timeout);
        job.stage = Stage::Pending(Pending {
            wait_at: at(NOW),
            not_before: at(NOW),
            due_at: at(NOW + 120),
            wakes: 0,
            reason: WaitReason::Capacity,
        });
    });
}

#[test]
fn words_for_a_job_past_its_deadline() {
    let (code, words) = deadline_over(&waiting(), at(4_320));
    assert_eq!((code, words.as_str()), (JobErrorCode::Stuck, "stuck in pending for 1.2 h"));
    let (code, words) = deadline_over(&expired(), at(4_320));
    assert_eq!(code, JobErrorCode::DeadlineExceeded);
    assert!(words.contains("1.2 h"), "{words}");
}

#[test]
fn a_record_expires_in_whole_seconds_as_the_store_counts() {
    let now = Timestamp::from_millis(at(0).as_millis() + 999);
    assert_eq!(expires_at(now, 90), at(90 * 86_400));
    assert_eq!(expires_at(now, u64::MAX).as_millis() % 1000, 0);
}

#[test]
fn wakes_lie_four_times_further_apart_and_end_with_the_time() {
    let wake = |wakes| next_wake(wakes, at(0), seconds(120), at(10_000)).since(at(0)).as_secs();
    assert_eq!([1, 2, 3, 4, u32::MAX].map(wake), [120, 480, 10_000, 10_000, 10_000]);
    assert_eq!(next_wake(1, at(0), seconds(120), at(60)), at(60));
    assert_eq!(next_wake(0, at(0), seconds(120), at(10_000)), at(120));
}

#[test]
fn a_submitted_job_is_due_when_its_message_is_taken_for_lost() {
    let job = submitted(3_600);
    assert_eq!((job.version, job.attempt, job.calls), (1, 0, 0));
    assert_eq!((job.status(), job.settlement(), job.started_at), (Status::Pending, None, None));
    assert_eq!(job.due_at(), Some(at(120)));
    assert_eq!(submitted(60).due_at(), Some(at(60)));
    assert_eq!(job.order.cost, COST);
    assert_eq!(job.ticket().as_str(), format!("{:015}#{}", at(0).as_millis(), job.id));
    assert!(matches!(job.message(), Message::Job(message) if message.job_id == job.id));
}

#[test]
fn a_wait_never_outlasts_the_deadline() {
    let mut held = leased();
    held.order.deadline_at = at(300);
    let retry = |not_before| Command::retry(&held, at(NOW), not_before, JobErrorCode::NoImage);
    assert_eq!(applied(&held, &retry(at(299))).due_at(), Some(at(299)));
    assert_eq!(applied(&held, &retry(at(90_000))).due_at(), Some(at(300)));
    let mut deferred = waiting();
    deferred.order.deadline_at = at(300);
    let defer = |not_before| Command::defer(&deferred, not_before, WaitReason::Quota);
    // A wait for quota ends in time for the slot.
    assert_eq!(applied(&deferred, &defer(at(299))).due_at(), Some(at(296)));
    assert_eq!(applied(&deferred, &defer(at(90_000))).due_at(), Some(at(300)));
}

/// The conditions of the protocol's writes, flat, as a store would check them.
fn condition_holds(job: &Job, command: &Command) -> bool {
    let (pending, processing, over) = match &job.stage {
        Stage::Pending(p) => (Some(p), None, false),
        Stage::Processing(p) => (None, Some(p), false),
        Stage::Settled(_) => (None, None, true),
    };
    let held = |attempt: u32| processing.is_some() && job.attempt == attempt;
    let cancelled = processing.is_some_and(|p| p.cancel_requested);
    let as_seen = |seen: &SeenProcessing| {
        held(seen.attempt)
            && processing
                .is_some_and(|p| p.lease_until == seen.lease_until && p.heartbeat_at == seen.heartbeat_at)
    };
    match command {
        Command::Claim { now, bounds, .. } => {
            !over
                && !cancelled
                && job.tries < bounds.attempts_max
                && job.calls < bounds.calls_max
                && *now < job.order.deadline_at
                && (pending.is_some_and(|p| p.not_before <= *now || p.reason != WaitReason::Retry)
                    || processing.is_some_and(|p| p.lease_until <= *now))
        }
        Command::CountCall { attempt, calls_max } => held(*attempt) && job.calls < *calls_max && !cancelled,
        Command::Retry { attempt, .. } => held(*attempt) && !cancelled,
        Command::Release { attempt, uncalled, .. } => {
            held(*attempt) && !cancelled && job.tries > 0 && job.calls >= *uncalled
        }
        Command::Defer { attempt, .. } => pending.is_some() && job.attempt == *attempt,
        Command::Progress { attempt, progress, .. } => {
            held(*attempt) && processing.is_some_and(|p| p.progress <= *progress)
        }
        Command::Capture { .. } => pending.is_some() || processing.is_some(),
        Command::EndHeld { attempt, .. } => held(*attempt),
        Command::EndAsSeen { seen: Seen::Pending { attempt }, .. } => {
            pending.is_some() && job.attempt == *attempt
        }
        Command::EndAsSeen { seen: Seen::Processing(seen), .. } => as_seen(seen),
        Command::CancelPending { .. } => pending.is_some(),
        Command::RequestCancel => processing.is_some(),
        Command::Mark { due_at_seen, .. } => pending.is_some_and(|p| p.due_at == *due_at_seen),
        Command::Requeue { seen, .. } => as_seen(seen) && !cancelled,
    }
}

/// (attempt, status) as a number that may only rise: pending@n < processing@n+1 < pending@n+1 < … < settled.
fn rank(job: &Job) -> u64 {
    match job.stage {
        Stage::Pending(_) => 2 * u64::from(job.attempt) + 1,
        Stage::Processing(_) => 2 * u64::from(job.attempt),
        Stage::Settled(_) => u64::MAX,
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_command_is_applied_exactly_when_its_condition_holds((job, command) in jobs_and_commands()) {
        prop_assert_eq!(apply(&job, &command, stamp(9)).is_ok(), condition_holds(&job, &command));
    }

    #[test]
    fn a_step_is_stamped_counted_recognised_and_forward((job, command) in jobs_and_commands()) {
        if let Ok(next) = apply(&job, &command, stamp(9)) {
            prop_assert_eq!(next.version, job.version + 1);
            prop_assert_eq!(&next.op, &stamp(9));
            prop_assert!(command.has_made(&next));
            prop_assert!(rank(&next) >= rank(&job), "{:?}", Shown(next));
            prop_assert_eq!(next.settlement(), command.settlement());
            prop_assert!(next.order == job.order && next.id == job.id && next.user == job.user);
            let given_back = if let Command::Release { uncalled, .. } = command { uncalled } else { 0 };
            prop_assert!(next.calls + given_back >= job.calls && next.calls <= job.calls + 1);
            prop_assert!(next.started_at == job.started_at || job.started_at.is_none());
        }
    }

    #[test]
    fn stages_and_settlements_are_two_sides_of_one_thing(job in jobs()) {
        let live = matches!(job.status(), Status::Pending | Status::Processing);
        prop_assert_eq!(live, job.due_at().is_some());
        prop_assert_eq!(live, job.settlement().is_none());
        prop_assert_eq!(live, Seen::of(&job).is_some());
        prop_assert_eq!(Status::parse(job.status().as_str()), Some(job.status()));
    }

    #[test]
    fn no_sequence_goes_back_or_calls_more_than_allowed(
        start in jobs(),
        commands in proptest::collection::vec(commands(), 1..40),
    ) {
        let mut job = Shown(Job { calls: start.calls.min(BOUNDS.calls_max), ..start.0 });
        for (number, command) in (0_u8..).zip(commands) {
            let Ok(next) = apply(&job, &command, stamp(number)) else { continue };
            prop_assert!(job.settlement().is_none(), "{:?} changed a settled job", command);
            prop_assert!(rank(&next) >= rank(&job));
            prop_assert!(next.calls <= BOUNDS.calls_max && next.attempt <= job.attempt + 1);
            if let (Stage::Processing(then), Stage::Processing(now)) = (&job.stage, &next.stage)
                && job.attempt == next.attempt
            {
                prop_assert!(now.progress >= then.progress, "progress fell");
                prop_assert_eq!(now.lease_until, then.lease_until);
                prop_assert!(now.cancel_requested || !then.cancel_requested);
            }
            job = Shown(next);
        }
    }

    #[test]
    fn a_refused_claim_ends_only_what_nobody_may_claim(job in jobs(), now in crate::common::times(), op in 0..3_u8) {
        let command = Command::Claim { now, lease_until: now.plus(seconds(2)), bounds: BOUNDS };
        let claimed = apply(&job, &command, stamp(9));
        match refused_claim(&job, &command, &stamp(op), now, BOUNDS) {
            RefusedClaim::Won => {
                prop_assert!(job.op == stamp(op) && !job.is_cancel_requested());
                prop_assert_eq!(job.due_at(), Some(now.plus(seconds(2))));
            }
            RefusedClaim::WonButCancelled => {
                prop_assert!(job.op == stamp(op) && job.is_cancel_requested());
                prop_assert_eq!(job.due_at(), Some(now.plus(seconds(2))));
            }
            RefusedClaim::Early(not_before) => {
                prop_assert_eq!(claimed.err(), Some(TooEarly));
                prop_assert!(not_before > now && not_before <= now.plus(CLOCKS_DIFFER_MAX));
            }
            RefusedClaim::Leave(rejection) => {
                prop_assert!(!matches!(rejection, DeadlineOver | Exhausted));
                prop_assert_eq!(claimed.err().unwrap_or(Changed), rejection);
            }
            RefusedClaim::End(seen, failure) => {
                prop_assert!(matches!(claimed, Err(DeadlineOver | Exhausted)));
                let end = Command::EndAsSeen { seen, ending: Ending::Failed(failure), end: end(now) };
                let ended = apply(&job, &end, stamp(9));
                prop_assert_eq!(ended.map(|job| job.status()), Ok(Status::Failed));
                let live = matches!(&job.stage, Stage::Processing(p) if p.lease_until > now);
                prop_assert!(!live, "a live lease was ended");
            }
        }
    }

    #[test]
    fn bounds_are_bounds_whatever_they_are(attempts_max in 0..5_u32, calls_max in 0..5_u32, claims in 0..12_usize) {
        let bounds = Bounds { attempts_max, calls_max };
        let mut job = submitted(3_600);
        for number in 0..claims {
            let now = at(10 * number as u64);
            let claim = Command::Claim { now, lease_until: now.plus(seconds(5)), bounds };
            job = apply(&job, &claim, stamp(1)).unwrap_or(job);
        }
        prop_assert_eq!(job.attempt as usize, claims.min(attempts_max as usize).min(calls_max as usize));
        prop_assert_eq!((job.calls, job.tries), (job.attempt, job.attempt));
    }
}
