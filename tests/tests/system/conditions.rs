//! The store's conditions and the pure lifecycle say the same: every command on every kind of record is written exactly
//! when `lifecycle::apply` accepts it, and makes exactly the record that it makes. So a clause that is left out of an
//! expression, or added to one, fails here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::similar_names,
    missing_docs
)]

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::items::job::to_item;
use darkroom_aws::{Commit, Created};
use darkroom_core::id::{IdempotencyKey, JobId, ModelName, Stamp, UserId};
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{Job, Order, Outcome, Pending, Processing, Settled, Stage, Submission, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::ledger::LedgerError;
use darkroom_core::lifecycle::{Bounds, Command, End, Ending, Seen, SeenProcessing, apply};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::time::Timestamp;
use darkroom_tests::stores::TestStores;

/// A small deterministic source of choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        let index = usize::try_from(self.below(values.len() as u64)).unwrap();
        values[index].clone()
    }

    /// A few moments only, so that equal, earlier and later all happen often.
    fn moment(&mut self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.below(4) * 1_000)
    }

    /// One of those moments, or one after them all: half of the deadlines are no obstacle.
    fn later(&mut self) -> Timestamp {
        let moment = self.moment();
        if self.below(2) == 0 { moment } else { moment.plus(std::time::Duration::from_secs(10)) }
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

    fn image(&mut self) -> StoredImage {
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
                    0 => Outcome::Draft { image: self.image(), drawn_by: "m".to_owned() },
                    1 => Outcome::Failed(self.failure()),
                    _ => Outcome::Cancelled,
                };
                Stage::Settled(Settled { finished_at: self.moment(), expires_at: self.moment(), outcome })
            }
        }
    }

    fn job(&mut self, number: u64) -> Job {
        let user = UserId::parse("user").unwrap();
        let key = IdempotencyKey::parse(&format!("k{number}")).unwrap();
        Job {
            id: JobId::derive(&user, &key),
            user,
            order: Order {
                prompt: (self.below(2) == 0).then(|| Prompt::parse("a prompt").unwrap()),
                model: ModelName::parse("m").unwrap(),
                shape: Shape { aspect_ratio: AspectRatio::R16x9, size: ImageSize::K1 },
                conversation_id: None,
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

    fn seen_processing(&mut self, job: &Job) -> SeenProcessing {
        match (Seen::of(job), self.below(3)) {
            (Some(Seen::Processing(seen)), 0 | 1) => seen,
            _ => SeenProcessing {
                attempt: self.small(),
                lease_until: self.moment(),
                heartbeat_at: self.heartbeat(),
            },
        }
    }

    fn seen(&mut self, job: &Job) -> Seen {
        match (Seen::of(job), self.below(4)) {
            (Some(seen), 0 | 1) => seen,
            (_, 2) => Seen::Pending { attempt: self.small() },
            _ => Seen::Processing(self.seen_processing(job)),
        }
    }

    fn ending(&mut self) -> Ending {
        if self.below(2) == 0 { Ending::Cancelled } else { Ending::Failed(self.failure()) }
    }

    /// A command that often nearly fits.
    fn command(&mut self, job: &Job) -> Command {
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

fn name(command: &Command) -> String {
    format!("{command:?}").split([' ', '{']).next().unwrap().to_owned()
}

async fn put(stores: &TestStores, job: &Job) {
    let put = stores.clients.dynamodb.put_item().table_name(&stores.jobs_name).set_item(Some(to_item(job)));
    put.send().await.unwrap();
}

/// A balance from which anything can be settled.
async fn put_rich_balance(stores: &TestStores) {
    let mut put = stores.clients.dynamodb.put_item().table_name(&stores.ledger_name);
    put =
        put.item("pk", AttributeValue::S("user".to_owned())).item("sk", AttributeValue::S("BAL".to_owned()));
    for field in ["avail", "held", "spent", "granted", "inflight", "ver"] {
        put = put.item(field, AttributeValue::N("1000000".to_owned()));
    }
    put.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_is_written_exactly_when_the_lifecycle_accepts_it() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    put_rich_balance(&stores).await;
    let mut choices = Choices(20_261_122);
    let mut outcomes: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for number in 0..4_000 {
        let job = choices.job(number);
        let command = choices.command(&job);
        put(&stores, &job).await;
        let op = Stamp::from_stored(format!("op{number}"));
        let expected = apply(&job, &command, op.clone());
        let commit =
            stores.jobs.commit(&job, &command, &op, Timestamp::from_millis(1), SETTLE_PATIENCE).await?;
        let stored = stores.jobs.get(&job.id).await?.expect("the record is there");
        let counts = outcomes.entry(name(&command)).or_default();
        match (expected, commit) {
            (Ok(next), Commit::Applied(answered)) => {
                counts.0 += 1;
                assert!(
                    stored == next,
                    "{command:?} on {:?}\nmade {:?}\nnot  {:?}",
                    job.stage,
                    stored.stage,
                    next.stage
                );
                assert!(answered == next, "{command:?} answered another record than it made");
                assert!(command.has_made(&stored));
            }
            (Err(rejection), Commit::Refused(answered)) => {
                counts.1 += 1;
                assert!(stored == job, "{command:?} was refused ({rejection}) and changed the record");
                assert!(answered == job, "ALL_OLD is the record as it was");
            }
            (expected, commit) => panic!(
                "{command:?} on {:?} (attempt {}, calls {}, deadline {}): the lifecycle says {:?}, the store {}",
                job.stage,
                job.attempt,
                job.calls,
                job.order.deadline_at,
                expected.map(|next| next.stage),
                match commit {
                    Commit::Applied(_) => "wrote it",
                    Commit::Refused(_) => "refused it",
                    Commit::Absent => "has no such job",
                }
            ),
        }
    }
    for (command, (applied, refused)) in &outcomes {
        println!("{command:14} applied {applied:4}, refused {refused:4}");
        assert!(*applied >= 20 && *refused >= 20, "{command}: too few of a kind to mean anything");
    }
    assert_eq!(outcomes.len(), 13);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_makes_a_job_that_is_absent() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    put_rich_balance(&stores).await;
    let mut choices = Choices(7);
    for number in 0..300 {
        let job = choices.job(number);
        let command = choices.command(&job);
        let op = Stamp::from_stored(format!("op{number}"));
        let commit =
            stores.jobs.commit(&job, &command, &op, Timestamp::from_millis(1), SETTLE_PATIENCE).await?;
        assert!(matches!(commit, Commit::Absent), "{command:?}");
        assert!(stores.jobs.get(&job.id).await?.is_none(), "{command:?} made a record");
    }
    Ok(())
}

fn new_job(key: &str, cost: u64, op: &str) -> Job {
    let mut job = Choices(1).job(0);
    job.order.cost = cost;
    let user = job.user.clone();
    let id = JobId::derive(&user, &IdempotencyKey::parse(key).unwrap());
    let submission = Submission { id, user, order: job.order, op: Stamp::from_stored(op.to_owned()) };
    Job::submitted(submission, std::time::Duration::from_secs(120))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_from_a_lost_race_by_the_stamp() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    stores.ledger.grant(&UserId::parse("user")?, 10, "g", Timestamp::from_millis(1)).await?;
    let job = new_job("k", 3, "first");
    assert!(matches!(stores.jobs.create(job.clone(), None, 10).await?, Created::New(_)));
    // The same write again, as after a time-out: ours. Another one: somebody else's.
    assert!(matches!(stores.jobs.create(job.clone(), None, 10).await?, Created::New(_)));
    assert!(matches!(stores.jobs.create(new_job("k", 3, "second"), None, 10).await?, Created::Existing(_)));
    let balance = stores.ledger.balance(&job.user).await?;
    assert_eq!((balance.available, balance.held, balance.inflight), (7, 3, 1), "held once");

    let moment = job.order.created_at;
    let claim = Command::Claim {
        now: moment,
        lease_until: moment.plus(std::time::Duration::from_secs(60)),
        bounds: Bounds { attempts_max: 3, calls_max: 6 },
    };
    let mut job = job;
    job.order.deadline_at = moment.plus(std::time::Duration::from_secs(3_600));
    put(&stores, &job).await;
    let op = Stamp::from_stored("claim".to_owned());
    let Commit::Applied(claimed) = stores.jobs.update(&job.id, &claim, &op).await? else {
        panic!("not claimed")
    };
    let Commit::Applied(again) = stores.jobs.update(&job.id, &claim, &op).await? else {
        panic!("our own success")
    };
    assert!(claimed == again && again.attempt == 1 && again.calls == 1, "counted once");
    let other = Stamp::from_stored("other".to_owned());
    assert!(matches!(stores.jobs.update(&job.id, &claim, &other).await?, Commit::Refused(_)));

    // Settled by us, the answer lost; then the same settle again: applied, and one entry.
    let end = End { now: moment, expires_at: moment };
    let settle = Command::EndHeld { attempt: 1, ending: Ending::Cancelled, end };
    let op = Stamp::from_stored("settle".to_owned());
    assert!(matches!(
        stores.jobs.commit(&claimed, &settle, &op, moment, SETTLE_PATIENCE).await?,
        Commit::Applied(_)
    ));
    assert!(matches!(
        stores.jobs.commit(&claimed, &settle, &op, moment, SETTLE_PATIENCE).await?,
        Commit::Applied(_)
    ));
    assert!(matches!(
        stores.jobs.commit(&claimed, &settle, &other, moment, SETTLE_PATIENCE).await?,
        Commit::Refused(_)
    ));
    let balance = stores.ledger.balance(&job.user).await?;
    assert_eq!((balance.available, balance.held, balance.inflight), (10, 0, 0), "given back once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_locks_hold_alone() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    let user = UserId::parse("user")?;
    stores.ledger.grant(&user, 10, "g", Timestamp::from_millis(1)).await?;
    let job = new_job("k", 3, "first");
    stores.jobs.create(job.clone(), None, 10).await?;
    let end = End { now: job.order.created_at, expires_at: job.order.created_at };
    let cancel = Command::CancelPending { end };
    stores.jobs.commit(&job, &cancel, &Stamp::from_stored("a".to_owned()), end.now, SETTLE_PATIENCE).await?;
    // The record is made live again by hand: the settle entry alone still refuses a second settlement.
    put(&stores, &job).await;
    let held = stores.clients.dynamodb.update_item().table_name(&stores.ledger_name);
    held.key("pk", AttributeValue::S("user".to_owned()))
        .key("sk", AttributeValue::S("BAL".to_owned()))
        .update_expression("SET held = :n, inflight = :n")
        .expression_attribute_values(":n", AttributeValue::N("9".to_owned()))
        .send()
        .await?;
    let again = stores
        .jobs
        .commit(&job, &cancel, &Stamp::from_stored("b".to_owned()), end.now, SETTLE_PATIENCE)
        .await;
    assert!(again.is_err_and(|error| error.to_string().contains("do not add up")));
    assert_eq!(stores.ledger.balance(&user).await?.available, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balance_refuses_what_it_has_not() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    let user = UserId::parse("user")?;
    let refused = |created| match created {
        Created::Refused(error) => error,
        Created::New(_) | Created::Existing(_) => panic!("it was created"),
    };
    let nothing = refused(stores.jobs.create(new_job("k1", 1, "a"), None, 2).await?);
    assert_eq!(nothing, LedgerError::Insufficient { price: 1, available: 0 });
    stores.ledger.grant(&user, 5, "g", Timestamp::from_millis(1)).await?;
    let too_much = refused(stores.jobs.create(new_job("k1", 6, "b"), None, 2).await?);
    assert_eq!(too_much, LedgerError::Insufficient { price: 6, available: 5 });
    assert!(matches!(stores.jobs.create(new_job("k1", 2, "c"), None, 2).await?, Created::New(_)));
    assert!(matches!(stores.jobs.create(new_job("k2", 3, "d"), None, 2).await?, Created::New(_)));
    let too_many = refused(stores.jobs.create(new_job("k3", 0, "e"), None, 2).await?);
    assert_eq!(too_many, LedgerError::TooManyInflight { inflight: 2, max: 2 });
    assert!(stores.jobs.get(&new_job("k3", 0, "e").id).await?.is_none(), "nothing was written");
    let balance = stores.ledger.balance(&user).await?;
    assert!(balance.is_balanced() && balance.available == 0 && balance.held == 5);
    Ok(())
}
