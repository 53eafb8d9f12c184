//! The clauses of conditions: which there are, and a write with one of them taken out.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeSet;

use serde_json::Value;

use super::call::{Call, of_write};

/// One part of a write's condition: a comparison, or a whole alternative.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clause {
    /// What is written.
    pub write: String,
    /// The whole condition, without its values.
    pub condition: String,
    /// The part, without its values.
    pub text: String,
    /// Its number in the condition.
    node: usize,
}

/// A condition, taken apart.
#[derive(Clone, Debug)]
enum Node {
    Leaf(String),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// The clauses of a write; `None` when it has no condition.
pub(crate) fn clauses(write: &Value) -> Option<BTreeSet<Clause>> {
    let condition = write["ConditionExpression"].as_str()?;
    let root = Node::parse(condition);
    let mut found = Vec::new();
    root.parts(&mut 0, true, &mut found);
    let (name, condition) = (of_write(write), without_values(condition));
    let clause = |(node, text): (usize, String)| Clause {
        write: name.clone(),
        condition: condition.clone(),
        text: without_values(&text),
        node,
    };
    Some(found.into_iter().map(clause).collect())
}

/// The same call without this clause, wherever it stands.
pub(crate) fn without(call: &Call, clause: &Clause) -> Call {
    let mut request = call.request.clone();
    let places: Vec<_> = match request["TransactItems"].as_array() {
        Some(actions) => actions
            .iter()
            .enumerate()
            .filter_map(|(at, action)| {
                Some(format!("/TransactItems/{at}/{}", action.as_object()?.keys().next()?))
            })
            .collect(),
        None => vec![String::new()],
    };
    for place in places {
        let Some(write) = request.pointer_mut(&place) else { continue };
        let condition = write["ConditionExpression"].as_str().unwrap_or_default().to_owned();
        if of_write(write) == clause.write && without_values(&condition) == clause.condition {
            take_out(write, &condition, clause.node);
        }
    }
    Call { body: request.to_string().into_bytes(), request, ..call.clone() }
}

fn take_out(write: &mut Value, condition: &str, node: usize) {
    let left = Node::parse(condition).without(node, &mut 0).map(|node| node.text(false)).unwrap_or_default();
    let used = format!("{} {left}", write["UpdateExpression"].as_str().unwrap_or_default());
    let Some(write) = write.as_object_mut() else { return };
    if left.is_empty() {
        write.remove("ConditionExpression");
    } else {
        write.insert("ConditionExpression".to_owned(), Value::from(left));
    }
    // DynamoDB refuses names and values that nothing uses.
    for aliases in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        let Some(Value::Object(kept)) = write.get_mut(aliases) else { continue };
        kept.retain(|alias, _| words(&used).any(|word| word == alias));
        if kept.is_empty() {
            write.remove(aliases);
        }
    }
}

fn words(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|letter: char| !(letter.is_alphanumeric() || "_#:".contains(letter)))
}

/// An expression whose values are left out.
pub(crate) fn without_values(expression: &str) -> String {
    let mut text = String::new();
    let mut is_value = false;
    for letter in expression.chars() {
        is_value = if is_value { letter.is_alphanumeric() || letter == '_' } else { letter == ':' };
        match letter {
            ':' => text.push('?'),
            _ if is_value => {}
            letter => text.push(letter),
        }
    }
    text
}

impl Node {
    fn parse(text: &str) -> Self {
        let mut rest = text;
        Self::any_of(&mut rest)
    }

    fn any_of(rest: &mut &str) -> Self {
        Self::joined(rest, " OR ", Self::all_of, Self::Any)
    }

    fn all_of(rest: &mut &str) -> Self {
        Self::joined(rest, " AND ", Self::one, Self::All)
    }

    fn joined(rest: &mut &str, by: &str, part: fn(&mut &str) -> Self, join: fn(Vec<Self>) -> Self) -> Self {
        let first = part(rest);
        let mut parts = vec![first];
        while let Some(more) = rest.strip_prefix(by) {
            *rest = more;
            parts.push(part(rest));
        }
        if parts.len() == 1 { parts.remove(0) } else { join(parts) }
    }

