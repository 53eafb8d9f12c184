//! The operator's command, and the whole system on one machine. Never deployed.
#![allow(
    clippy::disallowed_methods,
    reason = "this is a program's outermost layer: it reads clocks and the environment"
)]

pub mod audit;
pub mod binaries;
pub mod catalogue;
pub mod command;
pub mod connect;
pub mod local_system;
mod output;
