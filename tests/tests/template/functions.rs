//! Functions: the times that must agree, their event sources, routes, settings and logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use darkroom_core::limits;
use darkroom_template::{Function, Route, WebSocketApi};
use serde_json::{Value, json};

use crate::{Faults, View};

/// Each route of this stage, the function it leads to, and whether the authorizer stands before it.
const ROUTES: [(&str, &str, bool); 29] = [
    ("submit", "POST /v1/batches", true),
    ("submit", "POST /v1/jobs", true),
    ("submit", "POST /v1/jobs/{id}/retry", true),
    ("submit", "POST /v1/exports", true),
    // Whatever fits no other route: its answer is ours too.
    ("api", "$default", true),
    ("api", "DELETE /v1/jobs/{id}", true),
    ("api", "GET /health", false),
    ("api", "GET /v1/account", true),
    ("api", "GET /v1/account/entries", true),
    ("api", "GET /v1/batches/{id}", true),
    ("api", "GET /v1/exports/{id}", true),
    ("api", "GET /v1/jobs", true),
    ("api", "GET /v1/jobs/{id}", true),
    ("api", "GET /v1/models", true),
    ("api", "GET /v1/queue", true),
    ("api", "PATCH /v1/jobs/{id}/metadata", true),
    ("api", "POST /v1/batches/{id}/cancel", true),
    ("api", "POST /v1/jobs/{id}/cancel", true),
    ("api", "POST /v1/jobs/{id}/publish", true),
    ("api", "POST /v1/jobs/{id}/unpublish", true),
    ("api", "POST /v1/uploads", true),
    ("api", "POST /v1/ws-tickets", true),
    ("api", "GET /v1/webhooks", true),
    ("api", "POST /v1/webhooks", true),
    ("api", "DELETE /v1/webhooks/{id}", true),
    ("api", "POST /v1/webhooks/{id}/rotate", true),
    ("api", "POST /v1/webhooks/{id}/enable", true),
    ("api", "GET /v1/webhooks/{id}/deliveries", true),
    ("api", "POST /v1/webhooks/{id}/deliveries/{delivery}/resend", true),
];

pub(crate) fn check(view: &View<'_>, faults: &mut Faults) {
    let binaries: BTreeSet<_> =
        view.stack.functions.iter().map(|function| function.binary.as_str()).collect();
    faults.same("functions", &binaries, &["api", "bulk", "notifier", "submit", "sweeper", "worker"].into());
    for function in &view.stack.functions {
        check_runtime(view, function, faults);
        check_logs(view, function, faults);
    }
    check_times(view, faults);
    check_concurrency(view, faults);
    check_consumers(view, faults);
    check_sweeper(view, faults);
    check_notifier(view, faults);
    check_webhooks(view, faults);
    check_websocket(view, faults);
    check_routes(view, faults);
    check_authorizer(view, faults);
}

fn check_runtime(view: &View<'_>, function: &Function, faults: &mut Faults) {
    let (id, binary) = (&function.logical_id, &function.binary);
    faults.same(&format!("{id} name"), &function.name, &format!("dark-{binary}"));
    faults.same(
        &format!("{id} build"),
        view.written(&format!("{id}/Metadata/BuildMethod")),
        &json!("makefile"),
    );
    let globals = &view.tree["Globals"]["Function"];
    faults.same("runtime", &globals["Runtime"], &json!("provided.al2023"));
    faults.same("processor", &globals["Architectures"], &json!([{"Ref": "Architecture"}]));
    faults.same("folder of the Makefile", &globals["CodeUri"], &json!("."));
    let memory_mb = if binary == "worker" { 512 } else { 256 };
    faults.same(&format!("{id} memory"), &function.memory_mb, &memory_mb);
}

