//! How often each operation was asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Requests by (service, operation), such as `("sqs", "SendMessage") → 12`.
pub type Requests = BTreeMap<(&'static str, String), u64>;

type Operations = BTreeMap<String, AtomicU64>;

/// Shared counters. An operation seen before costs a shared lock and one atomic addition.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<RwLock<BTreeMap<&'static str, Operations>>>);

impl Counters {
    pub(crate) fn count(&self, service: &'static str, operation: &str) {
        // A panic elsewhere cannot leave a count half-written, so a poisoned lock is as good as any.
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(service).and_then(|operations| operations.get(operation)) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(counts);
        let mut counts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let operations = counts.entry(service).or_default();
        operations.entry(operation.to_owned()).or_default().fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Requests {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let each = counts.iter().flat_map(|(service, operations)| {
            operations
                .iter()
                .map(move |(operation, count)| ((*service, operation.clone()), count.load(Ordering::Relaxed)))
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_operation_apart() {
        let counters = Counters::default();
        counters.count("s3", "PutObject");
        counters.count("s3", "PutObject");
        counters.count("sqs", "SendMessage");
        let expected =
            Requests::from([(("s3", "PutObject".to_owned()), 2), (("sqs", "SendMessage".to_owned()), 1)]);
        assert_eq!(counters.snapshot(), expected);
    }
}
