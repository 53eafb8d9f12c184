//! The system without processes, sockets or time that passes: the real handlers over stores in memory, on one thread whose
//! clock stands still while anything runs. Between a handler and each of its calls a fault may stand.

mod call;
mod check;
mod fault;
mod process;
mod stores;
mod time;
mod wire;
mod world;

pub use fault::{Fault, Plan, Planned};
pub use stores::Step;
pub use world::{Client, World};
