//! The environment variables of a function's process, and the ones only Lambda may set.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>, "Defined runtime environment
//! variables".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;

use crate::function::FunctionSettings;
use crate::lambda::LambdaSettings;

/// Names that a function's configuration may not carry: creating such a function fails on AWS.
const RESERVED: [&str; 16] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_TASK_ROOT",
];

/// Whether only Lambda sets this variable.
pub(crate) fn is_reserved(variable: &str) -> bool {
    RESERVED.contains(&variable)
}

/// Everything the process finds in its environment. Of the owner's own only `PATH` comes along.
pub(crate) fn of_environment(
    lambda: &LambdaSettings,
    function: &FunctionSettings,
    runtime_api: SocketAddr,
    environment: u64,
) -> BTreeMap<OsString, OsString> {
    let task_root = function.binary.parent().map(|folder| folder.as_os_str().to_owned()).unwrap_or_default();
    let mut variables: BTreeMap<OsString, OsString> = [
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_LAMBDA_LOG_LEVEL", &function.log_level),
    ]
    .into_iter()
    .chain(function.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    .map(|(name, value)| (name.into(), value.into()))
    .collect();
    let name = &function.name;
    variables.extend(
        [
            ("_HANDLER", "bootstrap".to_owned()),
            ("AWS_REGION", lambda.region.clone()),
            ("AWS_DEFAULT_REGION", lambda.region.clone()),
            ("AWS_LAMBDA_FUNCTION_NAME", name.clone()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mb.to_string()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
            ("AWS_LAMBDA_LOG_STREAM_NAME", format!("local/[$LATEST]{environment:08x}")),
            ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string()),
            ("AWS_ACCESS_KEY_ID", lambda.credentials.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", lambda.credentials.secret_access_key.clone()),
        ]
        .map(|(name, value)| (name.into(), value.into())),
    );
    variables.insert("LAMBDA_TASK_ROOT".into(), task_root);
    if let Some(token) = &lambda.credentials.session_token {
        variables.insert("AWS_SESSION_TOKEN".into(), token.into());
    }
    if let Some(path) = std::env::var_os("PATH") {
        variables.entry("PATH".into()).or_insert(path);
    }
    variables
}
