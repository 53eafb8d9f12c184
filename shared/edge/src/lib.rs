//! What the HTTP functions share: who calls, in which language, what a body is, how a refusal looks, and
//! how a job does.

mod body;
mod caller;
mod job_view;
mod language;
mod problem;

pub use body::{JsonBody, MergePatchBody};
pub use caller::Caller;
pub use job_view::JobView;
pub use language::{AcceptLanguage, VARY_LANGUAGE};
pub use problem::{Problem, method_not_allowed, not_found};
