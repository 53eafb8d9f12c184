//! Functions: their settings, routes and event sources.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::node::Node;
use crate::resolve::Resolver;
use crate::{Function, Logging, QueueSource, Route, Schedule, Statement, StreamSource, TemplateError, roles};

/// What Lambda does with a failed asynchronous invocation when nothing is said.
const RETRY_ATTEMPTS_DEFAULT: u32 = 2;
/// How old Lambda lets an asynchronous event grow when nothing is said.
const EVENT_AGE_DEFAULT: Duration = Duration::from_hours(6);

/// What reading a function needs of the rest of the template.
pub(crate) struct Context<'a> {
    resolver: &'a Resolver<'a>,
    resources: &'a Node<'a>,
    globals: Map<String, Value>,
}

impl<'a> Context<'a> {
    /// `globals` and `resources` are those sections, resolved.
    pub(crate) fn new(
        resolver: &'a Resolver<'a>,
        globals: &Node<'_>,
        resources: &'a Node<'a>,
    ) -> Result<Self, TemplateError> {
        globals.only(&["Function"])?;
        let function = globals.get("Function").map(|node| node.mapping().cloned()).transpose()?;
        Ok(Self { resolver, resources, globals: function.unwrap_or_default() })
    }
}

/// Reads an `AWS::Serverless::Function`.
pub(crate) fn function(
    context: &Context<'_>,
    logical_id: &str,
    properties: &Node<'_>,
) -> Result<Function, TemplateError> {
    let merged = Value::Object(merge(&context.globals, properties.mapping()?));
    let properties = Node::new(&merged, properties.at());
    properties.only(&[
        "FunctionName",
        "Description",
        "Runtime",
        "Architectures",
        "CodeUri",
        "Handler",
        "Role",
        "Timeout",
        "MemorySize",
        "ReservedConcurrentExecutions",
        "LoggingConfig",
        "EventInvokeConfig",
        "Environment",
        "Events",
    ])?;
    let events = Events::read(context, &properties)?;
    Ok(Function {
        logical_id: logical_id.to_owned(),
        name: properties.need("FunctionName")?.text()?,
        binary: properties.need("Handler")?.text()?,
        timeout: properties.need("Timeout")?.seconds()?,
        memory_mb: properties.need("MemorySize")?.number_as()?,
        reserved_concurrency: optional(&properties, "ReservedConcurrentExecutions", Node::number_as)?,
        environment: optional(&properties, "Environment", environment)?.unwrap_or_default(),
        logging: logging(&properties.need("LoggingConfig")?)?,
        routes: events.routes,
        queue_source: events.queue_source,
        stream_source: events.stream_source,
        schedule: events.schedule,
        policy_statements: policy_statements(context, &properties)?,
    })
}

