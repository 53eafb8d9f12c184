//! Which jobs and batches there are, as the indexes of the jobs table list them: hints, read again before anything is decided.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use darkroom_core::id::{BatchId, JobId, ModelName, UserId};
use darkroom_core::job::{Job, Status};
use darkroom_core::limits::{INDEX_SHARDS, POSITION_ENTRIES_MAX};
use darkroom_core::position::Waiting;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, Reader, millis, number, text};
use crate::batch_get::BATCH_GET_MAX;
use crate::error::StoreError;
use crate::items::job::name;
use crate::job_table::{JobTable, item_id, readable};
use crate::keys::{Key, PK};

/// An index of live jobs in [`INDEX_SHARDS`] parts, each in the order of a time.
struct ShardedIndex {
    name: &'static str,
    /// The attribute with the time.
    order: &'static str,
}

const DUE: ShardedIndex = ShardedIndex { name: "due", order: name::DUE_AT };
const WAITING: ShardedIndex = ShardedIndex { name: "waiting", order: name::WAIT_AT };

/// Reads an entry of an index that is ordered by this attribute.
type ReadEntry<T> = fn(&Item, &'static str) -> Result<T, StoreError>;

/// A page of a list.
pub struct Page {
    /// The jobs, in the list's order.
    pub jobs: Vec<Job>,
    /// Where the next page starts: place and id of the last job read; `None` at the end.
    pub next: Option<(u64, JobId)>,
}

/// Which jobs a list shows, and in which order.
#[derive(Clone, Copy)]
pub enum Listed<'a> {
    /// A user's, newest first; a job's place is the millisecond of its submission.
    OfUser(&'a UserId),
    /// A batch's, by their lines; a job's place is its line's number.
    OfBatch(&'a BatchId),
}

impl Listed<'_> {
    /// The index, the attribute that names whose jobs, that of the order, and whether it rises.
    const fn index(self) -> (&'static str, &'static str, &'static str, bool) {
        match self {
            Self::OfUser(_) => ("by_user", name::USER, name::CREATED_AT, false),
            Self::OfBatch(_) => ("by_batch", name::BATCH, name::BATCH_LINE, true),
        }
    }

    fn whose(&self) -> &str {
        match self {
            Self::OfUser(user) => user.as_str(),
            Self::OfBatch(batch) => batch.as_str(),
        }
    }

    /// A job's key in the index.
    fn entry(self, place: u64, id: &JobId) -> Item {
        let (_, whose, order, _) = self.index();
        let mut key = Key::Job(id).attributes();
        key.insert(whose.to_owned(), text(self.whose()));
        key.insert(order.to_owned(), number(place));
        key
    }
}

/// What is due, oldest first, as the index lists it: a hint, to be read again.
#[derive(Default)]
pub struct DueRecords {
    /// Jobs.
    pub jobs: Vec<JobId>,
    /// Batches.
    pub batches: Vec<BatchId>,
    /// Whether that was all.
    pub complete: bool,
}

/// What an entry of the due index is of. The ids' prefixes tell.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum DueId {
    Job(JobId),
    Batch(BatchId),
}

/// Entries of one shard of the due index that one look of the sweeper reads.
const DUE_PER_SHARD: i32 = 100;
/// Records that one page of a filtered list reads at most.
const LIST_READ_MAX: usize = 500;

impl JobTable {
    /// What is due until `until`.
    pub async fn due(&self, until: Timestamp) -> Result<DueRecords, StoreError> {
        let (mut entries, mut due) = (Vec::new(), DueRecords { complete: true, ..DueRecords::default() });
        for (shard, truncated) in self.shards(&DUE, Some(until), DUE_PER_SHARD, due_entry).await? {
            due.complete &= !truncated;
            entries.extend(shard.into_iter().flatten());
        }
        entries.sort_unstable();
        for (_, id) in entries {
            match id {
                DueId::Job(id) => due.jobs.push(id),
                DueId::Batch(id) => due.batches.push(id),
            }
        }
        Ok(due)
    }

    /// The oldest waiting jobs with their models, up to [`POSITION_ENTRIES_MAX`], in order; `complete` tells whether that
    /// was all. Costs the same however long the queue is.
    pub async fn waiting(&self) -> Result<(Vec<(Waiting, ModelName)>, bool), StoreError> {
        let shards = self.shards(&WAITING, None, queue_per_shard(), waiting_entry).await?;
        // From the last entry of a shard that was cut on, entries have unseen neighbours: also in that very millisecond, within
        // which the index has no order.
        let known_before = shards
            .iter()
            .filter(|(_, truncated)| *truncated)
            .filter_map(|(shard, _)| shard.last().map(|(wait, _)| wait.wait_at))
            .min();
        let complete = known_before.is_none();
        let mut entries: Vec<_> = shards.into_iter().flat_map(|(shard, _)| shard).collect();
        if let Some(known_before) = known_before {
            entries.retain(|(wait, _)| wait.wait_at < known_before);
        }
        entries.sort_unstable();
        Ok((entries, complete))
    }

