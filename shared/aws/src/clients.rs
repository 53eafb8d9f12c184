//! Clients with explicit time-outs and retries.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::region::Region;
use darkroom_core::limits::{
    AFTER_CALL, HTTP_TIMEOUT, METADATA_PATIENCE, PUSH_TIMEOUT, WORKER_SETTLE_PATIENCE,
};

use crate::config::{ConfigError, Environment, WebSocketUrl};
use crate::server_time::ServerTime;

/// The clients of a function or of the operator's command.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Tables.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Pictures.
    pub s3: aws_sdk_s3::Client,
    /// Queues.
    pub sqs: aws_sdk_sqs::Client,
    base: Base,
}

/// What every client is made of.
#[derive(Clone, Debug)]
struct Base {
    region: Region,
    credentials: SharedCredentialsProvider,
    http: SharedHttpClient,
    kms_endpoint: Option<String>,
}

/// Where AWS is and who we are there.
pub struct Access {
    /// The region.
    pub region: String,
    /// The credentials.
    pub credentials: SharedCredentialsProvider,
    /// Other endpoints than AWS's own.
    pub endpoints: Endpoints,
}

/// Other endpoints than AWS's own; `None` is AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// DynamoDB.
    pub dynamodb: Option<String>,
    /// KMS.
    pub kms: Option<String>,
    /// S3.
    pub s3: Option<String>,
    /// SQS.
    pub sqs: Option<String>,
}

impl Access {
    /// As Lambda gives them: region, temporary credentials and, where set, `AWS_ENDPOINT_URL_*`.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn from_environment(environment: &Environment<'_>) -> Result<Self, ConfigError> {
        let credentials = Credentials::new(
            environment.required("AWS_ACCESS_KEY_ID")?,
            environment.required("AWS_SECRET_ACCESS_KEY")?,
            environment.optional("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        Ok(Self {
            region: environment.required("AWS_REGION")?,
            credentials: SharedCredentialsProvider::new(credentials),
            endpoints: Endpoints {
                dynamodb: environment.optional("AWS_ENDPOINT_URL_DYNAMODB"),
                kms: environment.optional("AWS_ENDPOINT_URL_KMS"),
                s3: environment.optional("AWS_ENDPOINT_URL_S3"),
                sqs: environment.optional("AWS_ENDPOINT_URL_SQS"),
            },
        })
    }
}

/// A connection that takes longer is given up and tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// One try of a call to a table, a queue or KMS.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// One try of storing a picture: 20 MB at 4 MB/s.
const PUT_TIMEOUT: Duration = Duration::from_secs(5);
/// One try of a message to a connection.
const PUSH_TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// A call with all its tries.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(9);

const _: () = {
    // Storing a picture ends within OPERATION_TIMEOUT, a settlement within that or its patience.
    let (storing, patience) = (OPERATION_TIMEOUT.as_secs(), WORKER_SETTLE_PATIENCE.as_secs());
    let settling = if patience > storing { patience } else { storing };
    assert!(storing + settling <= AFTER_CALL.as_secs(), "both fit in what a worker keeps for them");
    let last_patch = METADATA_PATIENCE.as_secs() + OPERATION_TIMEOUT.as_secs();
    assert!(last_patch < HTTP_TIMEOUT.as_secs(), "a patch is over before its function");
};
/// Tries of reads and stamped writes.
const TRIES: u32 = 3;

impl Clients {
    /// Builds the clients; nothing is connected yet.
    pub fn new(access: &Access) -> Self {
        let network = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        Self::over(network, access)
    }

    /// The same over another HTTP client than the network's: where a simulation answers, or does not.
    pub fn over(http: SharedHttpClient, access: &Access) -> Self {
        let retries = RetryConfig::standard().with_max_attempts(TRIES);
        let region = Region::new(access.region.clone());
        let version = BehaviorVersion::latest();
        let mut dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version(version)
            .region(region.clone())
            .credentials_provider(access.credentials.clone())
            .http_client(http.clone())
            .timeout_config(timeouts(ATTEMPT_TIMEOUT))
            .retry_config(retries.clone())
            .retry_partition(own_budget())
            .interceptor(ServerTime);
        dynamodb.set_endpoint_url(access.endpoints.dynamodb.clone());
        let mut s3 = aws_sdk_s3::Config::builder()
            .behavior_version(version)
            .region(region.clone())
            .credentials_provider(access.credentials.clone())
            .http_client(http.clone())
            .timeout_config(timeouts(PUT_TIMEOUT))
            .retry_config(retries.clone())
            .retry_partition(own_budget());
        s3.set_endpoint_url(access.endpoints.s3.clone());
        let mut sqs = aws_sdk_sqs::Config::builder()
            .behavior_version(version)
            .region(region.clone())
            .credentials_provider(access.credentials.clone())
            .http_client(http.clone())
            .timeout_config(timeouts(ATTEMPT_TIMEOUT))
            .retry_config(retries)
            .retry_partition(own_budget());
        sqs.set_endpoint_url(access.endpoints.sqs.clone());
        Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
            base: Base {
                region,
                credentials: access.credentials.clone(),
                http,
                kms_endpoint: access.endpoints.kms.clone(),
            },
        }
    }

    /// KMS, for the worker and the operator's command. It is made on request, so that the linker leaves its code out of
    /// the functions that never ask.
    pub fn kms(&self) -> aws_sdk_kms::Client {
        let mut kms = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.base.region.clone())
            .credentials_provider(self.base.credentials.clone())
            .http_client(self.base.http.clone())
            .timeout_config(timeouts(ATTEMPT_TIMEOUT))
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .retry_partition(own_budget());
        kms.set_endpoint_url(self.base.kms_endpoint.clone());
        aws_sdk_kms::Client::from_conf(kms.build())
    }
}

impl Clients {
    /// The connections of this WebSocket API, for the notifier; made on request, as KMS is.
    pub fn websocket(&self, url: &WebSocketUrl) -> aws_sdk_apigatewaymanagement::Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(PUSH_TRY_TIMEOUT)
            .operation_attempt_timeout(PUSH_TRY_TIMEOUT)
            .operation_timeout(PUSH_TIMEOUT)
            .build();
        let config = aws_sdk_apigatewaymanagement::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.base.region.clone())
            .credentials_provider(self.base.credentials.clone())
            .http_client(self.base.http.clone())
            .endpoint_url(url.management_endpoint())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .retry_partition(own_budget());
        aws_sdk_apigatewaymanagement::Client::from_conf(config.build())
    }
}

/// Tries after a first one that a client may make while few calls succeed: 100, of 5 tokens each, 50 after time-outs. Without
/// one of its own it would share that of every client of the service in this process, simulated processes included.
fn own_budget() -> RetryPartition {
    RetryPartition::custom("client").build()
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}
