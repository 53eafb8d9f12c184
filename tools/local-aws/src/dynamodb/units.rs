//! What a request asks for, and the capacity units that its answer cost.
//!
//! A request that was carried out says itself what it cost. One whose condition did not hold says nothing, though
//! DynamoDB charges it like a write of the larger of the two items, and a cancelled transaction like one that was
//! carried out.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// Names of a table's key attributes.
pub(super) type KeyNames = Vec<String>;

/// Operations that tell their capacity when asked.
const TELL_CAPACITY: [&str; 10] = [
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "TransactGetItems",
    "TransactWriteItems",
    "UpdateItem",
];

/// Of these, those that read.
const READ: [&str; 5] = ["BatchGetItem", "GetItem", "Query", "Scan", "TransactGetItems"];

/// What a request asks for.
pub(super) struct Asked {
    pub(super) operation: String,
    /// In order, each once.
    pub(super) tables: Vec<String>,
    pub(super) writes: Vec<Write>,
    /// Whether it can be made to tell its capacity, and does not already.
    pub(super) tells_capacity: bool,
}

/// One item that a request writes.
pub(super) struct Write {
    /// Its table and key; unknown for a put into a table whose key attributes are not known.
    pub(super) item: Option<String>,
    /// The size of an item that is put as a whole.
    pub(super) bytes: usize,
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(super) struct Answered {
    /// A condition did not hold.
    pub(super) refused: bool,
    pub(super) read_units: f64,
    pub(super) write_units: f64,
}

impl Asked {
    /// Reads a request's body. `keys` holds the tables' key attributes.
    pub(super) fn read(operation: &str, body: &Value, keys: &HashMap<String, KeyNames>) -> Self {
        let mut tables = BTreeSet::new();
        let mut writes = Vec::new();
        let mut add = |one: &Value| {
            if let Some(table) = text(one, "TableName") {
                tables.insert(table.to_owned());
                writes.extend(Write::read(table, one, keys));
            }
        };
        match operation {
            "TransactWriteItems" | "TransactGetItems" => {
                for one in list(body, "TransactItems").filter_map(Value::as_object).flat_map(Map::values) {
                    add(one);
                }
            }
            "BatchWriteItem" | "BatchGetItem" => {
                let items = body.get("RequestItems").and_then(Value::as_object);
                for (table, requests) in items.into_iter().flatten() {
                    tables.insert(table.clone());
                    let requests = requests.as_array().into_iter().flatten().filter_map(Value::as_object);
                    writes.extend(
                        requests.flat_map(Map::values).filter_map(|one| Write::read(table, one, keys)),
                    );
                }
            }
            _ => add(body),
        }
        if READ.contains(&operation) {
            writes.clear();
        }
        Self {
            operation: operation.to_owned(),
            tables: tables.into_iter().collect(),
            writes,
            tells_capacity: TELL_CAPACITY.contains(&operation)
                && body
                    .as_object()
                    .is_some_and(|body| !body.is_empty() && !body.contains_key("ReturnConsumedCapacity")),
        }
    }

    /// A transaction prepares and commits: each item is written twice.
    fn factor(&self) -> f64 {
        if self.operation == "TransactWriteItems" { 2.0 } else { 1.0 }
    }
}

impl Write {
    /// A put names its item among the item's attributes, everything else as `Key`; a query names none.
    fn read(table: &str, one: &Value, keys: &HashMap<String, KeyNames>) -> Option<Self> {
        if let Some(item) = one.get("Item").and_then(Value::as_object) {
            let names = keys.get(table);
            let key = names.map(|names| names.iter().filter_map(|name| item.get(name)).collect::<Vec<_>>());
            return Some(Self { item: key.map(|key| item_name(table, key)), bytes: item_bytes(item) });
        }
        let key = one.get("Key")?.as_object()?;
        let key = match keys.get(table) {
            Some(names) => names.iter().filter_map(|name| key.get(name)).collect(),
            None => key.values().collect(),
        };
        Some(Self { item: Some(item_name(table, key)), bytes: 0 })
    }

