//! What a local AWS needs to know before it starts.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of one local AWS.
#[derive(Clone)]
pub struct Settings {
    /// The folder that holds everything; made when absent. One process at a time may hold it.
    pub data_dir: PathBuf,
    /// The region named in ARNs of SQS and KMS. Requests may be signed for any region.
    pub region: String,
    /// The account named in ARNs of SQS and KMS and in queue URLs: twelve digits.
    pub account_id: String,
    /// The one key pair that may call S3, SQS and KMS.
    pub credentials: Credentials,
    /// The ports to listen on, at 127.0.0.1.
    pub ports: Ports,
    /// How often DynamoDB looks for items past their time to live. AWS promises "within a few days"; readers
    /// must compare times themselves.
    pub ttl_sweep_interval: Duration,
    /// Whether DynamoDB's requests and capacity units are counted. Each request then takes one more hop on loopback.
    pub count_dynamodb: bool,
    /// Every so manieth transaction is cancelled as one that met another (`TransactionConflict`), where requests are
    /// counted; 0 for none.
    pub conflict_every: u64,
    /// DynamoDB's clock, as the `Date` of its answers tells it, is so far ahead of this machine's, or behind it, where requests are counted.
    pub clock_ahead_seconds: i64,
}

impl Settings {
    /// Settings for `data_dir`, with any free ports, region `us-east-1`, account `000000000000` and a sweep
    /// for expired items each minute, and DynamoDB uncounted, without conflicts and with the right time.
    pub fn new(data_dir: impl Into<PathBuf>, credentials: Credentials) -> Self {
        Self {
            data_dir: data_dir.into(),
            region: "us-east-1".to_owned(),
            account_id: "000000000000".to_owned(),
            credentials,
            ports: Ports::default(),
            ttl_sweep_interval: Duration::from_secs(60),
            count_dynamodb: false,
            conflict_every: 0,
            clock_ahead_seconds: 0,
        }
    }
}

/// One access key and its secret. Without `Debug` on purpose: a secret must not end in a log.
#[derive(Clone)]
pub struct Credentials {
    /// The access key id, as in `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// The secret, as in `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
}

/// The port of each service; 0 means any free one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// DynamoDB's port.
    pub dynamodb: u16,
    /// KMS's port.
    pub kms: u16,
    /// S3's port.
    pub s3: u16,
    /// The port of SQS.
    pub sqs: u16,
}
