//! The jobs table: the record is the truth, and also the outbox that the sweeper works off.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::ReturnValue;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use darkroom_core::id::{JobId, ModelName, Stamp, UserId};
use darkroom_core::job::{Job, Record, Stage, Status, Tombstone};
use darkroom_core::ledger::{LedgerError, Tokens};
use darkroom_core::lifecycle::{Command, apply};
use darkroom_core::limits::{INDEX_SHARDS, POSITION_ENTRIES_MAX};
use darkroom_core::position::Waiting;
use darkroom_core::request::Prompt;
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;
use futures::future::BoxFuture;

use crate::attributes::{Item, Reader, millis, text};
use crate::batch_get::{BATCH_GET_MAX, batch_get};
use crate::error::{StoreError, is_conflict};
use crate::expression::Expression;
use crate::items::job::{name, record, to_item};
use crate::job_write::job_write;
use crate::keys::{Key, PK, SK};
use crate::ledger_table::LedgerTable;
use crate::metadata_table::Beside;
use crate::transaction::{self, Outcome, Refusal};
use crate::tries::Tries;

/// The jobs, and the ledger that their transactions also write.
#[derive(Clone, Debug)]
pub struct JobTable {
    pub(crate) client: Client,
    pub(crate) table: String,
    ledger: LedgerTable,
}

/// What a conditional write came to.
#[derive(Clone)]
pub enum Commit {
    /// It was written, now or by an earlier try of the same write; the record as it is now. After a settlement that
    /// names its attempt, or by the attempt's own picture, the version may be too low: signs of life since the job was
    /// read count there.
    Applied(Job),
    /// The condition did not hold; the record as it was.
    Refused(Job),
    /// There is no such job, or it was deleted.
    Absent,
}

/// What a submission came to.
#[derive(Clone)]
pub enum Created {
    /// The job was made by this submission.
    New(Job),
    /// This user and key have a job already. Whether the requests agree is the caller's question.
    Existing(Job),
    /// This user and key had a job that was deleted.
    Deleted(Tombstone),
    /// The balance refuses; nothing was written.
    Refused(LedgerError),
}

/// Every record of the table.
#[derive(Default)]
pub struct Records {
    /// Those that can be read.
    pub jobs: Vec<Job>,
    /// What is left of deleted jobs.
    pub tombstones: Vec<Tombstone>,
    /// One [`StoreError::Unreadable`] for each that cannot: it names the key and the problem.
    pub unreadable: Vec<StoreError>,
}

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
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// Where the next page starts: created_at and id of the last job read; `None` at the end.
    pub next: Option<(Timestamp, JobId)>,
}

/// Entries of one shard of the due index that one look of the sweeper reads.
const DUE_PER_SHARD: i32 = 100;
/// Records that one page of a filtered list reads at most.
const LIST_READ_MAX: usize = 500;

impl JobTable {
    /// The table of this name, beside its ledger.
    pub const fn new(client: Client, table: String, ledger: LedgerTable) -> Self {
        Self { client, table, ledger }
    }

    /// Makes the job once and sets its price aside, in one transaction, with what is kept beside its record. Idempotent:
    /// the same job again is [`Created::Existing`], as long as its record has not expired at the new job's time of
    /// creation.
    pub async fn create(
        &self,
        job: Job,
        beside: Option<Beside<'_>>,
        inflight_max: u64,
    ) -> Result<Created, StoreError> {
        let cost: Tokens = job.order.cost;
        let mut actions = vec![
            transaction::put_if_absent_or_expired(&self.table, to_item(&job), job.order.created_at)?,
            self.ledger.hold(&job.user, cost, inflight_max)?,
        ];
        if let Some(beside) = beside {
            actions.extend(beside.puts(&self.table, &job)?);
        }
        let sent =
            transaction::write(&self.client, "TransactWriteItems submit", actions, Patience::Tries).await?;
        let Outcome::Refused(refusals) = sent else { return Ok(Created::New(job)) };
        if let Some(item) = refusals.first().and_then(|refusal| refusal.item.as_ref()) {
            return Ok(match read(item)? {
                // Our own stamp on a job nobody else can have made: the answer to our first try was lost.
                Record::Job(existing) if existing.op == job.op => Created::New(*existing),
                Record::Job(existing) => Created::Existing(*existing),
                Record::Tombstone(tombstone) => Created::Deleted(tombstone),
            });
        }
        let balance = refusals.get(1).and_then(|refusal| refusal.item.as_ref());
        LedgerTable::hold_refusal(balance, cost, inflight_max).map(Created::Refused)
    }

