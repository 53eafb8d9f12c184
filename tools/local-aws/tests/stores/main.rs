//! The real SDK against the local stores, and what they keep when they are killed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod common;

mod crash;
mod dynamodb;
mod dynamodb_use;
mod kms;
mod measure;
mod s3;
mod s3_multipart;
mod s3_trailer;
mod sqs;
mod sqs_queues;