    /// The models of the jobs that are being drawn, each as often as one is, among the [`POSITION_ENTRIES_MAX`] live jobs
    /// that are due first and until `until`; `complete` tells whether that was all. Costs the same however many live.
    pub async fn processing(&self, until: Timestamp) -> Result<(Vec<ModelName>, bool), StoreError> {
        let (mut models, mut complete) = (Vec::new(), true);
        for (shard, truncated) in self.shards(&DUE, Some(until), queue_per_shard(), live_entry).await? {
            complete &= !truncated;
            models.extend(
                shard.into_iter().flatten().filter(|(is_drawn, _)| *is_drawn).map(|(_, model)| model),
            );
        }
        Ok((models, complete))
    }

    /// Every job with an entry in the due index, however many: for the operator's sweep by age and audit. One that
    /// cannot be read is logged and left out.
    pub async fn all_live(&self) -> Result<Vec<Job>, StoreError> {
        let mut ids = Vec::new();
        for shard in 0..INDEX_SHARDS {
            let mut start = None;
            loop {
                let (entries, next) =
                    self.shard_page(&DUE, shard, None, DUE_PER_SHARD, start, due_entry).await?;
                ids.extend(entries.into_iter().flatten().filter_map(|(_, id)| match id {
                    DueId::Job(id) => Some(id),
                    DueId::Batch(_) => None,
                }));
                start = next;
                if start.is_none() {
                    break;
                }
            }
        }
        self.read_many(&ids).await
    }

    /// A user's newest jobs, at most so many, newest first.
    pub async fn newest(&self, user: &UserId, limit: usize) -> Result<Vec<Job>, StoreError> {
        let (entries, _) = self.list_page(Listed::OfUser(user), None, limit).await?;
        let ids: Vec<_> = entries.into_iter().map(|(_, id)| id).collect();
        let mut jobs = self.read_many(&ids).await?;
        // The index is a hint.
        jobs.retain(|job| job.user == *user);
        Ok(jobs)
    }

    /// The listed jobs that `wanted` accepts, in their order, from after `after`. Reads at most 500 records; a page can
    /// be short, or empty, and still have a next. A record that cannot be read is logged and left out.
    pub async fn list(
        &self,
        listed: Listed<'_>,
        after: Option<(u64, JobId)>,
        limit: usize,
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<Page, StoreError> {
        let mut start = after.as_ref().map(|(place, id)| listed.entry(*place, id));
        let (mut jobs, mut cursor, mut read_so_far) = (Vec::new(), after, 0);
        let page = limit.saturating_mul(2).min(BATCH_GET_MAX);
        loop {
            let (ids, next) = self.list_page(listed, start, page).await?;
            read_so_far += page;
            let records = self.read_many(&ids.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>()).await?;
            let mut by_id: HashMap<_, _> = records.into_iter().map(|job| (job.id.clone(), job)).collect();
            for (place, id) in ids {
                cursor = Some((place, id.clone()));
                jobs.extend(by_id.remove(&id).filter(|job| wanted(job)));
                if jobs.len() >= limit {
                    return Ok(Page { jobs, next: cursor });
                }
            }
            if next.is_none() {
                return Ok(Page { jobs, next: None });
            }
            if read_so_far >= LIST_READ_MAX {
                return Ok(Page { jobs, next: cursor });
            }
            start = next;
        }
    }

    /// A page of a list's index entries, and where the next one starts.
    async fn list_page(
        &self,
        listed: Listed<'_>,
        start: Option<Item>,
        limit: usize,
    ) -> Result<(Vec<(u64, JobId)>, Option<Item>), StoreError> {
        let (_, _, order, _) = listed.index();
        let answer = self
            .list_query(listed)
            .set_exclusive_start_key(start)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query list", error))?;
        let ids = answer.items().iter().filter_map(|item| readable(list_entry(item, order))).collect();
        Ok((ids, answer.last_evaluated_key))
    }

    /// Whose jobs, in their order.
    pub(crate) fn list_query(&self, listed: Listed<'_>) -> QueryFluentBuilder {
        let (index, whose, _, is_rising) = listed.index();
        self.client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .key_condition_expression("#whose = :whose")
            .expression_attribute_names("#whose", whose)
            .expression_attribute_values(":whose", text(listed.whose()))
            .scan_index_forward(is_rising)
    }

    /// The first entries of every shard of a sharded index, each as `read` reads it, and whether the shard was cut.
    async fn shards<T: Send + 'static>(
        &self,
        index: &'static ShardedIndex,
        until: Option<Timestamp>,
        limit: i32,
        read: ReadEntry<T>,
    ) -> Result<Vec<(Vec<T>, bool)>, StoreError> {
        let mut reads = tokio::task::JoinSet::new();
        for shard in 0..INDEX_SHARDS {
            let table = self.clone();
            reads.spawn(async move {
                let (entries, next) = table.shard_page(index, shard, until, limit, None, read).await?;
                Ok::<_, StoreError>((entries, next.is_some()))
            });
        }
        reads.join_all().await.into_iter().collect()
    }

