//! Balances and entries as items of the ledger table.

use darkroom_core::ledger::Balance;

use crate::attributes::{Item, ItemError, Reader};

/// Names of the ledger's attributes.
pub(crate) mod name {
    pub(crate) const AVAILABLE: &str = "avail";
    pub(crate) const HELD: &str = "held";
    pub(crate) const SPENT: &str = "spent";
    pub(crate) const GRANTED: &str = "granted";
    pub(crate) const INFLIGHT: &str = "inflight";
    pub(crate) const VERSION: &str = "ver";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const TOKENS: &str = "tokens";
    pub(crate) const JOB: &str = "job_id";
    pub(crate) const BATCH: &str = "batch_id";
    pub(crate) const AT: &str = "at";
    pub(crate) const OP: &str = "op";
}

/// The balance of an item.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn balance(item: &Item) -> Result<Balance, ItemError> {
    let read = Reader(item);
    Ok(Balance {
        available: read.number(name::AVAILABLE)?,
        held: read.number(name::HELD)?,
        spent: read.number(name::SPENT)?,
        granted: read.number(name::GRANTED)?,
        inflight: read.number(name::INFLIGHT)?,
    })
}
