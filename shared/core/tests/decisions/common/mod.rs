//! What the tests of the core share: a small world of times and numbers in which everything collides often,
//! jobs in every stage, every command, and how many cases a property gets.
// `tests/model` is a program of its own and uses a part of this.
#![allow(dead_code)]

pub(crate) mod breaker;
pub(crate) mod pool;
pub(crate) mod samples;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use darkroom_core::id::{IdempotencyKey, JobId, ModelName, Stamp, UserId};
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{Job, Order, Outcome, Pending, Processing, Settled, Stage, Submission, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::lifecycle::{Bounds, Command, End, Ending, Seen, SeenProcessing};
use darkroom_core::limits;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::sweep::{Rules, SweepAction};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// What one job costs.
pub(crate) const COST: u64 = 3;
/// The bounds that the tests go by unless they draw others.
pub(crate) const BOUNDS: Bounds = Bounds { attempts_max: 3, calls_max: 6 };

/// What a sweep's act writes.
pub(crate) const fn command(action: &SweepAction) -> Option<&Command> {
    match action {
        SweepAction::Leave => None,
        SweepAction::Send { command, .. }
        | SweepAction::Wait { command }
        | SweepAction::Requeue { command }
        | SweepAction::End { command, .. } => Some(command),
    }
}

/// 20,000 cases unless `PROPTEST_CASES` says otherwise.
pub(crate) fn cases() -> ProptestConfig {
    fewer_cases(20_000)
}

/// For properties of which each case is a whole history.
#[allow(clippy::disallowed_methods)] // It is the test runner's own setting.
pub(crate) fn fewer_cases(cases: u32) -> ProptestConfig {
    let chosen = ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() { chosen } else { ProptestConfig { cases, ..chosen } }
}

/// `seconds` after the moment at which the tests begin, 2026-11-22T10:00:00Z.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_795_341_600_000 + seconds * 1_000)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn stamp(number: u8) -> Stamp {
    Stamp::from_random([number; 16])
}

pub(crate) fn end(now: Timestamp) -> End {
    End { now, expires_at: now.plus(seconds(86_400)) }
}

pub(crate) fn failure() -> JobFailure {
    JobFailure::new(JobErrorCode::ProviderUnavailable, "503")
}

pub(crate) fn image(attempt: u32) -> StoredImage {
    StoredImage {
        key: format!("images/{attempt}.png"),
        sha256: "0".repeat(64),
        bytes: 70,
        width: 1,
        height: 1,
        format: ImageFormat::Png,
        attempt,
    }
}

/// The sweep's rules as the operator gets them without settings.
pub(crate) fn rules() -> Rules {
    Rules {
        bounds: Bounds { attempts_max: limits::ATTEMPTS_MAX, calls_max: limits::CALLS_MAX },
        pending_max: seconds(3_600),
        retry_max: seconds(3_600),
        processing_max: seconds(1_800),
        wake: limits::WAKE,
        ahead: limits::SWEEP_AHEAD,
        ttl_days: limits::TTL_DAYS,
    }
}

/// A job submitted at 0 with this deadline.
pub(crate) fn submitted(deadline_seconds: u64) -> Job {
    let user = UserId::parse("alice").unwrap();
    Job::submitted(
        Submission {
            id: JobId::derive(&user, &IdempotencyKey::parse("k").unwrap()),
            user,
            order: Order {
                prompt: Prompt::parse("a lighthouse at dusk").ok(),
                model: ModelName::parse("darkroom-local").unwrap(),
                shape: Shape { aspect_ratio: AspectRatio::R16x9, size: ImageSize::K1 },
                reference: None,
                conversation_id: None,
                retry_of: None,
                batch: None,
                request_hash: "h".to_owned(),
                cost: COST,
                created_at: at(0),
                deadline_at: at(deadline_seconds),
            },
            op: stamp(0),
        },
        limits::WAKE,
    )
}

/// A job with a deadline of an hour at this attempt, with as many calls, in this stage.
pub(crate) fn job(attempt: u32, stage: Stage) -> Job {
    Job {
        attempt,
        tries: attempt,
        calls: attempt,
        started_at: (attempt > 0).then(|| at(1)),
        stage,
        version: 7,
        ..submitted(3_600)
    }
}

pub(crate) fn pending(wait_at: Timestamp, not_before: Timestamp) -> Stage {
    Stage::Pending(Pending {
        wait_at,
        not_before,
        due_at: not_before,
        wakes: 0,
        reason: WaitReason::Capacity,
    })
}

