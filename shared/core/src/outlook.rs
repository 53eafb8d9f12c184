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
                let own = (pending.not_before, pending.reason);
                let place = position.map_or(1, |position| position.place);
                Some(Self::waiting(own, place, turn, typical, now))
            }
        }
    }

    /// Of a job that would be submitted now and be the `place`th in the queue, from 1.
    pub fn of_next(place: u64, turn: Option<Turn>, typical: Duration, now: Timestamp) -> Self {
        Self::waiting((now, WaitReason::Capacity), place, turn, typical, now)
    }

    /// `own` is what the record itself says: not before when, and for what it waits until then.
    fn waiting(
        own: (Timestamp, WaitReason),
        place: u64,
        turn: Option<Turn>,
        typical: Duration,
        now: Timestamp,
    ) -> Self {
        let (starts_at, reason) = match turn {
            Some(turn) if turn.at > now && turn.at > own.0 => (turn.at, turn.reason),
            _ => own,
        };
        let rounds = match turn {
            None => place.saturating_sub(1) / DRAWN_AT_A_TIME,
            // Its place is in its turn.
            Some(_) => 0,
        };
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let drawing = typical.saturating_mul(rounds.saturating_add(1));
        Self { eta: starts_at.since(now).saturating_add(drawing), reason: Some(reason) }
    }
}
