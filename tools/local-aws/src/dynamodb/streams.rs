//! Reading a table's stream, for whoever plays Lambda's event source mapping.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynoxide::actions::get_records::GetRecordsRequest;
use dynoxide::actions::get_shard_iterator::GetShardIteratorRequest;
use dynoxide::streams::{shard_id, stream_arn};
use dynoxide::{Database, DynoxideError};
use serde_json::Value;

/// One change of a table's items.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRecord {
    /// Its place in the stream; later ones are greater.
    pub sequence_number: String,
    /// When it was written, to the second.
    pub written_at: SystemTime,
    /// The record as `GetRecords` gives it.
    pub record: Value,
}

/// The changes of `table` after this place, or all that are kept, oldest first, at most so many.
pub(super) fn read(
    database: &Database,
    table: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<StreamRecord>, DynoxideError> {
    let iterator = database.get_shard_iterator(GetShardIteratorRequest {
        stream_arn: stream_arn(table, "now"),
        shard_id: shard_id(table),
        shard_iterator_type: if after.is_some() { "AFTER_SEQUENCE_NUMBER" } else { "TRIM_HORIZON" }
            .to_owned(),
        sequence_number: after.map(str::to_owned),
    })?;
    let request =
        GetRecordsRequest { shard_iterator: iterator.shard_iterator.unwrap_or_default(), limit: Some(limit) };
    let records = database.get_records(request)?.records.into_iter();
    let read = records.map(|record| {
        let sequence_number = record.dynamodb.sequence_number.clone();
        let seconds = record.dynamodb.approximate_creation_date_time.max(0.0);
        let record = serde_json::to_value(record)
            .map_err(|error| DynoxideError::InternalServerError(error.to_string()))?;
        Ok(StreamRecord {
            sequence_number,
            written_at: UNIX_EPOCH + Duration::from_secs_f64(seconds),
            record,
        })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dynamodb::tables;

    fn database() -> Database {
        let database = Database::memory().unwrap();
        let definition = json!({
            "TableName": "jobs", "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
        });
        tables::ensure(&database, definition, None).unwrap();
        database
    }

    fn put(database: &Database, number: usize) {
        let put = json!({"TableName": "jobs", "Item": {"pk": {"S": "a"}, "n": {"N": number.to_string()}}});
        database.put_item(serde_json::from_value(put).unwrap()).unwrap();
    }

    #[test]
    fn changes_are_read_on_from_where_the_last_read_ended() {
        let database = database();
        for number in 0..5 {
            put(&database, number);
        }
        let first = read(&database, "jobs", None, 3).unwrap();
        let numbers = |records: &[StreamRecord]| -> Vec<_> {
            records.iter().map(|one| one.record["dynamodb"]["NewImage"]["n"]["N"].clone()).collect()
        };
        assert_eq!(numbers(&first), ["0", "1", "2"]);
        assert_eq!(first[0].record["eventName"], "INSERT");
        assert_eq!(first[1].record["eventName"], "MODIFY");
        let place = &first[2].sequence_number;
        assert_eq!(numbers(&read(&database, "jobs", Some(place), 10).unwrap()), ["3", "4"]);
        assert!(read(&database, "absent", None, 1).is_err());
    }

    #[test]
    fn there_is_nothing_after_the_last_change_until_there_is() {
        let database = database();
        assert_eq!(read(&database, "jobs", None, 10).unwrap(), []);
        put(&database, 1);
        let last = read(&database, "jobs", None, 10).unwrap().pop().unwrap().sequence_number;
        assert_eq!(read(&database, "jobs", Some(&last), 10).unwrap(), []);
        put(&database, 2);
        assert_eq!(read(&database, "jobs", Some(&last), 10).unwrap().len(), 1);
    }
}