/// Waits after a failed attempt.
pub(crate) fn paused(wait_at: Timestamp, not_before: Timestamp) -> Stage {
    match pending(wait_at, not_before) {
        Stage::Pending(wait) => Stage::Pending(Pending { reason: WaitReason::Retry, ..wait }),
        other => other,
    }
}

pub(crate) fn processing(lease_until: Timestamp) -> Stage {
    Stage::Processing(Processing {
        lease_until,
        claimed_at: at(1),
        heartbeat_at: None,
        progress: 0,
        cancel_requested: false,
    })
}

pub(crate) fn cancelling(lease_until: Timestamp) -> Stage {
    let Stage::Processing(processing) = processing(lease_until) else { unreachable!() };
    Stage::Processing(Processing { cancel_requested: true, ..processing })
}

pub(crate) fn settled(outcome: Outcome) -> Stage {
    let End { now, expires_at } = end(at(5));
    Stage::Settled(Settled { finished_at: now, expires_at, outcome })
}

pub(crate) fn drawn() -> Outcome {
    Outcome::Drawn { image: image(1), drawn_by: "painter-1".to_owned(), published: false }
}

pub(crate) fn published() -> Outcome {
    Outcome::Drawn { image: image(1), drawn_by: "painter-1".to_owned(), published: true }
}

/// A job in the hands of a worker, as it is seen now.
pub(crate) fn seen_processing(job: &Job) -> SeenProcessing {
    match Seen::of(job) {
        Some(Seen::Processing(seen)) => seen,
        _ => SeenProcessing { attempt: job.attempt, lease_until: at(9), heartbeat_at: None },
    }
}

/// A job that a failing property may show: everything but what was asked for.
#[derive(Clone)]
pub(crate) struct Shown(pub(crate) Job);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("version", &self.version)
            .field("op", &self.op)
            .field("attempt", &self.attempt)
            .field("tries", &self.tries)
            .field("calls", &self.calls)
            .field("started_at", &self.started_at)
            .field("created_at", &self.order.created_at)
            .field("deadline_at", &self.order.deadline_at)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Deref for Shown {
    type Target = Job;
    fn deref(&self) -> &Job {
        &self.0
    }
}

/// One of eight moments, so that two of them are often the same.
pub(crate) fn times() -> impl Strategy<Value = Timestamp> + Clone {
    (0..8_u64).prop_map(at)
}

fn reasons() -> impl Strategy<Value = WaitReason> {
    prop_oneof![
        Just(WaitReason::Capacity),
        Just(WaitReason::Quota),
        Just(WaitReason::BreakerOpen),
        Just(WaitReason::Retry)
    ]
}

pub(crate) fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(drawn()), Just(published()), Just(Outcome::Failed(failure())), Just(Outcome::Cancelled)]
}

pub(crate) fn live_stages() -> impl Strategy<Value = Stage> {
    let pending = (times(), times(), times(), 0..4_u32, reasons()).prop_map(
        |(wait_at, not_before, due_at, wakes, reason)| {
            Stage::Pending(Pending { wait_at, not_before, due_at, wakes, reason })
        },
    );
    let processing = (times(), times(), proptest::option::of(times()), 0..3_u8, any::<bool>()).prop_map(
        |(lease_until, claimed_at, heartbeat_at, progress, cancel_requested)| {
            Stage::Processing(Processing {
                lease_until,
                claimed_at,
                heartbeat_at,
                progress,
                cancel_requested,
            })
        },
    );
    prop_oneof![pending, processing]
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![4 => live_stages(), 1 => outcomes().prop_map(settled)]
}

/// Jobs in every stage, also such as no history leads to.
pub(crate) fn jobs() -> impl Strategy<Value = Shown> {
    (stages(), 0..4_u32, 0..4_u32, 0..7_u32, times(), 0..3_u8).prop_map(
        |(stage, attempt, spared, calls, deadline_at, op)| {
            let tries = attempt.saturating_sub(spared);
            let mut job = Job { tries, calls, op: stamp(op), ..job(attempt, stage) };
            job.order.deadline_at = deadline_at;
            Shown(job)
        },
    )
}

fn seens() -> impl Strategy<Value = SeenProcessing> {
    (0..4_u32, times(), proptest::option::of(times())).prop_map(|(attempt, lease_until, heartbeat_at)| {
        SeenProcessing { attempt, lease_until, heartbeat_at }
    })
}

