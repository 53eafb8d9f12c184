//! The event source mapping of a DynamoDB stream: from a table's changes to a function, in their order.
//!
//! One batch at a time: the next is read when this one is done or given up. A batch that failed is tried again, halved first
//! if the mapping says so, so that a record which cannot be handled is found and given up alone. Nothing is remembered when
//! it ends: a new one begins where its settings say.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-params.html> and
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html>

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::{InvokeError, SettingsError};
use crate::function::Function;
use crate::mapping::report::{self, Report};
use crate::running::{Running, StopSignal};

/// An empty stream is looked at again after this: Lambda polls four times a second.
const POLL: Duration = Duration::from_millis(250);

/// First and longest pause before a batch is tried again, and after a read that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// `BatchSize` at most.
const BATCH_SIZE_MAX: usize = 10_000;

/// One change.
#[derive(Clone, Debug)]
pub struct StreamRecord {
    /// Its place in the stream.
    pub sequence_number: String,
    /// When it was written.
    pub written_at: SystemTime,
    /// The record as `GetRecords` gives it.
    pub record: Value,
}

/// What a read of a stream gives.
pub type ReadStream = Pin<Box<dyn Future<Output = Result<Vec<StreamRecord>, String>> + Send>>;

/// Reads a stream: the changes after this place, or all that are kept, oldest first, at most so many.
pub type StreamReader = Arc<dyn Fn(Option<String>, usize) -> ReadStream + Send + Sync>;

/// What a mapping connects and how.
pub struct StreamMappingSettings {
    /// The stream.
    pub stream: StreamReader,
    /// Told to the function.
    pub stream_arn: String,
    /// The function.
    pub function: Arc<Function>,
    /// `StartingPosition`: the oldest change that is kept (`TRIM_HORIZON`), or the first after the start (`LATEST`).
    pub from_the_oldest: bool,
    /// Changes per invocation at most: 1 to 10,000.
    pub batch_size: usize,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `MaximumRetryAttempts`: how often a batch is tried again. Halving it does not count.
    pub retry_attempts: u32,
    /// `MaximumRecordAgeInSeconds`: a change that is older is given up.
    pub maximum_record_age: Duration,
    /// `FunctionResponseTypes: [ReportBatchItemFailures]`. Without it an answer means that all succeeded.
    pub report_batch_item_failures: bool,
}

/// A running mapping. A batch is delivered at least once, and changes of one item in their order.
pub struct StreamMapping {
    running: Running,
}

impl StreamMapping {
    /// Starts reading. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// For a batch size that AWS would refuse.
    pub fn start(settings: StreamMappingSettings) -> Result<Self, SettingsError> {
        if !(1..=BATCH_SIZE_MAX).contains(&settings.batch_size) {
            return Err(SettingsError::StreamBatchSize(settings.batch_size));
        }
        let (running, stop) = Running::new();
        tokio::spawn(Mapping { settings, stop }.follow());
        Ok(Self { running })
    }

    /// Reads no more, and waits up to `grace` for the batch under way.
    pub async fn shutdown(self, grace: Duration) {
        self.running.shutdown(grace).await;
    }
}

/// Changes that go to the function together, and how often they have.
struct Batch {
    records: Vec<StreamRecord>,
    tried: u32,
}

/// What came of a batch.
enum Outcome {
    Done,
    /// What stands before this one is done.
    FailedFrom(usize),
    Failed(String),
}

struct Mapping {
    settings: StreamMappingSettings,
    stop: StopSignal,
}

impl Mapping {
    async fn follow(mut self) {
        let Some(mut after) = self.beginning().await else { return };
        loop {
            let Some(records) = self.next(after.clone()).await else { return };
            after = records.last().map(|record| record.sequence_number.clone()).or(after);
            self.handle(Batch { records, tried: 0 }).await;
            if self.stop.is_stopped() {
                return;
            }
        }
    }

    /// The place to begin after; `None` when it is time to stop. What is already there is passed over, if need be.
    async fn beginning(&mut self) -> Option<Option<String>> {
        let mut after = None;
        while !self.settings.from_the_oldest {
            let passed = self.read(after.clone()).await?;
            match passed.last() {
                Some(last) => after = Some(last.sequence_number.clone()),
                None => break,
            }
        }
        Some(after)
    }

    /// The next changes, once there are any; `None` when it is time to stop.
    async fn next(&mut self, after: Option<String>) -> Option<Vec<StreamRecord>> {
        loop {
            let records = self.read(after.clone()).await?;
            if !records.is_empty() {
                return Some(records);
            }
            self.pause(POLL).await?;
        }
    }

