//! Started by the schedule each minute: sends what is due, puts back what was lost, ends what is over; wakes webhooks' deliveries.

mod sweeper;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{
    ConfigError, Environment, SweepRules, Tables, bulk_queue_url, push_table, queue_url, webhook_queue,
};
use darkroom_aws::{
    BulkQueue, ExportSweeper, ExportTable, Heartbeat, JobQueue, JobTable, KeyTable, LedgerTable, Sweep,
    WebhookQueue, WebhookTable, WebhookWake,
};

pub use crate::sweeper::Sweeper;

/// The sweeper with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Sweeper, ConfigError> {
    let tables = Tables::read(environment)?;
    let (queue_url, bulk_queue_url) = (queue_url(environment)?, bulk_queue_url(environment)?);
    let (push, webhook_queue) = (push_table(environment)?, webhook_queue(environment)?);
    let SweepRules { rules, every, quota_minute } = SweepRules::read(environment)?;
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    let exports = ExportTable::new(clients.dynamodb.clone(), tables.jobs.clone());
    let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs, ledger);
    let webhooks = WebhookTable::new(clients.dynamodb.clone(), push);
    let webhooks = WebhookWake::new(webhooks, WebhookQueue::new(clients.sqs.clone(), webhook_queue));
    let keys = KeyTable::new(clients.dynamodb, tables.keys);
    let bulk_queue = BulkQueue::new(clients.sqs.clone(), bulk_queue_url);
    let queue = JobQueue::new(clients.sqs, queue_url);
    let sweep = Sweep::new(jobs, keys.clone(), queue, Some(bulk_queue.clone()), quota_minute, rules);
    Ok(Sweeper {
        sweep,
        exports: ExportSweeper::new(exports, bulk_queue),
        webhooks,
        beat: Heartbeat::new(keys.clone(), "sweeper"),
        keys,
        every,
    })
}