    async fn shard_page<T>(
        &self,
        index: &ShardedIndex,
        shard: u64,
        until: Option<Timestamp>,
        limit: i32,
        start: Option<Item>,
        read: ReadEntry<T>,
    ) -> Result<(Vec<T>, Option<Item>), StoreError> {
        let until = until.unwrap_or(Timestamp::from_millis(u64::MAX));
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index.name)
            .key_condition_expression("#shard = :shard AND #order <= :until")
            .expression_attribute_names("#shard", name::SHARD)
            .expression_attribute_names("#order", index.order)
            .expression_attribute_values(":shard", text(shard.to_string()))
            .expression_attribute_values(":until", millis(until))
            .set_exclusive_start_key(start)
            .limit(limit)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query index", error))?;
        let entries = answer.items().iter().filter_map(|item| readable(read(item, index.order))).collect();
        Ok((entries, answer.last_evaluated_key))
    }
}

/// Entries of one shard that one look at the queue reads.
fn queue_per_shard() -> i32 {
    i32::try_from(POSITION_ENTRIES_MAX as u64 / INDEX_SHARDS).unwrap_or(100)
}

/// An entry of the due index: when, and what. `None` of a kind of record that this release does not know.
fn due_entry(item: &Item, order: &'static str) -> Result<Option<(Timestamp, DueId)>, StoreError> {
    let unreadable = |problem| StoreError::unreadable(item, &problem);
    let time = Reader(item).time(order).map_err(unreadable)?;
    let id = match kind(item) {
        Some(Kind::Job) => DueId::Job(item_id(item)?),
        Some(Kind::Batch) => {
            DueId::Batch(Reader(item).parsed(PK, |text| BatchId::parse(text).ok()).map_err(unreadable)?)
        }
        None => return Ok(None),
    };
    Ok(Some((time, id)))
}

/// What a record is of.
enum Kind {
    Job,
    Batch,
}

fn kind(item: &Item) -> Option<Kind> {
    match Reader(item).text(PK).ok()?.split_once('_')?.0 {
        "job" => Some(Kind::Job),
        "bat" => Some(Kind::Batch),
        _ => None,
    }
}

/// An entry of a list: the job's place and id.
fn list_entry(item: &Item, order: &'static str) -> Result<(u64, JobId), StoreError> {
    let place = Reader(item).number(order).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok((place, item_id(item)?))
}

/// An index entry: the time that it is ordered by, and the job's id.
fn index_entry(item: &Item, order: &'static str) -> Result<(Timestamp, JobId), StoreError> {
    let time = Reader(item).time(order).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok((time, item_id(item)?))
}

/// An entry of the index `waiting`.
fn waiting_entry(item: &Item, order: &'static str) -> Result<(Waiting, ModelName), StoreError> {
    let (wait_at, job_id) = index_entry(item, order)?;
    Ok((Waiting { wait_at, job_id }, item_model(item)?))
}

/// An entry of the index `due`: whether the job is being drawn, and by which model; `None` of what is no job.
fn live_entry(item: &Item, _: &'static str) -> Result<Option<(bool, ModelName)>, StoreError> {
    if !matches!(kind(item), Some(Kind::Job)) {
        return Ok(None);
    }
    let status = Reader(item).text(name::STATUS).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok(Some((status == Status::Processing.as_str(), item_model(item)?)))
}

fn item_model(item: &Item) -> Result<ModelName, StoreError> {
    let model = Reader(item).parsed(name::MODEL, |text| ModelName::parse(text).ok());
    model.map_err(|problem| StoreError::unreadable(item, &problem))
}
