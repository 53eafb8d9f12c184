//! Cross-origin requests: whether a page of another origin may use presigned URLs.
//!
//! As S3 does it: the bucket's first rule that names the origin and the method decides. A preflight that no rule allows
//! is refused; any other request is answered without the headers, so that the browser keeps the answer from the page.
//! The signature decides in either case.
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html>.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// Which pages may use a bucket, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRule {
    /// Such as `https://app.example.com`; one `*` stands for any text.
    pub allowed_origins: Vec<String>,
    /// HTTP methods.
    pub allowed_methods: Vec<String>,
    /// Headers that a page may set beyond those that browsers send to anybody; one `*` stands for any text.
    pub allowed_headers: Vec<String>,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

/// The rules of all buckets.
#[derive(Debug, Default)]
pub(super) struct Cors(RwLock<HashMap<String, Vec<CorsRule>>>);

impl Cors {
    pub(super) fn set(&self, bucket: &str, rules: Vec<CorsRule>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), rules);
    }

    /// The first rule of the path's bucket that allows this.
    fn rule(&self, path: &str, origin: &str, method: &str, headers: &str) -> Option<CorsRule> {
        let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.get(bucket)?.iter().find(|rule| rule.allows(origin, method, headers)).cloned()
    }
}

impl CorsRule {
    /// `headers` are those that a preflight asks for, with commas between them.
    fn allows(&self, origin: &str, method: &str, headers: &str) -> bool {
        let mut headers = headers.split(',').map(str::trim).filter(|name| !name.is_empty());
        self.allowed_methods.iter().any(|allowed| allowed == method)
            && self.allowed_origins.iter().any(|allowed| fits(allowed, origin))
            && headers.all(|name| {
                let fits = |allowed: &String| fits(&allowed.to_ascii_lowercase(), &name.to_ascii_lowercase());
                self.allowed_headers.iter().any(fits)
            })
    }

    /// What tells a browser that the page may have the answer.
    fn headers(&self, origin: &HeaderValue) -> HeaderMap {
        let any = self.allowed_origins.iter().any(|allowed| allowed == "*");
        let mut headers = HeaderMap::new();
        let allowed = if any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        insert(&mut headers, header::ACCESS_CONTROL_ALLOW_METHODS, &self.allowed_methods.join(", "));
        let varies = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
        insert(&mut headers, header::VARY, varies);
        headers
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether an origin fits a pattern with at most one `*`.
fn fits(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == origin,
        Some((start, end)) => origin.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
    }
}

/// Answers preflights, and tells browsers which pages may have the other answers.
pub(super) async fn allow(State(cors): State<Arc<Cors>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else { return next.run(request).await };
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_preflight = request.method() == Method::OPTIONS && asked.is_some();
    let method =
        asked.filter(|_| is_preflight).map_or(request.method().as_str().as_bytes(), HeaderValue::as_bytes);
    let method = String::from_utf8_lossy(method);
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|_| is_preflight);
    let wanted =
        wanted.map(|names| String::from_utf8_lossy(names.as_bytes()).into_owned()).unwrap_or_default();
    let origin_text = String::from_utf8_lossy(origin.as_bytes());
    let rule = cors.rule(request.uri().path(), &origin_text, &method, &wanted);
    if is_preflight {
        return preflight(rule.as_ref(), &origin, &wanted);
    }
    let mut response = next.run(request).await;
    if let Some(rule) = rule {
        response.headers_mut().extend(rule.headers(&origin));
    }
    response
}

fn preflight(rule: Option<&CorsRule>, origin: &HeaderValue, wanted: &str) -> Response {
    let Some(rule) = rule else {
        const REFUSAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessForbidden</Code>\
            <Message>CORSResponse: This CORS request is not allowed.</Message></Error>";
        return (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/xml")], REFUSAL).into_response();
    };
    let mut headers = rule.headers(origin);
    if !wanted.is_empty() {
        insert(&mut headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &wanted.to_ascii_lowercase());
    }
    insert(&mut headers, header::ACCESS_CONTROL_MAX_AGE, &rule.max_age.as_secs().to_string());
    (StatusCode::OK, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_text_once() {
        for (pattern, origin, expected) in [
            ("*", "https://a.example", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "http://a.example", false),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://a.example.org", false),
            ("https://ab*bc", "https://abc", false),
        ] {
            assert_eq!(fits(pattern, origin), expected, "{pattern} {origin}");
        }
    }
}
