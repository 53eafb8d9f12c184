//! Input that nobody wrote in good faith, at every place where the system reads what others wrote.
//!
//! A target reads one input as the product does, and panics when something does not hold that must hold for any input.
//! `tests/tests/hostile` runs each over its corpus and over mutations of it; `tests/fuzz` hands the same to libFuzzer.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "panicking is how a target tells that an invariant is broken"
)]

mod anatomy;
mod functions;
mod image;
mod list_query;
mod metadata_patch;
pub mod provider;
mod queue_message;
mod submit_body;
mod upload_body;
mod webhook_body;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was read.
    Taken,
    /// It was told to be wrong.
    Refused,
}

/// A place where input is read.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its corpus.
    pub name: &'static str,
    /// Reads an input; panics when an invariant is broken.
    pub run: fn(&[u8]) -> Verdict,
}

/// The body of `POST /v1/jobs`.
pub const SUBMIT_BODY: Target = Target { name: "submit_body", run: submit_body::run };
/// The query strings of the lists, their cursors above all: `jobs?…`, `entries?…` or `job?…`.
pub const LIST_QUERY: Target = Target { name: "list_query", run: list_query::run };
/// The body of `PATCH /v1/jobs/{id}/metadata`.
pub const METADATA_PATCH: Target = Target { name: "metadata_patch", run: metadata_patch::run };
/// The body of `POST /v1/uploads`.
pub const UPLOAD_BODY: Target = Target { name: "upload_body", run: upload_body::run };
/// The body of `POST /v1/webhooks`.
pub const WEBHOOK_BODY: Target = Target { name: "webhook_body", run: webhook_body::run };
/// The body of a message in the queue.
pub const QUEUE_MESSAGE: Target = Target { name: "queue_message", run: queue_message::run };
/// An answer of Gemini: a line with its status and perhaps its `retry-after`, then its body.
pub const GEMINI_ANSWER: Target = Target { name: "gemini_answer", run: provider::gemini };
/// An answer of OpenAI, in the same form.
pub const OPENAI_ANSWER: Target = Target { name: "openai_answer", run: provider::openai };
/// An answer of Forge, in the same form.
pub const FORGE_ANSWER: Target = Target { name: "forge_answer", run: provider::forge };
/// A picture's file.
pub const IMAGE: Target = Target { name: "image", run: image::run };

/// Every target.
pub const TARGETS: [Target; 10] = [
    SUBMIT_BODY,
    LIST_QUERY,
    METADATA_PATCH,
    UPLOAD_BODY,
    WEBHOOK_BODY,
    QUEUE_MESSAGE,
    GEMINI_ANSWER,
    OPENAI_ANSWER,
    FORGE_ANSWER,
    IMAGE,
];
