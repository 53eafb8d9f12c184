//! The jobs table: the record is the truth, and also the outbox that the sweeper works off.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure};
use darkroom_core::id::{JobId, Stamp, UserId};
use darkroom_core::job::Job;
use darkroom_core::ledger::{LedgerError, Tokens};
use darkroom_core::lifecycle::{Command, apply};
use darkroom_core::limits::{INDEX_SHARDS, POSITION_ENTRIES_MAX};
use darkroom_core::position::Waiting;
use darkroom_core::request::Prompt;
use darkroom_core::retry::CONFLICT_TRIES_MAX;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, Reader, millis, number, text};
use crate::error::StoreError;
use crate::items::job::{from_item, name, to_item};
use crate::job_write::job_write;
use crate::keys::{Key, PK, SK, readable_key};
use crate::ledger_table::LedgerTable;
use crate::transaction::{self, Outcome};

/// The jobs, and the ledger that their transactions also write.
#[derive(Clone, Debug)]
pub struct JobTable {
    client: Client,
    table: String,
    ledger: LedgerTable,
}

/// What a conditional write came to.
#[derive(Clone)]
pub enum Commit {
    /// It was written, now or by an earlier try of the same write; the record as it is now.
    Applied(Job),
    /// The condition did not hold; the record as it was.
    Refused(Job),
    /// There is no such job.
    Absent,
}

/// What a submission came to.
#[derive(Clone)]
pub enum Created {
    /// The job was made by this submission.
    New(Job),
    /// This user and key have a job already. Whether the requests agree is the caller's question.
    Existing(Job),
    /// The balance refuses; nothing was written.
    Refused(LedgerError),
}

/// A page of a list.
pub struct Page {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// Where the next page starts: created_at and id of the last job read; `None` at the end.
    pub next: Option<(Timestamp, JobId)>,
}

/// Entries of one shard of the due index that one look reads.
const DUE_PER_SHARD: i32 = 100;
/// Keys of one BatchGetItem (DynamoDB's limit).
const BATCH_GET_MAX: usize = 100;
/// Records that one page of a filtered list reads at most.
const LIST_READ_MAX: usize = 500;

impl JobTable {
    /// The table of this name, beside its ledger.
    pub const fn new(client: Client, table: String, ledger: LedgerTable) -> Self {
        Self { client, table, ledger }
    }

    /// Makes the job once and sets its price aside, in one transaction; `long_prompt` is kept beside the record
    /// until `long_prompt_expires_at`. Idempotent: the same job again is [`Created::Existing`].
    pub async fn create(
        &self,
        job: Job,
        long_prompt: Option<(&Prompt, Timestamp)>,
        inflight_max: u64,
    ) -> Result<Created, StoreError> {
        let cost: Tokens = job.order.cost;
        let mut actions = vec![
            transaction::put_if_absent(&self.table, to_item(&job))?,
            self.ledger.hold(&job.user, cost, inflight_max)?,
        ];
        if let Some((prompt, expires_at)) = long_prompt {
            let mut body = Key::Body(&job.id).attributes();
            body.insert(name::PROMPT.to_owned(), text(prompt.reveal()));
            body.insert(name::TTL.to_owned(), number(expires_at.as_seconds()));
            // The record's absence, in this transaction, guards it too. A prompt that outlived the record of a key
            // that is used again is replaced.
            actions.push(transaction::put(&self.table, body)?);
        }
        let refusals = match transaction::write(&self.client, "TransactWriteItems submit", actions).await? {
            Outcome::Applied => return Ok(Created::New(job)),
            Outcome::Refused(refusals) => refusals,
        };
        if let Some(item) = refusals.first().and_then(|refusal| refusal.item.as_ref()) {
            let existing = read(item)?;
            // Our own stamp on a job nobody else can have made: the answer to our first try was lost.
            return Ok(if existing.op == job.op {
                Created::New(existing)
            } else {
                Created::Existing(existing)
            });
        }
        let balance = refusals.get(1).and_then(|refusal| refusal.item.as_ref());
        LedgerTable::hold_refusal(balance, cost, inflight_max).map(Created::Refused)
    }

    /// Applies a command. One that settles also ends the hold and writes the ledger's entry, all or nothing.
    /// Idempotent by `op`, which must be fresh for each command.
    pub async fn commit(
        &self,
        job: &Job,
        command: &Command,
        op: &Stamp,
        now: Timestamp,
    ) -> Result<Commit, StoreError> {
        match command.settlement() {
            None => self.update(&job.id, command, op).await,
            Some(_) => self.settle(job, command, op, now).await,
        }
    }

