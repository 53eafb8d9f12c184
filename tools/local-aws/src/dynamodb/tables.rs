//! Making tables as a definition asks, and bringing older ones up to it.

use std::collections::BTreeSet;

use dynoxide::{Database, DynoxideError};
use serde_json::{Map, Value, json};

use crate::EnsureError;

/// What CloudFormation says about a table and `CreateTable` does not know; none of it changes what a table
/// answers.
const ONLY_IN_TEMPLATES: [&str; 6] = [
    "PointInTimeRecoverySpecification",
    "TimeToLiveSpecification",
    "ContributorInsightsSpecification",
    "KinesisStreamSpecification",
    "ResourcePolicy",
    "WarmThroughput",
];

/// Makes the table of `definition` where absent; where present, adds the indexes and the stream it lacks.
/// Idempotent.
pub(super) fn ensure(
    database: &Database,
    definition: Value,
    ttl_attribute: Option<&str>,
) -> Result<(), EnsureError> {
    let Value::Object(mut definition) = definition else {
        return Err(EnsureError::refused("table", "its definition is not a JSON object"));
    };
    let Some(name) = text(&definition, "TableName") else {
        return Err(EnsureError::refused("table", "its definition lacks TableName"));
    };
    let table = Table { database, resource: format!("table {name}"), name };
    let ttl = ttl_attribute.map(str::to_owned).or_else(|| ttl_in_template(&definition));
    as_api(&mut definition);
    match table.describe()? {
        None => table.create(definition)?,
        Some(present) => table.complete(&definition, &present)?,
    }
    table.expire_by(ttl.as_deref())
}

/// Turns what a template writes differently into `CreateTable`'s form.
fn as_api(definition: &mut Map<String, Value>) {
    for name in ONLY_IN_TEMPLATES {
        definition.remove(name);
    }
    if let Some(Value::Object(stream)) = definition.get_mut("StreamSpecification") {
        stream.remove("ResourcePolicy");
        stream.entry("StreamEnabled").or_insert(Value::Bool(true));
    }
    if let Some(Value::Object(encryption)) = definition.get_mut("SSESpecification")
        && let Some(enabled) = encryption.remove("SSEEnabled")
    {
        encryption.insert("Enabled".to_owned(), enabled);
    }
}

fn ttl_in_template(definition: &Map<String, Value>) -> Option<String> {
    let ttl = definition.get("TimeToLiveSpecification")?;
    let enabled = ttl.get("Enabled").and_then(Value::as_bool).unwrap_or(true);
    let attribute = ttl.get("AttributeName")?.as_str()?;
    enabled.then(|| attribute.to_owned())
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    Some(object.get(name)?.as_str()?.to_owned())
}

struct Table<'a> {
    database: &'a Database,
    name: String,
    resource: String,
}

