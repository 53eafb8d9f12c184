//! What a template says, in the terms of the system that is started from it.

use std::collections::BTreeMap;
use std::time::Duration;

/// Everything of one stack that a local system starts. Each list is in the order of the logical ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// DynamoDB tables.
    pub tables: Vec<Table>,
    /// SQS queues.
    pub queues: Vec<Queue>,
    /// S3 buckets.
    pub buckets: Vec<Bucket>,
    /// KMS keys.
    pub kms_keys: Vec<KmsKey>,
    /// Other names of KMS keys.
    pub kms_aliases: Vec<KmsAlias>,
    /// Lambda functions.
    pub functions: Vec<Function>,
    /// The WebSocket API, if there is one.
    pub websocket: Option<WebSocketApi>,
    /// The stack's outputs by name, as the operator's command reads them.
    pub outputs: BTreeMap<String, String>,
}

impl Stack {
    /// The queue with this logical id.
    pub fn queue(&self, logical_id: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.logical_id == logical_id)
    }

    /// The KMS key with this logical id.
    pub fn kms_key(&self, logical_id: &str) -> Option<&KmsKey> {
        self.kms_keys.iter().find(|key| key.logical_id == logical_id)
    }

    /// The function with this logical id.
    pub fn function(&self, logical_id: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.logical_id == logical_id)
    }
}

/// A DynamoDB table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its logical id in the template.
    pub logical_id: String,
    /// Its name.
    pub name: String,
    /// The body of the `CreateTable` request that makes it.
    pub create_table: serde_json::Value,
    /// The attribute that says when a record expires (epoch seconds), if records of this table do.
    pub ttl_attribute: Option<String>,
}

/// An SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its logical id in the template.
    pub logical_id: String,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its URL.
    pub url: String,
    /// The attributes of the `CreateQueue` request that makes it, under SQS's own names and in its own units. `RedrivePolicy` and
    /// `RedriveAllowPolicy` are JSON in a text, as SQS wants them.
    pub attributes: BTreeMap<String, String>,
    /// Where messages go that were received too often.
    pub redrive: Option<Redrive>,
}

/// Where a queue's messages go after too many receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The logical id of the dead-letter queue.
    pub dead_letter_queue: String,
    /// Receives that a message survives.
    pub receives_max: u32,
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its logical id in the template.
    pub logical_id: String,
    /// Its name.
    pub name: String,
    /// Which pages of other origins may use it.
    pub cors: Vec<CorsRule>,
}

/// Lets pages of other origins use a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRule {
    /// Such as `https://app.example.com`; one `*` stands for any text.
    pub allowed_origins: Vec<String>,
    /// HTTP methods.
    pub allowed_methods: Vec<String>,
    /// Headers that a page may set beyond those that browsers send to anybody.
    pub allowed_headers: Vec<String>,
    /// How long a browser may remember the answer.
    pub max_age: Duration,
}

/// A KMS key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsKey {
    /// Its logical id in the template.
    pub logical_id: String,
    /// Its id. AWS chooses one; here it is made of the stack's name and the logical id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
}

/// Another name of a KMS key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsAlias {
    /// Its name, `alias/…`.
    pub name: String,
    /// The logical id of the key.
    pub key_logical_id: String,
}

/// A Lambda function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its logical id in the template.
    pub logical_id: String,
    /// Its name.
    pub name: String,
    /// The workspace's binary that is its `bootstrap` (`Handler`).
    pub binary: String,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Memory of one environment.
    pub memory_mb: u32,
    /// Environments at most, if limited.
    pub reserved_concurrency: Option<usize>,
    /// Its environment variables.
    pub environment: BTreeMap<String, String>,
    /// Form (`JSON` or `Text`) and level of its log lines: Lambda hands them over in `AWS_LAMBDA_LOG_FORMAT` and `AWS_LAMBDA_LOG_LEVEL`.
    pub logging: Logging,
    /// HTTP routes that lead to it.
    pub routes: Vec<Route>,
    /// The queue whose messages it is given.
    pub queue_source: Option<QueueSource>,
    /// The table whose changes it is given.
    pub stream_source: Option<StreamSource>,
    /// When it is started by the clock.
    pub schedule: Option<Schedule>,
    /// What its role allows.
    pub policy_statements: Vec<Statement>,
}

/// A function's logging configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// `JSON` or `Text`.
    pub format: String,
    /// The lowest level that is written, such as `INFO`.
    pub level: String,
}

/// A route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// API Gateway's route key: `GET /v1/jobs/{id}`, or `$default` for requests that fit no other route.
    pub key: String,
    /// Whether the authorizer stands before it.
    pub auth: bool,
}

/// An SQS event source mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSource {
    /// The logical id of the queue.
    pub queue_logical_id: String,
    /// Messages per invocation at most.
    pub batch_size: usize,
    /// How long a batch that is not full waits for more; zero when nothing is said.
    pub batching_window: Duration,
    /// Invocations at a time at most, if limited.
    pub maximum_concurrency: Option<usize>,
    /// Whether the function names the messages that failed, so that the others of their batch are done.
    pub report_batch_item_failures: bool,
}

/// A DynamoDB stream's event source mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSource {
    /// The logical id of the table.
    pub table_logical_id: String,
    /// Whether it begins with the oldest change that the stream has (`TRIM_HORIZON`), not with the next (`LATEST`).
    pub from_the_oldest: bool,
    /// Changes per invocation at most.
    pub batch_size: usize,
    /// Whether a batch that failed is halved.
    pub bisect: bool,
    /// How often a batch is tried again.
    pub retry_attempts: u32,
    /// A change older than this is dropped.
    pub maximum_record_age: Duration,
    /// Whether the function names the changes that failed, so that those before them are done.
    pub report_batch_item_failures: bool,
}

/// A WebSocket API, all of whose events go to one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketApi {
    /// Its logical id in the template.
    pub logical_id: String,
    /// Its stage: the path of its URL.
    pub stage: String,
    /// `$connect`, `$default`, `$disconnect`: those that it has.
    pub routes: Vec<String>,
    /// The logical id of the function.
    pub function_logical_id: String,
}

/// A schedule, with what Lambda does about an invocation that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The time between two starts.
    pub every: Duration,
    /// How often a failed invocation is tried again.
    pub retry_attempts: u32,
    /// An event older than this is dropped.
    pub maximum_event_age: Duration,
}

/// A statement of a role's policy, resources resolved to ARNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// `Allow` or `Deny`.
    pub effect: String,
    /// Actions, such as `dynamodb:GetItem`.
    pub actions: Vec<String>,
    /// ARNs.
    pub resources: Vec<String>,
    /// When it holds: all of these, in the order of operators and keys.
    pub conditions: Vec<Condition>,
}

/// A condition of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// How it compares, such as `ForAllValues:StringEquals`.
    pub operator: String,
    /// What it compares, such as `dynamodb:LeadingKeys`.
    pub key: String,
    /// What it compares with.
    pub values: Vec<String>,
}