/// SAM's rule for `Globals`: mappings are merged, lists are joined, anything else of the function's own wins.
fn merge(global: &Map<String, Value>, own: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = global.clone();
    for (key, value) in own {
        let value = match (merged.get(key), value) {
            (Some(Value::Object(global)), Value::Object(own)) => Value::Object(merge(global, own)),
            (Some(Value::Array(global)), Value::Array(own)) => {
                Value::Array([global.as_slice(), own].concat())
            }
            _ => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

fn optional<'a, T>(
    properties: &Node<'a>,
    key: &str,
    read: impl Fn(&Node<'a>) -> Result<T, TemplateError>,
) -> Result<Option<T>, TemplateError> {
    properties.get(key).map(|node| read(&node)).transpose()
}

fn environment(node: &Node<'_>) -> Result<BTreeMap<String, String>, TemplateError> {
    node.only(&["Variables"])?;
    let variables = node.need("Variables")?.entries()?;
    variables.into_iter().map(|(name, value)| Ok((name.to_owned(), value.text()?))).collect()
}

fn logging(node: &Node<'_>) -> Result<Logging, TemplateError> {
    node.only(&["LogFormat", "ApplicationLogLevel", "SystemLogLevel", "LogGroup"])?;
    Ok(Logging { format: node.need("LogFormat")?.text()?, level: node.need("ApplicationLogLevel")?.text()? })
}

fn policy_statements(context: &Context<'_>, properties: &Node<'_>) -> Result<Vec<Statement>, TemplateError> {
    let role = context.resolver.resource_with_arn("AWS::IAM::Role", &properties.need("Role")?)?;
    roles::statements(&context.resources.need(&role)?)
}

/// A function's event sources, sorted out by kind.
#[derive(Default)]
struct Events {
    routes: Vec<Route>,
    queue_source: Option<QueueSource>,
    stream_source: Option<StreamSource>,
    schedule: Option<Schedule>,
}

impl Events {
    fn read(context: &Context<'_>, function: &Node<'_>) -> Result<Self, TemplateError> {
        let mut events = Self::default();
        for (_, event) in function.get("Events").map_or(Ok(Vec::new()), |node| node.entries())? {
            event.only(&["Type", "Properties"])?;
            let properties = event.need("Properties")?;
            match event.need("Type")?.text()?.as_str() {
                "HttpApi" => events.routes.push(route(context, &properties)?),
                "SQS" => set_once(&mut events.queue_source, queue_source(context, &properties)?, &event)?,
                "DynamoDB" => {
                    set_once(&mut events.stream_source, stream_source(context, &properties)?, &event)?;
                }
                "Schedule" => set_once(&mut events.schedule, schedule(function, &properties)?, &event)?,
                unknown => {
                    return Err(TemplateError::Unknown {
                        at: event.at().to_owned(),
                        name: unknown.to_owned(),
                    });
                }
            }
        }
        Ok(events)
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, event: &Node<'_>) -> Result<(), TemplateError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(TemplateError::Malformed {
            at: event.at().to_owned(),
            reason: "a second event source of this type for one function".to_owned(),
        }),
    }
}

fn route(context: &Context<'_>, event: &Node<'_>) -> Result<Route, TemplateError> {
    event.only(&["ApiId", "Method", "Path", "Auth"])?;
    let api_id =
        context.resolver.resource_with_reference("AWS::Serverless::HttpApi", &event.need("ApiId")?)?;
    let api = context.resources.need(&api_id)?.need("Properties")?;
    // SAM's rule: an event without both is the route for whatever fits no other.
    let key = match (event.get("Method"), event.get("Path")) {
        (None, None) => "$default".to_owned(),
        _ => format!("{} {}", event.need("Method")?.text()?.to_uppercase(), event.need("Path")?.text()?),
    };
    Ok(Route { key, auth: is_authorized(&api, event)? })
}

/// Checks an `AWS::Serverless::HttpApi`. Its authorizer is read from the routes; the local gateway does not throttle.
pub(crate) fn http_api(properties: &Node<'_>) -> Result<(), TemplateError> {
    properties.only(&["Auth", "DefaultRouteSettings"])?;
    let Some(settings) = properties.get("DefaultRouteSettings") else { return Ok(()) };
    settings.only(&["ThrottlingBurstLimit", "ThrottlingRateLimit"])?;
    settings.entries()?.iter().try_for_each(|(_, limit)| limit.number().map(drop))
}

/// The route's own authorizer, else the API's default. `NONE` on a route takes the default away.
fn is_authorized(api: &Node<'_>, event: &Node<'_>) -> Result<bool, TemplateError> {
    if let Some(auth) = event.get("Auth") {
        auth.only(&["Authorizer"])?;
        return Ok(auth.need("Authorizer")?.text()? != "NONE");
    }
    Ok(api.get("Auth").is_some_and(|auth| auth.get("DefaultAuthorizer").is_some()))
}

fn queue_source(context: &Context<'_>, event: &Node<'_>) -> Result<QueueSource, TemplateError> {
    event.only(&[
        "Queue",
        "BatchSize",
        "MaximumBatchingWindowInSeconds",
        "FunctionResponseTypes",
        "ScalingConfig",
    ])?;
    let responses = optional(event, "FunctionResponseTypes", Node::one_or_more)?.unwrap_or_default();
    Ok(QueueSource {
        queue_logical_id: context.resolver.resource_with_arn("AWS::SQS::Queue", &event.need("Queue")?)?,
        batch_size: event.need("BatchSize")?.number_as()?,
        batching_window: optional(event, "MaximumBatchingWindowInSeconds", Node::seconds)?
            .unwrap_or_default(),
        maximum_concurrency: optional(event, "ScalingConfig", |scaling| {
            scaling.only(&["MaximumConcurrency"])?;
            scaling.need("MaximumConcurrency")?.number_as()
        })?,
        report_batch_item_failures: responses.iter().any(|response| response == "ReportBatchItemFailures"),
    })
}

/// All that AWS has a default of its own for must be said: its defaults try for ever.
fn stream_source(context: &Context<'_>, event: &Node<'_>) -> Result<StreamSource, TemplateError> {
    event.only(&[
        "Stream",
        "StartingPosition",
        "BatchSize",
        "BisectBatchOnFunctionError",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "FunctionResponseTypes",
    ])?;
    let responses = optional(event, "FunctionResponseTypes", Node::one_or_more)?.unwrap_or_default();
    let start = event.need("StartingPosition")?;
    Ok(StreamSource {
        table_logical_id: context.resolver.table_with_stream(&event.need("Stream")?)?,
        from_the_oldest: match start.text()?.as_str() {
            "TRIM_HORIZON" => true,
            "LATEST" => false,
            _ => return Err(start.mismatch("TRIM_HORIZON or LATEST")),
        },
        batch_size: event.need("BatchSize")?.number_as()?,
        bisect: optional(event, "BisectBatchOnFunctionError", Node::flag)?.unwrap_or_default(),
        retry_attempts: event.need("MaximumRetryAttempts")?.number_as()?,
        maximum_record_age: event.need("MaximumRecordAgeInSeconds")?.seconds()?,
        report_batch_item_failures: responses.iter().any(|response| response == "ReportBatchItemFailures"),
    })
}

/// A clock's event is an asynchronous invocation: once Lambda has it, the function's own `EventInvokeConfig` decides what follows a failure,
/// not the rule's retry policy.
fn schedule(function: &Node<'_>, event: &Node<'_>) -> Result<Schedule, TemplateError> {
    event.only(&["Schedule", "RetryPolicy"])?;
    let (mut retry_attempts, mut maximum_event_age) = (None, None);
    if let Some(invoke) = function.get("EventInvokeConfig") {
        invoke.only(&["MaximumRetryAttempts", "MaximumEventAgeInSeconds"])?;
        retry_attempts = optional(&invoke, "MaximumRetryAttempts", Node::number_as)?;
        maximum_event_age = optional(&invoke, "MaximumEventAgeInSeconds", Node::seconds)?;
    }
    Ok(Schedule {
        every: rate(&event.need("Schedule")?)?,
        retry_attempts: retry_attempts.unwrap_or(RETRY_ATTEMPTS_DEFAULT),
        maximum_event_age: maximum_event_age.unwrap_or(EVENT_AGE_DEFAULT),
    })
}

/// `rate(1 minute)`, `rate(5 minutes)`, likewise hours and days.
fn rate(node: &Node<'_>) -> Result<Duration, TemplateError> {
    let text = node.text()?;
    let wrong = || node.mismatch("a rate such as `rate(1 minute)`");
    let inner = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
    let (count, unit) = inner.split_once(' ').ok_or_else(wrong)?;
    let unit_seconds: u64 = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = count.parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(unit_seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}