impl Table<'_> {
    fn refused(&self, reason: impl std::fmt::Display) -> EnsureError {
        EnsureError::refused(&self.resource, reason)
    }

    fn describe(&self) -> Result<Option<Value>, EnsureError> {
        let request = self.request(json!({"TableName": self.name}))?;
        match self.database.describe_table(request) {
            Ok(answer) => {
                let answer = serde_json::to_value(answer).map_err(|error| self.refused(error))?;
                Ok(answer.get("Table").cloned())
            }
            Err(DynoxideError::ResourceNotFoundException(_)) => Ok(None),
            Err(error) => Err(self.refused(error)),
        }
    }

    fn create(&self, definition: Map<String, Value>) -> Result<(), EnsureError> {
        let request = self.request(Value::Object(definition))?;
        self.database.create_table(request).map(drop).map_err(|error| self.refused(error))
    }

    /// Adds to a table what its definition has gained since. Keys cannot change in place; an index that the
    /// definition lost stays, because it can hurt nobody but costs nothing.
    fn complete(&self, wanted: &Map<String, Value>, present: &Value) -> Result<(), EnsureError> {
        if wanted.get("KeySchema") != present.get("KeySchema") {
            return Err(self.differs("key schema".to_owned()));
        }
        for index in indexes(wanted.get("GlobalSecondaryIndexes")) {
            let same_name = |other: &&Value| other.get("IndexName") == index.get("IndexName");
            match indexes(present.get("GlobalSecondaryIndexes")).iter().find(same_name) {
                Some(other) if other.get("KeySchema") != index.get("KeySchema") => {
                    return Err(
                        self.differs(format!("index {}", index.get("IndexName").unwrap_or(&Value::Null)))
                    );
                }
                Some(other) if projection(other) == projection(index) => {}
                // What it carries cannot change in place; it is made anew from the table.
                Some(other) => {
                    let delete = json!({"Delete": {"IndexName": other.get("IndexName")}});
                    self.update(json!({"GlobalSecondaryIndexUpdates": [delete]}))?;
                    self.add_index(wanted, index)?;
                }
                None => self.add_index(wanted, index)?,
            }
        }
        let stream = wanted.get("StreamSpecification");
        if stream.is_some() && present.get("StreamSpecification").is_none_or(Value::is_null) {
            self.update(json!({"StreamSpecification": stream}))?;
        }
        Ok(())
    }

    fn add_index(&self, wanted: &Map<String, Value>, index: &Value) -> Result<(), EnsureError> {
        self.update(json!({
            "AttributeDefinitions": wanted.get("AttributeDefinitions"),
            "GlobalSecondaryIndexUpdates": [{"Create": index}],
        }))
    }

    fn update(&self, mut change: Value) -> Result<(), EnsureError> {
        if let Value::Object(change) = &mut change {
            change.insert("TableName".to_owned(), self.name.clone().into());
        }
        let request = self.request(change)?;
        self.database.update_table(request).map(drop).map_err(|error| self.refused(error))
    }

    /// Lets items expire by `attribute`. Without one, a table that expires goes on doing so.
    fn expire_by(&self, attribute: Option<&str>) -> Result<(), EnsureError> {
        let Some(attribute) = attribute else { return Ok(()) };
        let request = self.request(json!({"TableName": self.name}))?;
        let answer = self.database.describe_time_to_live(request).map_err(|error| self.refused(error))?;
        match answer.time_to_live_description.attribute_name.as_deref() {
            Some(present) if present == attribute => return Ok(()),
            Some(present) => self.set_ttl(present, false)?,
            None => {}
        }
        self.set_ttl(attribute, true)
    }

    fn set_ttl(&self, attribute: &str, enabled: bool) -> Result<(), EnsureError> {
        let request = self.request(json!({
            "TableName": self.name,
            "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": enabled},
        }))?;
        self.database.update_time_to_live(request).map(drop).map_err(|error| self.refused(error))
    }

    fn differs(&self, difference: String) -> EnsureError {
        EnsureError::Differs { resource: self.resource.clone(), difference }
    }

    fn request<T: serde::de::DeserializeOwned>(&self, request: Value) -> Result<T, EnsureError> {
        serde_json::from_value(request).map_err(|error| self.refused(error))
    }
}

/// What an index carries beside its keys.
fn projection(index: &Value) -> (Option<&Value>, BTreeSet<&str>) {
    let projection = index.get("Projection");
    let attributes = projection.and_then(|projection| projection.get("NonKeyAttributes")?.as_array());
    let names = attributes.into_iter().flatten().filter_map(Value::as_str).collect();
    (projection.and_then(|projection| projection.get("ProjectionType")), names)
}

