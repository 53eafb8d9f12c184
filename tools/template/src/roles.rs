//! What a role's policies allow.

use crate::node::Node;
use crate::{Condition, Statement, TemplateError};

/// The statements of all policies of an `AWS::IAM::Role`.
///
/// Managed policies are refused: what they allow stands in no file of ours.
pub(crate) fn statements(role: &Node<'_>) -> Result<Vec<Statement>, TemplateError> {
    let properties = role.need("Properties")?;
    properties.only(&["AssumeRolePolicyDocument", "Policies"])?;
    let mut statements = Vec::new();
    for policy in properties.need("Policies")?.list()? {
        policy.only(&["PolicyName", "PolicyDocument"])?;
        let document = policy.need("PolicyDocument")?;
        document.only(&["Version", "Statement"])?;
        for node in document.need("Statement")?.list()? {
            statements.push(statement(&node)?);
        }
    }
    Ok(statements)
}

fn statement(node: &Node<'_>) -> Result<Statement, TemplateError> {
    node.only(&["Sid", "Effect", "Action", "Resource", "Condition"])?;
    Ok(Statement {
        effect: node.need("Effect")?.text()?,
        actions: node.need("Action")?.one_or_more()?,
        resources: node.need("Resource")?.one_or_more()?,
        conditions: node.get("Condition").map_or_else(|| Ok(Vec::new()), |node| conditions(&node))?,
    })
}

/// Operators that are understood. A misspelt one would be refused by IAM only when the stack is deployed.
const OPERATORS: [&str; 6] = [
    "ForAllValues:StringEquals",
    "ForAllValues:StringLike",
    "Null",
    "StringEquals",
    "StringEqualsIfExists",
    "StringLike",
];

fn conditions(node: &Node<'_>) -> Result<Vec<Condition>, TemplateError> {
    node.only(&OPERATORS)?;
    let mut conditions = Vec::new();
    for (operator, keys) in node.entries()? {
        for (key, values) in keys.entries()? {
            let (operator, key) = (operator.to_owned(), key.to_owned());
            conditions.push(Condition { operator, key, values: values.one_or_more()? });
        }
    }
    Ok(conditions)
}
