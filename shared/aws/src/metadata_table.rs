//! What is kept beside a job's record: a long prompt, and metadata, which have a version of their own.
//!
//! Metadata belong to one submission. Those of an earlier job of the same key are none, and the next write replaces them.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::TransactWriteItem;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use darkroom_core::id::JobId;
use darkroom_core::job::{Job, Record};
use darkroom_core::metadata::{JobMetadata, Metadata, MetadataPatch};
use darkroom_core::request::{Prompt, Violation};
use darkroom_core::retry::Patience;
use darkroom_core::settled::beside_expires_at;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, Reader, millis, number, text};
use crate::error::{StoreError, is_conflict};
use crate::expression::Expression;
use crate::items::job::name;
use crate::items::metadata::{METADATA, attributes, from_item, to_item};
use crate::job_table::{JobTable, item_id, prompt, read, readable};
use crate::keys::{Key, SK};
use crate::transaction::{self, Outcome, Refusal};
use crate::tries::Tries;

/// What is kept beside a new job's record until its time.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// A prompt too long for the record.
    pub long_prompt: Option<&'a Prompt>,
    /// Metadata, when there are any.
    pub metadata: Option<&'a Metadata>,
    /// When it may be deleted.
    pub expires_at: Timestamp,
}

/// What was found beside a job's record.
#[derive(Clone, Default)]
pub struct Kept {
    /// The prompt, when it is too long for the record.
    pub long_prompt: Option<Prompt>,
    /// The metadata, empty when there are none.
    pub metadata: JobMetadata,
}

impl Kept {
    /// The writes that have this kept until then. They name what it was found to be: what has come or gone since has them refused.
    pub(crate) fn keep_until(
        &self,
        table: &str,
        job: &Job,
        until: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let kept = || Expression::default().set(name::TTL, number(until.as_seconds()));
        let (metadata, created_at) = (Key::Metadata(&job.id).attributes(), millis(job.order.created_at));
        let mut writes = vec![match self.metadata.version {
            0 => {
                let none = Expression::default().require_absent_or(name::CREATED_AT, "<", created_at);
                transaction::check(table, metadata, none)?
            }
            _ => transaction::update(table, metadata, kept().require(name::CREATED_AT, "=", created_at))?,
        }];
        if self.long_prompt.is_some() {
            let body = kept().require_present(name::PROMPT);
            writes.push(transaction::update(table, Key::Body(&job.id).attributes(), body)?);
        }
        Ok(writes)
    }
}

/// What a patch came to.
#[derive(Clone)]
pub enum Patched {
    /// The metadata as they are now, with the patch in them.
    Applied(JobMetadata),
    /// Merged, they would be too long; nothing was written.
    Refused(Violation),
    /// There is no such job any more; nothing was written.
    Absent,
}

/// What one try of a patch came to.
enum Try {
    Written,
    /// Another was written since; the metadata as they are now.
    Overtaken(JobMetadata),
    /// The record is kept longer since, than what was to be made beside it; the job as it is now.
    Published(Box<Job>),
    /// Another is being written at this moment.
    Conflict,
    Absent,
}

impl Beside<'_> {
    /// The puts beside a new record's own. Its condition, in the same transaction, guards them too: what an expired record
    /// left, whose key is used again, is replaced.
    pub(crate) fn puts(&self, table: &str, job: &Job) -> Result<Vec<TransactWriteItem>, StoreError> {
        let body = self.long_prompt.map(|prompt| {
            let mut body = Key::Body(&job.id).attributes();
            body.insert(name::PROMPT.to_owned(), text(prompt.reveal()));
            body.insert(name::TTL.to_owned(), number(self.expires_at.as_seconds()));
            body
        });
        let metadata = self.metadata.map(|metadata| to_item(job, metadata, self.expires_at));
        body.into_iter().chain(metadata).map(|item| transaction::put(table, item)).collect()
    }
}

impl JobTable {
    /// A job's metadata, strongly consistent.
    pub async fn metadata(&self, job: &Job) -> Result<JobMetadata, StoreError> {
        self.get_item(Key::Metadata(&job.id)).await?.map_or(Ok(JobMetadata::default()), |item| of(job, &item))
    }

    /// The job and its metadata, in one strongly consistent call; `None` also when it was deleted.
    pub async fn get_with_metadata(&self, id: &JobId) -> Result<Option<(Job, JobMetadata)>, StoreError> {
        let keys = vec![Key::Job(id).attributes(), Key::Metadata(id).attributes()];
        let (records, beside): (Vec<_>, Vec<_>) =
            self.batch_get(keys).await?.into_iter().partition(|item| has_sort_key(item, "JOB"));
        let record = records.first().map(read).transpose()?;
        let Some(job) = record.and_then(Record::job) else { return Ok(None) };
        let metadata = beside.first().map(|item| of(&job, item)).transpose()?.unwrap_or_default();
        Ok(Some((job, metadata)))
    }

    /// What is kept beside these records, in one call for each fifty. What cannot be read is logged and left out.
    pub async fn beside(&self, jobs: &[Job]) -> Result<HashMap<JobId, Kept>, StoreError> {
        // Each once, and in one order: a run of the simulation is repeated to the last call.
        let by_id: BTreeMap<_, _> = jobs.iter().map(|job| (&job.id, job)).collect();
        let keys = by_id.values().flat_map(|job| keys_beside(job));
        let mut kept: HashMap<JobId, Kept> = HashMap::new();
        for item in self.batch_get(keys.collect()).await? {
            let Some(id) = readable(item_id(&item)) else { continue };
            let Some(job) = by_id.get(&id) else { continue };
            let kept = kept.entry(id).or_default();
            if has_sort_key(&item, "BODY") {
                kept.long_prompt = readable(prompt(&item));
            } else {
                kept.metadata = readable(of(job, &item)).unwrap_or_default();
            }
        }
        Ok(kept)
    }

