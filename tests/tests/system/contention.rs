//! What DynamoDB and S3 answer when others write the same item at the same moment, and the local stores never do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use darkroom_aws::{Commit, Created, ImageStore, JobTable, StoreError, image_key};
use darkroom_core::id::{IdempotencyKey, JobId, Stamp, UserId};
use darkroom_core::image::{ImageFormat, StoredImage};
use darkroom_core::job::{Job, Status, Submission};
use darkroom_core::lifecycle::{Bounds, Command, End, Ending};
use darkroom_core::retry::CONFLICT_TRIES_MAX;
use darkroom_core::time::Timestamp;
use darkroom_tests::interposer::{Canned, Interposer};
use darkroom_tests::jobs;
use darkroom_tests::stores::{TestStores, clients};
use http::StatusCode;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(60);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

fn stamp(text: &str) -> Stamp {
    Stamp::from_stored(text.to_owned())
}

fn new_job(key: &str) -> Job {
    let user = UserId::parse("alice").unwrap();
    let order = jobs::order("m", 3, NOW, Duration::from_secs(3_600));
    let id = JobId::derive(&user, &IdempotencyKey::parse(key).unwrap());
    Job::submitted(Submission { id, user, order, op: stamp("new") }, Duration::from_secs(120))
}

fn claim(now: Timestamp) -> Command {
    Command::Claim { now, lease_until: now.plus(LEASE), bounds: Bounds { attempts_max: 3, calls_max: 6 } }
}

const fn end(now: Timestamp) -> End {
    End { now, expires_at: Timestamp::from_millis(now.as_millis() + 86_400_000) }
}

fn capture(attempt: u32, now: Timestamp) -> Command {
    let image = StoredImage {
        key: "images/x".to_owned(),
        sha256: "00".repeat(32),
        bytes: 1,
        width: 1,
        height: 1,
        format: ImageFormat::Png,
        attempt,
    };
    Command::Capture { image, drawn_by: "m".to_owned(), end: end(now) }
}

/// Tables with ten tokens for alice, and a jobs table behind an interposer.
async fn start() -> anyhow::Result<(TestStores, Interposer, JobTable)> {
    let stores = TestStores::start().await?;
    stores.ledger.grant(&UserId::parse("alice")?, 10, "g", NOW).await?;
    let interposer = Interposer::before(stores.endpoints.dynamodb.as_deref().unwrap()).await?;
    let jobs = stores.jobs_at(interposer.url());
    Ok((stores, interposer, jobs))
}

async fn claimed(jobs: &JobTable, key: &str) -> anyhow::Result<Job> {
    let job = new_job(key);
    jobs.create(job.clone(), None, 10).await?;
    applied(jobs.update(&job.id, &claim(NOW), &stamp("claim")).await?)
}

fn applied(commit: Commit) -> anyhow::Result<Job> {
    match commit {
        Commit::Applied(job) => Ok(job),
        Commit::Refused(job) => anyhow::bail!("refused: {:?}", job.stage),
        Commit::Absent => anyhow::bail!("absent"),
    }
}