    /// Applies a command that leaves the tokens held, to a job known by its id alone.
    pub async fn update(&self, id: &JobId, command: &Command, op: &Stamp) -> Result<Commit, StoreError> {
        let write = job_write(command, op);
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::Job(id).attributes()))
            .update_expression(write.update())
            .condition_expression(write.condition())
            .set_expression_attribute_names(Some(write.names))
            .set_expression_attribute_values(Some(write.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(answer) => {
                answer.attributes.as_ref().map_or(Ok(Commit::Absent), |item| read(item).map(Commit::Applied))
            }
            Err(error) => refused_or(command, op, error),
        }
    }

    async fn settle(
        &self,
        job: &Job,
        command: &Command,
        op: &Stamp,
        now: Timestamp,
    ) -> Result<Commit, StoreError> {
        let Some(settlement) = command.settlement() else { return self.update(&job.id, command, op).await };
        let record =
            transaction::update(&self.table, Key::Job(&job.id).attributes(), job_write(command, op))?;
        let [balance, entry] = self.ledger.settle(job, settlement, now, op)?;
        let outcome =
            transaction::write(&self.client, "TransactWriteItems settle", vec![record, balance, entry])
                .await?;
        let refusals = match outcome {
            // What was read before may be behind in progress alone; the settled record does not show it.
            Outcome::Applied => {
                return Ok(Commit::Applied(apply(job, command, op.clone()).unwrap_or_else(|_| job.clone())));
            }
            Outcome::Refused(refusals) => refusals,
        };
        if let Some(record) = refusals.first().filter(|refusal| refusal.failed) {
            return record
                .item
                .as_ref()
                .map_or(Ok(Commit::Absent), |item| read(item).map(|job| own_or_refused(command, op, job)));
        }
        Err(StoreError::Books {
            job: job.id.to_string(),
            problem: "it is unsettled, but the balance holds too little or a settle entry is there"
                .to_owned(),
        })
    }

    /// The record, strongly consistent.
    pub async fn get(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.get_item(Key::Job(id)).await?.as_ref().map(read).transpose()
    }

    /// A prompt that is kept beside the record.
    pub async fn long_prompt(&self, id: &JobId) -> Result<Option<Prompt>, StoreError> {
        let Some(item) = self.get_item(Key::Body(id)).await? else { return Ok(None) };
        prompt(&item).map(Some)
    }

    /// The prompts that are kept beside these records.
    pub async fn long_prompts(&self, ids: &[&JobId]) -> Result<HashMap<JobId, Prompt>, StoreError> {
        let keys = ids.iter().map(|id| Key::Body(id).attributes()).collect();
        let items = self.batch_get(keys).await?;
        items.iter().map(|item| Ok((item_id(item)?, prompt(item)?))).collect()
    }

    /// Ids of jobs due until `until`, oldest first, as the index lists them: a hint, to be read again.
    /// `complete` tells whether that was all.
    pub async fn due(&self, until: Timestamp) -> Result<(Vec<JobId>, bool), StoreError> {
        let (mut entries, mut complete) = (Vec::new(), true);
        for (shard, truncated) in self.shards("due", name::DUE_AT, Some(until), DUE_PER_SHARD).await? {
            complete &= !truncated;
            entries.extend(shard);
        }
        entries.sort_unstable();
        Ok((entries.into_iter().map(|entry| entry.job_id).collect(), complete))
    }

    /// The oldest waiting jobs, up to [`POSITION_ENTRIES_MAX`], in order; `complete` tells whether that was all.
    /// Costs the same however long the queue is.
    pub async fn waiting(&self) -> Result<(Vec<Waiting>, bool), StoreError> {
        let per_shard = i32::try_from(POSITION_ENTRIES_MAX as u64 / INDEX_SHARDS).unwrap_or(100);
        let shards = self.shards("waiting", name::WAIT_AT, None, per_shard).await?;
        // Beyond the last entry of a shard that was cut, other shards' entries have unseen neighbours.
        let known_until = shards
            .iter()
            .filter(|(_, truncated)| *truncated)
            .filter_map(|(shard, _)| shard.last().cloned())
            .min();
        let complete = known_until.is_none();
        let mut entries: Vec<_> = shards.into_iter().flat_map(|(shard, _)| shard).collect();
        if let Some(known_until) = known_until {
            entries.retain(|entry| *entry <= known_until);
        }
        entries.sort_unstable();
        Ok((entries, complete))
    }

    /// Every due-index entry of every shard, however many: for the operator's sweep by age and audit.
    pub async fn all_live(&self) -> Result<Vec<Job>, StoreError> {
        let mut ids = Vec::new();
        for shard in 0..INDEX_SHARDS {
            let mut start = None;
            loop {
                let (entries, next) =
                    self.shard_page("due", name::DUE_AT, shard, None, DUE_PER_SHARD, start).await?;
                ids.extend(entries.into_iter().map(|entry| entry.job_id));
                start = next;
                if start.is_none() {
                    break;
                }
            }
        }
        self.read_many(&ids).await
    }

    /// Every record of the table: for the operator's audit.
    pub async fn scan(&self) -> Result<Vec<Job>, StoreError> {
        let (mut jobs, mut start) = (Vec::new(), None);
        loop {
            let answer = self
                .client
                .scan()
                .table_name(&self.table)
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("DynamoDB", "Scan jobs", error))?;
            for item in answer.items().iter().filter(|item| Reader(item).text(SK) == Ok("JOB")) {
                jobs.push(read(item)?);
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok(jobs);
            }
        }
    }

    /// The records of these ids, strongly consistent, in the order asked; absent ones are left out.
    pub async fn read_many(&self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        let keys = ids.iter().map(|id| Key::Job(id).attributes()).collect();
        let mut found: HashMap<JobId, Job> = HashMap::new();
        for item in self.batch_get(keys).await? {
            let job = read(&item)?;
            found.insert(job.id.clone(), job);
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// A user's jobs that `wanted` accepts, newest first, from after `after`. Reads at most 500 records; a page can
    /// be short, or empty, and still have a next.
    pub async fn list(
        &self,
        user: &UserId,
        after: Option<(Timestamp, JobId)>,
        limit: usize,
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<Page, StoreError> {
        let (mut jobs, mut cursor, mut read_so_far) = (Vec::new(), after, 0);
        loop {
            let page = limit.saturating_mul(2).min(BATCH_GET_MAX);
            let (ids, more) = self.user_page(user, cursor.as_ref(), page).await?;
            read_so_far += ids.len();
            let records = self.read_many(&ids.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>()).await?;
            let mut by_id: HashMap<_, _> = records.into_iter().map(|job| (job.id.clone(), job)).collect();
            for (created_at, id) in ids {
                cursor = Some((created_at, id.clone()));
                jobs.extend(by_id.remove(&id).filter(|job| wanted(job)));
                if jobs.len() >= limit {
                    return Ok(Page { jobs, next: cursor });
                }
            }
            if !more {
                return Ok(Page { jobs, next: None });
            }
            if read_so_far >= LIST_READ_MAX {
                return Ok(Page { jobs, next: cursor });
            }
        }
    }

    async fn user_page(
        &self,
        user: &UserId,
        after: Option<&(Timestamp, JobId)>,
        limit: usize,
    ) -> Result<(Vec<(Timestamp, JobId)>, bool), StoreError> {
        let start = after.map(|(created_at, id)| {
            let mut key = Key::Job(id).attributes();
            key.insert(name::USER.to_owned(), text(user.as_str()));
            key.insert(name::CREATED_AT.to_owned(), millis(*created_at));
            key
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by_user")
            .key_condition_expression("#user = :user")
            .expression_attribute_names("#user", name::USER)
            .expression_attribute_values(":user", text(user.as_str()))
            .scan_index_forward(false)
            .set_exclusive_start_key(start)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query by_user", error))?;
        let ids = answer
            .items()
            .iter()
            .map(|item| Ok((time(item, name::CREATED_AT)?, item_id(item)?)))
            .collect::<Result<_, StoreError>>()?;
        Ok((ids, answer.last_evaluated_key().is_some()))
    }

    /// The first entries of every shard of a sharded index, and whether each was cut.
    async fn shards(
        &self,
        index: &str,
        order: &'static str,
        until: Option<Timestamp>,
        limit: i32,
    ) -> Result<Vec<(Vec<Waiting>, bool)>, StoreError> {
        let mut reads = tokio::task::JoinSet::new();
        for shard in 0..INDEX_SHARDS {
            let (table, index) = (self.clone(), index.to_owned());
            reads.spawn(async move {
                let (entries, next) = table.shard_page(&index, order, shard, until, limit, None).await?;
                Ok::<_, StoreError>((entries, next.is_some()))
            });
        }
        reads.join_all().await.into_iter().collect()
    }

    async fn shard_page(
        &self,
        index: &str,
        order: &'static str,
        shard: u64,
        until: Option<Timestamp>,
        limit: i32,
        start: Option<Item>,
    ) -> Result<(Vec<Waiting>, Option<Item>), StoreError> {
        let until = until.unwrap_or(Timestamp::from_millis(u64::MAX));
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .key_condition_expression("#shard = :shard AND #order <= :until")
            .expression_attribute_names("#shard", name::SHARD)
            .expression_attribute_names("#order", order)
            .expression_attribute_values(":shard", text(shard.to_string()))
            .expression_attribute_values(":until", millis(until))
            .set_exclusive_start_key(start)
            .limit(limit)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query index", error))?;
        let entries = answer
            .items()
            .iter()
            .map(|item| Ok(Waiting { wait_at: time(item, order)?, job_id: item_id(item)? }))
            .collect::<Result<_, StoreError>>()?;
        Ok((entries, answer.last_evaluated_key().cloned()))
    }

    async fn get_item(&self, key: Key<'_>) -> Result<Option<Item>, StoreError> {
        self.client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .consistent_read(true)
            .send()
            .await
            .map(|answer| answer.item)
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem job", error))
    }

    /// BatchGetItem in chunks; keys that the store left unprocessed are asked again with jitter.
    async fn batch_get(&self, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(BATCH_GET_MAX) {
            let (mut left, mut tries) = (chunk.to_vec(), 1);
            while !left.is_empty() {
                if tries > CONFLICT_TRIES_MAX {
                    return Err(StoreError::Throttled { store: "DynamoDB", operation: "BatchGetItem" });
                }
                if tries > 1 {
                    transaction::pause(tries).await;
                }
                let request =
                    KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build().map_err(
                        |error| StoreError::from_sdk("DynamoDB", "BatchGetItem", not_built(error)),
                    )?;
                let answer = self
                    .client
                    .batch_get_item()
                    .request_items(&self.table, request)
                    .send()
                    .await
                    .map_err(|error| StoreError::from_sdk("DynamoDB", "BatchGetItem", error))?;
                items.extend(
                    answer.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default(),
                );
                left = answer
                    .unprocessed_keys
                    .and_then(|mut tables| tables.remove(&self.table))
                    .map(|unprocessed| unprocessed.keys)
                    .unwrap_or_default();
                tries += 1;
            }
        }
        Ok(items)
    }
}

fn not_built(
    error: aws_sdk_dynamodb::error::BuildError,
) -> SdkError<aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemError> {
    SdkError::construction_failure(error)
}

/// Sorts a refused update: our own earlier success, a lost race, or no such job.
fn refused_or(command: &Command, op: &Stamp, error: SdkError<UpdateItemError>) -> Result<Commit, StoreError> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refused)) => refused
            .item()
            .map_or(Ok(Commit::Absent), |item| read(item).map(|job| own_or_refused(command, op, job))),
        _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem job", error)),
    }
}

