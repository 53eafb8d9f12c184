//! The guards, one test each: what breaks without it stands in the protocol's table. And how a write that was
//! refused, or whose answer was lost, is understood.

use crate::common::samples::{
    NOW, applied, capture, claim, end_as_seen, end_held, expired, leased, mark, refused, release, requeue,
    retry, waiting,
};
use crate::common::{
    BOUNDS, at, cancelling, drawn, end, failure, job, paused, pending, processing, published,
    seen_processing, settled, stamp,
};
use darkroom_core::job::{Job, Outcome, Status, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::ledger::Settlement;
use darkroom_core::lifecycle::Rejection::{
    CancelRequested, Changed, DeadlineOver, Exhausted, Leased, OtherAttempt, OtherState, Settled, TooEarly,
};
use darkroom_core::lifecycle::{Command, RefusedClaim, Seen, SeenProcessing, apply, refused_claim};

#[test]
fn guard_nothing_changes_a_settled_job() {
    for outcome in [drawn(), published(), Outcome::Failed(failure()), Outcome::Cancelled] {
        let over = job(1, settled(outcome));
        for command in [claim(), retry(1), capture(1), end_held(1), mark(at(20)), Command::RequestCancel] {
            assert_eq!(refused(&over, &command), Settled, "{command:?}");
        }
        assert_eq!(refused(&over, &end_as_seen(Seen::Pending { attempt: 1 })), Settled);
    }
}

#[test]
fn guard_claim_lease_expired() {
    assert_eq!(refused(&leased(), &claim()), Leased);
    assert_eq!(applied(&expired(), &claim()).attempt, 2);
}

#[test]
fn guard_claim_not_before() {
    assert_eq!(refused(&job(1, paused(at(10), at(NOW + 1))), &claim()), TooEarly);
    assert_eq!(applied(&job(1, paused(at(10), at(NOW))), &claim()).attempt, 2);
    // Any other wait is over for who has a slot.
    for reason in [WaitReason::Capacity, WaitReason::Quota, WaitReason::BreakerOpen] {
        let defer = Command::Defer { attempt: 1, not_before: at(NOW + 1), reason };
        assert_eq!(applied(&applied(&waiting(), &defer), &claim()).attempt, 2);
    }
}

#[test]
fn guard_claim_no_cancel_request() {
    assert_eq!(refused(&job(1, cancelling(at(NOW))), &claim()), CancelRequested);
}

#[test]
fn guard_claim_deadline_ahead() {
    for (deadline, outcome) in [(NOW, Err(DeadlineOver)), (NOW + 1, Ok(Status::Processing))] {
        for mut job in [waiting(), expired()] {
            job.order.deadline_at = at(deadline);
            assert_eq!(apply(&job, &claim(), stamp(9)).map(|next| next.status()), outcome);
        }
    }
}

#[test]
fn guard_claim_attempts_left() {
    for (attempt, outcome) in [(2, Ok(3)), (3, Err(Exhausted)), (4, Err(Exhausted))] {
        for stage in [pending(at(10), at(20)), processing(at(NOW))] {
            let job = Job { calls: 1, ..job(attempt, stage) };
            assert_eq!(apply(&job, &claim(), stamp(9)).map(|next| next.attempt), outcome);
        }
    }
}

#[test]
fn guard_claim_calls_left() {
    for (calls, outcome) in [(5, Ok(6)), (6, Err(Exhausted)), (7, Err(Exhausted))] {
        for stage in [pending(at(10), at(20)), processing(at(NOW))] {
            let job = Job { calls, ..job(1, stage) };
            assert_eq!(apply(&job, &claim(), stamp(9)).map(|next| next.calls), outcome);
        }
    }
}

#[test]
fn guard_second_call_attempt_status_calls_and_cancel() {
    let count = |attempt, calls_max| Command::CountCall { attempt, calls_max };
    assert_eq!(refused(&leased(), &count(0, 6)), OtherAttempt);
    assert_eq!(refused(&leased(), &count(2, 6)), OtherAttempt);
    assert_eq!(refused(&waiting(), &count(1, 6)), OtherState);
    assert_eq!(refused(&leased(), &count(1, 1)), Exhausted);
    assert_eq!(refused(&Job { calls: 6, ..leased() }, &count(1, 6)), Exhausted);
    assert_eq!(applied(&Job { calls: 5, ..leased() }, &count(1, 6)).calls, 6);
    assert_eq!(refused(&job(1, cancelling(at(NOW + 1))), &count(1, 6)), CancelRequested);
}

#[test]
fn guard_retry_attempt_status_and_cancel() {
    assert_eq!(refused(&leased(), &retry(0)), OtherAttempt);
    assert_eq!(refused(&leased(), &retry(2)), OtherAttempt);
    assert_eq!(refused(&waiting(), &retry(1)), OtherState);
    assert_eq!(refused(&job(1, cancelling(at(NOW + 1))), &retry(1)), CancelRequested);
}

#[test]
fn guard_release_attempt_status_and_cancel() {
    assert_eq!(refused(&leased(), &release(0)), OtherAttempt);
    assert_eq!(refused(&leased(), &release(2)), OtherAttempt);
    assert_eq!(refused(&waiting(), &release(1)), OtherState);
    assert_eq!(refused(&job(1, cancelling(at(NOW + 1))), &release(1)), CancelRequested);
}

#[test]
fn guard_defer_attempt_and_status() {
    let defer = |attempt| Command::Defer { attempt, not_before: at(NOW), reason: WaitReason::Quota };
    assert_eq!(refused(&waiting(), &defer(0)), OtherAttempt);
    assert_eq!(refused(&waiting(), &defer(2)), OtherAttempt);
    assert_eq!(refused(&leased(), &defer(1)), OtherState);
}

#[test]
fn guard_progress_attempt_and_status() {
    let progress = |attempt| Command::Progress { attempt, now: at(NOW), progress: 50 };
    assert_eq!(refused(&leased(), &progress(0)), OtherAttempt);
    assert_eq!(refused(&leased(), &progress(2)), OtherAttempt);
    assert_eq!(refused(&waiting(), &progress(1)), OtherState);
}

#[test]
fn guard_failure_by_the_worker_attempt_and_status() {
    assert_eq!(refused(&leased(), &end_held(0)), OtherAttempt);
    assert_eq!(refused(&leased(), &end_held(2)), OtherAttempt);
    assert_eq!(refused(&waiting(), &end_held(1)), OtherState);
}

#[test]
fn guard_as_seen_status_attempt_lease_and_heartbeat() {
    let seen = seen_processing(&expired());
    for (changed, rejection) in [
        (SeenProcessing { attempt: 0, ..seen }, OtherAttempt),
        (SeenProcessing { attempt: 2, ..seen }, OtherAttempt),
        (SeenProcessing { lease_until: at(NOW - 1), ..seen }, Changed),
        (SeenProcessing { lease_until: at(NOW + 1), ..seen }, Changed),
        (SeenProcessing { heartbeat_at: Some(at(50)), ..seen }, Changed),
    ] {
        assert_eq!(refused(&expired(), &end_as_seen(Seen::Processing(changed))), rejection);
        assert_eq!(refused(&expired(), &requeue(changed)), rejection);
    }
    assert_eq!(refused(&waiting(), &end_as_seen(Seen::Processing(seen))), OtherState);
    assert_eq!(refused(&waiting(), &requeue(seen)), OtherState);
    assert_eq!(refused(&expired(), &end_as_seen(Seen::Pending { attempt: 1 })), OtherState);
    for attempt in [0, 2] {
        assert_eq!(refused(&waiting(), &end_as_seen(Seen::Pending { attempt })), OtherAttempt);
    }
    assert_eq!(Seen::of(&job(1, settled(drawn()))), None);
}

#[test]
fn guard_requeue_no_cancel_request() {
    let job = job(1, cancelling(at(NOW)));
    assert_eq!(refused(&job, &requeue(seen_processing(&job))), CancelRequested);
}

#[test]
fn guard_mark_status_and_due() {
    assert_eq!(refused(&waiting(), &mark(at(19))), Changed);
    assert_eq!(refused(&waiting(), &mark(at(21))), Changed);
    assert_eq!(refused(&expired(), &mark(at(NOW))), OtherState);
}

#[test]
fn guard_cancel_waiting_only_and_ask_held_only() {
    assert_eq!(refused(&leased(), &Command::CancelPending { end: end(at(NOW)) }), OtherState);
    assert_eq!(refused(&waiting(), &Command::RequestCancel), OtherState);
}

#[test]
fn a_late_picture_of_an_older_attempt_is_kept_while_the_job_is_live() {
    for stage in [pending(at(10), at(20)), processing(at(NOW + 1)), cancelling(at(NOW + 1))] {
        let next = applied(&job(3, stage), &capture(1));
        assert_eq!((next.status(), next.settlement()), (Status::Draft, Some(Settlement::Captured)));
    }
}

// A refused write of our own.

#[test]
fn a_state_that_a_command_did_not_make_is_not_taken_for_its_success() {
    let other_lease = Command::Claim { now: at(NOW), lease_until: at(NOW + 2), bounds: BOUNDS };
    let mark = |due_at| Command::Mark { due_at_seen: at(20), due_at };
    let draft = job(1, settled(drawn()));
    let failed = job(1, settled(Outcome::Failed(failure())));
    let live = [
        (claim(), job(1, processing(at(NOW + 240))), true),
        (other_lease, job(1, processing(at(NOW + 240))), false),
        (claim(), waiting(), false),
        (claim(), draft.clone(), false),
        (Command::CountCall { attempt: 1, calls_max: 6 }, leased(), true),
        (Command::CountCall { attempt: 2, calls_max: 6 }, leased(), false),
        (Command::CountCall { attempt: 1, calls_max: 6 }, waiting(), false),
        (Command::Progress { attempt: 1, now: at(NOW), progress: 1 }, leased(), true),
        (Command::Progress { attempt: 2, now: at(NOW), progress: 1 }, leased(), false),
        (Command::RequestCancel, job(1, cancelling(at(NOW))), true),
        (Command::RequestCancel, leased(), false),
        (Command::RequestCancel, failed.clone(), false),
        (retry(1), waiting(), true),
        (retry(2), waiting(), false),
        (retry(1), leased(), false),
        (release(1), waiting(), true),
        (release(2), waiting(), false),
        (release(1), leased(), false),
        (Command::Defer { attempt: 1, not_before: at(20), reason: WaitReason::Quota }, waiting(), true),
        (Command::Defer { attempt: 0, not_before: at(20), reason: WaitReason::Quota }, waiting(), false),
        (requeue(seen_processing(&expired())), waiting(), true),
        (requeue(SeenProcessing { attempt: 2, ..seen_processing(&expired()) }), waiting(), false),
        (mark(at(20)), waiting(), true),
        (mark(at(21)), waiting(), false),
        (mark(at(NOW)), expired(), false),
    ];
    let over = [
        (capture(1), draft.clone(), true),
        (capture(1), failed.clone(), false),
        (capture(1), leased(), false),
        (end_held(1), failed.clone(), true),
        (end_held(1), draft.clone(), false),
        (end_as_seen(Seen::Pending { attempt: 1 }), failed.clone(), true),
        (end_as_seen(Seen::Pending { attempt: 1 }), waiting(), false),
        (Command::CancelPending { end: end(at(NOW)) }, job(1, settled(Outcome::Cancelled)), true),
        (Command::CancelPending { end: end(at(NOW)) }, draft, false),
    ];
    for (command, job, made) in live.into_iter().chain(over) {
        assert_eq!(command.has_made(&job), made, "{command:?} and {:?}", job.stage);
    }
}

#[test]
fn a_refused_claim_looks_in_order() {
    let mine = stamp(0);
    let look = |job: &Job| refused_claim(job, &claim(), &mine, at(NOW), BOUNDS);
    let past_deadline = |mut job: Job| {
        job.order.deadline_at = at(50);
        job
    };
    let spent = |job: Job| Job { calls: 6, ..job };
    let claimed = Job { op: mine.clone(), ..job(1, processing(at(NOW + 240))) };

    // Settled comes before the own stamp.
    assert_eq!(look(&Job { op: mine.clone(), ..job(1, settled(drawn())) }), RefusedClaim::Leave(Settled));
    // The own stamp comes before lease, deadline and bounds, and only in the state that the claim made.
    assert_eq!(look(&past_deadline(spent(claimed.clone()))), RefusedClaim::Won);
    assert_eq!(
        look(&Job { op: mine.clone(), ..job(1, cancelling(at(NOW + 240))) }),
        RefusedClaim::WonButCancelled
    );
    assert_eq!(look(&Job { op: stamp(5), ..claimed.clone() }), RefusedClaim::Leave(Leased));
    assert_eq!(look(&Job { op: mine.clone(), ..waiting() }), RefusedClaim::Leave(Changed));
    // A live lease comes before cancel, deadline and bounds.
    let other = |job| Job { op: stamp(5), ..job };
    assert_eq!(look(&past_deadline(spent(other(leased())))), RefusedClaim::Leave(Leased));
    assert_eq!(look(&other(job(1, cancelling(at(NOW + 1))))), RefusedClaim::Leave(Leased));
    // A wait that is not over comes before deadline and bounds.
    assert_eq!(
        look(&past_deadline(spent(job(1, paused(at(10), at(NOW + 3)))))),
        RefusedClaim::Leave(TooEarly)
    );
    for early in [1, 2] {
        let waits = past_deadline(spent(job(1, paused(at(10), at(NOW + early)))));
        assert_eq!(look(&waits), RefusedClaim::Early(at(NOW + early)));
    }
    // A cancel request comes before deadline and bounds.
    assert_eq!(
        look(&past_deadline(spent(other(job(1, cancelling(at(NOW))))))),
        RefusedClaim::Leave(CancelRequested)
    );
    // Nothing left: the deadline first.
    let code = |job: &Job| match look(job) {
        RefusedClaim::End(seen, failure) => (Some(seen) == Seen::of(job)).then_some(failure.code),
        _ => None,
    };
    assert_eq!(code(&past_deadline(spent(waiting()))), Some(JobErrorCode::Stuck));
    assert_eq!(code(&past_deadline(spent(expired()))), Some(JobErrorCode::DeadlineExceeded));
    assert_eq!(code(&spent(waiting())), Some(JobErrorCode::AttemptsExhausted));
    assert_eq!(code(&spent(expired())), Some(JobErrorCode::AttemptsExhausted));
    assert_eq!(code(&Job { calls: 3, ..job(3, processing(at(NOW))) }), Some(JobErrorCode::AttemptsExhausted));
    // It could be claimed by now: whoever changed it has its message.
    assert_eq!(look(&waiting()), RefusedClaim::Leave(Changed));
}
