//! Jobs and commands by chance, of few values each, so that everything collides often.

use std::time::Duration;

use darkroom_core::id::{IdempotencyKey, JobId, ModelName, Stamp, UploadId, UserId};
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{Job, Order, Outcome, Pending, Processing, Settled, Stage, Submission, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::lifecycle::{Bounds, Command, End, Ending, Seen, SeenProcessing};
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::time::Timestamp;
use darkroom_core::upload::Reference;

/// A small deterministic source of choices.
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        let index = usize::try_from(self.below(values.len() as u64)).unwrap();
        values[index].clone()
    }

    /// A few moments only, so that equal, earlier and later all happen often.
    pub(crate) fn moment(&mut self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.below(4) * 1_000)
    }

    /// One of those moments, or one after them all: half of the deadlines are no obstacle.
    fn later(&mut self) -> Timestamp {
        let moment = self.moment();
        if self.below(2) == 0 { moment } else { moment.plus(Duration::from_secs(10)) }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.below(4)).unwrap()
    }

    fn end(&mut self) -> End {
        End { now: self.moment(), expires_at: self.moment() }
    }

    fn failure(&mut self) -> JobFailure {
        JobFailure::new(self.one_of(&JobErrorCode::ALL), "seen")
    }

    pub(crate) fn image(&mut self) -> StoredImage {
        StoredImage {
            key: "images/x".to_owned(),
            sha256: "00".repeat(32),
            bytes: self.below(1_000),
            width: 16,
            height: 9,
            format: self.one_of(&[ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp]),
            attempt: self.small(),
        }
    }

    fn heartbeat(&mut self) -> Option<Timestamp> {
        (self.below(2) == 0).then(|| self.moment())
    }

    fn stage(&mut self) -> Stage {
        match self.below(3) {
            0 => Stage::Pending(Pending {
                wait_at: self.moment(),
                not_before: self.moment(),
                due_at: self.moment(),
                wakes: self.small(),
                reason: self.one_of(&[
                    WaitReason::Capacity,
                    WaitReason::Quota,
                    WaitReason::BreakerOpen,
                    WaitReason::Retry,
                ]),
            }),
            1 => Stage::Processing(Processing {
                lease_until: self.moment(),
                claimed_at: self.moment(),
                heartbeat_at: self.heartbeat(),
                progress: self.one_of(&[0, 10, 50]),
                cancel_requested: self.below(4) == 0,
            }),
            _ => {
                let outcome = match self.below(3) {
                    0 => Outcome::Drawn {
                        image: self.image(),
                        drawn_by: "m".to_owned(),
                        published: self.below(2) == 0,
                    },
                    1 => Outcome::Failed(self.failure()),
                    _ => Outcome::Cancelled,
                };
                Stage::Settled(Settled { finished_at: self.moment(), expires_at: self.moment(), outcome })
            }
        }
    }

    fn reference(&mut self) -> Reference {
        Reference {
            upload: UploadId::new(self.moment(), [7; 10]),
            sha256: "0f".repeat(32),
            bytes: 70,
            format: self.one_of(&ImageFormat::ALL),
        }
    }

    pub(crate) fn job(&mut self, number: u64) -> Job {
        let user = UserId::parse("user").unwrap();
        let key = IdempotencyKey::parse(&format!("k{number}")).unwrap();
        Job {
            id: JobId::derive(&user, &key),
            user,
            order: Order {
                prompt: (self.below(2) == 0).then(|| Prompt::parse("a prompt").unwrap()),
                model: ModelName::parse("m").unwrap(),
                shape: Shape { aspect_ratio: AspectRatio::R16x9, size: ImageSize::K1 },
                reference: (self.below(2) == 0).then(|| self.reference()),
                conversation_id: None,
                retry_of: None,
                batch: None,
                request_hash: "h".to_owned(),
                cost: 3,
                created_at: self.moment(),
                deadline_at: self.later(),
            },
            version: 7,
            op: Stamp::from_stored("before".to_owned()),
            attempt: self.small(),
            tries: self.small(),
            calls: self.small(),
            started_at: (self.below(2) == 0).then(|| self.moment()),
            last_failure: (self.below(2) == 0).then_some(JobErrorCode::NoImage),
            stage: self.stage(),
        }
    }

    /// What was seen of a job under way: as it is, or with one thing other than it is.
    fn seen_processing(&mut self, job: &Job) -> SeenProcessing {
        let Some(Seen::Processing(seen)) = Seen::of(job) else {
            return SeenProcessing {
                attempt: job.attempt,
                lease_until: self.moment(),
                heartbeat_at: self.heartbeat(),
            };
        };
        match self.below(5) {
            0 => SeenProcessing { attempt: self.small(), ..seen },
            1 => SeenProcessing { lease_until: self.moment(), ..seen },
            2 => SeenProcessing { heartbeat_at: self.heartbeat(), ..seen },
            _ => seen,
        }
    }

    fn seen(&mut self, job: &Job) -> Seen {
        match (Seen::of(job), self.below(4)) {
            (Some(Seen::Pending { attempt }), 0 | 1) => Seen::Pending { attempt },
            (Some(Seen::Pending { .. }), 2) => Seen::Pending { attempt: self.small() },
            (Some(Seen::Processing(_)) | None, 3) => Seen::Pending { attempt: job.attempt },
            _ => Seen::Processing(self.seen_processing(job)),
        }
    }

    fn ending(&mut self) -> Ending {
        if self.below(2) == 0 { Ending::Cancelled } else { Ending::Failed(self.failure()) }
    }

    /// A command that often nearly fits.
    pub(crate) fn command(&mut self, job: &Job) -> Command {
        let attempt = if self.below(4) == 0 { self.small() } else { job.attempt };
        match self.below(13) {
            0 => Command::Claim {
                now: self.moment(),
                lease_until: self.moment(),
                bounds: Bounds { attempts_max: self.small() + 2, calls_max: self.small() + 2 },
            },
            1 => Command::CountCall { attempt, calls_max: self.small() + 1 },
            2 => Command::Retry {
                attempt,
                now: self.moment(),
                not_before: self.moment(),
                code: self.one_of(&JobErrorCode::ALL),
            },
            3 => Command::Defer { attempt, not_before: self.moment(), reason: WaitReason::Quota },
            4 => Command::Progress { attempt, now: self.moment(), progress: self.one_of(&[0, 10, 50, 90]) },
            5 => Command::Capture { image: self.image(), drawn_by: "m".to_owned(), end: self.end() },
            6 => Command::EndHeld { attempt, ending: self.ending(), end: self.end() },
            7 => Command::EndAsSeen { seen: self.seen(job), ending: self.ending(), end: self.end() },
            8 => Command::CancelPending { end: self.end() },
            9 => Command::RequestCancel,
            10 => {
                let due_at_seen = if self.below(3) == 0 { None } else { job.due_at() };
                Command::Mark { due_at_seen: due_at_seen.unwrap_or(self.moment()), due_at: self.moment() }
            }
            11 => Command::Release {
                attempt,
                now: self.moment(),
                not_before: self.moment(),
                reason: WaitReason::BreakerOpen,
                uncalled: u32::from(self.below(2) == 0),
            },
            _ => Command::Requeue {
                seen: self.seen_processing(job),
                now: self.moment(),
                due_at: self.moment(),
            },
        }
    }
}

pub(crate) fn new_job(key: &str, cost: u64, op: &str) -> Job {
    let mut job = Choices(1).job(0);
    job.order.cost = cost;
    let user = job.user.clone();
    let id = JobId::derive(&user, &IdempotencyKey::parse(key).unwrap());
    let submission = Submission { id, user, order: job.order, op: Stamp::from_stored(op.to_owned()) };
    Job::submitted(submission, Duration::from_secs(120))
}
