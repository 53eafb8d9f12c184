//! One invocation: one message, which wakes the work on one record.

use darkroom_aws::{QueueAnswer, QueueEvent, QueueRecord, read_clock};
use darkroom_core::bulk_message::{BulkId, BulkMessage};
use darkroom_core::time::Timestamp;
use futures::future::BoxFuture;
use lambda_runtime::{Error, LambdaEvent};

use crate::Bulk;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// SQS deletes it: the record says what is left to do, and the sweeper sends again.
    Acknowledge,
    /// It comes again: a store failed before anything was begun, or it is none of ours.
    Return,
}

/// Does what the messages ask for, one after the other. The template hands out one at a time: each may take as long as the
/// function has. Boxed, because who awaits an `async fn` compiles it anew, with all that it awaits.
pub fn handle(bulk: &Bulk, event: LambdaEvent<QueueEvent>) -> BoxFuture<'_, Result<QueueAnswer, Error>> {
    Box::pin(async move {
        if let Err(error) = read_clock(&bulk.keys).await {
            tracing::warn!(error = %error, "DynamoDB's clock could not be read; this machine's counts");
        }
        let ends_at = Timestamp::from_millis(event.context.deadline);
        let mut kept = Vec::new();
        for message in event.payload.records {
            if bulk.work(&message, ends_at).await == Done::Return {
                kept.push(message.message_id);
            }
        }
        Ok(QueueAnswer::keep(kept))
    })
}

impl Bulk {
    async fn work(&self, message: &QueueRecord, ends_at: Timestamp) -> Done {
        match BulkMessage::parse(&message.body).map(|message| message.id) {
            Ok(BulkId::Batch(id)) => self.make_jobs(&id, ends_at).await,
            Ok(BulkId::Export(id)) => self.export(&id, ends_at).await,
            Err(error) => {
                tracing::error!(message.id = message.message_id, error = %error,
                    "no message of ours: it goes to the dead-letter queue; `darkroom` did not send it");
                Done::Return
            }
        }
    }
}
