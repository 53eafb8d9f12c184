//! The SQS event source mapping: from a queue to a function, with Lambda's rules about what is deleted.
//!
//! As many pollers as there may be batches at a time. A poller receives only when the function has an environment
//! free, and holds nothing while it waits: a message is either in the queue or in a handler. One poller at a time
//! stands in SQS's long poll; as soon as it has messages the next one takes its place, so that an idle mapping costs
//! one open request and a burst is still taken up at once.

mod record;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Config;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use tokio::sync::Mutex;

use crate::error::{InvokeError, SettingsError};
use crate::function::Function;
use crate::running::{Running, StopSignal};
use report::Report;

/// SQS's longest poll.
const LONG_POLL_SECONDS: i32 = 20;

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
    /// 1 to 10 messages per invocation. The batching window is 0: what is there is taken.
    pub batch_size: i32,
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
    /// For a batch size outside 1 to 10 and a concurrency of zero.
    pub fn start(settings: MappingSettings) -> Result<Self, SettingsError> {
        if !(1..=10).contains(&settings.batch_size) {
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
    loop {
        let messages = tokio::select! {
            biased;
            () = stop.stopped() => return,
            messages = mapping.next_batch() => messages,
        };
        // Only a function that is shut down says no here.
        let Ok(messages) = messages else { return };
        mapping.handle(&messages).await;
    }
}

impl Mapping {
    /// The next messages, once an environment is free for them.
    async fn next_batch(&self) -> Result<Vec<Message>, InvokeError> {
        let _turn = self.turn.lock().await;
        let mut pause = BACKOFF.0;
        loop {
            self.settings.function.free().await?;
            match self.receive().await {
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

    async fn receive(&self) -> Result<Vec<Message>, String> {
        let timeouts = TimeoutConfig::builder()
            .read_timeout(POLL_LIMIT)
            .operation_attempt_timeout(POLL_LIMIT)
            .operation_timeout(POLL_LIMIT)
            .build();
        let received = self
            .settings
            .client
            .receive_message()
            .queue_url(&self.settings.queue_url)
            .max_number_of_messages(self.settings.batch_size)
            .wait_time_seconds(LONG_POLL_SECONDS)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .customize()
            .config_override(Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map_err(|error| DisplayErrorContext(error).to_string())?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Invokes the function with a batch and deletes what it has done.
    async fn handle(&self, messages: &[Message]) {
        let done: Vec<&Message> = match self.invoke(messages).await {
            Ok(failed) => {
                let failed = |message: &&Message| message.message_id().is_none_or(|id| !failed.contains(id));
                messages.iter().filter(failed).collect()
            }
            Err(reason) => {
                tracing::warn!(
                    function.name = self.settings.function.name(),
                    messages = messages.len(),
                    reason,
                    "a batch failed and comes again after the visibility time-out"
                );
                return;
            }
        };
        if !done.is_empty() {
            self.delete(&done).await;
        }
    }

    /// Ids of the messages that failed, or why all of them did.
    async fn invoke(&self, messages: &[Message]) -> Result<BTreeSet<String>, String> {
        let event = record::event(messages, &self.settings.queue_arn).map_err(|error| error.to_string())?;
        let function = &self.settings.function;
        let slot = function.slot_within(THROTTLE_PATIENCE).await.map_err(|error| error.to_string())?;
        let answer = function.invoke_in(slot, event).await.map_err(|error| error.to_string())?;
        if !self.settings.report_batch_item_failures {
            return Ok(BTreeSet::new());
        }
        match report::read(&answer, &messages.iter().filter_map(Message::message_id).collect()) {
            Report::AllBut(failed) => Ok(failed),
            Report::Failed(reason) => Err(reason.to_owned()),
        }
    }

    async fn delete(&self, messages: &[&Message]) {
        let mut request = self.settings.client.delete_message_batch().queue_url(&self.settings.queue_url);
        for (number, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .set_receipt_handle(message.receipt_handle().map(str::to_owned));
            // Both members are set, which is all the builder asks for.
            let Ok(entry) = entry.build() else { continue };
            request = request.entries(entry);
        }
        let failed = match request.send().await {
            Ok(deleted) => deleted.failed.len(),
            Err(error) => {
                let error = DisplayErrorContext(error).to_string();
                tracing::warn!(queue.url = self.settings.queue_url, error, "a batch could not be deleted");
                messages.len()
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
