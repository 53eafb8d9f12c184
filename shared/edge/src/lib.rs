//! What the HTTP functions share: who calls, in which language, what a body is, and how a refusal
//! looks.

mod body;
mod caller;
mod language;
mod problem;

pub use body::{BatchBody, JsonBody, MergePatchBody};
pub use caller::Caller;
pub use language::{AcceptLanguage, VARY_LANGUAGE};
pub use problem::{Problem, method_not_allowed, not_found};