/// Our stamp, and the state still as we made it: the answer to an earlier try of this write was lost.
fn own_or_refused(command: &Command, op: &Stamp, job: Job) -> Commit {
    if job.op == *op && command.has_made(&job) { Commit::Applied(job) } else { Commit::Refused(job) }
}

fn read(item: &Item) -> Result<Job, StoreError> {
    from_item(item)
        .map_err(|problem| StoreError::Unreadable { key: readable_key(item), problem: problem.to_string() })
}

fn unreadable(item: &Item, attribute: &str) -> StoreError {
    StoreError::Unreadable {
        key: readable_key(item),
        problem: format!("attribute {attribute} is missing or not valid"),
    }
}

fn item_id(item: &Item) -> Result<JobId, StoreError> {
    Reader(item).parsed(PK, |text| JobId::parse(text).ok()).map_err(|_| unreadable(item, PK))
}

fn time(item: &Item, attribute: &'static str) -> Result<Timestamp, StoreError> {
    Reader(item).time(attribute).map_err(|_| unreadable(item, attribute))
}

fn prompt(item: &Item) -> Result<Prompt, StoreError> {
    Reader(item)
        .parsed(name::PROMPT, |text| Prompt::parse(text).ok())
        .map_err(|_| unreadable(item, name::PROMPT))
}
