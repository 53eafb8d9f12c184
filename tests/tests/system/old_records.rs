//! Records that this release did not write as it would today: damaged, written by another release, or expired.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom::audit::audit;
use darkroom_aws::items::job::{from_item, to_item};
use darkroom_aws::{Beside, Commit, Created, JobQueue, Kept, Listed, Sweep, SweepResult};
use darkroom_core::id::{IdempotencyKey, JobId, Stamp, UserId};
use darkroom_core::job::{Job, Outcome, Stage, Status, Submission, WaitReason};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use darkroom_core::lifecycle::{Bounds, Command, End, Ending, Seen, apply};
use darkroom_core::limits::QUOTA_MINUTE;
use darkroom_core::request::Prompt;
use darkroom_core::sweep::Rules;
use darkroom_core::time::Timestamp;
use darkroom_tests::jobs;
use darkroom_tests::stores::TestStores;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn stamp(text: &str) -> Stamp {
    Stamp::from_stored(text.to_owned())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn prompt(text: &str) -> Prompt {
    Prompt::parse(text).unwrap_or_else(|problem| panic!("{problem}"))
}

const fn long(prompt: &Prompt, expires_at: Timestamp) -> Beside<'_> {
    Beside { long_prompt: Some(prompt), metadata: None, expires_at }
}

fn new_job(key: &str, op: &str, created_at: Timestamp) -> Job {
    let user = UserId::parse("alice").unwrap();
    let order = jobs::order("m", 1, created_at, HOUR);
    let id = JobId::derive(&user, &IdempotencyKey::parse(key).unwrap());
    Job::submitted(Submission { id, user, order, op: stamp(op) }, Duration::from_secs(120))
}

async fn start() -> anyhow::Result<TestStores> {
    let stores = TestStores::start().await?;
    stores.ledger.grant(&UserId::parse("alice")?, 10, "g", NOW).await?;
    Ok(stores)
}

/// Writes one attribute of a record by hand.
async fn damage(stores: &TestStores, pk: &str, attribute: &str, value: AttributeValue) -> anyhow::Result<()> {
    let update = stores.clients.dynamodb.update_item().table_name(&stores.jobs_name);
    update
        .key("pk", text(pk))
        .key("sk", text("JOB"))
        .update_expression("SET #a = :a")
        .expression_attribute_names("#a", attribute)
        .expression_attribute_values(":a", value)
        .send()
        .await?;
    Ok(())
}

