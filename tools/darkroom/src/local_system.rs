//! The whole system on one machine: a local AWS, Lambda's part, and the functions' real binaries, as the template
//! that is deployed describes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use darkroom_aws::clients::Clients;
use darkroom_local_aws::{CorsRule, LocalAws, Ports};
use darkroom_local_lambda::{
    EventSourceMapping, Function, FunctionSettings, Gateway, GatewayListener, GatewaySettings, Lambda,
    LambdaSettings, MappingSettings, Route, Schedule, ScheduleSettings, StreamMapping, StreamMappingSettings,
    StreamReader, StreamRecord, WebSocketSettings,
};
use darkroom_template::{Function as DeployedFunction, Names, Stack, Template};
use futures::future::BoxFuture;

use crate::catalogue;
use crate::connect::{LOCAL_ACCESS_KEY, LOCAL_SECRET_KEY, Running, Stores};

/// `infra/template.yaml`.
const TEMPLATE: &str = include_str!("../../../infra/template.yaml");
/// The stack's name: the first part of every resource's.
const STACK: &str = "darkroom-local";
/// The binary of the function that draws: whose source and concurrency the settings are about.
const WORKER: &str = "worker";
const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";

/// How to start a local system.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// Holds everything; made when absent.
    pub data: PathBuf,
    /// The HTTP API's port; 0 takes any free one.
    pub port: u16,
    /// Worker environments at most, each drawing up to ten jobs at a time.
    pub workers: usize,
    /// The functions' binaries.
    pub binaries: PathBuf,
    /// Settings (`DARKROOM_…`) on top of the template's, for the functions that have them.
    pub variables: BTreeMap<String, String>,
    /// Functions' time-outs on top of the template's, by the binary's name: tests shorten them.
    pub timeouts: BTreeMap<String, Duration>,
    /// The queue's visibility time-out instead of the template's: tests shorten it.
    pub visibility_timeout: Option<Duration>,
    /// Messages per invocation of the worker instead of the template's: benches choose how many jobs are in flight.
    pub batch_size: Option<usize>,
    /// How long a batch that is not full waits for more, instead of the template's: a batch of more than ten needs it.
    pub batching_window: Option<Duration>,
    /// Whether the worker is given messages from the start; otherwise once
    /// [`LocalSystem::start_consuming`] is called.
    pub consuming: bool,
    /// Whether the functions' requests to DynamoDB are counted, at the cost of a hop for each.
    pub count_dynamodb: bool,
    /// Every so manieth of the functions' transactions is cancelled as one that met another, where requests are counted; 0
    /// for none.
    pub conflict_every: u64,
    /// DynamoDB's clock is so far ahead of this machine's, or behind it, where requests are counted.
    pub clock_ahead_seconds: i64,
    /// How long a WebSocket connection may be without messages, and how long it may be open, instead of API Gateway's own
    /// limits: tests shorten them.
    pub connection_limits: Option<(Duration, Duration)>,
    /// Whether the schedule runs: a test that sweeps by hand wants no other sweeper.
    pub scheduled: bool,
}

impl LocalSettings {
    /// The template's settings, on this folder, with these binaries.
    pub fn new(data: impl Into<PathBuf>, binaries: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            port: 0,
            workers: 4,
            binaries: binaries.into(),
            variables: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            visibility_timeout: None,
            batch_size: None,
            batching_window: None,
            consuming: true,
            count_dynamodb: false,
            conflict_every: 0,
            clock_ahead_seconds: 0,
            connection_limits: None,
            scheduled: true,
        }
    }
}

/// A running local system.
pub struct LocalSystem {
    aws: LocalAws,
    lambda: Lambda,
    gateway: Gateway,
    stack: Stack,
    /// The worker's.
    /// By the function that they give messages to.
    mappings: BTreeMap<String, EventSourceMapping>,
    stream_mappings: Vec<StreamMapping>,
    schedules: Vec<Schedule>,
    running: Running,
    data: PathBuf,
    dead_letter_queue_url: String,
}

/// The names of the functions' binaries, from the template.
///
/// # Errors
/// Never, unless the template was broken when this program was built.
pub fn function_names() -> anyhow::Result<Vec<String>> {
    let stack = stack("http://127.0.0.1", "http://127.0.0.1", &BTreeMap::new())?;
    Ok(stack.functions.into_iter().map(|function| function.binary).collect())
}

