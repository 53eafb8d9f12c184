//! What takes longer than a request: exports.

mod event;
mod export;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::{ConfigError, Environment, Tables, image_bucket};
use darkroom_aws::{ExportStore, ExportTable, JobTable, KeyTable, LedgerTable};

pub use crate::event::handle;

/// What the work needs.
pub struct Bulk {
    pub(crate) keys: KeyTable,
    pub(crate) jobs: JobTable,
    pub(crate) ledger: LedgerTable,
    pub(crate) exports: ExportTable,
    pub(crate) files: ExportStore,
}

/// Bulk with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Bulk, ConfigError> {
    let (tables, bucket) = (Tables::read(environment)?, image_bucket(environment)?);
    let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
    Ok(Bulk {
        keys: KeyTable::new(clients.dynamodb.clone(), tables.keys),
        jobs: JobTable::new(clients.dynamodb.clone(), tables.jobs.clone(), ledger.clone()),
        ledger,
        exports: ExportTable::new(clients.dynamodb, tables.jobs),
        files: ExportStore::new(clients.s3, bucket),
    })
}