/// A call's body, without the token that is new for each transaction.
fn without_token(body: &Bytes) -> serde_json::Value {
    let mut body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body.as_object_mut().unwrap().remove("ClientRequestToken");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_during_a_transaction_is_sent_again_with_its_stamp() -> anyhow::Result<()> {
    let (_stores, dynamodb, jobs) = start().await?;
    let job = new_job("k");
    jobs.create(job.clone(), None, 10).await?;
    // The first try is written although its answer says otherwise: the last finds its own stamp.
    let conflict = Canned::item_in_transaction();
    dynamodb.answer("UpdateItem", 1, &conflict.clone().after_the_store_has_done_it());
    dynamodb.answer("UpdateItem", 2, &conflict);
    let claimed = applied(jobs.update(&job.id, &claim(NOW), &stamp("claim")).await?)?;
    assert_eq!((claimed.attempt, claimed.calls, claimed.version), (1, 1, 2), "claimed once");
    let calls = dynamodb.calls("UpdateItem");
    assert_eq!(calls.len(), 4);
    assert!(
        calls.iter().all(|call| without_token(call) == without_token(&calls[0])),
        "the same stamp each time"
    );

    dynamodb.answer("UpdateItem", 100, &conflict);
    let count = Command::CountCall { attempt: 1, calls_max: 6 };
    let busy = jobs.update(&job.id, &count, &stamp("count")).await;
    assert!(busy.is_err_and(|error| error.is_temporary()), "the same call may succeed later");
    assert_eq!(dynamodb.calls("UpdateItem").len() - 4, CONFLICT_TRIES_MAX as usize);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_outlasts_more_contention_than_a_submission() -> anyhow::Result<()> {
    let (stores, dynamodb, jobs) = start().await?;
    let job = claimed(&jobs, "k1").await?;
    let before = dynamodb.calls("TransactWriteItems").len();
    for code in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
        dynamodb.answer("TransactWriteItems", 3, &Canned::cancelled(&["None", code, "None"]));
    }
    let settled = jobs.commit(&job, &capture(1, NOW), &stamp("capture"), NOW, LONG).await?;
    assert_eq!(applied(settled)?.status(), Status::Draft);
    let calls = dynamodb.calls("TransactWriteItems").split_off(before);
    assert_eq!(calls.len(), 10);
    assert!(
        calls.iter().all(|call| without_token(call) == without_token(&calls[0])),
        "the same stamp each time"
    );
    assert_eq!(stores.ledger.balance(&job.user).await?.spent, 3, "paid once");

    let conflict = Canned::cancelled(&["None", "TransactionConflict"]);
    dynamodb.answer("TransactWriteItems", CONFLICT_TRIES_MAX as usize, &conflict);
    let before = dynamodb.calls("TransactWriteItems").len();
    let busy = jobs.create(new_job("k2"), None, 10).await;
    assert!(busy.is_err_and(|error| error.is_temporary()), "whoever waits can come again");
    assert_eq!(dynamodb.calls("TransactWriteItems").len() - before, CONFLICT_TRIES_MAX as usize);
    assert!(matches!(jobs.create(new_job("k2"), None, 10).await?, Created::New(_)), "nothing was written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_ends_with_its_callers_patience() -> anyhow::Result<()> {
    let (stores, dynamodb, jobs) = start().await?;
    let job = claimed(&jobs, "k").await?;
    dynamodb.answer("TransactWriteItems", 1, &Canned::cancelled(&["None", "TransactionConflict", "None"]));
    let before = dynamodb.calls("TransactWriteItems").len();
    let busy = jobs.commit(&job, &capture(1, NOW), &stamp("capture"), NOW, Duration::ZERO).await;
    assert!(busy.is_err_and(|error| matches!(error, StoreError::Throttled { .. })));
    assert_eq!(dynamodb.calls("TransactWriteItems").len() - before, 1);
    assert_eq!(stores.ledger.balance(&job.user).await?.held, 3, "still held");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_refused_beside_a_conflict_is_not_believed() -> anyhow::Result<()> {
    let (stores, dynamodb, jobs) = start().await?;
    let job = new_job("k1");
    // A grant is being written: the balance as it was before refuses, and another action says that it is busy.
    let poor = Canned::cancelled(&["TransactionConflict", "ConditionalCheckFailed"]);
    dynamodb.answer("TransactWriteItems", 1, &poor);
    assert!(matches!(jobs.create(job.clone(), None, 10).await?, Created::New(_)), "no false 402");
    let claimed = applied(jobs.update(&job.id, &claim(NOW), &stamp("claim")).await?)?;
    for reasons in [
        ["TransactionConflict", "ConditionalCheckFailed", "None"],
        ["None", "ConditionalCheckFailed", "TransactionConflict"],
        ["ThrottlingError", "None", "ConditionalCheckFailed"],
    ] {
        dynamodb.answer("TransactWriteItems", 1, &Canned::cancelled(&reasons));
    }
    let settled = jobs.commit(&claimed, &capture(1, NOW), &stamp("capture"), NOW, LONG).await?;
    assert_eq!(applied(settled)?.status(), Status::Draft, "no false fault of the books");
    assert_eq!(stores.ledger.balance(&job.user).await?.spent, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_own_refusal_decides_whatever_stands_beside_it() -> anyhow::Result<()> {
    let (_stores, dynamodb, jobs) = start().await?;
    let job = claimed(&jobs, "k").await?;
    let before = dynamodb.calls("TransactWriteItems").len();
    let refused = Canned::cancelled(&["ConditionalCheckFailed", "TransactionConflict", "None"]);
    dynamodb.answer("TransactWriteItems", 1, &refused);
    let commit = jobs.commit(&job, &capture(1, NOW), &stamp("capture"), NOW, LONG).await?;
    assert!(matches!(commit, Commit::Absent), "a refusal without an item");
    assert_eq!(dynamodb.calls("TransactWriteItems").len() - before, 1);
    // Without any conflict a refused balance is what it says.
    dynamodb.answer("TransactWriteItems", 1, &Canned::cancelled(&["None", "ConditionalCheckFailed", "None"]));
    let books = jobs.commit(&job, &capture(1, NOW), &stamp("capture"), NOW, LONG).await;
    assert!(books.is_err_and(|error| matches!(error, StoreError::Books { .. })));
    Ok(())
}

/// A stale copy: the job went on since it was read. What is answered is what was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_answers_with_the_record_as_it_is() -> anyhow::Result<()> {
    let (stores, dynamodb, jobs) = start().await?;
    let held = claimed(&jobs, "k1").await?;
    let reads = || dynamodb.calls("GetItem").len();
    let drawn = applied(jobs.commit(&held, &capture(1, NOW), &stamp("capture"), NOW, LONG).await?)?;
    assert_eq!(reads(), 0, "the usual way costs no call");
    assert!(stores.jobs.get(&held.id).await? == Some(drawn));

    // Its first worker's picture comes late, in the second attempt.
    let first = claimed(&jobs, "k2").await?;
    let later = NOW.plus(LEASE);
    applied(jobs.update(&first.id, &claim(later), &stamp("again")).await?)?;
    let salvaged = applied(jobs.commit(&first, &capture(1, later), &stamp("late"), later, LONG).await?)?;
    assert_eq!((salvaged.attempt, salvaged.version, reads()), (2, 4, 1));
    assert!(stores.jobs.get(&first.id).await? == Some(salvaged));

    // Its owner saw it wait for the first time; since then it was tried and waits again.
    let pending = new_job("k3");
    jobs.create(pending.clone(), None, 10).await?;
    let tried = applied(jobs.update(&pending.id, &claim(NOW), &stamp("claim")).await?)?;
    let retry = Command::retry(&tried, NOW, NOW, darkroom_core::job_error::JobErrorCode::NoImage);
    applied(jobs.update(&pending.id, &retry, &stamp("retry")).await?)?;
    let cancel = Command::CancelPending { end: end(NOW) };
    let cancelled = applied(jobs.commit(&pending, &cancel, &stamp("cancel"), NOW, LONG).await?)?;
    assert_eq!((cancelled.status(), cancelled.attempt, cancelled.version), (Status::Cancelled, 1, 4));
    assert!(stores.jobs.get(&pending.id).await? == Some(cancelled));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_settles_is_no_update() -> anyhow::Result<()> {
    let (stores, _dynamodb, jobs) = start().await?;
    let job = claimed(&jobs, "k").await?;
    for command in [
        capture(1, NOW),
        Command::EndHeld { attempt: 1, ending: Ending::Cancelled, end: end(NOW) },
        Command::CancelPending { end: end(NOW) },
    ] {
        assert!(jobs.update(&job.id, &command, &stamp("update")).await.is_err(), "{command:?}");
    }
    assert!(stores.jobs.get(&job.id).await? == Some(job), "nothing was written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_whose_put_meets_another_is_put_again() -> anyhow::Result<()> {
    // Nothing lies behind: each answer is canned.
    let s3 = Interposer::before("http://127.0.0.1:9").await?;
    let endpoints = darkroom_aws::clients::Endpoints { s3: Some(s3.url().to_owned()), ..Default::default() };
    let images = ImageStore::new(clients(endpoints).s3, "bucket".to_owned());
    let sha256 = "ab".repeat(32);
    let key = image_key(&new_job("k"), &sha256, ImageFormat::Png);
    let image =
        StoredImage { key, sha256, bytes: 3, width: 1, height: 1, format: ImageFormat::Png, attempt: 1 };
    let put = || images.put(&image, Bytes::from_static(b"png"));
    let conflict = Canned::s3_error(StatusCode::CONFLICT, "ConditionalRequestConflict");

    s3.answer("PutObject", 6, &conflict);
    s3.answer("PutObject", 1, &Canned::s3_error(StatusCode::CONFLICT, "OperationAborted"));
    s3.answer("PutObject", 1, &Canned::done());
    put().await?;
    assert_eq!(s3.calls("PutObject").len(), 8);

    s3.answer("PutObject", 1, &conflict);
    s3.answer("PutObject", 1, &Canned::s3_error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"));
    put().await?;
    assert_eq!(s3.calls("PutObject").len(), 10, "the other put was the same picture");

    s3.answer("PutObject", 1, &Canned::s3_error(StatusCode::CONFLICT, "InvalidBucketState"));
    assert!(put().await.is_err_and(|error| !error.is_temporary()), "another 409 is no conflict");
    assert_eq!(s3.calls("PutObject").len(), 11);
    Ok(())
}

#[test]
fn a_key_used_again_names_another_object() {
    let job = new_job("k");
    let mut again = job.clone();
    again.order.created_at = NOW.plus(Duration::from_millis(1));
    let key = image_key(&job, "aa", ImageFormat::Jpeg);
    assert_eq!(key, format!("images/{}/1800000000000/0/aa.jpg", job.id));
    assert_ne!(image_key(&again, "aa", ImageFormat::Jpeg), key);
    let next = Job { attempt: 1, ..job };
    assert_ne!(image_key(&next, "aa", ImageFormat::Jpeg), key);
}