    /// Applies a command. One that settles also ends the hold and writes the ledger's entry, all or nothing.
    /// Idempotent by `op`, which must be fresh for each command. `now` dates the entry. While other writes of the
    /// record or the balance are in the way it goes on for `patience`: it ends within the longer of that and 9 seconds.
    pub async fn commit(
        &self,
        job: &Job,
        command: &Command,
        op: &Stamp,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Commit, StoreError> {
        let patience = Patience::For(patience);
        let Some(settlement) = command.settlement() else {
            return self.write(&job.id, command, op, patience).await;
        };
        // The ticket and the price are the copy's, so it must be of this very submission.
        let record = job_write(command, op).require(name::CREATED_AT, "=", millis(job.order.created_at));
        let record = transaction::update(&self.table, Key::Job(&job.id).attributes(), record)?;
        let [balance, entry] = self.ledger.settle(job, settlement, now, op)?;
        let actions = vec![record, balance, entry];
        match transaction::write(&self.client, "TransactWriteItems settle", actions, patience).await? {
            Outcome::Applied => self.settled(job, command, op).await,
            Outcome::Refused(refusals) => not_settled(job, command, op, &refusals),
        }
    }

    /// Applies a command that leaves the tokens held, to a job known by its id alone. Idempotent by `op`, as
    /// [`JobTable::commit`] is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a command that settles: without the job there is no price to settle.
    pub async fn update(&self, id: &JobId, command: &Command, op: &Stamp) -> Result<Commit, StoreError> {
        if command.settlement().is_some() {
            return Err(StoreError::Refused {
                store: "DynamoDB",
                operation: "UpdateItem job",
                code: "not built".to_owned(),
                message: "a command that settles is committed with its job".to_owned(),
            });
        }
        self.write(id, command, op, Patience::Tries).await
    }

    async fn write(
        &self,
        id: &JobId,
        command: &Command,
        op: &Stamp,
        patience: Patience,
    ) -> Result<Commit, StoreError> {
        let mut tries = Tries::new(patience);
        loop {
            let call = self.update_item(id, job_write(command, op)).send();
            let error = match tries.send(Box::pin(call)).await {
                Ok(UpdateItemOutput { attributes: Some(item), .. }) => {
                    return Ok(read(&item)?.job().map_or(Commit::Absent, Commit::Applied));
                }
                Ok(_) => return Ok(Commit::Absent),
                Err(error) => error,
            };
            // A transaction, a settlement, is writing the record at this moment.
            let conflict = error.code().is_some_and(is_conflict);
            if !(conflict && tries.pause().await) {
                return refused_or(command, op, error);
            }
        }
    }

    fn update_item(&self, id: &JobId, write: Expression) -> UpdateItemFluentBuilder {
        let key = Key::Job(id).attributes();
        write.update_item(&self.client, &self.table, key).return_values(ReturnValue::AllNew)
    }

    /// The record after a settlement: a transaction does not return it, so it is computed, or read where the copy may
    /// be of an earlier attempt than the one that ended.
    async fn settled(&self, job: &Job, command: &Command, op: &Stamp) -> Result<Commit, StoreError> {
        match apply(job, command, op.clone()) {
            Ok(settled) if is_of_the_attempt_that_ended(job, command) => Ok(Commit::Applied(settled)),
            _ => Ok(self.get(&job.id).await?.map_or(Commit::Absent, Commit::Applied)),
        }
    }

    /// The job, strongly consistent; `None` also when it was deleted.
    pub async fn get(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.record(id).await?.and_then(Record::job))
    }

    /// The record, whatever it holds, strongly consistent.
    pub async fn record(&self, id: &JobId) -> Result<Option<Record>, StoreError> {
        self.get_item(Key::Job(id)).await?.as_ref().map(read).transpose()
    }

