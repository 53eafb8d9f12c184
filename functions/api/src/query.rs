//! Query strings: parsed by hand, so that each refusal names its parameter.

use axum::http::Uri;
use darkroom_core::error_code::Language;
use darkroom_core::id::{DeliveryId, JobId};
use darkroom_core::request::Violation;
use darkroom_edge::Problem;
use data_encoding::BASE64URL_NOPAD;

/// A request's query parameters.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    violations: Vec<Violation>,
}

impl Query {
    /// Reads the query; parameters that are not `known` are refused, as unknown fields of a body are.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Self {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0);
        let mut query = Self { pairs: Vec::new(), violations: Vec::new() };
        match pairs {
            Ok(pairs) => query.pairs = pairs,
            Err(_) => query.refuse("", "the query string cannot be read", false),
        }
        let names: Vec<_> = query.pairs.iter().map(|(name, _)| name.clone()).collect();
        for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
            let shown: String = name.chars().take(64).collect();
            query.refuse(&shown, &format!("unknown parameter; known are {}", known.join(", ")), true);
        }
        query
    }

    /// A parameter's value, parsed.
    pub(crate) fn value<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.pairs.iter().find(|(key, _)| key == name).map(|(_, text)| text.clone())?;
        let value = parse(&text);
        if value.is_none() {
            self.refuse(name, &format!("must be {expected}"), false);
        }
        value
    }

    /// The end of reading.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub(crate) fn finish(self, language: Language) -> Result<(), Problem> {
        if self.violations.is_empty() { Ok(()) } else { Err(Problem::violations(self.violations, language)) }
    }

    fn refuse(&mut self, name: &str, reason: &str, unknown_field: bool) {
        self.violations.push(Violation {
            pointer: format!("?{name}"),
            reason: reason.to_owned(),
            unknown_field,
        });
    }
}

/// A page's size: 1 to 50.
pub(crate) fn limit(text: &str) -> Option<u16> {
    text.parse().ok().filter(|limit| (1..=50).contains(limit))
}

/// Where the next page of jobs starts, opaque to callers.
pub(crate) fn job_cursor(place: u64, id: &JobId) -> String {
    BASE64URL_NOPAD.encode(format!("{place}.{id}").as_bytes())
}

/// Reads a cursor that [`job_cursor`] made.
pub(crate) fn parse_job_cursor(text: &str) -> Option<(u64, JobId)> {
    let decoded = String::from_utf8(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
    let (place, id) = decoded.split_once('.')?;
    Some((place.parse().ok()?, JobId::parse(id).ok()?))
}

/// Where the next page of deliveries starts, opaque to callers.
pub(crate) fn delivery_cursor(id: &DeliveryId) -> String {
    BASE64URL_NOPAD.encode(id.as_str().as_bytes())
}

/// Reads a cursor that [`delivery_cursor`] made.
pub(crate) fn parse_delivery_cursor(text: &str) -> Option<DeliveryId> {
    let decoded = String::from_utf8(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
    DeliveryId::parse(&decoded).ok()
}

/// Where the next page of entries starts, opaque to callers.
pub(crate) fn entry_cursor(sort_key: &str) -> String {
    BASE64URL_NOPAD.encode(sort_key.as_bytes())
}

/// Reads a cursor that [`entry_cursor`] made.
pub(crate) fn parse_entry_cursor(text: &str) -> Option<String> {
    let decoded = String::from_utf8(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
    (decoded.len() <= 400 && (decoded.starts_with("E#") || decoded.starts_with("GRANT#"))).then_some(decoded)
}
