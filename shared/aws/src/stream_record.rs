//! A job as the stream of its table shows it.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_core::job::Job;
use data_encoding::BASE64;
use serde_json::Value;

use crate::attributes::Item;
use crate::items::job::from_item;

/// The job of an image (`NewImage`, `OldImage`) of a stream's record, in DynamoDB's JSON.
///
/// # Errors
/// Names the attribute that this release cannot read.
pub fn job_of_image(image: &Value) -> Result<Job, String> {
    let attributes = image.as_object().ok_or("the record has no such image")?;
    let read = |(name, value): (&String, &Value)| {
        let value = attribute(value).ok_or_else(|| format!("attribute {name} is of no type"))?;
        Ok((name.clone(), value))
    };
    let item: Item = attributes.iter().map(read).collect::<Result<_, String>>()?;
    from_item(&item).map_err(|problem| problem.to_string())
}

/// A value that is tagged with its type. Sets are written nowhere here.
fn attribute(value: &Value) -> Option<AttributeValue> {
    let (tag, value) = value.as_object()?.iter().next()?;
    Some(match tag.as_str() {
        "S" => AttributeValue::S(value.as_str()?.to_owned()),
        "N" => AttributeValue::N(value.as_str()?.to_owned()),
        "B" => AttributeValue::B(Blob::new(BASE64.decode(value.as_str()?.as_bytes()).ok()?)),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(value.as_bool()?),
        "L" => AttributeValue::L(value.as_array()?.iter().map(attribute).collect::<Option<_>>()?),
        "M" => {
            let entries = value.as_object()?.iter();
            AttributeValue::M(
                entries
                    .map(|(name, value)| Some((name.clone(), attribute(value)?)))
                    .collect::<Option<_>>()?,
            )
        }
        _ => return None,
    })
}
