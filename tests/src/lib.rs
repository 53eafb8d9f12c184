//! What the tests and benches share.

pub mod jobs;
pub mod keys;
pub mod stack;
pub mod stand_in_gemini;
pub mod stores;
