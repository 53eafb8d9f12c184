//! The events of a WebSocket API.
//!
//! Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-lambda-proxy-integration.html>
//! and the mapping template reference beside it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::websocket::Sockets;
use crate::ids;

/// One client, as its events tell of it.
pub(super) struct Client {
    pub(super) connection_id: String,
    connected_at: u64,
    source_ip: String,
    user_agent: Option<String>,
    domain_name: String,
}

/// What happened.
pub(super) enum Kind<'a> {
    Connect { headers: &'a HeaderMap, query: &'a str },
    Message { message_id: &'a str, body: &'a str },
    Disconnect,
}

impl Client {
    pub(super) fn new(sockets: &Sockets, headers: &HeaderMap, source_ip: IpAddr) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            connection_id: ids::connection_id(),
            connected_at: ids::epoch_millis(),
            source_ip: source_ip.to_string(),
            user_agent: text(header::USER_AGENT),
            domain_name: text(header::HOST).unwrap_or_else(|| format!("127.0.0.1:{}", sockets.port)),
        }
    }
}

/// The event, as JSON.
pub(super) fn build(sockets: &Sockets, client: &Client, kind: &Kind<'_>) -> Bytes {
    let (route_key, event_type) = match kind {
        Kind::Connect { .. } => ("$connect", "CONNECT"),
        Kind::Message { .. } => ("$default", "MESSAGE"),
        Kind::Disconnect => ("$disconnect", "DISCONNECT"),
    };
    let mut context = json!({
        "routeKey": route_key,
        "eventType": event_type,
        "extendedRequestId": ids::gateway_request_id(),
        "requestTime": ids::common_log_time(),
        "messageDirection": "IN",
        "stage": sockets.settings.stage,
        "connectedAt": client.connected_at,
        "requestTimeEpoch": ids::epoch_millis(),
        "identity": {"sourceIp": client.source_ip, "userAgent": client.user_agent},
        "requestId": ids::gateway_request_id(),
        "domainName": client.domain_name,
        "connectionId": client.connection_id,
        "apiId": sockets.api_id,
        "accountId": sockets.account_id,
    });
    let mut event = Map::new();
    match kind {
        Kind::Connect { headers, query } => {
            let (headers, multi) = all_headers(headers);
            event.insert("headers".to_owned(), json!(headers));
            event.insert("multiValueHeaders".to_owned(), json!(multi));
            let query = parameters(query);
            if !query.is_empty() {
                let first: BTreeMap<_, _> =
                    query.iter().filter_map(|(name, values)| Some((name, values.last()?))).collect();
                event.insert("queryStringParameters".to_owned(), json!(first));
                event.insert("multiValueQueryStringParameters".to_owned(), json!(query));
            }
        }
        Kind::Message { message_id, body } => {
            if let Value::Object(context) = &mut context {
                context.insert("messageId".to_owned(), json!(message_id));
            }
            event.insert("body".to_owned(), json!(body));
        }
        Kind::Disconnect => {}
    }
    event.insert("requestContext".to_owned(), context);
    event.insert("isBase64Encoded".to_owned(), json!(false));
    Bytes::from(Value::Object(event).to_string())
}

type Values = BTreeMap<String, Vec<String>>;

fn all_headers(headers: &HeaderMap) -> (BTreeMap<String, String>, Values) {
    let (mut last, mut all) = (BTreeMap::new(), Values::new());
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        last.insert(name.to_string(), value.clone());
        all.entry(name.to_string()).or_default().push(value);
    }
    (last, all)
}

fn parameters(query: &str) -> Values {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let mut values = Values::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        values.entry(decode(name)).or_default().push(decode(value));
    }
    values
}