fn check_logs(view: &View<'_>, function: &Function, faults: &mut Faults) {
    let id = &function.logical_id;
    faults.same(&format!("{id} log lines"), &function.logging.format.as_str(), &"JSON");
    faults.same(&format!("{id} log level"), &function.logging.level.as_str(), &"INFO");
    let level = &view.tree["Globals"]["Function"]["LoggingConfig"]["SystemLogLevel"];
    faults.same("Lambda's own log level", level, &json!("WARN"));
    let group = &view.written(&format!("{id}/Properties/LoggingConfig/LogGroup"))["Ref"];
    let properties = view.written(&format!("{}/Properties", group.as_str().unwrap_or("?")));
    let name = json!({"Fn::Sub": format!("/aws/lambda/${{AWS::StackName}}-{}", function.binary)});
    faults.same(&format!("{id} log group"), &properties["LogGroupName"], &name);
    let retention = json!({"Ref": "LogRetentionDays"});
    faults.same(&format!("{id} log retention"), &properties["RetentionInDays"], &retention);
}

/// "Times that must agree": the constants agree among themselves at compile time, and here with the template.
fn check_times(view: &View<'_>, faults: &mut Faults) {
    let timeouts: BTreeMap<_, _> =
        view.stack.functions.iter().map(|function| (function.binary.as_str(), function.timeout)).collect();
    let wanted = [
        ("api", limits::HTTP_TIMEOUT),
        ("bulk", limits::BULK_TIMEOUT),
        ("notifier", limits::NOTIFIER_TIMEOUT),
        ("submit", limits::HTTP_TIMEOUT),
        ("sweeper", limits::SWEEPER_TIMEOUT),
        ("worker", limits::WORKER_TIMEOUT),
    ];
    faults.same("time-outs", &timeouts, &wanted.into());
    for consumer in ["worker", "bulk"] {
        let timeout = timeouts.get(consumer).copied().unwrap_or_default();
        let source = view.function(consumer).and_then(|function| function.queue_source.as_ref());
        let queue = source.and_then(|source| view.stack.queue(&source.queue_logical_id));
        let visibility = queue.and_then(|queue| queue.attributes.get("VisibilityTimeout")?.parse().ok());
        let visibility = visibility.map(Duration::from_secs).unwrap_or_default();
        let what = format!("visibility is at least six times the time-out of {consumer}");
        faults.require(visibility >= timeout * 6, &what);
    }
    let worker = timeouts.get("worker").copied().unwrap_or_default();
    faults.require(worker + limits::LEASE_MARGIN <= limits::LEASE_MAX, "a lease outlives its invocation");
}

fn check_concurrency(view: &View<'_>, faults: &mut Faults) {
    let reserved = |binary: &str| view.function(binary).and_then(|function| function.reserved_concurrency);
    faults.same("sweepers at a time", &reserved("sweeper"), &Some(1));
    faults.require(reserved("submit").is_some(), "submit has environments of its own");
    faults
        .require(reserved("notifier").is_some(), "the notifier cannot take the environments of the workers");
    faults.require(reserved("api").is_some(), "api cannot take the environments of submit");
}

/// The consumers: each of a queue of its own, which its producers name by this variable.
fn check_consumers(view: &View<'_>, faults: &mut Faults) {
    check_consumer(view, ("worker", 10), "DARKROOM_QUEUE_URL", &["submit", "sweeper", "api", "bulk"], faults);
    // A record at a time: each may take as long as the function has.
    check_consumer(view, ("bulk", 1), "DARKROOM_BULK_QUEUE_URL", &["submit", "sweeper"], faults);
    let queue = |binary: &str| Some(&view.function(binary)?.queue_source.as_ref()?.queue_logical_id);
    faults.require(queue("worker") != queue("bulk"), "what takes long waits in a queue of its own");
    let has_queue = |function: &&Function| function.queue_source.is_some();
    let consumers: BTreeSet<_> =
        view.stack.functions.iter().filter(has_queue).map(|function| function.binary.as_str()).collect();
    faults.same("functions that consume", &consumers, &["bulk", "notifier", "worker"].into());
}

fn check_consumer(
    view: &View<'_>,
    (consumer, batch): (&str, usize),
    variable: &str,
    producers: &[&str],
    faults: &mut Faults,
) {
    let Some(source) = view.function(consumer).and_then(|function| function.queue_source.as_ref()) else {
        return faults.require(false, &format!("the {consumer} listens to a queue"));
    };
    faults.require(
        source.report_batch_item_failures,
        &format!("one bad message does not fail its batch: {consumer}"),
    );
    faults.same(&format!("batch of {consumer}"), &source.batch_size, &batch);
    faults.same(&format!("{consumer}'s wait for a full batch"), &source.batching_window, &Duration::ZERO);
    let limited = source.maximum_concurrency.is_some();
    faults.require(limited, &format!("the number of environments of {consumer} is limited"));

    let url = view.stack.queue(&source.queue_logical_id).map(|queue| queue.url.as_str());
    for producer in producers {
        let named = view.function(producer).and_then(|function| function.environment.get(variable));
        let what = format!("{producer} names the queue that the {consumer} listens to");
        faults.same(&what, &named.map(String::as_str), &url);
    }
}