fn endings() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::Failed(failure())), Just(Ending::Cancelled)]
}

/// Every command, with bounds up to [`BOUNDS`].
pub(crate) fn commands() -> impl Strategy<Value = Command> {
    let bounds = (0..=BOUNDS.attempts_max, 0..=BOUNDS.calls_max)
        .prop_map(|(attempts_max, calls_max)| Bounds { attempts_max, calls_max });
    let attempt = 0..4_u32;
    prop_oneof![
        (times(), times(), bounds).prop_map(|(now, lease_until, bounds)| Command::Claim {
            now,
            lease_until,
            bounds
        }),
        (attempt.clone(), 0..=BOUNDS.calls_max)
            .prop_map(|(attempt, calls_max)| Command::CountCall { attempt, calls_max }),
        (attempt.clone(), times(), times()).prop_map(|(attempt, now, not_before)| Command::Retry {
            attempt,
            now,
            not_before,
            code: JobErrorCode::NoImage
        }),
        (attempt.clone(), times(), times(), reasons(), 0..3_u32).prop_map(
            |(attempt, now, not_before, reason, uncalled)| {
                Command::Release { attempt, now, not_before, reason, uncalled }
            }
        ),
        (attempt.clone(), times(), reasons()).prop_map(|(attempt, not_before, reason)| Command::Defer {
            attempt,
            not_before,
            reason
        }),
        (attempt.clone(), times(), 0..3_u8).prop_map(|(attempt, now, progress)| Command::Progress {
            attempt,
            now,
            progress
        }),
        (attempt.clone(), times()).prop_map(|(attempt, now)| Command::Capture {
            image: image(attempt),
            drawn_by: "painter-1".to_owned(),
            end: end(now)
        }),
        (attempt.clone(), endings(), times()).prop_map(|(attempt, ending, now)| Command::EndHeld {
            attempt,
            ending,
            end: end(now)
        }),
        (
            prop_oneof![
                attempt.prop_map(|attempt| Seen::Pending { attempt }),
                seens().prop_map(Seen::Processing)
            ],
            endings(),
            times()
        )
            .prop_map(|(seen, ending, now)| Command::EndAsSeen { seen, ending, end: end(now) }),
        times().prop_map(|now| Command::CancelPending { end: end(now) }),
        Just(Command::RequestCancel),
        (times(), times()).prop_map(|(due_at_seen, due_at)| Command::Mark { due_at_seen, due_at }),
        (seens(), times(), times()).prop_map(|(seen, now, due_at)| Command::Requeue { seen, now, due_at }),
    ]
}

/// A job and a command that speaks of just this job half of the time, where a drawn one rarely would.
pub(crate) fn jobs_and_commands() -> impl Strategy<Value = (Shown, Command)> {
    (jobs(), commands(), any::<bool>()).prop_map(|(job, command, aimed)| {
        let command = if aimed { aim(&job, command) } else { command };
        (job, command)
    })
}

/// The same command, naming the attempt and what is to be seen of this job.
fn aim(job: &Job, command: Command) -> Command {
    match command {
        Command::CountCall { calls_max, .. } => Command::CountCall { attempt: job.attempt, calls_max },
        Command::Retry { now, not_before, code, .. } => {
            Command::Retry { attempt: job.attempt, now, not_before, code }
        }
        Command::Release { now, not_before, reason, uncalled, .. } => {
            Command::Release { attempt: job.attempt, now, not_before, reason, uncalled }
        }
        Command::Defer { not_before, reason, .. } => {
            Command::Defer { attempt: job.attempt, not_before, reason }
        }
        Command::Progress { now, progress, .. } => Command::Progress { attempt: job.attempt, now, progress },
        Command::EndHeld { ending, end, .. } => Command::EndHeld { attempt: job.attempt, ending, end },
        Command::EndAsSeen { seen, ending, end } => {
            Command::EndAsSeen { seen: Seen::of(job).unwrap_or(seen), ending, end }
        }
        Command::Mark { due_at, due_at_seen } => {
            Command::Mark { due_at_seen: job.due_at().unwrap_or(due_at_seen), due_at }
        }
        Command::Requeue { seen, now, due_at } => {
            let seen = if Seen::of(job).is_some() { seen_processing(job) } else { seen };
            Command::Requeue { seen, now, due_at }
        }
        Command::Claim { .. }
        | Command::Capture { .. }
        | Command::CancelPending { .. }
        | Command::RequestCancel => command,
    }
}
