//! A local AWS: DynamoDB, S3, SQS and KMS on loopback, over one folder, in AWS's own wire protocols, so that
//! programs reach them through the ordinary SDKs and `AWS_ENDPOINT_URL_*` and nothing in them knows that they
//! are local.
//!
//! # What it promises
//! - **An acknowledged write survives `kill -9` at any instant.** Every write is in the operating system's
//!   hands (SQLite's write-ahead log, or a file plus the row that names it) before it is acknowledged. Loss
//!   of power is not covered: files are not flushed to the disk.
//! - **Conditions decide races exactly once**: conditional and transactional DynamoDB writes, `If-None-Match:
//!   *` in S3, one receiver per visible SQS message.
//! - **One process per folder**, held by a file lock; a second one is refused ([`StartError::Locked`]).
//! - Listeners bind 127.0.0.1 only.
//!
//! # What it does not do
//! - It never throttles, reorders, duplicates or answers `TransactionConflict`; tests inject these.
//! - Queues are standard queues, and fair: of groups, the one with the fewest messages in flight comes first.
//!   Tags and permissions are not spoken.
//! - S3 speaks objects, listings (version 2) and multipart uploads, addressed by path; nothing of versions,
//!   tags, copies or lifecycles. Cross-origin rules of buckets are set by the program, not over the wire.
//! - KMS speaks `GenerateDataKey`, `Decrypt` and `DescribeKey` for symmetric keys that were declared since the start
//!   ([`LocalAws::ensure_key`]); no policies, grants, rotation or deletion. All keys are one master key, bound to the
//!   key's id and the encryption context: 32 bytes in the file `kms-master-key` (mode 600, made once; a file that
//!   others may read is refused). It lies beside the data that it protects, so it keeps secrets out of copies of a
//!   database and out of logs, not from whoever has the folder.
//! - S3 verifies Signature Version 4, also in presigned URLs. SQS and KMS only look whether the request names our
//!   access key, and DynamoDB only whether it carries credentials at all: none of these verifies the signature.
//! - DynamoDB's `ClientRequestToken` is remembered in memory only (ten minutes on AWS): a restart forgets it.
//! - The DynamoDB engine names itself in ARNs (`arn:aws:dynamodb:dynoxide:000000000000:…`), whatever the
//!   settings say.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod caller;
mod counters;
mod data_dir;
mod dynamodb;
mod error;
mod http_server;
mod kms;
mod local_aws;
mod s3;
mod settings;
mod sqlite;
mod sqs;

pub use counters::Requests;
pub use dynamodb::{DynamoDbUse, Engine, HotItem, OperationUse, StreamReader, StreamRecord};
pub use error::{EnsureError, StartError};
pub use local_aws::{LocalAws, Queue};
pub use s3::CorsRule;
pub use settings::{Credentials, Ports, Settings};