/// Both ends of the webhooks' queue, and what calls may take from others.
fn check_webhooks(view: &View<'_>, faults: &mut Faults) {
    let Some(source) = view.function("notifier").and_then(|notifier| notifier.queue_source.as_ref()) else {
        return faults.require(false, "the notifier listens to the webhooks' queue");
    };
    faults.require(source.report_batch_item_failures, "one bad delivery does not fail its batch");
    faults.same("deliveries at a time", &source.batch_size, &10);
    faults.same("wait for a full batch of deliveries", &source.batching_window, &Duration::ZERO);
    let most = view.written("NotifierFunction/Properties/Events/Deliveries/Properties/ScalingConfig");
    faults.same(
        "environments that call",
        most,
        &json!({"MaximumConcurrency": {"Ref": "WebhookConcurrency"}}),
    );
    let calling = source.maximum_concurrency.unwrap_or_default();
    let reserved = view.function("notifier").and_then(|notifier| notifier.reserved_concurrency);
    faults.require(reserved.is_some_and(|all| calling < all), "calls leave environments to connections");
    let queue = view.stack.queue(&source.queue_logical_id);
    for producer in ["notifier", "sweeper"] {
        let named = view
            .function(producer)
            .and_then(|function| function.environment.get("DARKROOM_WEBHOOK_QUEUE_URL"));
        let what = format!("{producer} names the queue that deliveries are called from");
        faults.same(&what, &named.map(String::as_str), &queue.map(|queue| queue.url.as_str()));
    }
    // Only a local system may be told to call anything but public servers.
    for function in &view.stack.functions {
        let is_set = function.environment.contains_key("DARKROOM_WEBHOOK_REACH");
        faults.require(!is_set, &format!("{} may not be told where webhooks are", function.binary));
    }
}

fn check_sweeper(view: &View<'_>, faults: &mut Faults) {
    let Some(sweeper) = view.function("sweeper") else { return };
    let Some(schedule) = &sweeper.schedule else {
        return faults.require(false, "the sweeper is started by the clock");
    };
    faults.same("time between sweeps", &schedule.every, &limits::SWEEP);
    faults.same("retries of a failed sweep", &schedule.retry_attempts, &0);
    faults.same("age of a late sweep", &schedule.maximum_event_age, &limits::SWEEP);
    // The same twice: the rule's policy holds until Lambda has the event, the function's after that.
    let events = view.written(&format!("{}/Properties/Events", sweeper.logical_id));
    let rule =
        events.as_object().and_then(|events| events.values().find(|event| event["Type"] == "Schedule"));
    let policy = rule.map_or(&Value::Null, |rule| &rule["Properties"]["RetryPolicy"]);
    let wanted = json!({"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": limits::SWEEP.as_secs()});
    faults.same("retries of the rule", policy, &wanted);
}

/// All that AWS would otherwise do for ever, or at once for all.
fn check_notifier(view: &View<'_>, faults: &mut Faults) {
    let Some(source) = view.function("notifier").and_then(|notifier| notifier.stream_source.as_ref()) else {
        return faults.require(false, "the notifier follows a table");
    };
    faults.same("table that the notifier follows", &source.table_logical_id.as_str(), &"JobsTable");
    faults.require(source.from_the_oldest, "no change is missed when the mapping is made or changed");
    faults.same("changes at a time", &source.batch_size, &limits::CHANGES_AT_ONCE);
    faults.require(source.bisect, "a change that fails the notifier is found");
    faults.same("tries of a change", &source.retry_attempts, &limits::CHANGE_TRIES_MAX);
    faults.same("age of a change", &source.maximum_record_age, &limits::CHANGE_AGE_MAX);
    faults.require(source.report_batch_item_failures, "one bad change does not fail its batch");
    let others = view.stack.functions.iter().filter(|function| function.binary != "notifier");
    faults.require(
        others.into_iter().all(|function| function.stream_source.is_none()),
        "only the notifier follows changes",
    );
}