fn sweep(stores: &TestStores) -> Sweep {
    let bounds = Bounds { attempts_max: 3, calls_max: 6 };
    let rules = Rules {
        bounds,
        pending_max: HOUR,
        retry_max: HOUR,
        processing_max: HOUR,
        wake: Duration::from_secs(120),
        ahead: Duration::from_secs(20),
        ttl_days: 90,
    };
    // Every job of these tests is past its deadline: nothing is sent.
    let queue = JobQueue::new(stores.clients.sqs.clone(), "http://127.0.0.1:9/none".to_owned());
    Sweep::new(stores.jobs.clone(), stores.keys.clone(), queue, None, QUOTA_MINUTE, rules)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_stops_nothing_and_the_audit_names_it() -> anyhow::Result<()> {
    let stores = start().await?;
    let jobs: Vec<_> = (0..5)
        .map(|number| new_job(&format!("k{number}"), "new", NOW.plus(Duration::from_secs(number))))
        .collect();
    for job in &jobs {
        assert!(matches!(stores.jobs.create(job.clone(), None, 10).await?, Created::New(_)));
    }
    let (whole, damaged) = ([&jobs[0], &jobs[4]], [&jobs[1], &jobs[2], &jobs[3]]);
    damage(&stores, damaged[0].id.as_str(), "status", text("a prompt that must not be shown")).await?;
    // Some that not even the indexes' readers understand: two fill a page of the user's index.
    damage(&stores, damaged[1].id.as_str(), "due_at", AttributeValue::N("1.5".to_owned())).await?;
    for (job, created_at) in [(damaged[1], "1800000002000.5"), (damaged[2], "1800000003000.5")] {
        damage(&stores, job.id.as_str(), "created_at", AttributeValue::N(created_at.to_owned())).await?;
    }
    damage(&stores, "no job", "shard", text("3")).await?;
    damage(&stores, "no job", "due_at", AttributeValue::N("1".to_owned())).await?;

    let ids: Vec<_> = jobs.iter().map(|job| job.id.clone()).collect();
    let ids_of = |jobs: &[Job]| jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>();
    let whole_ids = whole.map(|job| job.id.clone());
    assert_eq!(ids_of(&stores.jobs.read_many(&ids).await?), whole_ids);
    let user = &jobs[0].user;
    let newest_first = [whole[1].id.clone(), whole[0].id.clone()];
    assert_eq!(ids_of(&stores.jobs.list(Listed::OfUser(user), None, 10, |_| true).await?.jobs), newest_first);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = stores.jobs.list(Listed::OfUser(user), after, 1, |_| true).await?;
        paged.extend(ids_of(&page.jobs));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, newest_first, "page by page");
    let mut live = ids_of(&stores.jobs.all_live().await?);
    live.sort();
    let mut expected = whole_ids.to_vec();
    expected.sort();
    assert_eq!(live, expected);

    let audited = audit(&stores.jobs, &stores.ledger).await?;
    assert_eq!(audited.jobs, 2);
    for pk in damaged.map(|job| job.id.as_str()).into_iter().chain(["no job"]) {
        assert!(
            audited.faults.iter().any(|fault| fault.contains(&format!("{pk}/JOB"))),
            "{:?}",
            audited.faults
        );
    }
    assert!(
        !audited.faults.iter().any(|fault| fault.contains("must not be shown")),
        "the key and the problem only"
    );

    let swept = sweep(&stores).pass(NOW.plus(HOUR * 2), false).await?;
    assert_eq!(swept.swept.iter().filter(|job| job.result == SweepResult::Done).count(), 2, "{swept:?}");
    for job in whole {
        let ended = stores.jobs.get(&job.id).await?.unwrap();
        assert_eq!(ended.status(), Status::Failed);
    }
    assert_eq!(
        stores.ledger.balance(user).await?.held,
        3,
        "what the damaged ones hold is left for the operator"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_asked_for_twice_comes_once() -> anyhow::Result<()> {
    let stores = start().await?;
    let [one, two] = ["k1", "k2"].map(|key| {
        let mut job = new_job(key, "new", NOW);
        job.order.prompt = None;
        job
    });
    let (first, second) = (prompt(&"one ".repeat(200)), prompt(&"two ".repeat(200)));
    stores.jobs.create(one.clone(), Some(long(&first, NOW.plus(HOUR))), 10).await?;
    stores.jobs.create(two.clone(), Some(long(&second, NOW.plus(HOUR))), 10).await?;
    let ids = [&two.id, &one.id, &two.id].map(Clone::clone);
    let read = stores.jobs.read_many(&ids).await?;
    assert_eq!(read.iter().map(|job| &job.id).collect::<Vec<_>>(), [&two.id, &one.id]);
    let beside = stores.jobs.beside(&[one.clone(), two.clone(), one.clone()]).await?;
    let prompt_of = |beside: &HashMap<JobId, Kept>, job: &Job| beside[&job.id].long_prompt.clone();
    assert!(prompt_of(&beside, &one) == Some(first) && prompt_of(&beside, &two) == Some(second.clone()));
    assert!(stores.jobs.read_many(&[]).await?.is_empty());

    // A prompt that cannot be read hides no other.
    let body = [("pk", text(one.id.as_str())), ("sk", text("BODY"))];
    let item = body.map(|(name, value)| (name.to_owned(), value)).into();
    stores.clients.dynamodb.put_item().table_name(&stores.jobs_name).set_item(Some(item)).send().await?;
    let beside = stores.jobs.beside(&[one.clone(), two.clone()]).await?;
    assert!(prompt_of(&beside, &one).is_none() && prompt_of(&beside, &two) == Some(second));
    Ok(())
}

#[test]
fn words_of_a_newer_release_are_read() {
    let mut pending = to_item(&new_job("k", "new", NOW));
    pending.insert("wait_reason".to_owned(), text("breaker"));
    pending.insert("last_failure".to_owned(), text("word_of_a_newer_release"));
    let Ok(Job { last_failure, stage: Stage::Pending(waiting), .. }) = from_item(&pending) else {
        panic!("unreadable")
    };
    assert_eq!((waiting.reason, last_failure), (WaitReason::Capacity, Some(JobErrorCode::Internal)));

    let job = new_job("k", "new", NOW);
    let failed = Ending::Failed(JobFailure::new(JobErrorCode::Stuck, "why"));
    let end = End { now: NOW, expires_at: NOW };
    let command = Command::EndAsSeen { seen: Seen::of(&job).unwrap(), ending: failed, end };
    let mut failed = to_item(&apply(&job, &command, stamp("end")).unwrap());
    failed.insert("error_code".to_owned(), text("word_of_a_newer_release"));
    let Ok(Job { stage: Stage::Settled(settled), .. }) = from_item(&failed) else { panic!("unreadable") };
    assert_eq!(settled.outcome, Outcome::Failed(JobFailure::new(JobErrorCode::Internal, "why")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_today_would_be_refused_is_still_read() -> anyhow::Result<()> {
    let stores = start().await?;
    let job = new_job("k", "new", NOW);
    stores.jobs.create(job.clone(), Some(long(&prompt("long"), NOW.plus(HOUR))), 10).await?;
    let refused = "two\nlines";
    assert!(Prompt::parse(refused).is_err());
    damage(&stores, job.id.as_str(), "prompt", text(refused)).await?;
    let read = stores.jobs.get(&job.id).await?.unwrap();
    assert_eq!(read.order.prompt.map(|prompt| prompt.reveal().to_owned()), Some(refused.to_owned()));
    let body = [("pk", text(job.id.as_str())), ("sk", text("BODY")), ("prompt", text(refused))];
    let item = body.map(|(name, value)| (name.to_owned(), value)).into();
    stores.clients.dynamodb.put_item().table_name(&stores.jobs_name).set_item(Some(item)).send().await?;
    let read = stores.jobs.long_prompt(&job.id).await?;
    assert_eq!(read.map(|prompt| prompt.reveal().to_owned()), Some(refused.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_a_new_job_once_its_record_has_expired() -> anyhow::Result<()> {
    let stores = start().await?;
    let expires_at = NOW.plus(HOUR);
    let first = new_job("k", "first", NOW);
    let words = prompt(&"first ".repeat(100));
    stores.jobs.create(first.clone(), Some(long(&words, expires_at)), 10).await?;
    // A live record does not expire.
    let years_later = new_job("k", "later", NOW.plus(HOUR * 100_000));
    assert!(matches!(stores.jobs.create(years_later, None, 10).await?, Created::Existing(_)));
    let cancel = Command::CancelPending { end: End { now: NOW, expires_at } };
    let cancelled = stores.jobs.commit(&first, &cancel, &stamp("cancel"), NOW, HOUR).await?;
    assert!(matches!(cancelled, Commit::Applied(_)));

    // The same second counts as DynamoDB counts it: up to it the record stands.
    let too_early = new_job("k", "early", expires_at.minus(Duration::from_millis(1)));
    let Created::Existing(existing) = stores.jobs.create(too_early.clone(), None, 10).await? else {
        panic!("the record has not expired yet")
    };
    assert!(existing.status() == Status::Cancelled && !existing.is_expired(too_early.order.created_at));
    assert_eq!(stores.ledger.balance(&first.user).await?.held, 0, "nothing was written");

    let again = new_job("k", "again", expires_at);
    assert!(existing.is_expired(again.order.created_at), "reader and writer agree");
    let words = prompt(&"again ".repeat(100));
    let body = Some(long(&words, expires_at.plus(HOUR)));
    for _ in 0..2 {
        // The second time as after a lost answer: our own.
        let Created::New(created) = stores.jobs.create(again.clone(), body, 10).await? else {
            panic!("not made")
        };
        assert!(created == again);
    }
    let other = new_job("k", "other", expires_at);
    assert!(matches!(stores.jobs.create(other, None, 10).await?, Created::Existing(_)), "one job per key");
    assert!(stores.jobs.get(&again.id).await? == Some(again.clone()), "nothing of the old record is left");
    assert!(stores.jobs.long_prompt(&again.id).await? == Some(words));
    assert_eq!(stores.ledger.balance(&again.user).await?.held, 1, "held once");

    // Whoever still has the old record in hand settles nothing: its ticket is another one.
    let stale = stores.jobs.commit(&first, &cancel, &stamp("stale"), NOW, HOUR).await?;
    assert!(matches!(stale, Commit::Refused(live) if live == again));
    let cancel = Command::CancelPending { end: End { now: expires_at, expires_at: expires_at.plus(HOUR) } };
    let settled = stores.jobs.commit(&again, &cancel, &stamp("cancel again"), expires_at, HOUR).await?;
    assert!(matches!(settled, Commit::Applied(_)), "a key that is used again settles again");
    let audited = audit(&stores.jobs, &stores.ledger).await?;
    assert_eq!((audited.faults, audited.jobs, audited.settled), (Vec::<String>::new(), 1, 2));
    Ok(())
}
