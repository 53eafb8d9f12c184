//! One invocation: up to ten messages, each on its own. One that fails never fails its neighbours.

use std::collections::HashSet;
use std::sync::Arc;

use darkroom_aws::{QueueAnswer, QueueEvent};
use darkroom_core::message::{JobMessage, Message, MessageError};
use darkroom_core::time::Timestamp;
use futures::future::BoxFuture;
use lambda_runtime::{Error, LambdaEvent};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::invocation::Invocation;
use crate::worker::{Done, Worker};

/// The batch's messages with their ids, one of each job: a second one asks for nothing that the first does not, and is done.
fn messages(batch: QueueEvent) -> Vec<(Result<Message, MessageError>, String)> {
    let mut jobs = HashSet::new();
    let parsed = batch.records.into_iter().map(|record| (Message::parse(&record.body), record.message_id));
    parsed
        .filter(|(message, _)| of_job(message).is_none_or(|message| jobs.insert(message.job_id.clone())))
        .collect()
}

const fn of_job(message: &Result<Message, MessageError>) -> Option<&JobMessage> {
    match message {
        Ok(Message::Job(message)) => Some(message),
        Ok(Message::Probe(_)) | Err(_) => None,
    }
}

/// Handles every message of a batch side by side. Boxed, because who awaits an `async fn` compiles it anew, with all that it
/// awaits.
pub fn handle(
    worker: Arc<Worker>,
    event: LambdaEvent<QueueEvent>,
) -> BoxFuture<'static, Result<QueueAnswer, Error>> {
    Box::pin(handle_batch(worker, event))
}

async fn handle_batch(worker: Arc<Worker>, event: LambdaEvent<QueueEvent>) -> Result<QueueAnswer, Error> {
    worker.read_clock().await;
    let ends_at = Timestamp::from_millis(event.context.deadline);
    worker.pool.evict_secrets();
    let messages = messages(event.payload);
    let of_jobs = || messages.iter().filter_map(|(message, _)| of_job(message));
    let ids: Vec<_> = of_jobs().map(|message| message.job_id.clone()).collect();
    let mut unclaimable = worker.unclaimable(&ids).await;
    let wanting = of_jobs().filter(|message| !unclaimable.contains_key(&message.job_id));
    let models = wanting.map(|message| message.model.clone());
    let invocation = Arc::new(Invocation::new(ends_at, models));
    let mut running = JoinSet::new();
    let mut unanswered: Vec<String> = Vec::new();
    for (message, message_id) in messages {
        unanswered.push(message_id.clone());
        let (worker, invocation) = (worker.clone(), invocation.clone());
        let refused = of_job(&message).and_then(|message| unclaimable.remove(&message.job_id));
        running.spawn(async move {
            let done = match message {
                Ok(Message::Job(message)) => Box::pin(worker.draw(&message, refused, &invocation)).await,
                Ok(Message::Probe(message)) => Box::pin(worker.probe(&message.probe_key)).await,
                Err(error) => {
                    tracing::error!(message.id = message_id, error = %error,
                        "no message of ours: it goes to the dead-letter queue; `darkroom` did not send it");
                    Done::Return
                }
            };
            (message_id, done)
        });
    }
    let all_done = Notify::new();
    let (mut beat, mut has_beaten) = (Box::pin(worker.beat_soon(&all_done)), false);
    loop {
        let handled = tokio::select! {
            // In order, so that nothing but the messages decides what is done next.
            biased;
            handled = running.join_next() => handled,
            () = &mut beat, if !has_beaten => {
                has_beaten = true;
                continue;
            }
        };
        match handled {
            None => break,
            Some(Ok((message_id, Done::Acknowledge))) => unanswered.retain(|id| *id != message_id),
            Some(Ok((_, Done::Return))) => {}
            // Its message stays unanswered, and so goes back.
            Some(Err(error)) => tracing::error!(error = %error, "a message's handling broke off"),
        }
    }
    // One that is being written is written to its end.
    if !has_beaten {
        all_done.notify_one();
        beat.await;
    }
    worker.pool.end_trials(&invocation.take_out(|_| true)).await;
    Ok(QueueAnswer::keep(unanswered))
}
