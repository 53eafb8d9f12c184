//! The events that start the notifier, as far as they matter here.

use std::collections::BTreeMap;

use darkroom_core::id::ConnectionId;
use serde::Deserialize;
use serde_json::Value;

/// What happened.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// Records of the jobs table changed, or deliveries are to be called for.
    Records(Records),
    /// A client connects, speaks or has gone.
    Socket(SocketEvent),
}

/// A batch of a DynamoDB stream or of a queue (AWS Lambda developer guide, "Using Lambda with DynamoDB", "Using Lambda with
/// SQS"). Records stay as they are: one that cannot be read fails alone.
#[derive(Deserialize)]
pub struct Records {
    #[serde(rename = "Records")]
    pub(crate) records: Vec<Value>,
}

impl Records {
    /// Whether they are messages of a queue. A batch comes from one source.
    pub(crate) fn are_messages(&self) -> bool {
        self.records
            .first()
            .and_then(|record| record.get("eventSource"))
            .is_some_and(|source| source == "aws:sqs")
    }
}

/// An event of a WebSocket API (API Gateway developer guide, "Set up a WebSocket API integration request").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketEvent {
    pub(crate) request_context: RequestContext,
    #[serde(default)]
    pub(crate) headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) query_string_parameters: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) is_base64_encoded: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestContext {
    pub(crate) event_type: EventType,
    pub(crate) connection_id: ConnectionId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum EventType {
    Connect,
    Message,
    Disconnect,
}

impl SocketEvent {
    /// A header, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().flatten();
        headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query_string_parameters.as_ref()?.get(name).map(String::as_str)
    }

    /// The text that a client has sent; `None` when it was binary.
    pub(crate) fn text(&self) -> Option<&str> {
        self.body.as_deref().filter(|_| !self.is_base64_encoded)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_apart_by_their_shape() {
        let of = |event: Value| serde_json::from_value::<Event>(event);
        assert!(
            matches!(of(json!({"Records": [7, null, {}]})), Ok(Event::Records(records)) if records.records.len() == 3)
        );
        for (source, are_messages) in [("aws:sqs", true), ("aws:dynamodb", false), ("", false)] {
            let event = of(json!({"Records": [{"eventSource": source}]}));
            assert!(matches!(event, Ok(Event::Records(records)) if records.are_messages() == are_messages));
        }
        for (word, event_type) in [
            ("CONNECT", EventType::Connect),
            ("MESSAGE", EventType::Message),
            ("DISCONNECT", EventType::Disconnect),
        ] {
            let event =
                json!({"requestContext": {"eventType": word, "connectionId": "abc="}, "headers": null});
            assert!(
                matches!(of(event), Ok(Event::Socket(event)) if event.request_context.event_type == event_type)
            );
        }
        for other in [json!({}), json!({"requestContext": {"eventType": "MESSAGE"}}), json!([])] {
            assert!(of(other).is_err());
        }
    }

    #[test]
    fn headers_are_found_whatever_their_case_and_binary_is_no_text() {
        let event = |body: Value| -> SocketEvent {
            serde_json::from_value(json!({
                "requestContext": {"eventType": "MESSAGE", "connectionId": "c"},
                "headers": {"ACCEPT-Language": "tr"}, "queryStringParameters": {"ticket": "t"},
                "body": body, "isBase64Encoded": body == "aGk=",
            }))
            .unwrap_or_else(|error| unreachable!("{error}"))
        };
        let text = event(json!("hi"));
        assert_eq!(
            (text.header("accept-language"), text.query("ticket"), text.text()),
            (Some("tr"), Some("t"), Some("hi"))
        );
        assert_eq!((text.query("Ticket"), event(json!("aGk=")).text()), (None, None));
    }
}
