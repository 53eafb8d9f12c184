//! What the tests and benches share.

pub mod stack;
pub mod stand_in_gemini;
pub mod stores;
