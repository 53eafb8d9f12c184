//! The SQS event source mapping: from a queue to a function, with Lambda's rules about what is deleted.
//!
//! As many pollers as there may be batches at a time. A poller receives only when the function has an environment
//! free, and holds nothing while it waits: a message is either in the queue or in a handler. One poller at a time
//! stands in SQS's long poll; as soon as it has its batch the next one takes its place, so that an idle mapping costs
//! one open request and a burst is still taken up at once.
//!
//! A batch is what one receive gave, or with a batching window what several gave: until it has its size, until the
//! window that its first message opened is over, or until it holds what an event may (6 MB).
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>

mod batch;
mod record;
pub(crate) mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Config;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{InvokeError, SettingsError};
use crate::function::Function;
use crate::running::{Running, StopSignal};
use batch::{Batch, Received};
use report::Report;

/// SQS's longest poll.
const LONG_POLL: Duration = Duration::from_secs(20);

/// Most messages of one receive, and of one deletion.
const SQS_BATCH: usize = 10;

/// `BatchSize` of a standard queue at most, with a batching window.
const BATCH_SIZE_MAX: usize = 10_000;

/// `MaximumBatchingWindowInSeconds` at most.
const BATCHING_WINDOW_MAX: Duration = Duration::from_secs(300);

/// A poll that takes longer than this has lost its connection.
const POLL_LIMIT: Duration = Duration::from_secs(25);

/// First and longest pause after a poll that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a received batch waits when somebody else has taken the environment since.
const THROTTLE_PATIENCE: Duration = Duration::from_secs(10);

/// What a mapping connects and how.
pub struct MappingSettings {
    /// The queue's client. Its own time-outs do not matter for receiving.
    pub client: Client,
    /// The queue.
    pub queue_url: String,
    /// Told to the function; its region is told as well.
    pub queue_arn: String,
    /// The function.
    pub function: Arc<Function>,
    /// Messages per invocation at most: 1 to 10, or up to 10,000 with a batching window.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`: how long a batch that is not full waits for more after its first message,
    /// 0 to 300 whole seconds. With 0 what one receive gives is taken.
    pub batching_window: Duration,
    /// `ScalingConfig.MaximumConcurrency`: most invocations at a time. AWS takes 2 to 1,000; without it the
    /// function's reserved concurrency is the limit.
    pub maximum_concurrency: Option<usize>,
    /// `FunctionResponseTypes: [ReportBatchItemFailures]`. Without it an answer means that all succeeded.
    pub report_batch_item_failures: bool,
}

/// A running mapping.
///
/// Delivery is at least once, as on AWS: messages of a batch that failed (an error, a time-out, a crash, an answer
/// that is no report) stay invisible until the queue's visibility time-out and then come again, with a higher receive
/// count. So does a batch that could not be invoked because other callers used the function's concurrency up, and a
/// message that SQS was handing out while the mapping was shut down.
pub struct EventSourceMapping {
    running: Running,
}

impl EventSourceMapping {
    /// Starts polling. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// For a batch size or a batching window that AWS would refuse, and a concurrency of zero.
    pub fn start(settings: MappingSettings) -> Result<Self, SettingsError> {
        let window = settings.batching_window;
        if window > BATCHING_WINDOW_MAX || window.subsec_nanos() != 0 {
            return Err(SettingsError::BatchingWindow(window));
        }
        let most = if window.is_zero() { SQS_BATCH } else { BATCH_SIZE_MAX };
        if !(1..=most).contains(&settings.batch_size) {
            return Err(SettingsError::BatchSize(settings.batch_size));
        }
        let reserved = settings.function.settings().reserved_concurrency;
        let pollers = settings.maximum_concurrency.unwrap_or(reserved).min(reserved);
        if pollers == 0 {
            return Err(SettingsError::Zero(
                "the concurrency of an event source mapping and of its function",
            ));
        }
        let (running, stop) = Running::new();
        let mapping = Arc::new(Mapping { settings, turn: Mutex::new(()) });
        for _ in 0..pollers {
            tokio::spawn(poll(Arc::clone(&mapping), stop.clone()));
        }
        Ok(Self { running })
    }

    /// Receives no more, and waits up to `grace` for the batches under way.
    pub async fn shutdown(self, grace: Duration) {
        self.running.shutdown(grace).await;
    }
}

struct Mapping {
    settings: MappingSettings,
    /// Held by the poller that stands in the long poll.
    turn: Mutex<()>,
}

async fn poll(mapping: Arc<Mapping>, mut stop: StopSignal) {
    while let Some(messages) = mapping.next_batch(&mut stop).await {
        for batch in batch::events(messages) {
            mapping.handle(&batch).await;
        }
    }
}

