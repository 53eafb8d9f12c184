//! The only crate that talks to AWS: typed configuration, clients, and every read and write of the stores.
//!
//! Every write of a live job, a balance, a key or a scope is conditional and names the state it expects. A
//! refused condition is an outcome ([`Commit::Refused`]), not an error.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod attributes;
mod batch_get;
mod catalogue;
pub mod clients;
mod clock;
pub mod config;
mod error;
mod export_source;
mod export_store;
mod export_sweep;
mod export_table;
mod expression;
mod forecast;
mod heartbeat;
mod image_probe;
mod image_store;
pub mod items;
mod job_queue;
mod job_table;
mod job_views;
mod job_write;
mod key_table;
mod keys;
mod ledger_table;
mod metadata_table;
mod pacer;
mod pool_table;
mod push_table;
mod queue_event;
mod secret_box;
mod server_time;
mod settled_records;
mod socket_gateway;
mod sweep;
mod transaction;
mod tries;
mod upload_store;
mod waiting_cache;

pub use catalogue::Catalogue;
pub use clock::{Source, now, random_fraction, random_stamp, random_ticket, simulate};
pub use error::StoreError;
pub use export_source::RowPage;
pub use export_store::{ExportStore, Sent, export_key};
pub use export_sweep::{ExportSweeper, ExportsSwept};
pub use export_table::{ExportTable, Exported};
pub use heartbeat::Heartbeat;
pub use image_probe::{ImageProbe, PROBE_PREFIX};
pub use image_store::{ImageStore, image_key};
pub use items::key::KEY_PROJECTION;
pub use items::push::Watcher;
pub use job_queue::{BulkQueue, JobQueue, QueueDepth};
pub use job_table::{Commit, Created, JobTable, Page, Records};
pub use job_views::JobViews;
pub use key_table::{KeyTable, KeyWrite, Written};
pub use ledger_table::{Accounts, Entry, Granted, LedgerTable};
pub use metadata_table::{Beside, Kept, Patched};
pub use pacer::Pacer;
pub use push_table::{Connected, Heard, PushTable};
pub use queue_event::{QueueAnswer, QueueEvent, QueueRecord};
pub use secret_box::{Opened, SecretBox, Unusable};
pub use server_time::read_clock;
pub use settled_records::Deleted;
pub use socket_gateway::{Posted, SocketGateway};
pub use sweep::{Sweep, SweepReport, SweepResult, SweptJob};
pub use upload_store::{Upload, UploadStore};
pub use waiting_cache::LookAtQueue;
