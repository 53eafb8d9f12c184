//! The decisions of the core, by tables and properties.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

mod answer;
mod batch;
mod batch_record;
mod batch_request;
mod breaker;
mod breaker_fleet;
mod catalogue;
mod clock_offset;
mod export;
mod fleet;
mod guards;
mod health;
mod ledger;
mod lifecycle;
mod metadata;
mod outlook;
mod pace;
mod pool;
mod position;
mod push;
mod queue;
mod quota;
mod request;
mod settled;
mod sweep;
mod texts;
mod webhook;
mod webhook_records;
mod wire;
