//! A job's place among those that wait.

use crate::id::JobId;
use crate::limits::POSITION_SETTLE;
use crate::time::Timestamp;

/// One waiting job, as the waiting index lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// Waits since then; the order of the queue.
    pub wait_at: Timestamp,
    /// The job; decides between equals, so that positions are unique.
    pub job_id: JobId,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// 1 is next.
    pub place: u64,
    /// Counted among settled entries rather than estimated.
    pub exact: bool,
}

/// The place of `job` among `waiting`, the oldest entries of the index as read at `read_at`.
/// `complete` tells whether that was all of them.
pub fn position(waiting: &[Waiting], complete: bool, job: &Waiting, read_at: Timestamp) -> Position {
    let ahead = waiting.iter().filter(|other| *other < job).count() as u64;
    let settled = read_at.since(job.wait_at) > POSITION_SETTLE;
    let within = complete || waiting.iter().any(|other| other > job);
    Position { place: ahead + 1, exact: settled && within }
}
