//! What Darkroom decides, as functions of values.
//!
//! Nothing here reads a clock, a random source, the network or the environment: time, ids and
//! jitter are arguments. Every change of a job's state is in [`lifecycle`], every rule about
//! money in [`ledger`], every meaning of a provider's answer in [`answer`].

pub mod answer;
pub mod batch;
pub mod batch_record;
pub mod batch_request;
pub mod batch_view;
pub mod breaker;
pub mod bulk_message;
pub mod civil;
pub mod clock_offset;
pub mod error_code;
pub mod export;
pub mod export_file;
mod fields;
pub mod health;
pub mod id;
pub mod image;
pub mod job;
pub mod job_error;
pub mod job_view;
pub mod key;
pub mod ledger;
pub mod lifecycle;
pub mod limits;
pub mod message;
pub mod metadata;
pub mod model;
pub mod outlook;
pub mod pace;
pub mod pool;
pub mod position;
pub mod public_address;
pub mod push;
pub mod queue;
pub mod quota;
pub mod request;
pub mod retry;
pub mod settled;
pub mod sweep;
pub mod time;
pub mod upload;
pub mod webhook;
pub mod webhook_delivery;
pub mod webhook_endpoint;
pub mod webhook_signature;
