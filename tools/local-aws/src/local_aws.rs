//! The four services together.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::counters::{Counters, Requests};
use crate::data_dir::DataDir;
use crate::dynamodb::{Counting, DynamoDb, DynamoDbUse, StreamReader};
use crate::http_server::{bind, endpoint};
use crate::kms::KmsServer;
use crate::s3::{CorsRule, S3Server};
use crate::sqs::SqsServer;
use crate::{EnsureError, Settings, StartError};

/// A queue that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// `http://127.0.0.1:PORT/ACCOUNT/NAME`: what clients pass as `QueueUrl`. After a restart on another port
    /// the old URL still names the queue, because only its last two parts are read.
    pub url: String,
    /// `arn:aws:sqs:REGION:ACCOUNT:NAME`: what a redrive policy names.
    pub arn: String,
}

/// DynamoDB, S3, SQS and KMS, running. Dropping it ends it as a kill would; [`shutdown`](Self::shutdown) lets
/// requests finish.
pub struct LocalAws {
    dynamodb: DynamoDb,
    counting: Option<Counting>,
    kms: KmsServer,
    s3: S3Server,
    sqs: SqsServer,
    dynamodb_endpoint: String,
    engine_endpoint: String,
    kms_endpoint: String,
    s3_endpoint: String,
    sqs_endpoint: String,
    counters: Counters,
}

