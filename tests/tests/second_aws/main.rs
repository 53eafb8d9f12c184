//! The functions and the template in the hands of others than ourselves: AWS's own Lambda Runtime Interface Emulator, and
//! an independent emulator of AWS (ministack). What our local system and the code have in common by mistake shows here.
//!
//! Both come from PyPI: `.ci/run second_aws` installs them below `target/` and runs these tests. They are ignored
//! otherwise, so that `cargo test` needs no Python.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod contract;
mod deployed;
mod emulator;
mod ministack;
mod process;
