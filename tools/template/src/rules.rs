//! Rules: what the values of the parameters must be to each other.
//!
//! Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html>.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::TemplateError;
use crate::node::Node;

/// Refuses values of the parameters that a rule's assertions do not hold for.
pub(crate) fn check(
    rules: Option<&Node<'_>>,
    parameters: &BTreeMap<String, String>,
) -> Result<(), TemplateError> {
    let values = Values(parameters);
    for (name, rule) in rules.map(Node::entries).transpose()?.unwrap_or_default() {
        rule.only(&["RuleCondition", "Assertions"])?;
        let applies = rule.get("RuleCondition").map_or(Ok(true), |condition| values.hold(&condition))?;
        for assertion in rule.need("Assertions")?.list()? {
            assertion.only(&["Assert", "AssertDescription"])?;
            if applies && !values.hold(&assertion.need("Assert")?)? {
                return Err(TemplateError::Rule { name: name.to_owned(), reason: reason(&assertion)? });
            }
        }
    }
    Ok(())
}

fn reason(assertion: &Node<'_>) -> Result<String, TemplateError> {
    match assertion.get("AssertDescription") {
        Some(description) => description.text(),
        None => Ok(format!("{} does not hold", assertion.at())),
    }
}

/// The parameters' values, as texts: CloudFormation compares nothing else here.
struct Values<'a>(&'a BTreeMap<String, String>);

impl Values<'_> {
    /// Whether a condition of the rule functions holds.
    fn hold(&self, condition: &Node<'_>) -> Result<bool, TemplateError> {
        let (function, arguments) = call(condition)?;
        match (function, arguments.list()?.as_slice()) {
            ("Fn::Not", [inner]) => self.hold(inner).map(|holds| !holds),
            ("Fn::And", several @ [_, _, ..]) => {
                several.iter().try_fold(true, |all, one| Ok(self.hold(one)? && all))
            }
            ("Fn::Or", several @ [_, _, ..]) => {
                several.iter().try_fold(false, |any, one| Ok(self.hold(one)? || any))
            }
            ("Fn::Equals", [one, other]) => Ok(self.text(one)? == self.text(other)?),
            ("Fn::Contains", [list, value]) => {
                let value = self.text(value)?;
                list.list()?.iter().try_fold(false, |any, entry| Ok(self.text(entry)? == value || any))
            }
            ("Fn::Not" | "Fn::And" | "Fn::Or" | "Fn::Equals" | "Fn::Contains", _) => {
                Err(arguments.mismatch("as many arguments as the function takes"))
            }
            (unknown, _) => Err(TemplateError::UnknownIntrinsic {
                at: condition.at().to_owned(),
                name: unknown.to_owned(),
            }),
        }
    }

    /// A text, or the value of the parameter that is referred to.
    fn text(&self, node: &Node<'_>) -> Result<String, TemplateError> {
        let Value::Object(_) = node.value() else { return node.text() };
        match call(node)? {
            ("Ref", name) => {
                let name = name.text()?;
                self.0.get(&name).cloned().ok_or_else(|| TemplateError::DanglingReference {
                    at: node.at().to_owned(),
                    name: name.clone(),
                })
            }
            (unknown, _) => {
                Err(TemplateError::UnknownIntrinsic { at: node.at().to_owned(), name: unknown.to_owned() })
            }
        }
    }
}

/// The one function of a mapping and what it is given.
fn call<'a>(node: &Node<'a>) -> Result<(&'a str, Node<'a>), TemplateError> {
    match node.entries()?.as_slice() {
        [(function, argument)] => Ok((function, argument.clone())),
        _ => Err(node.mismatch("one function")),
    }
}
