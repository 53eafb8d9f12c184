//! What an app keeps with a job: one JSON object of its own, changed by merge patches (RFC 7396).
//!
//! Numbers are what most JSON readers make of them (RFC 8259, section 6): whole ones from -2⁶³ to 2⁶⁴ - 1 stay as they are, any
//! other is the nearest 64-bit floating point number. Of two members of one name the last counts. Members have no order.

use serde_json::{Map, Value};

use crate::fields::pointer_token;
use crate::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX};
use crate::request::Violation;

/// No pointer in an answer is longer: a caller's own names may be.
const POINTER_BYTES_MAX: usize = 512;

/// An app's own JSON object: at most 16 KB when written without spaces, objects and arrays at most eight levels deep, itself
/// the first. It has no `Debug` and no `Display`: it is the owner's, and never logged.
#[derive(Clone)]
pub struct Metadata {
    members: Map<String, Value>,
    /// Without spaces, names in order: equal when the values are.
    text: String,
}

/// A job's metadata as they are kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JobMetadata {
    /// Rises with every change. 0 when none were ever kept.
    pub version: u64,
    /// The object; empty when none is kept.
    pub value: Metadata,
}

/// A merge patch of metadata: an object, as deep as metadata may be.
#[derive(Clone)]
pub struct MetadataPatch(Map<String, Value>);

impl Default for Metadata {
    fn default() -> Self {
        Self::of(Map::new())
    }
}

impl PartialEq for Metadata {
    /// By their text: 0 and -0 are two.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Metadata {}

impl Metadata {
    /// The object that a request brings, at `at` (a JSON pointer) in its body. `null` members are kept.
    ///
    /// # Errors
    /// That it is nested too deeply, and where, or too long.
    pub fn parse(members: &Map<String, Value>, at: &str) -> Result<Self, Violation> {
        not_too_deep(members, at)?;
        Self::of(members.clone()).if_short(at)
    }

    /// The object as it was stored; `None` when it is none. It was judged when it came, and is not again.
    pub fn from_stored(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self::of)
    }

    fn of(members: Map<String, Value>) -> Self {
        let mut value = Value::Object(members);
        value.sort_all_objects();
        let text = value.to_string();
        let members = if let Value::Object(members) = value { members } else { Map::new() };
        Self { members, text }
    }

    fn if_short(self, at: &str) -> Result<Self, Violation> {
        let bytes = self.text.len();
        if bytes <= METADATA_BYTES_MAX {
            return Ok(self);
        }
        let reason =
            format!("must have at most {METADATA_BYTES_MAX} bytes as JSON without spaces, this has {bytes}");
        Err(violation(at.to_owned(), reason))
    }

    /// The object's members.
    pub const fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// The object as JSON without spaces, names in order.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The object for a hash that must never change: as its text, but fractions by their bits, because how they are written
    /// differs between releases of serde_json.
    pub(crate) fn canonical(&self) -> String {
        let mut text = String::new();
        write_members(&self.members, &mut text);
        text
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The object with the patch merged into it: objects are merged, `null` deletes, everything else replaces. A patch again
    /// changes nothing; and merged again after another patch, it comes to what it would have come to after that patch alone.
    /// So one whose answer was lost may be merged anew.
    ///
    /// # Errors
    /// That it would be too long. It cannot be too deep: neither of the two is.
    pub fn merged(&self, patch: &MetadataPatch) -> Result<Self, Violation> {
        let mut members = self.members.clone();
        merge(&mut members, &patch.0);
        Self::of(members).if_short("")
    }
}

impl MetadataPatch {
    /// The patch that a body is.
    ///
    /// # Errors
    /// That it is no object, or nested too deeply, and where: what it makes would be as deep.
    pub fn parse(body: Value) -> Result<Self, Violation> {
        let Value::Object(members) = body else {
            return Err(violation(String::new(), "the patch must be a JSON object".to_owned()));
        };
        not_too_deep(&members, "")?;
        Ok(Self(members))
    }
}

fn write_members(members: &Map<String, Value>, text: &mut String) {
    text.push('{');
    for (name, value) in members {
        *text += &Value::from(name.as_str()).to_string();
        text.push(':');
        write_value(value, text);
        text.push(',');
    }
    text.push('}');
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => write_members(members, text),
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_value(value, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Number(number) if number.is_f64() => {
            let bits = format!("#{:x}", number.as_f64().unwrap_or_default().to_bits());
            *text += &bits;
        }
        other => *text += &other.to_string(),
    }
}

/// RFC 7396, section 2. It goes as deep as the patch.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, change) in patch {
        match change {
            Value::Null => drop(target.remove(name)),
            Value::Object(changes) => {
                let member = target.entry(name.clone()).or_insert(Value::Null);
                let mut members = match member.take() {
                    Value::Object(members) => members,
                    _ => Map::new(),
                };
                merge(&mut members, changes);
                *member = Value::Object(members);
            }
            other => drop(target.insert(name.clone(), other.clone())),
        }
    }
}

fn not_too_deep(members: &Map<String, Value>, at: &str) -> Result<(), Violation> {
    let Some(way) = members.iter().find_map(|(name, value)| too_deep(name, value, 2)) else { return Ok(()) };
    let reason =
        format!("objects and arrays may be nested {METADATA_DEPTH_MAX} levels deep, the outermost included");
    Err(violation(pointer(at, &way), reason))
}

/// The way to the first object or array below this level, the last name first. It looks no deeper than that.
fn too_deep(name: &str, value: &Value, level: usize) -> Option<Vec<String>> {
    let is_inner = |inner: Option<Vec<String>>| {
        let mut way = inner?;
        way.push(name.to_owned());
        Some(way)
    };
    match value {
        Value::Array(_) | Value::Object(_) if level > METADATA_DEPTH_MAX => Some(vec![name.to_owned()]),
        Value::Array(values) => is_inner(
            values.iter().enumerate().find_map(|(at, value)| too_deep(&at.to_string(), value, level + 1)),
        ),
        Value::Object(members) => {
            is_inner(members.iter().find_map(|(name, value)| too_deep(name, value, level + 1)))
        }
        _ => None,
    }
}

/// A pointer along this way, or to what holds it when the names are long.
fn pointer(at: &str, way: &[String]) -> String {
    let mut pointer = at.to_owned();
    for name in way.iter().rev() {
        let token = pointer_token(name);
        if pointer.len() + token.len() > POINTER_BYTES_MAX {
            break;
        }
        pointer += &token;
    }
    pointer
}

const fn violation(pointer: String, reason: String) -> Violation {
    Violation { pointer, reason, unknown_field: false }
}
