//! What takes longer than a request: exports.

mod event;
mod export;

use darkroom_aws::KeyTable;
use darkroom_aws::clients::Clients;
use darkroom_aws::config::{ConfigError, Environment, Tables};

pub use crate::event::handle;

/// What the work needs.
pub struct Bulk {
    pub(crate) keys: KeyTable,
}

/// Bulk with these settings and clients.
///
/// # Errors
/// Names the variable that is wrong.
pub fn start(environment: &Environment<'_>, clients: Clients) -> Result<Bulk, ConfigError> {
    let tables = Tables::read(environment)?;
    Ok(Bulk { keys: KeyTable::new(clients.dynamodb, tables.keys) })
}