    /// A prompt that is kept beside the record.
    pub async fn long_prompt(&self, id: &JobId) -> Result<Option<Prompt>, StoreError> {
        let Some(item) = self.get_item(Key::Body(id)).await? else { return Ok(None) };
        prompt(&item).map(Some)
    }

    /// Ids of jobs due until `until`, oldest first, as the index lists them: a hint, to be read again.
    /// `complete` tells whether that was all.
    pub async fn due(&self, until: Timestamp) -> Result<(Vec<JobId>, bool), StoreError> {
        let (mut entries, mut complete) = (Vec::new(), true);
        for (shard, truncated) in self.shards(&DUE, Some(until), DUE_PER_SHARD, index_entry).await? {
            complete &= !truncated;
            entries.extend(shard);
        }
        entries.sort_unstable();
        Ok((entries.into_iter().map(|(_, id)| id).collect(), complete))
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
            models.extend(shard.into_iter().filter(|(is_drawn, _)| *is_drawn).map(|(_, model)| model));
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
                    self.shard_page(&DUE, shard, None, DUE_PER_SHARD, start, index_entry).await?;
                ids.extend(entries.into_iter().map(|(_, id)| id));
                start = next;
                if start.is_none() {
                    break;
                }
            }
        }
        self.read_many(&ids).await
    }

    /// Every record of the table: for the operator's audit. Boxed, because who awaits an `async fn` compiles it anew.
    pub fn scan(&self) -> BoxFuture<'_, Result<Records, StoreError>> {
        Box::pin(self.scan_pages())
    }

    async fn scan_pages(&self) -> Result<Records, StoreError> {
        let (mut records, mut start) = (Records::default(), None);
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
                match read(item) {
                    Ok(Record::Job(job)) => records.jobs.push(*job),
                    Ok(Record::Tombstone(tombstone)) => records.tombstones.push(tombstone),
                    Err(error) => records.unreadable.push(error),
                }
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok(records);
            }
        }
    }

    /// The jobs of these ids, strongly consistent, each once, in the order asked. Absent and deleted ones are left out, and so
    /// is one that cannot be read, which is logged: it must not stop the others.
    pub async fn read_many(&self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        let distinct: BTreeSet<_> = ids.iter().collect();
        let keys = distinct.into_iter().map(|id| Key::Job(id).attributes()).collect();
        let items = self.batch_get(keys).await?;
        let jobs = items.iter().filter_map(|item| readable(read(item))?.job());
        let mut found: HashMap<JobId, Job> = jobs.map(|job| (job.id.clone(), job)).collect();
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// A user's newest jobs, at most so many, newest first.
    pub async fn newest(&self, user: &UserId, limit: usize) -> Result<Vec<Job>, StoreError> {
        let (entries, _) = self.user_page(user, None, limit).await?;
        let ids: Vec<_> = entries.into_iter().map(|(_, id)| id).collect();
        let mut jobs = self.read_many(&ids).await?;
        // The index is a hint.
        jobs.retain(|job| job.user == *user);
        Ok(jobs)
    }

    /// A user's jobs that `wanted` accepts, newest first, from after `after`. Reads at most 500 records; a page can
    /// be short, or empty, and still have a next. A record that cannot be read is logged and left out.
    pub async fn list(
        &self,
        user: &UserId,
        after: Option<(Timestamp, JobId)>,
        limit: usize,
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<Page, StoreError> {
        let mut start = after.as_ref().map(|(created_at, id)| user_entry(user, *created_at, id));
        let (mut jobs, mut cursor, mut read_so_far) = (Vec::new(), after, 0);
        let page = limit.saturating_mul(2).min(BATCH_GET_MAX);
        loop {
            let (ids, next) = self.user_page(user, start, page).await?;
            read_so_far += page;
            let records = self.read_many(&ids.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>()).await?;
            let mut by_id: HashMap<_, _> = records.into_iter().map(|job| (job.id.clone(), job)).collect();
            for (created_at, id) in ids {
                cursor = Some((created_at, id.clone()));
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

    /// A page of a user's index entries, newest first, and where the next one starts.
    async fn user_page(
        &self,
        user: &UserId,
        start: Option<Item>,
        limit: usize,
    ) -> Result<(Vec<(Timestamp, JobId)>, Option<Item>), StoreError> {
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
        let ids =
            answer.items().iter().filter_map(|item| readable(index_entry(item, name::CREATED_AT))).collect();
        Ok((ids, answer.last_evaluated_key))
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

    pub(crate) async fn get_item(&self, key: Key<'_>) -> Result<Option<Item>, StoreError> {
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

    /// See [`batch_get`].
    pub(crate) async fn batch_get(&self, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        batch_get(&self.client, &self.table, keys).await
    }
}

/// Sorts a refused update: our own earlier success, a lost race, or no such job.
fn refused_or(command: &Command, op: &Stamp, error: SdkError<UpdateItemError>) -> Result<Commit, StoreError> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refused)) => refused
            .item()
            .map_or(Ok(Commit::Absent), |item| read(item).map(|record| own_or_refused(command, op, record))),
        _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem job", error)),
    }
}

/// Sorts a refused settlement: our own earlier success, a lost race, no such job, or books that contradict the record.
fn not_settled(job: &Job, command: &Command, op: &Stamp, refusals: &[Refusal]) -> Result<Commit, StoreError> {
    match refusals.first() {
        Some(Refusal { failed: true, item: Some(item) }) => {
            read(item).map(|record| own_or_refused(command, op, record))
        }
        Some(Refusal { failed: true, item: None }) => Ok(Commit::Absent),
        _ => Err(StoreError::Books {
            job: job.id.to_string(),
            problem: "it is unsettled, but the balance holds too little or a settle entry is there"
                .to_owned(),
        }),
    }
}

/// Whether a copy of the job is of the attempt that an applied settlement ended. A command that names the attempt says
/// so itself. A picture is taken in any attempt, but none begins before the lease of the copy's is over.
fn is_of_the_attempt_that_ended(job: &Job, command: &Command) -> bool {
    match (command, &job.stage) {
        (Command::Capture { end, .. }, Stage::Processing(held)) => end.now < held.lease_until,
        (Command::Capture { .. } | Command::CancelPending { .. }, _) => false,
        _ => true,
    }
}

/// Entries of one shard that one look at the queue reads.
fn queue_per_shard() -> i32 {
    i32::try_from(POSITION_ENTRIES_MAX as u64 / INDEX_SHARDS).unwrap_or(100)
}

/// Our stamp, and the state still as we made it: the answer to an earlier try of this write was lost.
fn own_or_refused(command: &Command, op: &Stamp, record: Record) -> Commit {
    match record.job() {
        Some(job) if job.op == *op && command.has_made(&job) => Commit::Applied(job),
        Some(job) => Commit::Refused(job),
        None => Commit::Absent,
    }
}

pub(crate) fn read(item: &Item) -> Result<Record, StoreError> {
    record(item).map_err(|problem| StoreError::unreadable(item, &problem))
}

/// What could be read; what could not is logged and left out.
pub(crate) fn readable<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(error = %error, "left out: run `darkroom tokens audit`")).ok()
}