    /// The units of a write of this item or of the one found in its place.
    fn units(&self, found: Option<&Value>) -> f64 {
        let found = found.and_then(Value::as_object).map_or(0, item_bytes);
        (self.bytes.max(found).div_ceil(1024).max(1)) as f64
    }
}

/// What a request's answer says of its cost.
pub(super) fn answered(asked: &Asked, success: bool, body: &Value) -> Answered {
    let mut answered = Answered { refused: false, read_units: 0.0, write_units: 0.0 };
    if success {
        for one in one_or_more(body.get("ConsumedCapacity")) {
            let units = one.get("CapacityUnits").and_then(Value::as_f64).unwrap_or_default();
            // A transaction that had been carried out already is answered with what reading its items costs.
            if READ.contains(&asked.operation.as_str()) || one.get("ReadCapacityUnits").is_some() {
                answered.read_units += units;
            } else {
                answered.write_units += units;
            }
        }
        return answered;
    }
    let kind = text(body, "__type").unwrap_or_default();
    if kind.ends_with("ConditionalCheckFailedException") {
        answered.refused = true;
        answered.write_units = asked.writes.iter().map(|write| write.units(body.get("Item"))).sum();
    } else if kind.ends_with("TransactionCanceledException") {
        answered.refused = true;
        let reasons: Vec<_> = list(body, "CancellationReasons").collect();
        let found = |index: usize| reasons.get(index).and_then(|reason| reason.get("Item"));
        let units = asked.writes.iter().enumerate().map(|(index, write)| write.units(found(index)));
        answered.write_units = asked.factor() * units.sum::<f64>();
    }
    answered
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn one_or_more(value: Option<&Value>) -> &[Value] {
    match value {
        None => &[],
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    }
}

/// `table key/sort key`.
fn item_name(table: &str, key: Vec<&Value>) -> String {
    let parts: Vec<_> = key
        .into_iter()
        .filter_map(|value| value.as_object()?.values().next()?.as_str().map(str::to_owned))
        .collect();
    format!("{table} {}", parts.join("/"))
}

/// An item's size by DynamoDB's rules: names and values in UTF-8, two digits of a number per byte.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
fn item_bytes(item: &Map<String, Value>) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else { return 0 };
    let texts = || value.as_array().into_iter().flatten().filter_map(Value::as_str);
    let own = value.as_str().unwrap_or_default();
    match kind.as_str() {
        "S" => own.len(),
        "N" => number_bytes(own),
        "B" => binary_bytes(own),
        "SS" => texts().map(str::len).sum(),
        "NS" => texts().map(number_bytes).sum(),
        "BS" => texts().map(binary_bytes).sum(),
        "L" => 3 + value.as_array().into_iter().flatten().map(|value| 1 + value_bytes(value)).sum::<usize>(),
        "M" => 3 + value.as_object().map_or(0, |map| map.len() + item_bytes(map)),
        // BOOL and NULL.
        _ => 1,
    }
}

fn number_bytes(number: &str) -> usize {
    number.bytes().filter(u8::is_ascii_digit).count().div_ceil(2) + 1
}

/// Bytes behind base64.
fn binary_bytes(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys() -> HashMap<String, KeyNames> {
        HashMap::from([("jobs".to_owned(), vec!["pk".to_owned(), "sk".to_owned()])])
    }

    fn items(operation: &str, body: &Value) -> Vec<Option<String>> {
        Asked::read(operation, body, &keys()).writes.into_iter().map(|write| write.item).collect()
    }

    #[test]
    fn writes_are_named_by_table_and_key() {
        let key = json!({"sk": {"S": "JOB"}, "pk": {"S": "j1"}});
        let update = json!({"TableName": "jobs", "Key": key});
        assert_eq!(items("UpdateItem", &update), [Some("jobs j1/JOB".to_owned())]);
        assert!(items("GetItem", &update).is_empty());
        assert!(items("Query", &json!({"TableName": "jobs"})).is_empty());
        let put =
            json!({"TableName": "jobs", "Item": {"pk": {"S": "j2"}, "sk": {"S": "JOB"}, "n": {"N": "1"}}});
        assert_eq!(items("PutItem", &put), [Some("jobs j2/JOB".to_owned())]);
        let elsewhere = json!({"TableName": "other", "Item": {"id": {"S": "x"}}});
        assert_eq!(items("PutItem", &elsewhere), [None]);
        let transaction =
            json!({"TransactItems": [{"Update": update}, {"Put": put}, {"ConditionCheck": update}]});
        assert_eq!(
            items("TransactWriteItems", &transaction),
            ["jobs j1/JOB", "jobs j2/JOB", "jobs j1/JOB"].map(|name| Some(name.to_owned()))
        );
        let batch = json!({"RequestItems": {"jobs": [{"DeleteRequest": {"Key": key}}, {"PutRequest": put}]}});
        assert_eq!(
            items("BatchWriteItem", &batch),
            ["jobs j1/JOB", "jobs j2/JOB"].map(|name| Some(name.to_owned()))
        );
    }

    #[test]
    fn an_items_size_is_what_dynamodb_says() {
        let item = json!({
            "pk": {"S": "abcé"}, "n": {"N": "-12345"}, "b": {"B": "AQI="}, "t": {"BOOL": true}, "z": {"NULL": true},
            "ss": {"SS": ["a", "bc"]}, "l": {"L": [{"S": "x"}, {"N": "1"}]}, "m": {"M": {"k": {"S": "v"}}},
        });
        // Names 2+1+1+1+1+2+1+1, values 5, 3+1, 2, 1, 1, 3, 3+(1+1)+(1+2), 3+1+(1+1).
        assert_eq!(item_bytes(item.as_object().unwrap()), 10 + 5 + 4 + 2 + 1 + 1 + 3 + 8 + 6);
    }

    #[test]
    fn a_write_that_was_refused_is_charged_like_the_larger_item() {
        let refused = |item: Value| json!({"__type": "x#ConditionalCheckFailedException", "Item": item});
        let put = json!({"TableName": "jobs", "Item": {"pk": {"S": "x".repeat(1_500)}, "sk": {"S": "JOB"}}});
        let asked = Asked::read("PutItem", &put, &keys());
        let cost = |refused, write_units| Answered { refused, read_units: 0.0, write_units };
        assert_eq!(answered(&asked, false, &refused(Value::Null)), cost(true, 2.0));
        let large = json!({"pk": {"S": "x".repeat(2_500)}});
        assert_eq!(answered(&asked, false, &refused(large)), cost(true, 3.0));
        let other = json!({"__type": "x#ValidationException"});
        assert_eq!(answered(&asked, false, &other), cost(false, 0.0));
    }
}
