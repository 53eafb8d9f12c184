//! What its owner does with a settled job: publish it, take that back, delete it. Nothing here changes how the job ended
//! or what became of its tokens.
//!
//! As in [`lifecycle`](crate::lifecycle), the store compiles each of these into one conditional write that accepts exactly
//! what the functions here accept.

use std::time::Duration;

use thiserror::Error;

use crate::id::Stamp;
use crate::job::{Job, Outcome, Settled, Stage, Tombstone};
use crate::lifecycle::expires_at;
use crate::limits::RECORD_DAYS_MAX;
use crate::time::Timestamp;

/// A draft becomes published, or a published one a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// What it is from now on; before, it was the other.
    pub published: bool,
    /// The record's version as it was read. The status alone comes back: a write that hung for long would find it again.
    pub version_seen: u64,
    /// Now: an expired record is gone for its owner.
    pub now: Timestamp,
    /// The record may be deleted then.
    pub expires_at: Timestamp,
}

/// Why a settled job's owner cannot have this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It is not settled.
    #[error("the job is not settled")]
    Live,
    /// It has no picture, or is not what it should be before.
    #[error("the job has another status")]
    OtherStatus,
    /// It has changed since it was read.
    #[error("the job has changed since it was read")]
    Changed,
    /// Its record has expired.
    #[error("the job's record has expired")]
    Expired,
}

/// How many days records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// A published one.
    pub published: u64,
    /// Any other.
    pub settled: u64,
}

impl Publication {
    /// What is to be written so that a job is published, or a draft again; `None` when it is.
    ///
    /// # Errors
    /// When it has no picture, or not yet.
    pub fn of(job: &Job, published: bool, now: Timestamp, days: Days) -> Result<Option<Self>, Unfit> {
        let (settled, is) = drawn(job)?;
        let days = if published { days.published } else { days.settled };
        let expires_at = kept_until(settled.finished_at, now, days);
        let version_seen = job.version;
        Ok((is != published).then_some(Self { published, version_seen, now, expires_at }))
    }

    /// The next record.
    ///
    /// # Errors
    /// Why the state does not allow it.
    pub fn apply(&self, job: &Job, op: Stamp) -> Result<Job, Unfit> {
        let (settled, is) = drawn(job)?;
        if is == self.published {
            return Err(Unfit::OtherStatus);
        }
        if job.version != self.version_seen {
            return Err(Unfit::Changed);
        }
        if settled.expires_at <= self.now {
            return Err(Unfit::Expired);
        }
        let outcome = match settled.outcome.clone() {
            Outcome::Drawn { image, drawn_by, .. } => {
                Outcome::Drawn { image, drawn_by, published: self.published }
            }
            other @ (Outcome::Failed(_) | Outcome::Cancelled) => other,
        };
        let stage = Stage::Settled(Settled { outcome, expires_at: self.expires_at, ..settled.clone() });
        Ok(Job { stage, version: job.version + 1, op, ..job.clone() })
    }

    /// When what is kept beside the record may be deleted then.
    pub fn beside_expires_at(&self) -> Timestamp {
        beside_record(self.expires_at)
    }

    /// Whether `job` is in the state that this makes.
    pub fn has_made(&self, job: &Job) -> bool {
        drawn(job).is_ok_and(|(_, is)| is == self.published)
    }
}

/// The settlement of a job with a picture, and whether that is published.
const fn drawn(job: &Job) -> Result<(&Settled, bool), Unfit> {
    match &job.stage {
        Stage::Pending(_) | Stage::Processing(_) => Err(Unfit::Live),
        Stage::Settled(settled) => match settled.outcome {
            Outcome::Drawn { published, .. } => Ok((settled, published)),
            Outcome::Failed(_) | Outcome::Cancelled => Err(Unfit::OtherStatus),
        },
    }
}

/// When a record may be deleted that is kept so many days from now, at most [`RECORD_DAYS_MAX`] after its job ended: by then
/// the bucket deletes the picture.
pub fn kept_until(finished_at: Timestamp, now: Timestamp, days: u64) -> Timestamp {
    expires_at(now, days).min(expires_at(finished_at, RECORD_DAYS_MAX))
}

/// When what is kept beside a job's record may be deleted: a day after the record, whichever of the two the store looks at first.
/// A live job's record is kept for `ttl_days` from its end: deadline, lease and two sweeps are over within that day.
pub fn beside_expires_at(job: &Job, ttl_days: u64) -> Timestamp {
    let record = match &job.stage {
        Stage::Settled(settled) => settled.expires_at,
        Stage::Pending(_) | Stage::Processing(_) => expires_at(job.order.deadline_at, ttl_days),
    };
    beside_record(record)
}

/// The same of a record that expires then.
fn beside_record(expires_at: Timestamp) -> Timestamp {
    expires_at.plus(Duration::from_secs(86_400))
}

/// What is left of a job that its owner deletes.
///
/// # Errors
/// [`Unfit::Live`]: its tokens are held, or its picture may be on its way.
pub fn tombstone(job: &Job) -> Result<Tombstone, Unfit> {
    let Stage::Settled(settled) = &job.stage else { return Err(Unfit::Live) };
    Ok(Tombstone {
        id: job.id.clone(),
        user: job.user.clone(),
        request_hash: job.order.request_hash.clone(),
        settlement: settled.outcome.settlement(),
        expires_at: settled.expires_at,
        image_key: job.image().map(|image| image.key.clone()),
    })
}