impl LocalAws {
    /// Opens the data folder and serves the four services on 127.0.0.1. Has to run inside a Tokio runtime
    /// with its I/O and time drivers enabled.
    ///
    /// # Errors
    /// [`StartError::Locked`] while another process holds the folder, and the other [`StartError`]s; each
    /// says what to do.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let data_dir = DataDir::hold(&settings.data_dir)?;
        let counters = Counters::default();
        let dynamodb_listener = bind("DynamoDB", settings.ports.dynamodb).await?;
        let kms_listener = bind("KMS", settings.ports.kms).await?;
        let s3_listener = bind("S3", settings.ports.s3).await?;
        let sqs_listener = bind("SQS", settings.ports.sqs).await?;
        let dynamodb_endpoint = endpoint("DynamoDB", &dynamodb_listener)?;
        let kms_endpoint = endpoint("KMS", &kms_listener)?;
        let s3_endpoint = endpoint("S3", &s3_listener)?;
        let sqs_endpoint = endpoint("SQS", &sqs_listener)?;
        // First, since it may refuse: the others hold the folder a moment longer when they are stopped.
        let kms = KmsServer::start(&data_dir, kms_listener, &settings, counters.clone())?;
        let sqs =
            SqsServer::start(data_dir.clone(), sqs_listener, &sqs_endpoint, &settings, counters.clone())?;
        let s3 = S3Server::start(&data_dir.join("s3"), s3_listener, &settings, counters.clone())?;
        let (engine_listener, counted_listener) = if settings.count_dynamodb {
            (bind("DynamoDB", 0).await?, Some(dynamodb_listener))
        } else {
            (dynamodb_listener, None)
        };
        let engine_endpoint = endpoint("DynamoDB", &engine_listener)?;
        let dynamodb = DynamoDb::start(data_dir, engine_listener, settings.ttl_sweep_interval)?;
        let counting = counted_listener
            .map(|listener| Counting::start(listener, engine_endpoint.clone(), counters.clone(), &settings));
        Ok(Self {
            dynamodb,
            counting,
            kms,
            s3,
            sqs,
            dynamodb_endpoint,
            engine_endpoint,
            kms_endpoint,
            s3_endpoint,
            sqs_endpoint,
            counters,
        })
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_DYNAMODB` and `AWS_ENDPOINT_URL_DYNAMODB_STREAMS`.
    pub fn dynamodb_endpoint(&self) -> &str {
        &self.dynamodb_endpoint
    }

    /// As [`dynamodb_endpoint`](Self::dynamodb_endpoint), but never counted: for a program that watches the
    /// others.
    pub fn dynamodb_uncounted_endpoint(&self) -> &str {
        &self.engine_endpoint
    }

    /// Reads the tables' streams without a hop: for whoever plays Lambda's event source mapping.
    pub fn stream_reader(&self) -> StreamReader {
        self.dynamodb.stream_reader()
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_KMS`.
    pub fn kms_endpoint(&self) -> &str {
        &self.kms_endpoint
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_S3`. Buckets are addressed by path only.
    pub fn s3_endpoint(&self) -> &str {
        &self.s3_endpoint
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_SQS`.
    pub fn sqs_endpoint(&self) -> &str {
        &self.sqs_endpoint
    }

    /// Makes a table where absent. `create_table` is a `CreateTable` request or the `Properties` of an
    /// `AWS::DynamoDB::Table`; `ttl_attribute`, or else the template's `TimeToLiveSpecification`, names the
    /// attribute items expire by. A table that exists gains the indexes and the stream it lacks. Idempotent.
    ///
    /// # Errors
    /// [`EnsureError::Differs`] when the table exists with other keys, [`EnsureError::Refused`] for what the
    /// engine refuses.
    pub async fn ensure_table(
        &self,
        create_table: Value,
        ttl_attribute: Option<&str>,
    ) -> Result<(), EnsureError> {
        if let Some(counting) = &self.counting {
            counting.learn(&create_table);
        }
        self.dynamodb.ensure_table(create_table, ttl_attribute).await
    }

    /// Makes a bucket where absent. Idempotent.
    ///
    /// # Errors
    /// [`EnsureError::Refused`] for a name that S3 would not take.
    pub async fn ensure_bucket(&self, name: &str) -> Result<(), EnsureError> {
        self.s3.ensure_bucket(name).await
    }

    /// Sets which pages of other origins may use a bucket, in place of what was set before: none, to begin with. Not
    /// kept over a restart.
    pub fn set_bucket_cors(&self, name: &str, rules: Vec<CorsRule>) {
        self.s3.set_bucket_cors(name, rules);
    }

    /// Declares a symmetric key of KMS under this id, until the end of the process. What was encrypted under a key of
    /// this id before, in this folder, opens again. Idempotent.
    ///
    /// # Errors
    /// [`EnsureError::Refused`] for an id that KMS would not have.
    pub fn ensure_key(&self, id: &str) -> Result<(), EnsureError> {
        self.kms.ensure_key(id)
    }

    /// Points an alias (`alias/…`) at a key, until the end of the process. Make the key first. Idempotent.
    ///
    /// # Errors
    /// [`EnsureError::Refused`] for a name that KMS would not take, and when there is no such key.
    pub fn ensure_alias(&self, name: &str, key_id: &str) -> Result<(), EnsureError> {
        self.kms.ensure_alias(name, key_id)
    }

    /// Makes a queue where absent, or sets the attributes given on the one there is, as CloudFormation would;
    /// attributes not named keep their values. Names and values are those of `SetQueueAttributes`, such as
    /// `VisibilityTimeout` → `1380`. Make the dead-letter queue first. Idempotent.
    ///
    /// # Errors
    /// [`EnsureError::Refused`] for names and attributes that SQS would not take.
    pub async fn ensure_queue(
        &self,
        name: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<Queue, EnsureError> {
        self.sqs.ensure_queue(name, attributes).await
    }

    /// Deletes the items whose time to live has passed, now; returns how many. Otherwise that happens each
    /// [`Settings::ttl_sweep_interval`].
    ///
    /// # Errors
    /// [`EnsureError::Storage`] when the engine fails.
    pub async fn sweep_expired_items(&self) -> Result<usize, EnsureError> {
        let swept = self.dynamodb.sweep_expired_items().await;
        swept.map_err(|error| EnsureError::storage("the sweep of expired items", error))
    }

    /// Requests to `s3`, `sqs` and `kms` since the start, by operation; those refused for their signature are not
    /// counted. `dynamodb` is among them with [`Settings::count_dynamodb`]: its engine serves itself and shows
    /// nobody its requests.
    pub fn requests(&self) -> Requests {
        self.counters.snapshot()
    }

    /// What DynamoDB was asked for since the start or since this was last called; counting begins anew. `None`
    /// without [`Settings::count_dynamodb`].
    pub fn take_dynamodb_use(&self) -> Option<DynamoDbUse> {
        self.counting.as_ref().map(Counting::take)
    }

    /// Lets requests under way finish for a few seconds, ends long polls with what they have, and gives the
    /// folder back.
    pub async fn shutdown(self) {
        // Before the engine behind it.
        if let Some(counting) = self.counting {
            counting.stop().await;
        }
        tokio::join!(self.sqs.stop(), self.s3.stop(), self.kms.stop(), self.dynamodb.stop());
    }
}
