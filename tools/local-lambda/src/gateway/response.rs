//! A function's answer as an HTTP response, and the answers API Gateway gives in its own name.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::hop_by_hop;

/// Header with API Gateway's request id, on every response.
const REQUEST_ID: HeaderName = HeaderName::from_static("apigw-requestid");

/// The answer is none an HTTP API can pass on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function's answer is no HTTP response: {0}")]
pub(crate) struct Malformed(&'static str);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// Turns a function's answer into a response.
///
/// An object with `statusCode` is taken as the response; any other JSON is the body of a 200.
pub(crate) fn from_answer(answer: &Bytes, request_id: &str) -> Result<Response<Full<Bytes>>, Malformed> {
    let value: Value = serde_json::from_slice(answer).map_err(|_| Malformed("it is not JSON"))?;
    if value.get("statusCode").is_none() {
        let json = HeaderValue::from_static("application/json");
        return Ok(finish(
            StatusCode::OK,
            &HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
            answer.clone(),
            request_id,
        ));
    }
    let answer: Answer =
        serde_json::from_value(value).map_err(|_| Malformed("a field has the wrong type"))?;
    let status = match StatusCode::from_u16(answer.status_code) {
        Ok(status) if (200..600).contains(&answer.status_code) => status,
        _ => return Err(Malformed("statusCode is not between 200 and 599")),
    };
    let body = match (answer.body, answer.is_base64_encoded) {
        (None, _) => Bytes::new(),
        (Some(text), Some(true)) => {
            BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|_| Malformed("the body is not base64"))?
        }
        (Some(text), _) => Bytes::from(text),
    };
    let mut headers = HeaderMap::new();
    let fields = answer.headers.iter().chain(&answer.multi_value_headers).flatten();
    for (name, value) in fields {
        add_header(&mut headers, name, value)?;
    }
    for cookie in answer.cookies.iter().flatten() {
        headers.append(
            header::SET_COOKIE,
            cookie.parse().map_err(|_| Malformed("a cookie has control characters"))?,
        );
    }
    if !body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    Ok(finish(status, &headers, body, request_id))
}

/// Values may be strings, numbers, booleans, or (multi-value) lists of these. A name in both maps counts once.
fn add_header(headers: &mut HeaderMap, name: &str, value: &Value) -> Result<(), Malformed> {
    let name =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed("a header has no valid name"))?;
    headers.remove(&name);
    let values = match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    for value in values {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Malformed("a header is not a string"));
            }
        };
        let value = HeaderValue::from_str(&text).map_err(|_| Malformed("a header has control characters"))?;
        headers.append(&name, value);
    }
    Ok(())
}

fn finish(status: StatusCode, fields: &HeaderMap, body: Bytes, request_id: &str) -> Response<Full<Bytes>> {
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let length = body.len();
    let mut response = Response::new(Full::new(if bodiless { Bytes::new() } else { body }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in fields {
        if !hop_by_hop(name, fields) && *name != header::CONTENT_LENGTH {
            headers.append(name, value.clone());
        }
    }
    if !bodiless {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// What API Gateway says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    BadRequest,
    Unauthorized,
    NotFound,
    TooLarge,
    InternalServerError,
    ServiceUnavailable,
}

impl Own {
    pub(crate) fn response(self, request_id: &str) -> Response<Full<Bytes>> {
        let (status, message) = match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "Bad Request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not Found"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
            Self::InternalServerError => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
            Self::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        };
        let mut headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if self == Self::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        finish(status, &headers, Bytes::from(json!({ "message": message }).to_string()), request_id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn response(answer: &str) -> Result<(u16, HeaderMap, Bytes), Malformed> {
        let response = from_answer(&Bytes::from(answer.to_owned()), "id")?;
        let (head, body) = response.into_parts();
        let body = futures_now(body.collect()).unwrap().to_bytes();
        Ok((head.status.as_u16(), head.headers, body))
    }

    /// A full body is there at once.
    fn futures_now<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("the body was not there"),
        }
    }

    #[test]
    fn json_without_a_status_is_the_body_of_a_200() {
        for answer in [r#"{"a":1}"#, "[1,2]", r#""text""#, "null", "7"] {
            let (status, headers, body) = response(answer).unwrap();
            assert_eq!((status, body.as_ref()), (200, answer.as_bytes()));
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(headers["content-length"], answer.len().to_string());
        }
    }

    #[test]
    fn an_answer_with_a_status_is_taken_field_by_field() {
        let (status, headers, body) = response(
            r#"{"statusCode":201,"headers":{"Location":"/v1/jobs/1","x-n":7,"x-b":true,"content-length":"999"},
                "multiValueHeaders":{"x-n":["8","9"]},"cookies":["a=1","b=2"],"body":"aGk=","isBase64Encoded":true,
                "ignored":{}}"#,
        )
        .unwrap();
        assert_eq!((status, body.as_ref()), (201, b"hi".as_slice()));
        assert_eq!(headers["location"], "/v1/jobs/1");
        assert_eq!(headers.get_all("x-n").iter().collect::<Vec<_>>(), ["8", "9"]);
        assert_eq!(headers["x-b"], "true");
        assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), ["2"]);
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["apigw-requestid"], "id");
    }

    #[test]
    fn a_status_alone_is_a_response_without_body_and_type() {
        let (status, headers, body) = response(r#"{"statusCode":202,"headers":null,"body":null}"#).unwrap();
        assert_eq!((status, body.len()), (202, 0));
        assert_eq!(headers["content-length"], "0");
        assert!(!headers.contains_key("content-type"));
    }

    #[test]
    fn what_is_no_response_is_malformed() {
        let answers = [
            "",
            "{",
            r#"{"statusCode":"abc"}"#,
            r#"{"statusCode":0}"#,
            r#"{"statusCode":100}"#,
            r#"{"statusCode":600}"#,
            r#"{"statusCode":null}"#,
            r#"{"statusCode":200,"body":{}}"#,
            r#"{"statusCode":200,"body":"%","isBase64Encoded":true}"#,
            r#"{"statusCode":200,"headers":{"a b":"c"}}"#,
            r#"{"statusCode":200,"headers":{"a":"c\r\nd: e"}}"#,
            r#"{"statusCode":200,"headers":{"a":{}}}"#,
            r#"{"statusCode":200,"cookies":["a\n"]}"#,
            r#"{"statusCode":200,"cookies":"a=1"}"#,
        ];
        for answer in answers {
            assert!(response(answer).is_err(), "{answer}");
        }
    }
}
