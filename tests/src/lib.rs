//! What the tests and benches share.

pub mod stand_in_gemini;
