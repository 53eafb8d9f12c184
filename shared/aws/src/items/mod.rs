//! The stored form of every domain value, each with its way back.

pub mod batch;
pub mod export;
pub mod job;
pub mod key;
pub mod ledger;
pub(crate) mod metadata;
pub mod push;
pub(crate) mod webhook;

pub use crate::attributes::ItemError;