/// Who connects, what goes where, and where both functions say that it is.
fn check_websocket(view: &View<'_>, faults: &mut Faults) {
    let wanted = WebSocketApi {
        logical_id: "WebSocketApi".to_owned(),
        stage: "ws".to_owned(),
        routes: ["$connect", "$disconnect", "$default"].map(str::to_owned).into(),
        function_logical_id: "NotifierFunction".to_owned(),
    };
    faults.same("WebSocket API", &view.stack.websocket.as_ref(), &Some(&wanted));
    let name = json!({"Fn::Sub": "${AWS::StackName}-websocket"});
    faults.same("WebSocket API's name", view.written("WebSocketApi/Properties/Name"), &name);
    let selection = view.written("WebSocketApi/Properties/RouteSelectionExpression");
    faults.same("what chooses a route", selection, &json!("$request.body.type"));
    for route in ["WebSocketConnect", "WebSocketMessage", "WebSocketDisconnect"] {
        // `$connect` takes a ticket; the others know the connection.
        let kind = view.written(&format!("{route}/Properties/AuthorizationType"));
        faults.same(&format!("{route} authorizer"), kind, &json!("NONE"));
    }
    let integration = view.written("WebSocketIntegration/Properties/IntegrationType");
    faults.same("WebSocket integration", integration, &json!("AWS_PROXY"));
    faults.same(
        "WebSocket integration's API",
        view.written("WebSocketIntegration/Properties/ApiId"),
        &json!({"Ref": "WebSocketApi"}),
    );
    let uri = view.written("WebSocketIntegration/Properties/IntegrationUri");
    let invocations = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${NotifierFunction.Arn}/invocations";
    faults.same("WebSocket integration's function", uri, &json!({"Fn::Sub": invocations}));
    faults.same("WebSocket deployment", view.written("WebSocketStage/Properties/AutoDeploy"), &json!(true));
    let limits = view.written("WebSocketStage/Properties/DefaultRouteSettings");
    faults.same("messages of all clients", limits, view.written("Api/Properties/DefaultRouteSettings"));
    let permission = json!({
        "Action": "lambda:InvokeFunction",
        "FunctionName": {"Fn::GetAtt": ["NotifierFunction", "Arn"]},
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${WebSocketApi}/*"},
    });
    faults.same("who may invoke the notifier", view.written("WebSocketPermission/Properties"), &permission);
}

fn check_routes(view: &View<'_>, faults: &mut Faults) {
    let of_function = |function: &Function| {
        let binary = function.binary.clone();
        let route = move |route: &Route| (binary.clone(), route.key.clone(), route.auth);
        function.routes.iter().map(route).collect::<Vec<_>>()
    };
    let found: BTreeSet<_> = view.stack.functions.iter().flat_map(of_function).collect();
    let wanted = ROUTES.map(|(binary, key, auth)| (binary.into(), key.into(), auth));
    faults.same("routes", &found, &wanted.into());
    let open = found.iter().filter(|(_, key, auth)| key.as_str() != "GET /health" && !auth).count();
    faults.same("routes beside /health without the authorizer", &open, &0);
    let limits = json!({
        "ThrottlingRateLimit": {"Ref": "ThrottlingRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottlingBurst"},
    });
    faults.same("requests per route", view.written("Api/Properties/DefaultRouteSettings"), &limits);
}

fn check_authorizer(view: &View<'_>, faults: &mut Faults) {
    let auth = json!({
        "DefaultAuthorizer": "Jwt",
        "Authorizers": {"Jwt": {
            "IdentitySource": "$request.header.Authorization",
            "AuthorizationScopes": [{"Ref": "JwtScope"}],
            "JwtConfiguration": {"issuer": {"Ref": "JwtIssuer"}, "audience": [{"Ref": "JwtAudience"}]},
        }},
    });
    faults.same("authorizer", view.written("Api/Properties/Auth"), &auth);
}
