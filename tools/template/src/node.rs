//! A value of the template together with the place it stands at, so that every error names that place.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::TemplateError;
use crate::yaml::join;

/// A value and its place. CloudFormation lets `"5"` stand for `5` and `"true"` for `true`; so do the readers below.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    at: String,
}

impl<'a> Node<'a> {
    pub(crate) fn new(value: &'a Value, at: impl Into<String>) -> Self {
        Self { value, at: at.into() }
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// The value under `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.value.get(key).map(|value| Node::new(value, join(&self.at, key)))
    }

    /// The value under `key`, which must be there.
    pub(crate) fn need(&self, key: &str) -> Result<Node<'a>, TemplateError> {
        self.get(key).ok_or_else(|| TemplateError::Missing { at: join(&self.at, key) })
    }

    /// Refuses every key that is not among `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), TemplateError> {
        match self.mapping()?.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(TemplateError::Unknown { at: self.at.clone(), name: key.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn mapping(&self) -> Result<&'a Map<String, Value>, TemplateError> {
        self.value.as_object().ok_or_else(|| self.mismatch("a mapping"))
    }

    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Node<'a>)>, TemplateError> {
        let mapping = self.mapping()?;
        Ok(mapping.iter().map(|(key, value)| (key.as_str(), Node::new(value, join(&self.at, key)))).collect())
    }

    pub(crate) fn list(&self) -> Result<Vec<Node<'a>>, TemplateError> {
        let entries = self.value.as_array().ok_or_else(|| self.mismatch("a list"))?;
        let place = |index: usize| join(&self.at, &index.to_string());
        Ok(entries.iter().enumerate().map(|(index, value)| Node::new(value, place(index))).collect())
    }

    /// One text, or a list of texts: the forms that a policy's `Action` and `Resource` may have.
    pub(crate) fn one_or_more(&self) -> Result<Vec<String>, TemplateError> {
        match self.value {
            Value::Array(_) => self.list()?.iter().map(Node::text).collect(),
            _ => Ok(vec![self.text()?]),
        }
    }

    pub(crate) fn text(&self) -> Result<String, TemplateError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            _ => Err(self.mismatch("a text")),
        }
    }

    pub(crate) fn number(&self) -> Result<u64, TemplateError> {
        match self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.mismatch("a whole number"))
    }

    pub(crate) fn number_as<T: TryFrom<u64>>(&self) -> Result<T, TemplateError> {
        T::try_from(self.number()?).map_err(|_| self.mismatch("a smaller number"))
    }

    pub(crate) fn seconds(&self) -> Result<Duration, TemplateError> {
        self.number().map(Duration::from_secs)
    }

    pub(crate) fn flag(&self) -> Result<bool, TemplateError> {
        match self.value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.mismatch("true or false"))
    }

    pub(crate) fn mismatch(&self, expected: &str) -> TemplateError {
        TemplateError::Mismatch {
            at: self.at.clone(),
            expected: expected.to_owned(),
            found: self.value.to_string(),
        }
    }
}
