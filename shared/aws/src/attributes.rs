//! Reading and writing DynamoDB attributes with errors that name the attribute.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::time::Timestamp;

/// A DynamoDB item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Which attribute is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {attribute} {problem}")]
pub struct ItemError {
    /// The attribute's name.
    pub attribute: &'static str,
    /// What is wrong.
    pub problem: &'static str,
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn binary(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

pub(crate) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

pub(crate) fn millis(value: Timestamp) -> AttributeValue {
    number(value.as_millis())
}

const fn problem(attribute: &'static str, problem: &'static str) -> ItemError {
    ItemError { attribute, problem }
}

/// Reads one item's attributes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a Item);

impl<'a> Reader<'a> {
    pub(crate) fn has(self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn optional_text(self, name: &'static str) -> Result<Option<&'a str>, ItemError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(value)) => Ok(Some(value)),
            Some(_) => Err(problem(name, "is not a string")),
        }
    }

    pub(crate) fn text(self, name: &'static str) -> Result<&'a str, ItemError> {
        self.optional_text(name)?.ok_or(problem(name, "is missing"))
    }

    pub(crate) fn binary(self, name: &'static str) -> Result<&'a [u8], ItemError> {
        match self.0.get(name) {
            None => Err(problem(name, "is missing")),
            Some(AttributeValue::B(value)) => Ok(value.as_ref()),
            Some(_) => Err(problem(name, "is not binary")),
        }
    }

    /// A text parsed into a type of ours.
    pub(crate) fn parsed<T>(
        self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ItemError> {
        parse(self.text(name)?).ok_or(problem(name, "has an unknown value"))
    }

    pub(crate) fn optional_parsed<T>(
        self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ItemError> {
        self.optional_text(name)?
            .map(|text| parse(text).ok_or(problem(name, "has an unknown value")))
            .transpose()
    }

    pub(crate) fn optional_number(self, name: &'static str) -> Result<Option<u64>, ItemError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(value)) => {
                value.parse().map(Some).map_err(|_| problem(name, "is not a whole number of 64 bits"))
            }
            Some(_) => Err(problem(name, "is not a number")),
        }
    }

    pub(crate) fn number(self, name: &'static str) -> Result<u64, ItemError> {
        self.optional_number(name)?.ok_or(problem(name, "is missing"))
    }

    pub(crate) fn small(self, name: &'static str) -> Result<u32, ItemError> {
        u32::try_from(self.number(name)?).map_err(|_| problem(name, "is too large"))
    }

    pub(crate) fn time(self, name: &'static str) -> Result<Timestamp, ItemError> {
        self.number(name).map(Timestamp::from_millis)
    }

    pub(crate) fn optional_time(self, name: &'static str) -> Result<Option<Timestamp>, ItemError> {
        Ok(self.optional_number(name)?.map(Timestamp::from_millis))
    }

    /// A value kept as JSON in a string.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(self, name: &'static str) -> Result<T, ItemError> {
        serde_json::from_str(self.text(name)?).map_err(|_| problem(name, "is not the JSON it should be"))
    }
}

/// A value as JSON in a string attribute.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> AttributeValue {
    AttributeValue::S(serde_json::to_value(value).unwrap_or_default().to_string())
}
