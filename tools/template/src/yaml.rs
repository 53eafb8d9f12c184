//! YAML with CloudFormation's short tags, read into the JSON form that CloudFormation itself defines for them:
//! `!Ref X` becomes `{"Ref": "X"}`, `!GetAtt X.Arn` becomes `{"Fn::GetAtt": ["X", "Arn"]}`, `!Sub "…"` becomes `{"Fn::Sub": "…"}`.

use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;
use serde_yaml_ng::value::TaggedValue;

use crate::TemplateError;

/// Reads `yaml` into that form. A key that stands twice in one mapping is an error.
pub(crate) fn parse(yaml: &str) -> Result<Value, TemplateError> {
    let document: Yaml = serde_yaml_ng::from_str(yaml).map_err(TemplateError::Yaml)?;
    convert(&document, "")
}

fn convert(yaml: &Yaml, at: &str) -> Result<Value, TemplateError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(*flag),
        Yaml::Number(number) => convert_number(number, at)?,
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Sequence(entries) => convert_sequence(entries, at)?,
        Yaml::Mapping(mapping) => convert_mapping(mapping, at)?,
        Yaml::Tagged(tagged) => convert_tagged(tagged, at)?,
    })
}

fn convert_number(number: &serde_yaml_ng::Number, at: &str) -> Result<Value, TemplateError> {
    match (number.as_u64(), number.as_i64(), number.as_f64().and_then(serde_json::Number::from_f64)) {
        (Some(unsigned), _, _) => Ok(json!(unsigned)),
        (_, Some(signed), _) => Ok(json!(signed)),
        (_, _, Some(float)) => Ok(Value::Number(float)),
        _ => Err(malformed(at, "not a finite number")),
    }
}

fn convert_sequence(entries: &[Yaml], at: &str) -> Result<Value, TemplateError> {
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| convert(entry, &join(at, &index.to_string())))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

fn convert_mapping(mapping: &serde_yaml_ng::Mapping, at: &str) -> Result<Value, TemplateError> {
    let mut object = Map::new();
    for (key, value) in mapping {
        let Yaml::String(key) = key else {
            return Err(malformed(at, "a key that is not text; put it in quotes"));
        };
        object.insert(key.clone(), convert(value, &join(at, key))?);
    }
    Ok(Value::Object(object))
}

fn convert_tagged(tagged: &TaggedValue, at: &str) -> Result<Value, TemplateError> {
    let argument = convert(&tagged.value, at)?;
    let name = tagged.tag.to_string();
    match (name.as_str(), &argument) {
        ("!Ref", Value::String(_)) => Ok(json!({ "Ref": argument })),
        ("!Sub", Value::String(_)) => Ok(json!({ "Fn::Sub": argument })),
        ("!GetAtt", Value::String(text)) => match text.split_once('.') {
            Some((resource, attribute)) => Ok(json!({ "Fn::GetAtt": [resource, attribute] })),
            None => Err(malformed(at, "!GetAtt needs a resource and an attribute: `JobQueue.Arn`")),
        },
        ("!Ref" | "!Sub" | "!GetAtt", _) => Err(malformed(at, &format!("{name} takes one text here"))),
        _ => Err(TemplateError::UnknownIntrinsic { at: at.to_owned(), name }),
    }
}

/// `at` one step deeper.
pub(crate) fn join(at: &str, step: &str) -> String {
    if at.is_empty() { step.to_owned() } else { format!("{at}.{step}") }
}

fn malformed(at: &str, reason: &str) -> TemplateError {
    TemplateError::Malformed { at: at.to_owned(), reason: reason.to_owned() }
}
