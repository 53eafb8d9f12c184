//! The jobs table: the record is the truth, and also the outbox that the sweeper works off.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::ReturnValue;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use darkroom_core::batch_record::BatchRecord;
use darkroom_core::id::{JobId, Stamp};
use darkroom_core::job::{Job, Record, Stage, Tombstone};
use darkroom_core::ledger::{LedgerError, Tokens};
use darkroom_core::lifecycle::{Command, apply};
use darkroom_core::request::Prompt;
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;
use futures::future::BoxFuture;

use crate::attributes::{Item, Reader, millis};
use crate::batch_get::batch_get;
use crate::error::{StoreError, is_conflict};
use crate::expression::Expression;
use crate::items::batch;
use crate::items::job::{name, record, to_item};
use crate::job_write::job_write;
use crate::keys::{BATCH, JOB, Key, PK, SK};
use crate::ledger_table::LedgerTable;
use crate::metadata_table::Beside;
use crate::transaction::{self, Outcome, Refusal};
use crate::tries::Tries;

/// The jobs, and the ledger that their transactions also write.
#[derive(Clone, Debug)]
pub struct JobTable {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) ledger: LedgerTable,
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
    /// Batches that can be read.
    pub batches: Vec<BatchRecord>,
    /// One [`StoreError::Unreadable`] for each that cannot: it names the key and the problem.
    pub unreadable: Vec<StoreError>,
}

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
            for item in answer.items() {
                records.add(item);
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

impl Records {
    /// Takes an item in; what lies beside records is none.
    fn add(&mut self, item: &Item) {
        match Reader(item).text(SK) {
            Ok(JOB) => match read(item) {
                Ok(Record::Job(job)) => self.jobs.push(*job),
                Ok(Record::Tombstone(tombstone)) => self.tombstones.push(tombstone),
                Err(error) => self.unreadable.push(error),
            },
            Ok(BATCH) => match read_batch(item) {
                Ok(batch) => self.batches.push(batch),
                Err(error) => self.unreadable.push(error),
            },
            _ => {}
        }
    }
}

pub(crate) fn read_batch(item: &Item) -> Result<BatchRecord, StoreError> {
    batch::from_item(item).map_err(|problem| StoreError::unreadable(item, &problem))
}

pub(crate) fn prompt(item: &Item) -> Result<Prompt, StoreError> {
    let stored = Reader(item).text(name::PROMPT).map_err(|problem| StoreError::unreadable(item, &problem))?;
    Ok(Prompt::from_stored(stored.to_owned()))
}
