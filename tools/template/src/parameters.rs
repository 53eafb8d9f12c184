//! The template's parameters: their values for one stack.

use std::collections::BTreeMap;

use crate::TemplateError;
use crate::node::Node;

/// The value of every parameter: the given one, else the default.
///
/// A value that the template forbids, a parameter without either, and a given name that the template does not have are errors.
pub(crate) fn values(
    declared: Option<&Node<'_>>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TemplateError> {
    let declared = declared.map(Node::entries).transpose()?.unwrap_or_default();
    if let Some(name) = given.keys().find(|name| !declared.iter().any(|(known, _)| known == name)) {
        return Err(wrong(name, "the template has no such parameter"));
    }
    declared
        .into_iter()
        .map(|(name, node)| Ok((name.to_owned(), value(name, &node, given.get(name))?)))
        .collect()
}

fn value(name: &str, node: &Node<'_>, given: Option<&String>) -> Result<String, TemplateError> {
    node.only(&[
        "Type",
        "Default",
        "Description",
        "AllowedValues",
        "MinValue",
        "MaxValue",
        "MinLength",
        "MaxLength",
    ])?;
    let value = match (given, node.get("Default")) {
        (Some(given), _) => given.clone(),
        (None, Some(default)) => default.text()?,
        (None, None) => return Err(wrong(name, "it has no default and no value was given")),
    };
    check_allowed(name, node, &value)?;
    match node.need("Type")?.text()?.as_str() {
        "String" => check_length(name, node, &value)?,
        "Number" => check_range(name, node, &value)?,
        other => return Err(TemplateError::Unknown { at: node.at().to_owned(), name: other.to_owned() }),
    }
    Ok(value)
}

fn check_allowed(name: &str, node: &Node<'_>, value: &String) -> Result<(), TemplateError> {
    let Some(allowed) = node.get("AllowedValues") else { return Ok(()) };
    let allowed = allowed.one_or_more()?;
    if allowed.contains(value) {
        return Ok(());
    }
    Err(wrong(name, &format!("`{value}` is none of {}", allowed.join(", "))))
}

fn check_length(name: &str, node: &Node<'_>, value: &str) -> Result<(), TemplateError> {
    let length = u64::try_from(value.chars().count()).unwrap_or(u64::MAX);
    check_bounds(name, length, "its length", node.get("MinLength"), node.get("MaxLength"))
}

fn check_range(name: &str, node: &Node<'_>, value: &str) -> Result<(), TemplateError> {
    let number = value.parse().map_err(|_| wrong(name, &format!("`{value}` is not a whole number")))?;
    check_bounds(name, number, "it", node.get("MinValue"), node.get("MaxValue"))
}

fn check_bounds(
    name: &str,
    number: u64,
    what: &str,
    least: Option<Node<'_>>,
    most: Option<Node<'_>>,
) -> Result<(), TemplateError> {
    let least = least.map_or(Ok(0), |node| node.number())?;
    let most = most.map_or(Ok(u64::MAX), |node| node.number())?;
    match number {
        _ if number < least => Err(wrong(name, &format!("{what} is {number}, the least is {least}"))),
        _ if number > most => Err(wrong(name, &format!("{what} is {number}, the most is {most}"))),
        _ => Ok(()),
    }
}

fn wrong(name: &str, reason: &str) -> TemplateError {
    TemplateError::Parameter { name: name.to_owned(), reason: reason.to_owned() }
}
