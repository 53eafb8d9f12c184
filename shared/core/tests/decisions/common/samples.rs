//! One of each command at second 100, the jobs they are for, and what becomes of them.

use darkroom_core::job::{Job, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::lifecycle::{Command, Ending, Rejection, Seen, SeenProcessing, apply};
use darkroom_core::time::Timestamp;

use super::{BOUNDS, Shown, at, end, failure, image, job, pending, processing, stamp};

pub(crate) const NOW: u64 = 100;

pub(crate) fn claim() -> Command {
    Command::Claim { now: at(NOW), lease_until: at(NOW + 240), bounds: BOUNDS }
}

pub(crate) fn retry(attempt: u32) -> Command {
    Command::Retry { attempt, now: at(NOW), not_before: at(NOW + 2), code: JobErrorCode::NoImage }
}

pub(crate) fn release(attempt: u32) -> Command {
    let reason = WaitReason::BreakerOpen;
    Command::Release { attempt, now: at(NOW), not_before: at(NOW + 30), reason, uncalled: 1 }
}

pub(crate) fn capture(attempt: u32) -> Command {
    Command::Capture { image: image(attempt), drawn_by: "painter-1".to_owned(), end: end(at(NOW)) }
}

pub(crate) fn end_held(attempt: u32) -> Command {
    Command::EndHeld { attempt, ending: Ending::Failed(failure()), end: end(at(NOW)) }
}

pub(crate) fn end_as_seen(seen: Seen) -> Command {
    Command::EndAsSeen { seen, ending: Ending::Failed(failure()), end: end(at(NOW)) }
}

pub(crate) fn mark(due_at_seen: Timestamp) -> Command {
    Command::Mark { due_at_seen, due_at: at(NOW + 120) }
}

pub(crate) fn requeue(seen: SeenProcessing) -> Command {
    Command::Requeue { seen, now: at(NOW), due_at: at(NOW + 120) }
}

/// Pending at attempt 1, may be claimed.
pub(crate) fn waiting() -> Job {
    job(1, pending(at(10), at(20)))
}

/// Processing at attempt 1, its lease expired.
pub(crate) fn expired() -> Job {
    job(1, processing(at(NOW)))
}

/// Processing at attempt 1 under a live lease.
pub(crate) fn leased() -> Job {
    job(1, processing(at(NOW + 1)))
}

pub(crate) fn refused(job: &Job, command: &Command) -> Rejection {
    apply(job, command, stamp(9))
        .err()
        .unwrap_or_else(|| panic!("{command:?} was applied to {:?}", job.stage))
}

pub(crate) fn applied(job: &Job, command: &Command) -> Job {
    apply(job, command, stamp(9)).unwrap_or_else(|e| panic!("{command:?} on {:?}: {e}", job.stage))
}

/// `applied`, and nothing else than what `change` does has changed.
pub(crate) fn changes(job: &Job, command: &Command, change: impl FnOnce(&mut Job)) {
    let next = applied(job, command);
    let mut expected = Job { version: job.version + 1, op: stamp(9), ..job.clone() };
    change(&mut expected);
    assert!(next == expected, "{command:?} made {:?}, expected {:?}", Shown(next), Shown(expected));
}
