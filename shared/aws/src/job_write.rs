//! Compiles a [`Command`], and what is done to a settled job, into the one conditional update that does it. The conditions
//! accept exactly what core's `lifecycle` and `settled` accept; the agreement test of the `tests` crate holds the two
//! against each other.

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::id::Stamp;
use darkroom_core::job::{Status, Tombstone, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::ledger::Settlement;
use darkroom_core::lifecycle::{Bounds, Command, End, Ending, Seen, SeenProcessing};
use darkroom_core::settled::Publication;
use darkroom_core::time::Timestamp;

use crate::attributes::{millis, number, text};
use crate::expression::Expression;
use crate::items::job::{DELETED, name, stored_image};

/// The update of the job's record for this command, with its stamp.
pub(crate) fn job_write(command: &Command, op: &Stamp) -> Expression {
    let write = Expression::default()
        .set(name::OP, text(op.as_str()))
        .add(name::VERSION, 1)
        .require_absent(name::SETTLED);
    match command {
        Command::Claim { now, lease_until, bounds } => claim(write, *now, *lease_until, *bounds),
        Command::CountCall { attempt, calls_max } => held(write, *attempt)
            .add(name::CALLS, 1)
            .require(name::CALLS, "<", number(*calls_max))
            .require_absent(name::CANCEL_REQUESTED),
        Command::Retry { attempt, now, not_before, code } => {
            let write = held(write, *attempt)
                .require_absent(name::CANCEL_REQUESTED)
                .set(name::LAST_FAILURE, text(code.as_str()));
            waiting(write, *now, *not_before, *not_before, WaitReason::Retry)
        }
        // A claim has counted the try, so there is one to give back.
        Command::Release { attempt, now, not_before, reason, uncalled } => {
            let write = held(write, *attempt)
                .require_absent(name::CANCEL_REQUESTED)
                .require(name::TRIES, ">=", number(1_u32))
                .subtract(name::TRIES, 1);
            let write = match uncalled {
                0 => write,
                calls => {
                    write.require(name::CALLS, ">=", number(*calls)).subtract(name::CALLS, u64::from(*calls))
                }
            };
            waiting(write, *now, *not_before, *not_before, *reason)
        }
        Command::Defer { attempt, not_before, reason } => write
            .require(name::STATUS, "=", status(Status::Pending))
            .require(name::ATTEMPT, "=", number(*attempt))
            .set(name::NOT_BEFORE, millis(*not_before))
            .set(name::DUE_AT, millis(*not_before))
            .set(name::WAKES, number(0_u32))
            .set(name::WAIT_REASON, text(reason.as_str())),
        Command::Progress { attempt, now, progress } => held(write, *attempt)
            .require(name::PROGRESS, "<=", number(*progress))
            .set(name::PROGRESS, number(*progress))
            .set(name::HEARTBEAT_AT, millis(*now)),
        Command::Capture { image, drawn_by, end } => settled(write, Status::Draft, *end)
            .set(name::SETTLED, text(Settlement::Captured.as_str()))
            .set(name::RESULT, stored_image(image))
            .set(name::DRAWN_BY, text(drawn_by)),
        Command::EndHeld { attempt, ending, end } => ended(held(write, *attempt), ending, *end),
        Command::EndAsSeen { seen, ending, end } => ended(as_seen(write, *seen), ending, *end),
        Command::CancelPending { end } => {
            ended(write.require(name::STATUS, "=", status(Status::Pending)), &Ending::Cancelled, *end)
        }
        Command::RequestCancel => write
            .require(name::STATUS, "=", status(Status::Processing))
            .set(name::CANCEL_REQUESTED, AttributeValue::Bool(true)),
        Command::Mark { due_at_seen, due_at } => write
            .require(name::STATUS, "=", status(Status::Pending))
            .require(name::DUE_AT, "=", millis(*due_at_seen))
            .set(name::DUE_AT, millis(*due_at))
            .add(name::WAKES, 1),
        Command::Requeue { seen, now, due_at } => {
            let write = as_seen(write, Seen::Processing(*seen))
                .require_absent(name::CANCEL_REQUESTED)
                .set(name::LAST_FAILURE, text(JobErrorCode::Timeout.as_str()));
            waiting(write, *now, *now, *due_at, WaitReason::Capacity)
        }
    }
}

/// The update that publishes a draft or takes that back: the other way round it finds nothing.
pub(crate) fn publication_write(publication: &Publication, op: &Stamp) -> Expression {
    let Publication { published, version_seen, now, expires_at } = *publication;
    let (before, after) =
        if published { (Status::Draft, Status::Published) } else { (Status::Published, Status::Draft) };
    of_settled(op)
        .require(name::STATUS, "=", status(before))
        .require(name::VERSION, "=", number(version_seen))
        .require(name::TTL, ">", number(now.as_seconds()))
        .set(name::STATUS, status(after))
        .set(name::TTL, number(expires_at.as_seconds()))
}

/// What stays of a deleted job's record. `settled` keeps every [`Command`] away, and who owned it may ask again.
const KEPT: [&str; 8] = [
    name::STATUS,
    name::USER,
    name::REQUEST_HASH,
    name::SETTLED,
    name::TTL,
    name::VERSION,
    name::OP,
    name::IMAGE_KEY,
];

/// The update that leaves of a settled job what `tombstone` is: of this submission's job, and of none that has come after it.
/// Without its user's time of creation it is in no list.
pub(crate) fn tombstone_write(tombstone: &Tombstone, created_at: Timestamp, op: &Stamp) -> Expression {
    let gone: Vec<_> = name::ALL.iter().copied().filter(|name| !KEPT.contains(name)).collect();
    let write = of_settled(op)
        .require(name::CREATED_AT, "=", millis(created_at))
        .set(name::STATUS, text(DELETED))
        .remove(&gone);
    match &tombstone.image_key {
        Some(key) => write.set(name::IMAGE_KEY, text(key)),
        None => write,
    }
}

/// The update of a tombstone whose picture is gone.
pub(crate) fn image_gone_write(image_key: &str, op: &Stamp) -> Expression {
    of_settled(op)
        .require(name::STATUS, "=", text(DELETED))
        .require(name::IMAGE_KEY, "=", text(image_key))
        .remove(&[name::IMAGE_KEY])
}

/// Any write of a settled record.
fn of_settled(op: &Stamp) -> Expression {
    Expression::default()
        .set(name::OP, text(op.as_str()))
        .add(name::VERSION, 1)
        .require_present(name::SETTLED)
}

fn status(status: Status) -> AttributeValue {
    text(status.as_str())
}

fn claim(write: Expression, now: Timestamp, lease_until: Timestamp, bounds: Bounds) -> Expression {
    write
        .require_absent(name::CANCEL_REQUESTED)
        .require(name::TRIES, "<", number(bounds.attempts_max))
        .require(name::CALLS, "<", number(bounds.calls_max))
        .require(name::DEADLINE_AT, ">", millis(now))
        .require_either([
            vec![(name::STATUS, "=", status(Status::Pending)), (name::NOT_BEFORE, "<=", millis(now))],
            vec![
                (name::STATUS, "=", status(Status::Pending)),
                (name::WAIT_REASON, "<>", text(WaitReason::Retry.as_str())),
            ],
            vec![(name::STATUS, "=", status(Status::Processing)), (name::LEASE_UNTIL, "<=", millis(now))],
        ])
        .set(name::STATUS, status(Status::Processing))
        .add(name::ATTEMPT, 1)
        .add(name::TRIES, 1)
        .add(name::CALLS, 1)
        .set(name::LEASE_UNTIL, millis(lease_until))
        .set(name::DUE_AT, millis(lease_until))
        .set(name::CLAIMED_AT, millis(now))
        .set_once(name::STARTED_AT, millis(now))
        .set(name::PROGRESS, number(0_u32))
        .remove(&[name::WAIT_AT, name::NOT_BEFORE, name::WAKES, name::WAIT_REASON, name::HEARTBEAT_AT])
}

/// Only the holder of this attempt.
fn held(write: Expression, attempt: u32) -> Expression {
    write.require(name::STATUS, "=", status(Status::Processing)).require(name::ATTEMPT, "=", number(attempt))
}

fn as_seen(write: Expression, seen: Seen) -> Expression {
    match seen {
        Seen::Pending { attempt } => write.require(name::STATUS, "=", status(Status::Pending)).require(
            name::ATTEMPT,
            "=",
            number(attempt),
        ),
        Seen::Processing(SeenProcessing { attempt, lease_until, heartbeat_at }) => {
            let write = held(write, attempt).require(name::LEASE_UNTIL, "=", millis(lease_until));
            match heartbeat_at {
                Some(at) => write.require(name::HEARTBEAT_AT, "=", millis(at)),
                None => write.require_absent(name::HEARTBEAT_AT),
            }
        }
    }
}

fn waiting(
    write: Expression,
    wait_at: Timestamp,
    not_before: Timestamp,
    due_at: Timestamp,
    reason: WaitReason,
) -> Expression {
    write
        .set(name::STATUS, status(Status::Pending))
        .set(name::WAIT_AT, millis(wait_at))
        .set(name::NOT_BEFORE, millis(not_before))
        .set(name::DUE_AT, millis(due_at))
        .set(name::WAKES, number(0_u32))
        .set(name::WAIT_REASON, text(reason.as_str()))
        .remove(&[name::LEASE_UNTIL, name::CLAIMED_AT, name::HEARTBEAT_AT, name::PROGRESS])
}

fn ended(write: Expression, ending: &Ending, end: End) -> Expression {
    match ending {
        Ending::Cancelled => settled(write, Status::Cancelled, end),
        Ending::Failed(failure) => settled(write, Status::Failed, end)
            .set(name::ERROR_CODE, text(failure.code.as_str()))
            .set(name::ERROR_DETAIL, text(&failure.detail)),
    }
    .set(name::SETTLED, text(Settlement::Refunded.as_str()))
}

/// Everything that belongs to a live job goes, so that it leaves the due and waiting indexes.
fn settled(write: Expression, to: Status, end: End) -> Expression {
    write
        .require_present(name::DUE_AT)
        .set(name::STATUS, status(to))
        .set(name::FINISHED_AT, millis(end.now))
        .set(name::TTL, number(end.expires_at.as_seconds()))
        .remove(&[
            name::DUE_AT,
            name::WAIT_AT,
            name::NOT_BEFORE,
            name::WAKES,
            name::WAIT_REASON,
            name::LEASE_UNTIL,
            name::CLAIMED_AT,
            name::HEARTBEAT_AT,
            name::PROGRESS,
            name::CANCEL_REQUESTED,
        ])
}