fn indexes(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Value {
        json!({
            "TableName": "jobs",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true},
            "SSESpecification": {"SSEEnabled": true},
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": true},
        })
    }

    fn with_due_index_and_stream() -> Value {
        let mut definition = jobs();
        let attributes = definition["AttributeDefinitions"].as_array_mut().unwrap();
        attributes.push(json!({"AttributeName": "due_shard", "AttributeType": "N"}));
        attributes.push(json!({"AttributeName": "due_at", "AttributeType": "N"}));
        definition["GlobalSecondaryIndexes"] = json!([{
            "IndexName": "due",
            "KeySchema": [
                {"AttributeName": "due_shard", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }]);
        definition["StreamSpecification"] = json!({"StreamViewType": "NEW_AND_OLD_IMAGES"});
        definition
    }

    fn described(database: &Database) -> Value {
        Table { database, name: "jobs".to_owned(), resource: "table jobs".to_owned() }
            .describe()
            .unwrap()
            .unwrap()
    }

    fn ttl(database: &Database) -> Option<String> {
        let request = serde_json::from_value(json!({"TableName": "jobs"})).unwrap();
        database.describe_time_to_live(request).unwrap().time_to_live_description.attribute_name
    }

    #[test]
    fn takes_a_template_as_it_is_twice() {
        let database = Database::memory().unwrap();
        for _ in 0..2 {
            ensure(&database, with_due_index_and_stream(), None).unwrap();
        }
        let table = described(&database);
        assert_eq!(table["GlobalSecondaryIndexes"][0]["IndexName"], "due");
        assert_eq!(table["StreamSpecification"]["StreamEnabled"], true);
        assert_eq!(ttl(&database).as_deref(), Some("ttl"));
    }

    #[test]
    fn an_older_table_gains_index_stream_and_other_ttl() {
        let database = Database::memory().unwrap();
        ensure(&database, jobs(), None).unwrap();
        ensure(&database, with_due_index_and_stream(), Some("expires_at")).unwrap();
        let table = described(&database);
        assert_eq!(table["GlobalSecondaryIndexes"][0]["IndexName"], "due");
        assert_eq!(table["StreamSpecification"]["StreamViewType"], "NEW_AND_OLD_IMAGES");
        assert_eq!(ttl(&database).as_deref(), Some("expires_at"));
    }

    #[test]
    fn an_index_that_carries_more_is_made_anew_with_what_the_table_holds() {
        let database = Database::memory().unwrap();
        ensure(&database, with_due_index_and_stream(), None).unwrap();
        let item = json!({"pk": {"S": "a"}, "sk": {"S": "JOB"}, "due_shard": {"N": "1"}, "due_at": {"N": "5"},
                          "model": {"S": "m"}, "prompt": {"S": "p"}});
        let put = json!({"TableName": "jobs", "Item": item});
        database.put_item(serde_json::from_value(put).unwrap()).unwrap();
        let mut wanted = with_due_index_and_stream();
        wanted["GlobalSecondaryIndexes"][0]["Projection"] =
            json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["model"]});
        for _ in 0..2 {
            ensure(&database, wanted.clone(), None).unwrap();
            let query = json!({
                "TableName": "jobs",
                "IndexName": "due",
                "KeyConditionExpression": "due_shard = :shard",
                "ExpressionAttributeValues": {":shard": {"N": "1"}},
            });
            let found = database.query(serde_json::from_value(query).unwrap()).unwrap();
            let found = serde_json::to_value(found).unwrap();
            assert_eq!(found["Items"][0]["model"], json!({"S": "m"}), "{found}");
            assert_eq!(found["Items"][0]["prompt"], Value::Null, "{found}");
        }
    }

    #[test]
    fn other_keys_are_refused_with_what_to_do() {
        let database = Database::memory().unwrap();
        ensure(&database, jobs(), None).unwrap();
        let mut other = jobs();
        other["KeySchema"] = json!([{"AttributeName": "pk", "KeyType": "HASH"}]);
        other["AttributeDefinitions"] = json!([{"AttributeName": "pk", "AttributeType": "S"}]);
        let refused = ensure(&database, other, None).unwrap_err().to_string();
        assert_eq!(
            refused,
            "table jobs exists with another key schema: move the data folder away to begin anew"
        );
    }

    #[test]
    fn a_definition_without_name_is_refused() {
        let database = Database::memory().unwrap();
        assert!(matches!(ensure(&database, json!({}), None), Err(EnsureError::Refused { .. })));
        assert!(matches!(ensure(&database, json!([]), None), Err(EnsureError::Refused { .. })));
    }
}