impl LocalSystem {
    /// Starts everything; answers requests once this returns.
    ///
    /// # Errors
    /// When a folder, port or binary cannot be used; each says what to do.
    pub fn start(settings: LocalSettings) -> BoxFuture<'static, anyhow::Result<Self>> {
        // Boxed here, so that it is compiled here and not in each program that starts one.
        Box::pin(Self::start_all(settings))
    }

    async fn start_all(settings: LocalSettings) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&settings.data)
            .with_context(|| format!("the data folder {} cannot be made", settings.data.display()))?;
        let aws = LocalAws::start(aws_settings(&settings)).await?;
        // The functions must know where connections are told something.
        let listener = GatewayListener::bind(settings.port).await?;
        let api_url = format!("http://{}", listener.address());
        let parameters =
            BTreeMap::from([("WorkerConcurrency".to_owned(), settings.workers.max(2).to_string())]);
        let mut stack = stack(aws.sqs_endpoint(), &api_url, &parameters)?;
        make_stores(&aws, &stack, settings.visibility_timeout).await?;
        apply(&mut stack, &aws, &settings);
        let lambda = Lambda::new(lambda_settings(&settings.data))?;
        let functions = add_functions(&lambda, &stack, &settings)?;
        let running = running(&aws, &stack, api_url)?;
        catalogue::seed(&running.stores()?.keys, &catalogue::built_in()?).await?;
        let gateway = gateway(&stack, &functions, listener, settings.connection_limits)?;
        let stream_mappings = stream_mappings(&stack, &functions, &aws)?;
        let mut mappings = BTreeMap::new();
        for function in &stack.functions {
            if settings.consuming || function.binary != WORKER {
                let mapping = mapping(function, &stack, &lambda, &running)?;
                mappings.extend(mapping.map(|mapping| (function.binary.clone(), mapping)));
            }
        }
        let schedules = schedules(&stack, &functions, &settings)?;
        running.write(&settings.data)?;
        let dead_letter_queue_url = dead_letter_queue(&stack)?;
        Ok(Self {
            aws,
            lambda,
            gateway,
            stack,
            mappings,
            stream_mappings,
            schedules,
            running,
            data: settings.data,
            dead_letter_queue_url,
        })
    }

    /// Where it is.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The dead-letter queue's URL.
    pub fn dead_letter_queue_url(&self) -> &str {
        &self.dead_letter_queue_url
    }

    /// The local AWS.
    pub fn aws(&self) -> &LocalAws {
        &self.aws
    }

    /// The WebSocket API's URL.
    pub fn websocket_url(&self) -> &str {
        self.stack.outputs.get("WebSocketUrl").map_or("", String::as_str)
    }

    /// A function by its binary's name.
    pub fn function(&self, binary: &str) -> Option<Arc<Function>> {
        self.lambda.function(&format!("{STACK}-{binary}"))
    }

    /// The stores, for commands run in this process.
    ///
    /// # Errors
    /// Never, once the system has started.
    pub fn stores(&self) -> anyhow::Result<Stores> {
        self.running.stores()
    }

    /// [`Self::start_consuming_of`] the worker.
    ///
    /// # Errors
    /// As it says.
    pub fn start_consuming(&mut self) -> anyhow::Result<()> {
        self.start_consuming_of(WORKER)
    }

    /// [`Self::stop_consuming_of`] the worker.
    pub async fn stop_consuming(&mut self, grace: Duration) {
        self.stop_consuming_of(WORKER, grace).await;
    }

    /// Gives a function messages from now on, as enabling its event source mapping does. Nothing happens when that is so
    /// already.
    ///
    /// # Errors
    /// When there is none, and for a batch size or a batching window that AWS would refuse.
    pub fn start_consuming_of(&mut self, binary: &str) -> anyhow::Result<()> {
        if self.mappings.contains_key(binary) {
            return Ok(());
        }
        let function = self.stack.functions.iter().find(|function| function.binary == binary);
        let function = function.with_context(|| format!("there is no function {binary}"))?;
        let mapping = mapping(function, &self.stack, &self.lambda, &self.running)?;
        let mapping = mapping.with_context(|| format!("{binary} follows no queue"))?;
        self.mappings.insert(binary.to_owned(), mapping);
        Ok(())
    }

    /// Gives a function no more messages, and waits up to `grace` for the batches under way.
    pub async fn stop_consuming_of(&mut self, binary: &str, grace: Duration) {
        if let Some(mapping) = self.mappings.remove(binary) {
            mapping.shutdown(grace).await;
        }
    }

    /// Stops everything. Messages in workers' hands come again after the next start.
    pub async fn shutdown(self) {
        const GRACE: Duration = Duration::from_secs(2);
        self.gateway.shutdown(GRACE).await;
        for schedule in self.schedules {
            schedule.shutdown(Duration::ZERO).await;
        }
        for mapping in self.mappings.into_values() {
            mapping.shutdown(GRACE).await;
        }
        for mapping in self.stream_mappings {
            mapping.shutdown(GRACE).await;
        }
        self.lambda.shutdown(GRACE).await;
        self.aws.shutdown().await;
        Running::remove(&self.data);
    }
}

