//! The Runtime API, the gateway, the mapping and the schedule against real binaries.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod common;
mod queue;

mod cost;
mod gateway;
mod invoke;
mod local_aws;
mod mapping;
#[cfg(target_os = "linux")]
mod orphans;
mod schedule;
mod stream;
mod websocket;
