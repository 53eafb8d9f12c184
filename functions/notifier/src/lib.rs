//! Tells owners what becomes of their jobs, over WebSockets: changes of the jobs table arrive by its stream, connections
//! and what clients say by API Gateway.
//!
//! Nothing depends on it: the record is the truth, and a client that synchronises has missed nothing.

mod event;
mod socket;
mod stream;
mod tell;

use std::sync::Arc;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, Tables, image_bucket, push_table, quota_minute, websocket_url,
};
use darkroom_aws::{
    ImageStore, JobTable, JobViews, KeyTable, LedgerTable, PushTable, SocketGateway, StoreError, read_clock,
};
use futures::future::BoxFuture;
use lambda_runtime::Error;
use serde_json::Value;

pub use crate::event::Event;

/// What the notifier needs.
pub struct Notifier {
    jobs: JobTable,
    ledger: LedgerTable,
    keys: KeyTable,
    push: PushTable,
    views: JobViews,
    gateway: SocketGateway,
}

/// The notifier with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Notifier, ConfigError> {
    let tables = Tables::read(environment)?;
    let (push, websocket) = (push_table(environment)?, websocket_url(environment)?);
    let (bucket, quota_minute) = (image_bucket(environment)?, quota_minute(environment)?);
    let gateway = SocketGateway::new(clients.websocket(&websocket));
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs, ledger.clone());
    let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
    let images = ImageStore::new(clients.s3, bucket);
    Ok(Notifier {
        views: JobViews::new(jobs.clone(), &keys, images, quota_minute),
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
            Event::Changes(changes) => notifier.tell_changes(changes).await,
            Event::Socket(event) => Ok(notifier.answer(event).await),
        }
    })
}