fn aws_settings(settings: &LocalSettings) -> darkroom_local_aws::Settings {
    let credentials = darkroom_local_aws::Credentials {
        access_key_id: LOCAL_ACCESS_KEY.to_owned(),
        secret_access_key: LOCAL_SECRET_KEY.to_owned(),
    };
    darkroom_local_aws::Settings {
        region: REGION.to_owned(),
        account_id: ACCOUNT.to_owned(),
        ports: Ports::default(),
        count_dynamodb: settings.count_dynamodb,
        conflict_every: settings.conflict_every,
        clock_ahead_seconds: settings.clock_ahead_seconds,
        ..darkroom_local_aws::Settings::new(settings.data.join("aws"), credentials)
    }
}

fn lambda_settings(data: &Path) -> LambdaSettings {
    let credentials = darkroom_local_lambda::Credentials {
        access_key_id: LOCAL_ACCESS_KEY.to_owned(),
        secret_access_key: LOCAL_SECRET_KEY.to_owned(),
        session_token: None,
    };
    LambdaSettings {
        log_folder: Some(data.join("logs")),
        ..LambdaSettings::new(REGION, ACCOUNT, credentials)
    }
}

/// The template for this machine. On AWS the authorizer checks tokens; here it plays that part without an issuer.
fn stack(
    queue_url_prefix: &str,
    api_url: &str,
    parameters: &BTreeMap<String, String>,
) -> anyhow::Result<Stack> {
    let mut all = BTreeMap::from([
        ("JwtIssuer".to_owned(), "https://localhost".to_owned()),
        ("JwtAudience".to_owned(), "darkroom-local".to_owned()),
    ]);
    all.extend(parameters.clone());
    let names = Names {
        stack: STACK.to_owned(),
        region: REGION.to_owned(),
        account: ACCOUNT.to_owned(),
        partition: "aws".to_owned(),
        queue_url_prefix: queue_url_prefix.to_owned(),
        api_url: api_url.to_owned(),
        parameters: all,
    };
    Template::parse(TEMPLATE)
        .and_then(|template| template.stack(&names))
        .context("infra/template.yaml cannot be read")
}

async fn make_stores(
    aws: &LocalAws,
    stack: &Stack,
    visibility_timeout: Option<Duration>,
) -> anyhow::Result<()> {
    for table in &stack.tables {
        aws.ensure_table(table.create_table.clone(), table.ttl_attribute.as_deref()).await?;
    }
    for bucket in &stack.buckets {
        aws.ensure_bucket(&bucket.name).await?;
        aws.set_bucket_cors(&bucket.name, bucket.cors.iter().map(cors_rule).collect());
    }
    for key in &stack.kms_keys {
        aws.ensure_key(&key.id)?;
    }
    for alias in &stack.kms_aliases {
        let key = stack.kms_key(&alias.key_logical_id).context("an alias's key is not in the template")?;
        aws.ensure_alias(&alias.name, &key.id)?;
    }
    // A dead-letter queue must be there before the queue that names it.
    let (first, then): (Vec<_>, Vec<_>) = stack.queues.iter().partition(|queue| queue.redrive.is_none());
    for queue in first.into_iter().chain(then) {
        let mut attributes = queue.attributes.clone();
        if let (Some(timeout), true) = (visibility_timeout, queue.redrive.is_some()) {
            attributes.insert("VisibilityTimeout".to_owned(), timeout.as_secs().to_string());
        }
        aws.ensure_queue(&queue.name, &attributes).await?;
    }
    Ok(())
}

