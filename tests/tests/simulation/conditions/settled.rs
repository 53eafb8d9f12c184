//! What is done to settled jobs: the store's conditions and the pure decisions say the same, and what a deletion leaves is a
//! tombstone and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{bail, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::items::job::to_item;
use darkroom_aws::{Commit, Created, Deleted, Kept};
use darkroom_core::id::Stamp;
use darkroom_core::job::{Job, Outcome, Record, Settled, Stage, Tombstone};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::settled::{Publication, tombstone};
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;

use super::choices::{Choices, new_job};
use super::ledger::put_rich_balance;
use super::{Case, number, put, put_item, text};

type Item = HashMap<String, AttributeValue>;

/// Records that each is tried on.
const TRIES: u64 = 400;
/// Of these, it must fit so many and not fit so many, or they mean nothing.
const OF_EACH: u32 = 20;
/// What is left of a job, but for its picture's key.
const LEFT: [&str; 9] = ["pk", "sk", "status", "user", "request_hash", "settled", "ttl", "ver", "op"];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("publish of a damaged record", a_record_that_is_no_draft_is_not_published),
        Case::new("publish", publications_agree),
        Case::new("publish with what lies beside", what_lies_beside_a_record_is_kept_as_long),
        Case::new("delete of a damaged record", a_record_that_is_not_the_one_seen_is_not_deleted),
        Case::new("delete", nothing_is_left_but_a_tombstone),
        Case::new("image gone", a_tombstone_forgets_the_picture_that_it_names),
        Case::new("tombstone", a_tombstone_stays_until_it_expires),
    ]
}

fn stamp(text: &str) -> Stamp {
    Stamp::from_stored(text.to_owned())
}

/// A job that is settled three times out of four.
fn mostly_settled(choices: &mut Choices, number: u64) -> Job {
    loop {
        let job = choices.job(number);
        if job.settlement().is_some() || choices.below(8) == 0 {
            return job;
        }
    }
}

fn settled_with(choices: &mut Choices, number: u64, wanted: impl Fn(&Outcome) -> bool) -> Job {
    loop {
        let job = choices.job(number);
        if matches!(&job.stage, Stage::Settled(settled) if wanted(&settled.outcome)) {
            return job;
        }
    }
}

const fn is_draft(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Drawn { published: false, .. })
}

fn publication(choices: &mut Choices) -> Publication {
    let earlier = Duration::from_secs(10 * choices.below(2));
    let (now, expires_at) = (choices.moment().minus(earlier), choices.moment());
    // Every job here has this version.
    let version_seen = 7 - u64::from(choices.below(8) == 0);
    Publication { published: choices.below(2) == 0, version_seen, now, expires_at }
}

async fn stored(writes: &Writes, pk: &str, sk: &str) -> anyhow::Result<Option<Item>> {
    let read = writes.clients.dynamodb.get_item().table_name(&writes.names.jobs);
    Ok(read.key("pk", text(pk)).key("sk", text(sk)).send().await?.item)
}

/// Does something that must leave this record as it is.
async fn changes_nothing<T>(
    writes: &Writes,
    item: Item,
    what: &str,
    doing: impl Future<Output = T>,
) -> anyhow::Result<T> {
    put_item(writes, &writes.names.jobs, item.clone()).await?;
    let done = doing.await;
    let AttributeValue::S(pk) = &item["pk"] else { bail!("no key") };
    ensure!(stored(writes, pk, "JOB").await?.as_ref() == Some(&item), "{what} was written");
    Ok(done)
}

fn without(mut item: Item, name: &str) -> Item {
    item.remove(name);
    item
}

async fn publications_agree(writes: Writes) -> anyhow::Result<()> {
    let mut choices = Choices(20_261_130);
    let (mut applied, mut refused) = (0, 0);
    for number in 0..TRIES {
        let (job, publication) = (mostly_settled(&mut choices, number), publication(&mut choices));
        put(&writes, &job).await?;
        let op = stamp(&format!("op{number}"));
        let expected = publication.apply(&job, op.clone());
        // The second time as after a lost answer.
        let commits = [
            writes.jobs.publish(&job, &publication, &Kept::default(), &op).await?,
            writes.jobs.publish(&job, &publication, &Kept::default(), &op).await?,
        ];
        let now = writes.jobs.get(&job.id).await?.expect("the record is there");
        for commit in commits {
            match (&expected, commit) {
                (Ok(next), Commit::Applied(answered)) => {
                    applied += 1;
                    ensure!(now == *next && answered == *next, "{publication:?} made {:?}", now.stage);
                    ensure!(publication.has_made(&now), "{publication:?} does not know what it has made");
                }
                (Err(_), Commit::Refused(answered)) => {
                    refused += 1;
                    ensure!(now == job && answered == job, "{publication:?} was refused and written");
                }
                (expected, commit) => bail!(
                    "{publication:?} on {:?}: {:?}, and {}",
                    job.stage,
                    expected.as_ref().map(|next| &next.stage),
                    if matches!(commit, Commit::Applied(_)) { "written" } else { "not written" }
                ),
            }
        }
    }
    ensure!(applied >= OF_EACH && refused >= OF_EACH, "{applied} applied, {refused} refused");
    let absent = new_job("absent", 1, "op");
    let publication = Publication { published: true, ..publication(&mut choices) };
    let commit = writes.jobs.publish(&absent, &publication, &Kept::default(), &stamp("op")).await?;
    ensure!(matches!(commit, Commit::Absent) && writes.jobs.get(&absent.id).await?.is_none(), "made a job");
    Ok(())
}

