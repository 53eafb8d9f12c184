//! The WebSocket API: which function its clients' events go to.

use crate::node::Node;
use crate::resolve::Resolver;
use crate::{TemplateError, WebSocketApi};

/// Routes that API Gateway knows by itself; others would be chosen by what a message says.
const ROUTES: [&str; 3] = ["$connect", "$default", "$disconnect"];

/// Reads an `AWS::ApiGatewayV2::Api` with the stage, the routes and the integration that name it.
pub(crate) fn api(
    resolver: &Resolver<'_>,
    resources: &Node<'_>,
    logical_id: &str,
    properties: &Node<'_>,
) -> Result<WebSocketApi, TemplateError> {
    properties.only(&["Name", "ProtocolType", "RouteSelectionExpression"])?;
    if properties.need("ProtocolType")?.text()? != "WEBSOCKET" {
        return Err(properties.need("ProtocolType")?.mismatch("WEBSOCKET"));
    }
    let own = |kind: &str| of_api(resolver, resources, logical_id, kind);
    let missing = |what: &str| TemplateError::Missing { at: format!("{} {what}", properties.at()) };
    let stages = own("AWS::ApiGatewayV2::Stage")?;
    let stage = stages.first().ok_or_else(|| missing("stage"))?;
    stage.only(&["ApiId", "StageName", "AutoDeploy", "DefaultRouteSettings"])?;
    let mut target = None;
    let mut routes = Vec::new();
    for route in own("AWS::ApiGatewayV2::Route")? {
        route.only(&["ApiId", "RouteKey", "AuthorizationType", "Target"])?;
        let key = route.need("RouteKey")?;
        if !ROUTES.contains(&key.text()?.as_str()) {
            return Err(key.mismatch("$connect, $default or $disconnect"));
        }
        routes.push(key.text()?);
        let leads_to = route.need("Target")?.text()?;
        if target.get_or_insert_with(|| leads_to.clone()) != &leads_to {
            return Err(route.need("Target")?.mismatch("the target of the other routes"));
        }
    }
    let target = target.ok_or_else(|| missing("route"))?;
    for (integration_id, resource) in resources.entries()? {
        let is_target = resource.need("Type")?.text()? == "AWS::ApiGatewayV2::Integration"
            && target == format!("integrations/{}", resolver.reference_to(integration_id)?);
        if is_target {
            let function_logical_id = integration(resolver, resources, &resource.need("Properties")?)?;
            return Ok(WebSocketApi {
                logical_id: logical_id.to_owned(),
                stage: stage.need("StageName")?.text()?,
                routes,
                function_logical_id,
            });
        }
    }
    Err(TemplateError::DanglingReference { at: properties.at().to_owned(), name: target })
}

/// The properties of each resource of this kind whose `ApiId` is this API.
fn of_api<'a>(
    resolver: &Resolver<'_>,
    resources: &Node<'a>,
    logical_id: &str,
    kind: &str,
) -> Result<Vec<Node<'a>>, TemplateError> {
    let reference = resolver.reference_to(logical_id)?;
    let mut found = Vec::new();
    for (_, resource) in resources.entries()? {
        if resource.need("Type")?.text()? == kind {
            let properties = resource.need("Properties")?;
            if properties.need("ApiId")?.text()? == reference {
                found.push(properties);
            }
        }
    }
    Ok(found)
}

/// The function that an integration invokes. It must be allowed to.
fn integration(
    resolver: &Resolver<'_>,
    resources: &Node<'_>,
    properties: &Node<'_>,
) -> Result<String, TemplateError> {
    properties.only(&["ApiId", "IntegrationType", "IntegrationUri"])?;
    let uri = properties.need("IntegrationUri")?;
    for (function_id, resource) in resources.entries()? {
        if resource.need("Type")?.text()? == "AWS::Serverless::Function"
            && uri.text()?.ends_with(&format!("/functions/{}/invocations", resolver.arn_of(function_id)?))
        {
            return Ok(function_id.to_owned());
        }
    }
    Err(TemplateError::DanglingReference { at: uri.at().to_owned(), name: uri.text()? })
}

/// Checks an `AWS::Lambda::Permission`. Locally whoever may invoke a function is whoever is wired to it.
pub(crate) fn permission(properties: &Node<'_>) -> Result<(), TemplateError> {
    properties.only(&["Action", "FunctionName", "Principal", "SourceArn"])
}
