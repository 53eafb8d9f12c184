//! When a live job's picture may be expected: what its owner is told.

use std::time::Duration;

use crate::job::{Job, Stage, WaitReason};
use crate::pace::Turn;
use crate::position::Position;
use crate::time::Timestamp;

/// When a live job's picture may be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// How long until then.
    pub eta: Duration,
    /// What it waits for, while it waits.
    pub reason: Option<WaitReason>,
}

/// One invocation of the worker draws this many at a time: what an estimate can count on where no quota tells.
const DRAWN_AT_A_TIME: u64 = 10;

impl Outlook {
    /// From the job's place in the queue, its turn by quota and breaker where these limit it, and how long the model's calls
    /// take; `None` when it is settled.
    pub fn of(
        job: &Job,
        position: Option<Position>,
        turn: Option<Turn>,
        typical: Duration,
        now: Timestamp,
    ) -> Option<Self> {
        match &job.stage {
            Stage::Settled(_) => None,
            Stage::Processing(processing) => {
                let eta = typical.saturating_sub(now.since(processing.claimed_at));
                Some(Self { eta, reason: None })
            }
            Stage::Pending(pending) => {
                let (starts_at, reason) = match turn {
                    Some(turn) if turn.at > now && turn.at > pending.not_before => (turn.at, turn.reason),
                    _ => (pending.not_before, pending.reason),
                };
                let rounds = match (turn, position) {
                    (None, Some(position)) => position.place.saturating_sub(1) / DRAWN_AT_A_TIME,
                    (Some(_), _) | (None, None) => 0,
                };
                let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                let drawing = typical.saturating_mul(rounds.saturating_add(1));
                let eta = starts_at.since(now).saturating_add(drawing);
                Some(Self { eta, reason: Some(reason) })
            }
        }
    }
}