impl Mapping {
    /// The next messages, once an environment is free for them; `None` when it is time to stop. What has been gathered
    /// by then is still handled: otherwise it would be invisible for the queue's visibility time-out.
    async fn next_batch(&self, stop: &mut StopSignal) -> Option<Vec<Received>> {
        let first = async {
            let turn = self.turn.lock().await;
            self.first().await.map(|messages| (turn, messages))
        };
        let (_turn, mut messages) = tokio::select! {
            biased;
            () = stop.stopped() => return None,
            // Only a function that is shut down says no here.
            first = first => first.ok()?,
        };
        let until = Instant::now() + self.settings.batching_window;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || messages.len() >= self.settings.batch_size || batch::is_full(&messages) {
                return Some(messages);
            }
            let more = tokio::select! {
                biased;
                () = stop.stopped() => return Some(messages),
                more = self.receive(self.settings.batch_size - messages.len(), left) => more,
            };
            match more {
                Ok(more) => messages.extend(more),
                Err(error) => {
                    // What is there is not made to wait for a queue that does not answer.
                    let queue_url = &self.settings.queue_url;
                    tracing::warn!(queue.url = queue_url, error, "the queue could not be polled");
                    return Some(messages);
                }
            }
        }
    }

    /// What the next receive that finds anything gives.
    async fn first(&self) -> Result<Vec<Received>, InvokeError> {
        let mut pause = BACKOFF.0;
        loop {
            self.settings.function.free().await?;
            match self.receive(self.settings.batch_size, LONG_POLL).await {
                Ok(messages) if messages.is_empty() => pause = BACKOFF.0,
                Ok(messages) => return Ok(messages),
                Err(error) => {
                    tracing::warn!(
                        queue.url = self.settings.queue_url,
                        retry_after_seconds = pause.as_secs_f32(),
                        error,
                        "the queue could not be polled"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Receives up to `most` messages, waiting `patience` for the first: whole seconds, rounded up, because a poll that
    /// is given up could lose a message for its visibility time-out.
    async fn receive(&self, most: usize, patience: Duration) -> Result<Vec<Received>, String> {
        let timeouts = TimeoutConfig::builder()
            .read_timeout(POLL_LIMIT)
            .operation_attempt_timeout(POLL_LIMIT)
            .operation_timeout(POLL_LIMIT)
            .build();
        let wait = patience.min(LONG_POLL).as_millis().div_ceil(1_000);
        let received = self
            .settings
            .client
            .receive_message()
            .queue_url(&self.settings.queue_url)
            .max_number_of_messages(i32::try_from(most.min(SQS_BATCH)).unwrap_or(1))
            .wait_time_seconds(i32::try_from(wait).unwrap_or_default())
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .customize()
            .config_override(Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map_err(|error| DisplayErrorContext(error).to_string())?;
        let messages = received.messages.unwrap_or_default().into_iter();
        messages
            .map(|message| {
                Received::new(message, &self.settings.queue_arn).map_err(|error| error.to_string())
            })
            .collect()
    }

    /// Invokes the function with a batch and deletes what it has done.
    async fn handle(&self, batch: &Batch) {
        match self.invoke(batch).await {
            Ok(failed) => self.delete(&batch.receipts_but(&failed)).await,
            Err(reason) => tracing::warn!(
                function.name = self.settings.function.name(),
                messages = batch.message_ids().len(),
                reason,
                "a batch failed and comes again after the visibility time-out"
            ),
        }
    }

    /// Ids of the messages that failed, or why all of them did.
    async fn invoke(&self, batch: &Batch) -> Result<BTreeSet<String>, String> {
        let function = &self.settings.function;
        let slot = function.slot_within(THROTTLE_PATIENCE).await.map_err(|error| error.to_string())?;
        let answer = function.invoke_in(slot, batch.event()).await.map_err(|error| error.to_string())?;
        if !self.settings.report_batch_item_failures {
            return Ok(BTreeSet::new());
        }
        match report::read(&answer, &batch.message_ids()) {
            Report::AllBut(failed) => Ok(failed),
            Report::Failed(reason) => Err(reason.to_owned()),
        }
    }

    /// Deletes messages by their receipts, ten a request, side by side.
    async fn delete(&self, receipts: &[&str]) {
        let mut deletions = JoinSet::new();
        for ten in receipts.chunks(SQS_BATCH) {
            let mut request = self.settings.client.delete_message_batch().queue_url(&self.settings.queue_url);
            for (number, receipt) in ten.iter().enumerate() {
                let entry =
                    DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(*receipt);
                // Both members are set, which is all the builder asks for.
                let Ok(entry) = entry.build() else { continue };
                request = request.entries(entry);
            }
            let count = ten.len();
            deletions.spawn(async move { request.send().await.map_err(|error| (count, error)) });
        }
        while let Some(Ok(deletion)) = deletions.join_next().await {
            let failed = match deletion {
                Ok(deleted) => deleted.failed.len(),
                Err((messages, error)) => {
                    let error = DisplayErrorContext(error).to_string();
                    tracing::warn!(
                        queue.url = self.settings.queue_url,
                        error,
                        "a batch could not be deleted"
                    );
                    messages
                }
            };
            if failed > 0 {
                tracing::warn!(
                    queue.url = self.settings.queue_url,
                    messages = failed,
                    "done messages will come again"
                );
            }
        }
    }
}