/// Second locks: what no valid record is.
async fn a_record_that_is_no_draft_is_not_published(writes: Writes) -> anyhow::Result<()> {
    let mut choices = Choices(3);
    for number in 0..8 {
        let job = settled_with(&mut choices, number, |outcome| matches!(outcome, Outcome::Drawn { .. }));
        let published = matches!(&job.stage, Stage::Settled(settled) if is_draft(&settled.outcome));
        let now = choices.moment().minus(Duration::from_secs(10));
        let (version_seen, expires_at) = (job.version, choices.moment());
        let publication = Publication { published, version_seen, now, expires_at };
        let item = without(to_item(&job), "settled");
        let (op, nothing) = (stamp("op"), Kept::default());
        let publish = writes.jobs.publish(&job, &publication, &nothing, &op);
        // An answer that cannot be read is as good as a refusal.
        drop(changes_nothing(&writes, item, "a record that is not settled", Box::pin(publish)).await?);
    }
    Ok(())
}

/// An item beside a job's record, of no time yet.
fn beside(job: &Job, sort_key: &str, attributes: &[(&str, AttributeValue)]) -> Item {
    let key = [("pk", text(job.id.as_str())), ("sk", text(sort_key))];
    let all = key.iter().chain(attributes);
    all.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn metadata_of(job: &Job, submitted: Timestamp) -> Item {
    let (created_at, version) = (number(submitted.as_millis()), number(1));
    beside(job, "META", &[("metadata", text("{\"a\":1}")), ("ver", version), ("created_at", created_at)])
}

async fn what_lies_beside_a_record_is_kept_as_long(writes: Writes) -> anyhow::Result<()> {
    let mut choices = Choices(4);
    for (of_prompt, of_metadata) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut job = settled_with(&mut choices, 1 + u64::from(of_prompt), is_draft);
        job.order.prompt = job.order.prompt.filter(|_| !of_prompt);
        let (created_at, second) = (job.order.created_at, Duration::from_secs(1));
        let Stage::Settled(settled) = &job.stage else { bail!("not settled") };
        let (now, expires_at) = (settled.expires_at.minus(second), settled.expires_at.plus(second * 1_000));
        let publication = Publication { published: true, version_seen: job.version, now, expires_at };
        let prompt = beside(&job, "BODY", &[("prompt", text("x"))]);
        let own = metadata_of(&job, created_at);
        let earlier = metadata_of(&job, created_at.minus(second));
        put(&writes, &job).await?;
        for item in of_prompt.then_some(&prompt).into_iter().chain(of_metadata.then_some(&own)) {
            put_item(&writes, &writes.names.jobs, item.clone()).await?;
        }
        let kept = writes.jobs.beside(std::slice::from_ref(&job)).await?.remove(&job.id).unwrap_or_default();
        ensure!(kept.long_prompt.is_some() == of_prompt, "the prompt");
        ensure!((kept.metadata.version == 1) == of_metadata, "the metadata");

        // What was found has gone since, or is another's; what was not has come. Nothing is made of it, and nothing published.
        let no_prompt = of_prompt.then(|| ("BODY", [None, Some(beside(&job, "BODY", &[]))]));
        let metadata = if of_metadata { [None, Some(earlier.clone())] } else { [Some(own.clone()), None] };
        for (sort_key, changes) in no_prompt.into_iter().chain([("META", metadata)]) {
            let before = stored(&writes, job.id.as_str(), sort_key).await?;
            for change in changes.into_iter().filter(|change| *change != before) {
                set_beside(&writes, &job, sort_key, change.clone()).await?;
                let commit = writes.jobs.publish(&job, &publication, &kept, &stamp("a")).await?;
                let refused = matches!(commit, Commit::Refused(seen) if seen == job);
                ensure!(refused, "published beside another {sort_key}");
                ensure!(
                    stored(&writes, job.id.as_str(), sort_key).await? == change,
                    "{sort_key} was written"
                );
                ensure!(writes.jobs.get(&job.id).await? == Some(job.clone()), "the record was written");
            }
            set_beside(&writes, &job, sort_key, before).await?;
        }
        if !of_metadata {
            // Those of an earlier job of the same key are none.
            put_item(&writes, &writes.names.jobs, earlier.clone()).await?;
        }

        let commit = writes.jobs.publish(&job, &publication, &kept, &stamp("b")).await?;
        ensure!(matches!(commit, Commit::Applied(_)), "published with what is beside it");
        let until = number(publication.expires_at.as_seconds() + 86_400);
        let kept_until = |mut item: Item| {
            item.insert("ttl".to_owned(), until.clone());
            Some(item)
        };
        let expected = [
            ("BODY", if of_prompt { kept_until(prompt) } else { None }),
            ("META", if of_metadata { kept_until(own) } else { Some(earlier) }),
        ];
        for (sort_key, expected) in expected {
            let found = stored(&writes, job.id.as_str(), sort_key).await?;
            ensure!(found == expected, "{sort_key} is {found:?}");
            set_beside(&writes, &job, sort_key, None).await?;
        }
    }
    Ok(())
}

