//! Tells owners what becomes of their jobs, over WebSockets and by calls to their own servers (webhooks): changes of the jobs
//! table arrive by its stream, connections and what clients say by API Gateway, what is to be called for by a queue.
//!
//! No job depends on it: the record is the truth, and a client that synchronises has missed nothing. What a server is told is a
//! record before it is a call (ADR 38).

mod announce;
mod caller;
mod deliver;
mod event;
mod socket;
mod stream;
mod tell;

use std::sync::Arc;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, Tables, image_bucket, kms_key, push_table, quota_minute, webhook_queue,
    webhook_reach, websocket_url,
};
use darkroom_aws::{
    ImageStore, JobTable, JobViews, KeyTable, LedgerTable, PushTable, SecretBox, SocketGateway, StoreError,
    WebhookQueue, WebhookSecrets, WebhookTable, read_clock,
};
use futures::future::BoxFuture;
use lambda_runtime::Error;
use serde_json::Value;

use crate::caller::Caller;
pub use crate::event::Event;

/// What the notifier needs.
pub struct Notifier {
    jobs: JobTable,
    ledger: LedgerTable,
    keys: KeyTable,
    push: PushTable,
    views: JobViews,
    gateway: SocketGateway,
    webhooks: WebhookTable,
    webhook_queue: WebhookQueue,
    secrets: WebhookSecrets,
    caller: Caller,
}

/// The notifier with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Notifier, ConfigError> {
    let tables = Tables::read(environment)?;
    let (push, websocket) = (push_table(environment)?, websocket_url(environment)?);
    let (bucket, quota_minute) = (image_bucket(environment)?, quota_minute(environment)?);
    let (webhook_queue, reach) = (webhook_queue(environment)?, webhook_reach(environment)?);
    let secrets = SecretBox::new(clients.kms(), kms_key(environment)?);
    let gateway = SocketGateway::new(clients.websocket(&websocket));
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs, ledger.clone());
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let images = ImageStore::new(clients.s3, bucket);
    Ok(Notifier {
        views: JobViews::new(jobs.clone(), &keys, images, quota_minute),
        webhooks: WebhookTable::new(clients.dynamodb.clone(), push.clone()),
        webhook_queue: WebhookQueue::new(clients.sqs, webhook_queue),
        secrets: WebhookSecrets::new(secrets, push.clone()),
        caller: Caller::new(reach),
        push: PushTable::new(clients.dynamodb, push),
        jobs,
        ledger,
        keys,
        gateway,
    })
}

impl Notifier {
    /// Opens the connection to DynamoDB and sees to it that the clock is right during initialisation.
    ///
    /// # Errors
    /// When DynamoDB does not answer.
    pub async fn warm(&self) -> Result<(), StoreError> {
        read_clock(&self.keys).await
    }
}

/// Handles one event. Boxed, because who awaits an `async fn` compiles it anew, with all that it awaits.
pub fn handle(notifier: Arc<Notifier>, event: Event) -> BoxFuture<'static, Result<Value, Error>> {
    Box::pin(async move {
        match event {
            Event::Records(records) if records.are_messages() => Ok(notifier.deliver(&records.records).await),
            Event::Records(records) => notifier.tell_changes(&records.records).await,
            Event::Socket(event) => Ok(notifier.answer(event).await),
        }
    })
}
