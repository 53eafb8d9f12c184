//! The event of an HTTP API, payload format 2.0.
//!
//! Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version, header};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::hop_by_hop;
use crate::ids;

/// What is the same for every request of a gateway.
pub(crate) struct Place<'a> {
    pub(crate) account_id: &'a str,
    pub(crate) api_id: &'a str,
    pub(crate) port: u16,
}

/// One request as it arrived, matched and let through.
pub(crate) struct Incoming<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) source_ip: IpAddr,
    pub(crate) request_id: &'a str,
    pub(crate) route_key: &'a str,
    /// Percent-decoded, as HTTP APIs hand it on.
    pub(crate) path: &'a str,
    pub(crate) path_variables: BTreeMap<String, String>,
    /// The caller and the route's scopes, where the route wants a token.
    pub(crate) caller: Option<(&'a str, &'a [String])>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: String,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'a str,
    stage: &'static str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
struct Authorizer<'a> {
    jwt: Jwt<'a>,
}

#[derive(Serialize)]
struct Jwt<'a> {
    claims: BTreeMap<&'static str, String>,
    /// Null where the route names none.
    scopes: Option<&'a [String]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    user_agent: String,
}

/// The event, as JSON.
pub(crate) fn build(place: &Place<'_>, request: Incoming<'_>) -> Result<Bytes, serde_json::Error> {
    let headers = headers(place, &request);
    let (body, is_base64_encoded) = body(request.headers, request.body);
    let host = headers.get("host").cloned().unwrap_or_default();
    let user_agent = headers.get("user-agent").cloned().unwrap_or_default();
    let raw_query_string = request.uri.query().unwrap_or_default();
    let event = Event {
        version: "2.0",
        route_key: request.route_key,
        raw_path: request.path,
        raw_query_string,
        cookies: cookies(request.headers),
        headers,
        query_string_parameters: query_parameters(raw_query_string),
        path_parameters: request.path_variables,
        request_context: Context {
            account_id: place.account_id,
            api_id: place.api_id,
            authorizer: request.caller.map(|(caller, scopes)| authorizer(caller, scopes)),
            domain_name: host,
            domain_prefix: place.api_id,
            http: Http {
                method: request.method.as_str(),
                path: request.path,
                protocol: protocol(request.version),
                source_ip: request.source_ip.to_string(),
                user_agent,
            },
            request_id: request.request_id,
            route_key: request.route_key,
            stage: "$default",
            time: ids::common_log_time(),
            time_epoch: ids::epoch_millis(),
        },
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event).map(Bytes::from)
}

fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

fn authorizer<'a>(caller: &str, scopes: &'a [String]) -> Authorizer<'a> {
    let mut claims = BTreeMap::from([("sub", caller.to_owned())]);
    if !scopes.is_empty() {
        claims.insert("scope", scopes.join(" "));
    }
    Authorizer { jwt: Jwt { claims, scopes: (!scopes.is_empty()).then_some(scopes) } }
}

/// Lower-cased, repeated ones joined by commas, without those of the connection, with those API Gateway adds.
fn headers(place: &Place<'_>, request: &Incoming<'_>) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in request.headers {
        if *name == header::COOKIE || hop_by_hop(name, request.headers) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    // A length that was told by chunks is told in the headers; one that is told must be the real one.
    if !request.body.is_empty() {
        headers.insert("content-length".to_owned(), request.body.len().to_string());
    }
    let source = request.source_ip.to_string();
    headers
        .entry("x-forwarded-for".to_owned())
        .and_modify(|hops| {
            hops.push_str(", ");
            hops.push_str(&source);
        })
        .or_insert(source);
    headers.insert("x-forwarded-port".to_owned(), place.port.to_string());
    headers.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    headers.entry("x-amzn-trace-id".to_owned()).or_insert_with(ids::trace_id);
    headers.entry("host".to_owned()).or_insert_with(|| format!("127.0.0.1:{}", place.port));
    headers
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split("; "))
        .filter(|cookie| !cookie.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Decoded; the values of a repeated name joined by commas.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode_query(value);
        parameters
            .entry(decode_query(name))
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    parameters
}

fn decode_query(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Text goes as it is, everything else in base64.
fn body(headers: &HeaderMap, body: &Bytes) -> (Option<String>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    match std::str::from_utf8(body) {
        Ok(text) if is_text(headers) => (Some(text.to_owned()), false),
        _ => (Some(BASE64_STANDARD.encode(body)), true),
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || matches!(essence.as_str(), "application/json" | "application/javascript" | "application/xml")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
}
