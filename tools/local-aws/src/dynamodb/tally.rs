//! What DynamoDB was asked for, added up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::units::{Answered, Asked};

/// What DynamoDB was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DynamoDbUse {
    /// By operation and the tables it named, such as `UpdateItem jobs` or `TransactWriteItems jobs+ledger`.
    pub operations: BTreeMap<String, OperationUse>,
    /// The item with the most writes within any one second.
    pub hottest: Option<HotItem>,
}

/// One operation on the same tables.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OperationUse {
    /// Requests.
    pub requests: u64,
    /// Of these, the ones whose condition did not hold.
    pub refused: u64,
    /// Read capacity units: 4 KB each, half when eventually consistent, double in a transaction.
    pub read_units: f64,
    /// Write capacity units: 1 KB each, double in a transaction; each index entry that changes counts, and so
    /// does a write whose condition did not hold.
    pub write_units: f64,
}

/// An item and how often it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotItem {
    /// Its table and key: `keys SCOPE#gemini/project-1`.
    pub item: String,
    /// Its writes within one second, those whose condition did not hold included.
    pub writes: usize,
}

impl DynamoDbUse {
    /// Everything together.
    pub fn total(&self) -> OperationUse {
        self.operations.values().fold(OperationUse::default(), |total, one| OperationUse {
            requests: total.requests + one.requests,
            refused: total.refused + one.refused,
            read_units: total.read_units + one.read_units,
            write_units: total.write_units + one.write_units,
        })
    }
}

/// The window in which an item's writes are counted.
const HOT_WINDOW: Duration = Duration::from_secs(1);

/// Adds up.
#[derive(Default)]
pub(super) struct Tally {
    operations: BTreeMap<String, OperationUse>,
    /// Each item's writes of the latest second.
    writes: HashMap<String, VecDeque<Instant>>,
    hottest: Option<HotItem>,
}

impl Tally {
    /// Counts one request that came at this time.
    pub(super) fn count(&mut self, asked: &Asked, answered: &Answered, at: Instant) {
        let name = format!("{} {}", asked.operation, asked.tables.join("+"));
        let operation = self.operations.entry(name.trim_end().to_owned()).or_default();
        operation.requests += 1;
        operation.refused += u64::from(answered.refused);
        operation.read_units += answered.read_units;
        operation.write_units += answered.write_units;
        for item in asked.writes.iter().filter_map(|write| write.item.as_ref()) {
            self.count_write(item, at);
        }
    }

    fn count_write(&mut self, item: &str, at: Instant) {
        let writes = self.writes.entry(item.to_owned()).or_default();
        while writes.front().is_some_and(|first| at.duration_since(*first) >= HOT_WINDOW) {
            writes.pop_front();
        }
        writes.push_back(at);
        let count = writes.len();
        if self.hottest.as_ref().is_none_or(|hottest| hottest.writes < count) {
            self.hottest = Some(HotItem { item: item.to_owned(), writes: count });
        }
    }

    pub(super) fn into_use(self) -> DynamoDbUse {
        DynamoDbUse { operations: self.operations, hottest: self.hottest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamodb::units::Write;

    fn write(item: &str) -> Asked {
        Asked {
            operation: "UpdateItem".to_owned(),
            tables: vec!["jobs".to_owned()],
            writes: vec![Write { item: Some(item.to_owned()), bytes: 0 }],
            tells_capacity: true,
        }
    }

    #[test]
    fn the_hottest_item_is_the_one_with_the_most_writes_in_any_second() {
        let mut tally = Tally::default();
        let start = Instant::now();
        let answered = Answered { refused: true, read_units: 0.0, write_units: 1.0 };
        let mut at =
            |item, millis| tally.count(&write(item), &answered, start + Duration::from_millis(millis));
        for millis in [0, 500, 999, 1_000, 1_400] {
            at("jobs a", millis);
        }
        for millis in [0, 1_000, 2_000, 3_000, 4_000, 5_000] {
            at("jobs b", millis);
        }
        let counted = tally.into_use();
        // 500, 999, 1,000 and 1,400: the first is a whole second before the fourth.
        assert_eq!(counted.hottest, Some(HotItem { item: "jobs a".to_owned(), writes: 4 }));
        let expected = OperationUse { requests: 11, refused: 11, read_units: 0.0, write_units: 11.0 };
        assert_eq!(counted.operations, BTreeMap::from([("UpdateItem jobs".to_owned(), expected)]));
        assert_eq!(counted.total(), expected);
    }
}