    /// One read that worked; `None` when it is time to stop.
    async fn read(&mut self, after: Option<String>) -> Option<Vec<StreamRecord>> {
        let mut pause = BACKOFF.0;
        loop {
            match (self.settings.stream)(after.clone(), self.settings.batch_size).await {
                Ok(records) => return Some(records),
                Err(error) => {
                    let stream = &self.settings.stream_arn;
                    tracing::warn!(stream.arn = stream, error, "the stream could not be read");
                    self.pause(pause).await?;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// `None` when it is time to stop.
    async fn pause(&mut self, pause: Duration) -> Option<()> {
        tokio::select! {
            biased;
            () = self.stop.stopped() => None,
            () = tokio::time::sleep(pause) => Some(()),
        }
    }

    /// Gives a batch to the function until all of it is done or given up.
    async fn handle(&mut self, batch: Batch) {
        // The last is the next in the stream.
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            let batch = self.young(batch);
            if batch.records.is_empty() {
                continue;
            }
            match self.invoke(&batch.records).await {
                Outcome::Done => {}
                Outcome::FailedFrom(first) => {
                    let tried = if first == 0 { batch.tried } else { 0 };
                    let records = batch.records.into_iter().skip(first).collect();
                    left.extend(self.again(Batch { records, tried }, "named as failed").await);
                }
                Outcome::Failed(reason) if self.settings.bisect && batch.records.len() > 1 => {
                    tracing::warn!(
                        function.name = self.settings.function.name(),
                        reason,
                        "a batch failed, and is halved"
                    );
                    left.extend(halves(batch));
                }
                Outcome::Failed(reason) => left.extend(self.again(batch, &reason).await),
            }
            if self.stop.is_stopped() {
                return;
            }
        }
    }

    /// The batch once more, after a pause; nothing when it was tried often enough, or when it is time to stop.
    async fn again(&mut self, batch: Batch, reason: &str) -> Option<Batch> {
        let (function, records) = (self.settings.function.name(), batch.records.len());
        if batch.tried >= self.settings.retry_attempts {
            tracing::warn!(function.name = function, records, reason, "changes are given up");
            return None;
        }
        tracing::warn!(function.name = function, records, reason, "changes are tried again");
        self.pause(BACKOFF.0.saturating_mul(1 << batch.tried.min(10)).min(BACKOFF.1)).await?;
        Some(Batch { tried: batch.tried + 1, ..batch })
    }

    /// The batch without what is too old.
    fn young(&self, mut batch: Batch) -> Batch {
        let now = SystemTime::now();
        let is_young = |record: &StreamRecord| {
            now.duration_since(record.written_at).is_ok_and(|age| age <= self.settings.maximum_record_age)
                || record.written_at > now
        };
        batch.records.retain(is_young);
        batch
    }

    async fn invoke(&mut self, records: &[StreamRecord]) -> Outcome {
        let function = Arc::clone(&self.settings.function);
        let slot = tokio::select! {
            biased;
            () = self.stop.stopped() => return Outcome::Done,
            slot = function.slot_within(self.settings.maximum_record_age) => slot,
        };
        let answer = match slot {
            Ok(slot) => function.invoke_in(slot, self.event(records)).await,
            Err(error) => Err(error),
        };
        match answer {
            Err(InvokeError::Stopped) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
            Ok(_) if !self.settings.report_batch_item_failures => Outcome::Done,
            Ok(answer) => reported(&answer, records),
        }
    }

    /// Source: <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>, "Example event".
    fn event(&self, records: &[StreamRecord]) -> Bytes {
        let with_source = |one: &StreamRecord| {
            let mut record = one.record.clone();
            if let Value::Object(record) = &mut record {
                record.insert("eventSourceARN".to_owned(), self.settings.stream_arn.clone().into());
            }
            record
        };
        Bytes::from(json!({"Records": records.iter().map(with_source).collect::<Vec<_>>()}).to_string())
    }
}

/// What the function's answer says: of the changes that it names, the first counts.
fn reported(answer: &[u8], records: &[StreamRecord]) -> Outcome {
    let numbers: BTreeSet<_> = records.iter().map(|record| record.sequence_number.as_str()).collect();
    match report::read(answer, &numbers) {
        Report::Failed(reason) => Outcome::Failed(reason.to_owned()),
        Report::AllBut(failed) => records
            .iter()
            .position(|record| failed.contains(&record.sequence_number))
            .map_or(Outcome::Done, Outcome::FailedFrom),
    }
}

/// The later half first: it is pushed below the earlier one.
fn halves(mut batch: Batch) -> [Batch; 2] {
    let later = batch.records.split_off(batch.records.len().div_ceil(2));
    [Batch { records: later, tried: batch.tried }, batch]
}
