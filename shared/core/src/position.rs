//! A job's place among those that wait.

use std::collections::HashMap;

use crate::id::JobId;
use crate::limits::{POSITION_SETTLE, POSITIONS_TOLD_MAX};
use crate::time::Timestamp;

/// One waiting job, as the waiting index lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Counted, and no job ahead can have been missed; otherwise estimated.
    pub exact: bool,
}

/// The place of `job` among `waiting`, the oldest entries of the index as read at `read_at`.
/// `complete` tells whether that was all of them.
///
/// It is exact when the read reached this job and the job has waited for more than [`POSITION_SETTLE`]: then whoever
/// waits longer has been in the index for a while. Jobs that have just left may still be counted.
pub fn position(waiting: &[Waiting], complete: bool, job: &Waiting, read_at: Timestamp) -> Position {
    let ahead = waiting.iter().filter(|other| *other < job).count() as u64;
    let settled = read_at.since(job.wait_at) > POSITION_SETTLE;
    let within = complete || waiting.iter().any(|other| other > job);
    Position { place: ahead + 1, exact: settled && within }
}

/// The places that one process has told, so that it never tells a higher one while the job waits.
#[derive(Debug, Default)]
pub struct Told {
    latest: HashMap<Waiting, u64>,
    before: HashMap<Waiting, u64>,
}

impl Told {
    /// What to tell of a wait whose place was counted: that place, or the lower one that was told before, which is then
    /// an estimate. Remembers the last [`POSITIONS_TOLD_MAX`] waits that were asked for, and as many before them.
    pub fn tell(&mut self, wait: &Waiting, counted: Position) -> Position {
        let told = self.latest.get(wait).or_else(|| self.before.get(wait)).copied();
        let place = told.map_or(counted.place, |told| told.min(counted.place));
        if self.latest.len() >= POSITIONS_TOLD_MAX && !self.latest.contains_key(wait) {
            self.before = std::mem::take(&mut self.latest);
        }
        self.latest.insert(wait.clone(), place);
        Position { place, exact: counted.exact && place == counted.place }
    }
}