pub(crate) fn item_id(item: &Item) -> Result<JobId, StoreError> {
    Reader(item)
        .parsed(PK, |text| JobId::parse(text).ok())
        .map_err(|problem| StoreError::unreadable(item, &problem))
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

/// An entry of the index `due`: whether the job is being drawn, and by which model.
fn live_entry(item: &Item, _: &'static str) -> Result<(bool, ModelName), StoreError> {
    let status = Reader(item).text(name::STATUS).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok((status == Status::Processing.as_str(), item_model(item)?))
}

fn item_model(item: &Item) -> Result<ModelName, StoreError> {
    let model = Reader(item).parsed(name::MODEL, |text| ModelName::parse(text).ok());
    model.map_err(|problem| StoreError::unreadable(item, &problem))
}

/// A job's key in the index `by_user`.
fn user_entry(user: &UserId, created_at: Timestamp, id: &JobId) -> Item {
    let mut key = Key::Job(id).attributes();
    key.insert(name::USER.to_owned(), text(user.as_str()));
    key.insert(name::CREATED_AT.to_owned(), millis(created_at));
    key
}

pub(crate) fn prompt(item: &Item) -> Result<Prompt, StoreError> {
    let stored = Reader(item).text(name::PROMPT).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok(Prompt::from_stored(stored.to_owned()))
}