/// Puts an item beside a job's record, or takes away what is there.
async fn set_beside(writes: &Writes, job: &Job, sort_key: &str, item: Option<Item>) -> anyhow::Result<()> {
    let table = &writes.names.jobs;
    if let Some(item) = item {
        return put_item(writes, table, item).await;
    }
    let delete = writes.clients.dynamodb.delete_item().table_name(table);
    delete.key("pk", text(job.id.as_str())).key("sk", text(sort_key)).send().await?;
    Ok(())
}

async fn a_record_that_is_not_the_one_seen_is_not_deleted(writes: Writes) -> anyhow::Result<()> {
    let mut choices = Choices(5);
    for number in 0..8 {
        let job = settled_with(&mut choices, number, |_| true);
        let op = stamp("op");
        let delete = || writes.jobs.delete(&job, &op);
        // It is live: its tokens are held.
        let live = without(to_item(&job), "settled");
        drop(changes_nothing(&writes, live, "a live record", delete()).await?);
        // Another job of the same key has come since.
        let mut later = job.clone();
        later.order.created_at = job.order.created_at.plus(Duration::from_secs(1));
        let deleted = changes_nothing(&writes, to_item(&later), "another job", delete()).await??;
        ensure!(deleted == Deleted::Refused, "{deleted:?}");
    }
    let (live, absent) = (new_job("live", 1, "op"), settled_with(&mut choices, 99, |_| true));
    ensure!(writes.jobs.delete(&live, &stamp("op")).await? == Deleted::Refused, "a live job");
    ensure!(writes.jobs.delete(&absent, &stamp("op")).await? == Deleted::Absent, "no job");
    ensure!(writes.jobs.record(&absent.id).await?.is_none(), "a tombstone was made");
    Ok(())
}

async fn nothing_is_left_but_a_tombstone(writes: Writes) -> anyhow::Result<()> {
    let (mut choices, mut names) = (Choices(6), BTreeSet::new());
    for number in 0..60 {
        let mut job = settled_with(&mut choices, number, |_| true);
        job.order.conversation_id = darkroom_core::id::ConversationId::parse("c").ok();
        job.order.retry_of = Some(job.id.clone());
        names.extend(to_item(&job).into_keys());
        put(&writes, &job).await?;
        for item in [beside(&job, "BODY", &[("prompt", text("x"))]), metadata_of(&job, job.order.created_at)]
        {
            put_item(&writes, &writes.names.jobs, item).await?;
        }
        let left = tombstone(&job).map_err(anyhow::Error::new)?;
        for op in ["first", "again"] {
            let deleted = writes.jobs.delete(&job, &stamp(op)).await?;
            ensure!(deleted == Deleted::Done(left.clone()), "{deleted:?}");
        }
        ensure!(writes.jobs.record(&job.id).await? == Some(Record::Tombstone(left.clone())), "no tombstone");
        let item = stored(&writes, job.id.as_str(), "JOB").await?.expect("the tombstone is there");
        let image_key = left.image_key.is_some().then_some("image_key");
        let wanted: BTreeSet<_> = LEFT.into_iter().chain(image_key).collect();
        ensure!(item.keys().map(String::as_str).collect::<BTreeSet<_>>() == wanted, "{item:?}");
        ensure!(item["op"] == text("first") && item["ver"] == super::number(job.version + 1), "{item:?}");
        // A prompt that stood in the record had none beside it.
        let has_body = stored(&writes, job.id.as_str(), "BODY").await?.is_some();
        ensure!(has_body == job.order.prompt.is_some(), "the prompt beside the record");
        ensure!(stored(&writes, job.id.as_str(), "META").await?.is_none(), "metadata beside a tombstone");
    }
    for name in ["prompt", "result", "drawn_by", "error_detail", "conversation_id", "retry_of", "created_at"]
    {
        ensure!(names.contains(name), "no job had {name}");
    }
    Ok(())
}

