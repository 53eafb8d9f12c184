//! Each guard taken away alone: what breaks, after how many steps. One that is redundant is named, with the lock behind
//! it: taken away together, they break what they guard.

use darkroom_core::lifecycle::Bounds;

use crate::SMALL;
use crate::common::COST;
use crate::guards::Condition::{
    Attempt, CallsLeft, DeadlineAhead, DueAsSeen, HeartbeatAsSeen, LeaseAsSeen, LeaseOver, NoCancelRequest,
    NotSettled, PauseOver, Status, TriesLeft,
};
use crate::guards::Guard::{self, Of};
use crate::guards::Off;
use crate::guards::Write::{
    CancelPending, Capture, Claim, CountCall, Defer, EndAsSeen, EndHeld, Mark, Progress, Release,
    RequestCancel, Requeue, Retry,
};
use crate::properties::{
    CALLS, CANCEL_KEPT, LIVE_LEASE, MONEY, NO_CALL_AFTER_CANCEL, ONE_HOLDER, ONE_JOB, PICTURE, SETTLED_STAYS,
    SETTLES_IN_TIME, STILL_A_JOB,
};
use crate::protocol::Protocol;
use crate::report::breaks;
use crate::world::Config;

/// Every case needs two workers, a sweeper and the owner; some need more.
const PLAIN: Config = Config { signs_of_life: false, uncalled: 0, ..SMALL };
const ONE_TRY: Config = Config { bounds: Bounds { attempts_max: 1, calls_max: 2 }, ..PLAIN };
const ONE_CALL: Config = Config { bounds: Bounds { attempts_max: 2, calls_max: 1 }, ..PLAIN };
const THREE_CALLS: Config = Config { bounds: Bounds { attempts_max: 2, calls_max: 3 }, ..PLAIN };
const SIGNS: Config = Config { signs_of_life: true, ..PLAIN };
const DEATH: Config = Config { crashes: 1, ..PLAIN };
const TWICE: Config = Config { copies: 1, ..ONE_CALL };
const AGAIN: Config = Config { submissions: 2, ..ONE_CALL };
const EXPIRES: Config = Config { expires: true, workers: 1, ..AGAIN };
const TWO_JOBS: Config = Config { jobs: 2, submissions: 2, workers: 1, owner: false, ..ONE_CALL };
const WISHES: Config = Config { wishes: 1, ..ONE_CALL };
const WISHES_AGAIN: Config = Config { wishes: 1, granted: 2 * COST, ..AGAIN };
const BOTH_PAID: Config = Config { granted: 2 * COST, ..TWO_JOBS };

