//! What the providers on the network share: connections, one HTTP attempt per request, answers read as they arrive.

mod answer;
mod base64_stream;
mod connection;
mod endpoint;
mod json_scan;
mod pause;
mod word;

#[cfg(test)]
pub(crate) use answer::Reading;
pub(crate) use answer::{PictureText, RawImage, ReadAnswer, keep, text};
pub(crate) use base64_stream::Base64Fault;
pub use connection::ConnectError;
pub(crate) use endpoint::{Endpoint, KeyHeader, not_sent, unavailable};
pub(crate) use json_scan::Event;
pub(crate) use pause::{named_pause, retry_after, seconds};
pub(crate) use word::word;