async fn a_tombstone_forgets_the_picture_that_it_names(writes: Writes) -> anyhow::Result<()> {
    let mut choices = Choices(7);
    let job = settled_with(&mut choices, 1, is_draft);
    put(&writes, &job).await?;
    let Deleted::Done(left) = writes.jobs.delete(&job, &stamp("op")).await? else { bail!("not deleted") };
    let item = stored(&writes, job.id.as_str(), "JOB").await?.expect("the tombstone is there");
    let with = |name: &str, value: &str| {
        let mut item = item.clone();
        item.insert(name.to_owned(), text(value));
        item
    };
    let op = stamp("gone");
    let forget = || writes.jobs.image_is_gone(&left, &op);
    for (damaged, what) in [
        (with("image_key", "images/other"), "another picture's tombstone"),
        (with("status", "draft"), "no tombstone"),
        (without(item.clone(), "settled"), "a live record"),
    ] {
        drop(changes_nothing(&writes, damaged, what, forget()).await?);
    }
    put_item(&writes, &writes.names.jobs, item).await?;
    for _ in 0..2 {
        forget().await?;
        let gone = Tombstone { image_key: None, ..left.clone() };
        ensure!(writes.jobs.record(&job.id).await? == Some(Record::Tombstone(gone)), "it names a picture");
    }
    Ok(())
}

async fn a_tombstone_stays_until_it_expires(writes: Writes) -> anyhow::Result<()> {
    put_rich_balance(&writes).await?;
    let mut choices = Choices(8);
    let first = new_job("k", 3, "first");
    let expires_at = first.order.created_at.plus(Duration::from_secs(100));
    let settled =
        |outcome| Stage::Settled(Settled { finished_at: first.order.created_at, expires_at, outcome });
    let outcome = settled_with(&mut choices, 1, is_draft);
    let Stage::Settled(Settled { outcome, .. }) = outcome.stage else { bail!("not settled") };
    let job = Job { stage: settled(outcome), ..first.clone() };
    put(&writes, &job).await?;
    let Deleted::Done(left) = writes.jobs.delete(&job, &stamp("op")).await? else { bail!("not deleted") };
    let item = stored(&writes, job.id.as_str(), "JOB").await?.expect("the tombstone is there");
    // Whatever anybody still has in hand.
    for number in 0..300 {
        let seen = Job { id: job.id.clone(), user: job.user.clone(), ..choices.job(number) };
        let (command, op) = (choices.command(&seen), stamp(&format!("op{number}")));
        let commit = writes.jobs.commit(&seen, &command, &op, expires_at, SETTLE_PATIENCE);
        let commit = changes_nothing(&writes, item.clone(), "a tombstone", Box::pin(commit)).await??;
        ensure!(matches!(commit, Commit::Absent), "{command:?}");
    }
    let publication = Publication { published: true, ..publication(&mut choices) };
    let (op, nothing) = (stamp("p"), Kept::default());
    let publish = writes.jobs.publish(&job, &publication, &nothing, &op);
    let commit = changes_nothing(&writes, item.clone(), "a tombstone", Box::pin(publish)).await??;
    ensure!(matches!(commit, Commit::Absent), "published");
    ensure!(writes.jobs.get(&job.id).await?.is_none(), "it is no job");
    ensure!(writes.jobs.read_many(std::slice::from_ref(&job.id)).await?.is_empty(), "it is no job of many");
    let records = writes.jobs.scan().await?;
    ensure!(
        records.tombstones == [left.clone()] && records.jobs.is_empty() && records.unreadable.is_empty(),
        "the audit's scan tells it from a job"
    );
    // Its key makes no job before it expires, and one then.
    let again = |seconds| {
        let mut job = new_job("k", 3, "again");
        job.order.created_at = job.order.created_at.plus(Duration::from_secs(seconds));
        job
    };
    let Created::Deleted(found) = writes.jobs.create(again(99), None, 2_000_000).await? else {
        bail!("it was made again")
    };
    ensure!(found == left, "{found:?}");
    let made = writes.jobs.create(again(100), None, 2_000_000).await?;
    ensure!(matches!(made, Created::New(_)), "it was not made again");
    Ok(())
}