fn cors_rule(rule: &darkroom_template::CorsRule) -> CorsRule {
    CorsRule {
        allowed_origins: rule.allowed_origins.clone(),
        allowed_methods: rule.allowed_methods.clone(),
        allowed_headers: rule.allowed_headers.clone(),
        max_age: rule.max_age,
    }
}

/// Endpoints, and the settings and time-outs on top of the template's.
fn apply(stack: &mut Stack, aws: &LocalAws, settings: &LocalSettings) {
    for function in &mut stack.functions {
        let endpoints = [
            ("AWS_ENDPOINT_URL_DYNAMODB", aws.dynamodb_endpoint()),
            ("AWS_ENDPOINT_URL_KMS", aws.kms_endpoint()),
            ("AWS_ENDPOINT_URL_S3", aws.s3_endpoint()),
            ("AWS_ENDPOINT_URL_SQS", aws.sqs_endpoint()),
        ];
        function.environment.extend(endpoints.map(|(name, url)| (name.to_owned(), url.to_owned())));
        // On a laptop an app's own server is on the laptop, too. On AWS the functions refuse this.
        function.environment.insert("DARKROOM_WEBHOOK_REACH".to_owned(), "anywhere".to_owned());
        function.environment.extend(settings.variables.clone());
        if let Some(timeout) = settings.timeouts.get(&function.binary) {
            function.timeout = *timeout;
        }
        if let Some(source) = function.queue_source.as_mut().filter(|_| function.binary == WORKER) {
            source.batch_size = settings.batch_size.unwrap_or(source.batch_size);
            source.batching_window = settings.batching_window.unwrap_or(source.batching_window);
            // `MaximumConcurrency` begins at 2: one environment is a matter of reserved concurrency.
            if settings.workers == 1 {
                function.reserved_concurrency = Some(1);
            }
        }
    }
}

fn add_functions(
    lambda: &Lambda,
    stack: &Stack,
    settings: &LocalSettings,
) -> anyhow::Result<BTreeMap<String, Arc<Function>>> {
    stack
        .functions
        .iter()
        .map(|function| {
            let most = function.queue_source.as_ref().and_then(|source| source.maximum_concurrency);
            let added = lambda.add(FunctionSettings {
                environment: function.environment.clone(),
                timeout: function.timeout,
                memory_mb: function.memory_mb,
                reserved_concurrency: function.reserved_concurrency.or(most).unwrap_or(10),
                log_level: function.logging.level.clone(),
                ..FunctionSettings::new(&function.name, settings.binaries.join(&function.binary))
            })?;
            Ok((function.logical_id.clone(), added))
        })
        .collect()
}

fn running(aws: &LocalAws, stack: &Stack, api_url: String) -> anyhow::Result<Running> {
    let sweeper = stack.functions.iter().find(|function| function.schedule.is_some());
    let variables = sweeper.map(|function| function.environment.clone()).unwrap_or_default();
    let queue_url =
        variables.get("DARKROOM_QUEUE_URL").cloned().context("the sweeper has no DARKROOM_QUEUE_URL")?;
    let kms_key = stack.kms_keys.first().context("the template has no KMS key")?;
    Ok(Running {
        process_id: std::process::id(),
        api_url,
        region: REGION.to_owned(),
        // The commands' own requests are not the functions'.
        dynamodb_url: aws.dynamodb_uncounted_endpoint().to_owned(),
        kms_url: aws.kms_endpoint().to_owned(),
        s3_url: aws.s3_endpoint().to_owned(),
        sqs_url: aws.sqs_endpoint().to_owned(),
        queue_url,
        kms_key: kms_key.id.clone(),
        sweeper_variables: variables,
    })
}

fn gateway(
    stack: &Stack,
    functions: &BTreeMap<String, Arc<Function>>,
    listener: GatewayListener,
    connection_limits: Option<(Duration, Duration)>,
) -> anyhow::Result<Gateway> {
    let mut routes = Vec::new();
    for function in &stack.functions {
        let Some(handle) = functions.get(&function.logical_id) else { continue };
        for route in &function.routes {
            let made = Route::new(&route.key, handle.clone())?;
            routes.push(if route.auth { made.authorized() } else { made });
        }
    }
    let websocket = websocket(stack, functions, connection_limits)?;
    Ok(Gateway::on(listener, GatewaySettings { websocket, ..GatewaySettings::new(ACCOUNT, routes) })?)
}

