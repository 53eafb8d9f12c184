//! The system without processes, sockets or time that passes: the real handlers over stores in memory, on one thread whose
//! clock stands still while anything runs. Between a handler and each of its calls a fault may stand.

mod call;
mod check;
mod clause;
mod client;
mod fault;
mod network;
mod painter;
mod process;
mod queue;
mod reader;
mod stack;
mod stores;
mod tables;
mod time;
mod triggers;
mod wire;
mod world;
mod writes;

pub(crate) use call::Call;
pub use clause::Clause;
pub use client::Client;
pub use fault::{Fault, Plan, Planned};
pub use reader::Reader;
pub(crate) use stack::simulated;
pub use stores::Step;
pub use tables::Seen;
pub use world::{Settings, World};
pub use writes::Writes;
