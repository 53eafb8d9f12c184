//! Builds update and condition expressions. Every name and value is aliased, so no reserved word can break one.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use crate::attributes::Item;

/// One conditional update: what is set and removed if all clauses hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expression {
    sets: Vec<String>,
    removes: Vec<String>,
    clauses: Vec<String>,
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
}

impl Expression {
    fn name(&mut self, attribute: &str) -> String {
        let alias = format!("#{attribute}");
        self.names.insert(alias.clone(), attribute.to_owned());
        alias
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let alias = format!(":v{}", self.values.len());
        self.values.insert(alias.clone(), value);
        alias
    }

    pub(crate) fn set(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(attribute), self.value(value));
        self.sets.push(format!("{name} = {value}"));
        self
    }

    /// Sets it only when it is absent.
    pub(crate) fn set_once(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(attribute), self.value(value));
        self.sets.push(format!("{name} = if_not_exists({name}, {value})"));
        self
    }

    /// Adds to a number that exists.
    pub(crate) fn add(mut self, attribute: &str, by: u64) -> Self {
        let (name, value) = (self.name(attribute), self.value(AttributeValue::N(by.to_string())));
        self.sets.push(format!("{name} = {name} + {value}"));
        self
    }

    /// Adds to a number that counts from zero when it is absent.
    pub(crate) fn add_from_zero(mut self, attribute: &str, by: u64) -> Self {
        let name = self.name(attribute);
        let zero = self.value(AttributeValue::N("0".to_owned()));
        let by = self.value(AttributeValue::N(by.to_string()));
        self.sets.push(format!("{name} = if_not_exists({name}, {zero}) + {by}"));
        self
    }

    /// Subtracts from a number that exists.
    pub(crate) fn subtract(mut self, attribute: &str, by: u64) -> Self {
        let (name, value) = (self.name(attribute), self.value(AttributeValue::N(by.to_string())));
        self.sets.push(format!("{name} = {name} - {value}"));
        self
    }

    pub(crate) fn remove(mut self, attributes: &[&str]) -> Self {
        for attribute in attributes {
            let name = self.name(attribute);
            self.removes.push(name);
        }
        self
    }

    /// Requires `attribute operator value`.
    pub(crate) fn require(mut self, attribute: &str, operator: &str, value: AttributeValue) -> Self {
        let clause = self.comparison(attribute, operator, value);
        self.clauses.push(clause);
        self
    }

    pub(crate) fn require_absent(mut self, attribute: &str) -> Self {
        let name = self.name(attribute);
        self.clauses.push(format!("attribute_not_exists({name})"));
        self
    }

    pub(crate) fn require_present(mut self, attribute: &str) -> Self {
        let name = self.name(attribute);
        self.clauses.push(format!("attribute_exists({name})"));
        self
    }

    /// Requires one of these groups of comparisons, that one whole.
    pub(crate) fn require_either<const N: usize>(
        mut self,
        groups: [Vec<(&str, &str, AttributeValue)>; N],
    ) -> Self {
        let groups = groups.map(|group| {
            let comparisons: Vec<_> = group
                .into_iter()
                .map(|(attribute, operator, value)| self.comparison(attribute, operator, value))
                .collect();
            format!("({})", comparisons.join(" AND "))
        });
        self.clauses.push(format!("({})", groups.join(" OR ")));
        self
    }

    /// Requires that the attribute is absent or compares so.
    pub(crate) fn require_absent_or(
        mut self,
        attribute: &str,
        operator: &str,
        value: AttributeValue,
    ) -> Self {
        let comparison = self.comparison(attribute, operator, value);
        let name = self.name(attribute);
        self.clauses.push(format!("(attribute_not_exists({name}) OR {comparison})"));
        self
    }

    fn comparison(&mut self, attribute: &str, operator: &str, value: AttributeValue) -> String {
        let (name, value) = (self.name(attribute), self.value(value));
        format!("{name} {operator} {value}")
    }

    pub(crate) fn update(&self) -> String {
        let mut text = String::new();
        if !self.sets.is_empty() {
            text = format!("SET {}", self.sets.join(", "));
        }
        if !self.removes.is_empty() {
            text = format!("{text} REMOVE {}", self.removes.join(", "));
        }
        text
    }

    pub(crate) fn condition(&self) -> String {
        self.clauses.join(" AND ")
    }

    /// The update of one item. A refusal brings the item as it is.
    pub(crate) fn update_item(self, client: &Client, table: &str, key: Item) -> UpdateItemFluentBuilder {
        client
            .update_item()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(self.update())
            .condition_expression(self.condition())
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values(Some(self.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}