fn websocket(
    stack: &Stack,
    functions: &BTreeMap<String, Arc<Function>>,
    limits: Option<(Duration, Duration)>,
) -> anyhow::Result<Option<WebSocketSettings>> {
    let Some(api) = &stack.websocket else { return Ok(None) };
    // The local API hands all three on.
    for route in ["$connect", "$default", "$disconnect"] {
        anyhow::ensure!(api.routes.iter().any(|other| other == route), "the WebSocket API has no {route}");
    }
    let function =
        functions.get(&api.function_logical_id).context("the WebSocket API's function is missing")?;
    let mut settings = WebSocketSettings::new(&api.stage, function.clone(), LOCAL_ACCESS_KEY);
    if let Some((idle, whole)) = limits {
        (settings.idle_limit, settings.connection_limit) = (idle, whole);
    }
    Ok(Some(settings))
}

fn stream_mappings(
    stack: &Stack,
    functions: &BTreeMap<String, Arc<Function>>,
    aws: &LocalAws,
) -> anyhow::Result<Vec<StreamMapping>> {
    let mut mappings = Vec::new();
    for function in &stack.functions {
        let (Some(source), Some(handle)) = (&function.stream_source, functions.get(&function.logical_id))
        else {
            continue;
        };
        let table = stack.tables.iter().find(|table| table.logical_id == source.table_logical_id);
        let table = table.context("a function's table is not in the template")?.name.clone();
        mappings.push(StreamMapping::start(StreamMappingSettings {
            stream_arn: format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}/stream/now"),
            stream: stream_reader(aws, table),
            function: handle.clone(),
            from_the_oldest: source.from_the_oldest,
            batch_size: source.batch_size,
            bisect: source.bisect,
            retry_attempts: source.retry_attempts,
            maximum_record_age: source.maximum_record_age,
            report_batch_item_failures: source.report_batch_item_failures,
        })?);
    }
    Ok(mappings)
}

fn stream_reader(aws: &LocalAws, table: String) -> StreamReader {
    let reader = aws.stream_reader();
    Arc::new(move |after, limit| {
        let (reader, table) = (reader.clone(), table.clone());
        Box::pin(async move {
            let records = reader.read(table, after, limit).await?.into_iter();
            let record = |read: darkroom_local_aws::StreamRecord| StreamRecord {
                sequence_number: read.sequence_number,
                written_at: read.written_at,
                record: read.record,
            };
            Ok(records.map(record).collect())
        })
    })
}

/// The mapping from a function's queue to it; `None` when it follows none.
fn mapping(
    function: &DeployedFunction,
    stack: &Stack,
    lambda: &Lambda,
    running: &Running,
) -> anyhow::Result<Option<EventSourceMapping>> {
    let (Some(source), Some(handle)) = (&function.queue_source, lambda.function(&function.name)) else {
        return Ok(None);
    };
    let queue = stack.queue(&source.queue_logical_id).context("a function's queue is not in the template")?;
    Ok(Some(EventSourceMapping::start(MappingSettings {
        client: Clients::new(&running.access()).sqs,
        queue_url: queue.url.clone(),
        queue_arn: queue.arn.clone(),
        function: handle,
        batch_size: source.batch_size,
        batching_window: source.batching_window,
        maximum_concurrency: source.maximum_concurrency,
        report_batch_item_failures: source.report_batch_item_failures,
    })?))
}

fn schedules(
    stack: &Stack,
    functions: &BTreeMap<String, Arc<Function>>,
    settings: &LocalSettings,
) -> anyhow::Result<Vec<Schedule>> {
    let every = settings.variables.get("DARKROOM_SWEEP_SECONDS").and_then(|text| text.parse().ok());
    let mut schedules = Vec::new();
    for function in stack.functions.iter().filter(|_| settings.scheduled) {
        let (Some(schedule), Some(handle)) = (&function.schedule, functions.get(&function.logical_id)) else {
            continue;
        };
        schedules.push(Schedule::start(ScheduleSettings {
            name: format!("{STACK}-{}", function.binary),
            function: handle.clone(),
            every: every.map_or(schedule.every, Duration::from_secs),
            maximum_event_age: schedule.maximum_event_age,
            account_id: ACCOUNT.to_owned(),
            region: REGION.to_owned(),
        })?);
    }
    Ok(schedules)
}

/// Where messages end that no worker can begin.
fn dead_letter_queue(stack: &Stack) -> anyhow::Result<String> {
    stack.outputs.get("DeadLetterQueueUrl").cloned().context("the template tells of no dead-letter queue")
}