    /// Merges a patch into a job's metadata, which were `seen` so. Patches at once are all kept: a write names the version that
    /// it was merged into, a refused one brings what is there instead, and is merged into that. The first metadata of a job
    /// are made only if it is there `now`, and are kept longer than its record: `ttl_days` are those of a settled one.
    ///
    /// No stamp tells an earlier try's success whose answer was lost: merged again, the patch changes nothing, or comes to what
    /// it would have come to behind the one that has overtaken it.
    ///
    /// # Errors
    /// [`StoreError::Throttled`] when others overtake it for too long.
    pub async fn patch_metadata(
        &self,
        job: &Job,
        mut seen: JobMetadata,
        patch: &MetadataPatch,
        ttl_days: u64,
        now: Timestamp,
    ) -> Result<Patched, StoreError> {
        let (mut job, mut tries) = (job.clone(), Tries::new(Patience::Race));
        loop {
            let next = match seen.value.merged(patch) {
                Ok(next) if next == seen.value => return Ok(Patched::Applied(seen)),
                Ok(next) => next,
                Err(violation) => return Ok(Patched::Refused(violation)),
            };
            let written = if seen.version == 0 {
                self.make_metadata(&job, &next, beside_expires_at(&job, ttl_days), now, &mut tries).await?
            } else {
                self.change_metadata(&job, seen.version, &next, &mut tries).await?
            };
            match written {
                Try::Written => {
                    return Ok(Patched::Applied(JobMetadata { version: seen.version + 1, value: next }));
                }
                Try::Overtaken(now) => seen = now,
                Try::Published(now) => job = *now,
                Try::Conflict => {}
                Try::Absent => return Ok(Patched::Absent),
            }
            if !tries.pause().await {
                return Err(StoreError::Throttled { store: "DynamoDB", operation: "UpdateItem metadata" });
            }
        }
    }

    /// The first metadata of this very submission, if its record is there, has not expired, expires before them, and has none.
    async fn make_metadata(
        &self,
        job: &Job,
        next: &Metadata,
        expires_at: Timestamp,
        now: Timestamp,
        tries: &mut Tries,
    ) -> Result<Try, StoreError> {
        let created_at = millis(job.order.created_at);
        let record = Expression::default()
            .require(name::CREATED_AT, "=", created_at.clone())
            .require_absent_or(name::TTL, ">", number(now.as_seconds()))
            .require_absent_or(name::TTL, "<", number(expires_at.as_seconds()));
        let made = attributes(job, next, expires_at)
            .into_iter()
            .fold(Expression::default(), |write, (name, value)| write.set(name, value))
            .require_absent_or(name::CREATED_AT, "<", created_at);
        let actions = vec![
            transaction::check(&self.table, Key::Job(&job.id).attributes(), record)?,
            transaction::update(&self.table, Key::Metadata(&job.id).attributes(), made)?,
        ];
        let refusals =
            match transaction::write_in(&self.client, "TransactWriteItems metadata", actions, tries).await? {
                Outcome::Applied => return Ok(Try::Written),
                Outcome::Refused(refusals) => refusals,
            };
        if let Some(Refusal { failed: true, item }) = refusals.first() {
            let record = item.as_ref().map(read).transpose()?.and_then(Record::job);
            let same = record.filter(|now| now.order.created_at == job.order.created_at);
            return Ok(match same.filter(|job| !job.is_expired(now)) {
                Some(job) => Try::Published(Box::new(job)),
                None => Try::Absent,
            });
        }
        overtaken(job, refusals.get(1).and_then(|refusal| refusal.item.as_ref()))
    }

    /// Other metadata of this very submission, if they are of this version.
    async fn change_metadata(
        &self,
        job: &Job,
        version: u64,
        next: &Metadata,
        tries: &mut Tries,
    ) -> Result<Try, StoreError> {
        let write = Expression::default()
            .set(METADATA, text(next.text()))
            .add(name::VERSION, 1)
            .require(name::VERSION, "=", number(version))
            .require(name::CREATED_AT, "=", millis(job.order.created_at));
        let key = Key::Metadata(&job.id).attributes();
        let call = write.update_item(&self.client, &self.table, key).send();
        match tries.send(Box::pin(call)).await {
            Ok(_) => Ok(Try::Written),
            Err(error) if error.code().is_some_and(is_conflict) => Ok(Try::Conflict),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    overtaken(job, refused.item())
                }
                _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem metadata", error)),
            },
        }
    }
}

/// Where something may be kept beside a job's record.
pub(crate) fn keys_beside(job: &Job) -> impl Iterator<Item = Item> {
    let body = job.order.prompt.is_none().then_some(Key::Body(&job.id));
    [Some(Key::Metadata(&job.id)), body].into_iter().flatten().map(Key::attributes)
}

/// What is there in the place of what was seen. Nothing, or another submission's: the next try asks for the record.
fn overtaken(job: &Job, item: Option<&Item>) -> Result<Try, StoreError> {
    item.map_or(Ok(JobMetadata::default()), |item| of(job, item)).map(Try::Overtaken)
}

/// The metadata of an item as they concern this job: another submission's are none of its own.
fn of(job: &Job, item: &Item) -> Result<JobMetadata, StoreError> {
    let (created_at, metadata) = from_item(item).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok(if created_at == job.order.created_at { metadata } else { JobMetadata::default() })
}

fn has_sort_key(item: &Item, sort_key: &str) -> bool {
    Reader(item).text(SK) == Ok(sort_key)
}
