//! The only crate that talks to AWS: typed configuration, clients, and every read and write of the stores.
//!
//! Every write of a live job, a balance, a key or a scope is conditional and names the state it expects. A
//! refused condition is an outcome ([`Commit::Refused`]), not an error.

mod attributes;
mod catalogue;
pub mod clients;
mod clock;
pub mod config;
mod error;
mod expression;
mod heartbeat;
mod image_store;
pub mod items;
mod job_queue;
mod job_table;
mod job_write;
mod key_table;
mod keys;
mod ledger_table;
mod sweep;
mod transaction;

pub use catalogue::Catalogue;
pub use clock::{now, random_fraction, random_stamp};
pub use error::StoreError;
pub use image_store::{ImageStore, image_key};
pub use job_queue::{JobQueue, QueueDepth};
pub use job_table::{Commit, Created, JobTable, Page};
pub use key_table::{KeyTable, KeyWrite};
pub use ledger_table::{Entry, Granted, LedgerTable};
pub use sweep::{Sweep, SweepReport, SweepResult, SweptJob};