/// What a case finds.
enum Found {
    Breaks(&'static str),
    Redundant,
}

use Found::{Breaks, Redundant};

fn without(name: &str, off: &'static [Guard], config: Config, expected: Found) {
    let found = breaks(name, || Protocol::new(config, Off(off)));
    match (expected, found) {
        (Breaks(expected), Some((property, _))) => assert_eq!(property, expected, "{name}"),
        (Breaks(expected), None) => panic!("without {name}, {expected} holds all the same"),
        (Redundant, Some((property, _))) => panic!("{name} is not redundant: {property}"),
        (Redundant, None) => {}
    }
}

macro_rules! guards {
    ($($name:ident: [$($off:expr),+] in $config:expr => $expected:expr;)+) => {
        $(#[test]
        fn $name() {
            const OFF: &[Guard] = &[$($off),+];
            without(stringify!($name), OFF, $config, $expected);
        })+
    };
}

guards! {
    claim_lease_over: [Of(Claim, LeaseOver)] in PLAIN => Breaks(LIVE_LEASE);
    claim_no_cancel_request: [Of(Claim, NoCancelRequest)] in PLAIN => Breaks(NO_CALL_AFTER_CANCEL);
    claim_calls_left: [Of(Claim, CallsLeft)] in PLAIN => Breaks(CALLS);
    claim_tries_left: [Of(Claim, TriesLeft)] in ONE_TRY => Breaks(CALLS);
    // They spare a provider and an owner; no invariant rests on them.
    claim_pause_over: [Of(Claim, PauseOver)] in PLAIN => Redundant;
    claim_deadline_ahead: [Of(Claim, DeadlineAhead)] in PLAIN => Redundant;
    // The status says it, too.
    claim_not_settled: [Of(Claim, NotSettled)] in PLAIN => Redundant;
    claim_not_settled_and_status: [Of(Claim, NotSettled), Of(Claim, Status)] in PLAIN => Breaks(SETTLED_STAYS);

    second_call_attempt: [Of(CountCall, Attempt)] in THREE_CALLS => Breaks(ONE_HOLDER);
    second_call_status: [Of(CountCall, Status)] in PLAIN => Breaks(ONE_HOLDER);
    second_call_calls_left: [Of(CountCall, CallsLeft)] in PLAIN => Breaks(CALLS);
    second_call_no_cancel_request: [Of(CountCall, NoCancelRequest)] in PLAIN => Breaks(NO_CALL_AFTER_CANCEL);
    counted_before_the_call: [Guard::CountBeforeTheCall] in DEATH => Breaks(CALLS);

    retry_attempt: [Of(Retry, Attempt)] in PLAIN => Breaks(LIVE_LEASE);
    retry_no_cancel_request: [Of(Retry, NoCancelRequest)] in PLAIN => Breaks(CANCEL_KEPT);
    // A job of the same attempt that waits already waits anew; a settled one is guarded by `settled`.
    retry_status: [Of(Retry, Status)] in PLAIN => Redundant;
    retry_status_and_not_settled: [Of(Retry, Status), Of(Retry, NotSettled)] in PLAIN => Breaks(SETTLED_STAYS);
    release_attempt: [Of(Release, Attempt)] in PLAIN => Breaks(LIVE_LEASE);
    release_no_cancel_request: [Of(Release, NoCancelRequest)] in PLAIN => Breaks(CANCEL_KEPT);
    release_status: [Of(Release, Status)] in PLAIN => Redundant;
    release_status_and_not_settled: [Of(Release, Status), Of(Release, NotSettled)] in PLAIN
        => Breaks(SETTLED_STAYS);

    // A claim raises the attempt, so either of them tells that it came first.
    defer_status: [Of(Defer, Status)] in PLAIN => Redundant;
    defer_attempt: [Of(Defer, Attempt)] in PLAIN => Redundant;
    defer_status_and_attempt: [Of(Defer, Status), Of(Defer, Attempt)] in PLAIN => Breaks(STILL_A_JOB);
    // A sign of life decides nothing.
    progress_attempt: [Of(Progress, Attempt)] in SIGNS => Redundant;
    progress_status: [Of(Progress, Status)] in SIGNS => Redundant;
    progress_status_and_not_settled: [Of(Progress, Status), Of(Progress, NotSettled)] in SIGNS
        => Breaks(SETTLED_STAYS);

    // Job, entry and what the balance holds lock a settlement three times.
    capture_not_settled: [Of(Capture, NotSettled)] in PLAIN => Redundant;
    settle_entry_absent: [Guard::EntryAbsent] in PLAIN => Redundant;
    capture_not_settled_and_entry: [Of(Capture, NotSettled), Guard::EntryAbsent] in PLAIN => Redundant;
    capture_not_settled_entry_and_balance: [Of(Capture, NotSettled), Guard::EntryAbsent] in BOTH_PAID
        => Breaks(SETTLED_STAYS);
    settle_ticket_in_the_entrys_key: [Guard::TicketInTheEntrysKey] in EXPIRES => Breaks(SETTLES_IN_TIME);

    worker_failure_attempt: [Of(EndHeld, Attempt)] in PLAIN => Breaks(LIVE_LEASE);
    // A job of the same attempt that waits again is failed: early, and refunded once.
    worker_failure_status: [Of(EndHeld, Status)] in PLAIN => Redundant;
    worker_failure_status_settled_and_entry:
        [Of(EndHeld, Status), Of(EndHeld, NotSettled), Guard::EntryAbsent] in BOTH_PAID
        => Breaks(SETTLED_STAYS);

    // A claim raises the attempt, so the attempt of a waiting job says that it waits.
    end_as_seen_status: [Of(EndAsSeen, Status)] in PLAIN => Redundant;
    end_as_seen_status_and_attempt: [Of(EndAsSeen, Status), Of(EndAsSeen, Attempt)] in PLAIN
        => Breaks(LIVE_LEASE);
    // Attempt and lease tell the same two leases apart.
    end_as_seen_attempt: [Of(EndAsSeen, Attempt)] in ONE_TRY => Redundant;
    end_as_seen_lease: [Of(EndAsSeen, LeaseAsSeen)] in ONE_TRY => Redundant;
    end_as_seen_attempt_and_lease: [Of(EndAsSeen, Attempt), Of(EndAsSeen, LeaseAsSeen)] in ONE_TRY
        => Breaks(LIVE_LEASE);
    end_as_seen_heartbeat: [Of(EndAsSeen, HeartbeatAsSeen)] in SIGNS => Redundant;
    refused_claim_looks_at_the_lease_first: [Guard::LeaseBeforeTheEnd] in PLAIN => Breaks(LIVE_LEASE);

    requeue_no_cancel_request: [Of(Requeue, NoCancelRequest)] in PLAIN => Breaks(CANCEL_KEPT);
    requeue_attempt: [Of(Requeue, Attempt)] in PLAIN => Redundant;
    requeue_lease: [Of(Requeue, LeaseAsSeen)] in PLAIN => Redundant;
    requeue_attempt_and_lease: [Of(Requeue, Attempt), Of(Requeue, LeaseAsSeen)] in PLAIN => Breaks(LIVE_LEASE);
    requeue_heartbeat: [Of(Requeue, HeartbeatAsSeen)] in SIGNS => Redundant;
    requeue_status: [Of(Requeue, Status)] in PLAIN => Redundant;
    requeue_status_settled_and_lease:
        [Of(Requeue, Status), Of(Requeue, NotSettled), Of(Requeue, LeaseAsSeen)] in PLAIN
        => Breaks(SETTLED_STAYS);

    cancel_pending_status: [Of(CancelPending, Status)] in PLAIN => Breaks(LIVE_LEASE);
    request_cancel_status: [Of(RequestCancel, Status)] in PLAIN => Breaks(STILL_A_JOB);

    mark_status: [Of(Mark, Status)] in PLAIN => Breaks(STILL_A_JOB);
    // A message more is sent.
    mark_due: [Of(Mark, DueAsSeen)] in PLAIN => Redundant;
    mark_status_settled_and_due: [Of(Mark, Status), Of(Mark, NotSettled), Of(Mark, DueAsSeen)] in PLAIN
        => Breaks(SETTLED_STAYS);

    submit_job_absent: [Guard::JobAbsent] in Config { granted: 2 * COST, ..AGAIN } => Breaks(ONE_JOB);
    submit_available: [Guard::Available] in TWO_JOBS => Breaks(MONEY);
    submit_inflight: [Guard::InflightBound] in Config { inflight_max: 1, ..BOTH_PAID }
        => Breaks(MONEY);

    stamp_fresh_for_each_write: [Guard::FreshStamp] in ONE_CALL => Breaks(CALLS);
    // Two workers with one claim are also two calls with one count.
    stamp_of_one_worker: [Guard::OwnStamp] in PLAIN => Breaks(CALLS);
    // Every write leaves its own stamp, so an older one of ours is on no later state.
    stamp_and_state: [Guard::StateBesideTheStamp] in TWICE => Redundant;
    stamp_fresh_and_state: [Guard::FreshStamp, Guard::StateBesideTheStamp] in ONE_CALL => Breaks(CALLS);

    // Live, or without a picture: its tokens are held for ever, or it shows what nobody has drawn.
    publish_status: [Guard::PublishedIsDrawn] in WISHES => Breaks(MONEY);
    delete_settled: [Guard::DeletedIsSettled] in WISHES => Breaks(MONEY);
    tombstone_holds_the_key: [Guard::TombstoneHoldsTheKey] in WISHES_AGAIN => Breaks(ONE_JOB);
    delete_record_before_picture: [Guard::RecordBeforeThePicture] in WISHES => Breaks(PICTURE);

    // The attempt or the hash: each of them tells two pictures apart.
    object_attempt: [Guard::AttemptInTheObjectsKey] in PLAIN => Redundant;
    object_hash: [Guard::HashInTheObjectsKey] in PLAIN => Redundant;
    object_attempt_and_hash: [Guard::AttemptInTheObjectsKey, Guard::HashInTheObjectsKey] in PLAIN
        => Breaks(PICTURE);
}