    fn one(rest: &mut &str) -> Self {
        if let Some(inner) = rest.strip_prefix('(') {
            *rest = inner;
            let node = Self::any_of(rest);
            *rest = rest.strip_prefix(')').unwrap_or(rest);
            return node;
        }
        // Up to the next word that joins, or a parenthesis that was not opened here.
        let mut depth = 0_u32;
        let end = rest.char_indices().find_map(|(at, letter)| {
            match letter {
                '(' => depth += 1,
                ')' if depth == 0 => return Some(at),
                ')' => depth -= 1,
                _ => {}
            }
            let after = rest.get(at..)?;
            (depth == 0 && (after.starts_with(" AND ") || after.starts_with(" OR "))).then_some(at)
        });
        let (leaf, more) = rest.split_at(end.unwrap_or(rest.len()));
        *rest = more;
        Self::Leaf(leaf.to_owned())
    }

    /// Every part that can be taken out, by number. A condition that is one comparison is its own only part.
    fn parts(&self, next: &mut usize, is_root: bool, found: &mut Vec<(usize, String)>) {
        let number = *next;
        *next += 1;
        if !is_root || matches!(self, Self::Leaf(_)) {
            found.push((number, self.text(false)));
        }
        if let Self::All(parts) | Self::Any(parts) = self {
            for part in parts {
                part.parts(next, false, found);
            }
        }
    }

    fn without(&self, node: usize, next: &mut usize) -> Option<Self> {
        let number = *next;
        *next += 1;
        let (parts, join): (_, fn(Vec<Self>) -> Self) = match self {
            Self::Leaf(_) => return (number != node).then(|| self.clone()),
            Self::All(parts) => (parts, Self::All),
            Self::Any(parts) => (parts, Self::Any),
        };
        let mut left: Vec<_> = parts.iter().filter_map(|part| part.without(node, next)).collect();
        match (number == node, left.len()) {
            (true, _) | (_, 0) => None,
            (_, 1) => left.pop(),
            _ => Some(join(left)),
        }
    }

    fn text(&self, is_inner: bool) -> String {
        let (parts, by) = match self {
            Self::Leaf(text) => return text.clone(),
            Self::All(parts) => (parts, " AND "),
            Self::Any(parts) => (parts, " OR "),
        };
        let joined = parts.iter().map(|part| part.text(true)).collect::<Vec<_>>().join(by);
        if is_inner { format!("({joined})") } else { joined }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONDITION: &str =
        "attribute_not_exists(#a) AND #b = :v1 AND ((#c = :v2 AND #d <= :v3) OR (#e <> :v4))";

    #[test]
    fn each_part_can_be_taken_out() {
        let root = Node::parse(CONDITION);
        let mut found = Vec::new();
        root.parts(&mut 0, true, &mut found);
        let left = |node| {
            root.without(node, &mut 0).map(|node| without_values(&node.text(false))).unwrap_or_default()
        };
        let shown: Vec<_> = found.iter().map(|(node, text)| (without_values(text), left(*node))).collect();
        let all = "attribute_not_exists(#a) AND #b = ?";
        let expected = [
            ("attribute_not_exists(#a)", "#b = ? AND ((#c = ? AND #d <= ?) OR #e <> ?)".to_owned()),
            ("#b = ?", "attribute_not_exists(#a) AND ((#c = ? AND #d <= ?) OR #e <> ?)".to_owned()),
            ("(#c = ? AND #d <= ?) OR #e <> ?", all.to_owned()),
            ("#c = ? AND #d <= ?", format!("{all} AND #e <> ?")),
            ("#c = ?", format!("{all} AND (#d <= ? OR #e <> ?)")),
            ("#d <= ?", format!("{all} AND (#c = ? OR #e <> ?)")),
            ("#e <> ?", format!("{all} AND (#c = ? AND #d <= ?)")),
        ];
        assert_eq!(shown, expected.map(|(part, left)| (part.to_owned(), left)));
    }

    #[test]
    fn a_condition_of_one_comparison_goes_whole() {
        let mut found = Vec::new();
        Node::parse("attribute_exists(pk)").parts(&mut 0, true, &mut found);
        assert_eq!(found, [(0, "attribute_exists(pk)".to_owned())]);
        assert!(Node::parse("attribute_exists(pk)").without(0, &mut 0).is_none());
    }
}
