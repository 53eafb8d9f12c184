//! Who calls, as API Gateway tells an HTTP function.

use lambda_http::request::RequestContext;
use serde_json::json;

/// The context of a request that the authorizer has let through for this user.
///
/// # Errors
/// When it cannot be read as one.
pub fn context_of(user: &str) -> serde_json::Result<RequestContext> {
    let context = serde_json::from_value(json!({
        "authorizer": {"jwt": {"claims": {"sub": user}, "scopes": null}},
        "http": {"method": "POST"},
        "timeEpoch": 0,
    }))?;
    Ok(RequestContext::ApiGatewayV2(context))
}
