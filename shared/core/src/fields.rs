//! The fields of a request's body: each read once, and everything that is wrong told.

use serde_json::{Map, Value};

use crate::metadata::Metadata;
use crate::request::Violation;

/// A caller's own field name may be of any length.
const FIELD_CHARS_SHOWN: usize = 64;
/// A body has room for thousands of fields; an answer that names each would be twenty times as long.
const UNKNOWN_SHOWN_MAX: usize = 16;

/// A body that is read.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// What is wrong so far.
    pub(crate) violations: Vec<Violation>,
}

impl<'a> Fields<'a> {
    /// The fields of a body that may have these and no others: of others the first 16 and how many more there are.
    ///
    /// # Errors
    /// When the body is no object: then nothing more can be told of it.
    pub(crate) fn of(body: &'a Value, known: &[&str]) -> Result<Self, Vec<Violation>> {
        let Some(object) = body.as_object() else {
            return Err(vec![Violation {
                pointer: String::new(),
                reason: "the body must be a JSON object".to_owned(),
                unknown_field: false,
            }]);
        };
        let mut fields = Self { object, violations: Vec::new() };
        fields.refuse_unknown(known);
        Ok(fields)
    }

    fn violation(&mut self, field: &str, reason: String, unknown_field: bool) {
        self.violations.push(Violation { pointer: pointer_token(field), reason, unknown_field });
    }

    fn refuse_unknown(&mut self, known: &[&str]) {
        let unknown: Vec<_> =
            self.object.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
        let known = known.join(", ");
        let more = unknown.len().saturating_sub(UNKNOWN_SHOWN_MAX);
        for field in unknown.into_iter().take(UNKNOWN_SHOWN_MAX) {
            if field.chars().count() <= FIELD_CHARS_SHOWN {
                self.violation(&field, format!("unknown field; known are {known}"), true);
                continue;
            }
            // The answer need not repeat it all; a pointer to its beginning would point to another field.
            let shown: String = field.chars().take(FIELD_CHARS_SHOWN).collect();
            let reason = format!("unknown field {shown}\u{2026}; known are {known}");
            self.violations.push(Violation { pointer: String::new(), reason, unknown_field: true });
        }
        if more > 0 {
            let reason = format!("{more} more unknown fields");
            self.violations.push(Violation { pointer: String::new(), reason, unknown_field: true });
        }
    }

    /// A text that must be there.
    pub(crate) fn required<T>(
        &mut self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.object.get(field) {
            Some(Value::String(text)) => self.parsed(field, text, parse),
            Some(_) => self.wrong_type(field, "a string"),
            None => self.missing(field),
        }
    }

    /// A text. An absent field and `null` are the same.
    pub(crate) fn optional<T>(
        &mut self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.object.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => self.parsed(field, text, parse),
            Some(_) => self.wrong_type(field, "a string"),
        }
    }

    fn parsed<T>(&mut self, field: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        parse(text).map_err(|reason| self.violation(field, reason, false)).ok()
    }

    fn wrong_type<T>(&mut self, field: &str, expected: &str) -> Option<T> {
        self.violation(field, format!("must be {expected}"), false);
        None
    }

    fn missing<T>(&mut self, field: &str) -> Option<T> {
        self.violation(field, "is required".to_owned(), false);
        None
    }

    /// A list of one to `most` values. An absent field and `null` are the same.
    pub(crate) fn optional_list(&mut self, field: &str, most: usize) -> Option<&'a [Value]> {
        match self.object.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::Array(values)) if (1..=most).contains(&values.len()) => Some(values),
            Some(Value::Array(values)) => {
                let reason = format!("must have 1 to {most} elements, this has {}", values.len());
                self.violation(field, reason, false);
                None
            }
            Some(_) => self.wrong_type(field, "a list"),
        }
    }

    /// Texts, so many from the least to the most. An absent field and `null` are the same.
    pub(crate) fn optional_texts<T>(
        &mut self,
        field: &str,
        (least, most): (usize, usize),
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let entries = match self.object.get(field) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(entries)) if (least..=most).contains(&entries.len()) => entries,
            Some(_) => return self.wrong_type(field, &format!("a list of {least} to {most} strings")),
        };
        let parsed: Result<Vec<_>, _> = entries
            .iter()
            .map(|entry| entry.as_str().ok_or_else(|| "each must be a string".to_owned()).and_then(&parse))
            .collect();
        parsed.map_err(|reason| self.violation(field, reason, false)).ok()
    }

    /// A whole number within bounds that must be there.
    pub(crate) fn required_number(&mut self, field: &str, bounds: (u64, u64)) -> Option<u64> {
        match self.object.get(field) {
            Some(value) => self.number(field, value, bounds),
            None => self.missing(field),
        }
    }

    /// A whole number within bounds. An absent field and `null` are the same.
    pub(crate) fn optional_number(&mut self, field: &str, bounds: (u64, u64)) -> Option<u64> {
        match self.object.get(field) {
            None | Some(Value::Null) => None,
            Some(value) => self.number(field, value, bounds),
        }
    }

    fn number(&mut self, field: &str, value: &Value, (least, most): (u64, u64)) -> Option<u64> {
        let Some(number) = value.as_u64() else { return self.wrong_type(field, "a whole number") };
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.violation(field, format!("must be {least} to {most}"), false);
        None
    }

    /// The object `metadata`.
    pub(crate) fn metadata(&mut self) -> Option<Metadata> {
        match self.object.get("metadata") {
            None | Some(Value::Null) => None,
            Some(Value::Object(members)) => Metadata::parse(members, "/metadata")
                .map_err(|violation| self.violations.push(violation))
                .ok(),
            Some(_) => self.wrong_type("metadata", "an object"),
        }
    }
}

/// A name as a step of a JSON pointer (RFC 6901).
pub(crate) fn pointer_token(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// What a value must be, of a list.
pub(crate) fn one_of(values: &[&str]) -> String {
    format!("must be one of {}", values.join(", "))
}
