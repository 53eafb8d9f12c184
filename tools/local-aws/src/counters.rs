//! How often each operation was asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Requests by (service, operation), such as `("sqs", "SendMessage") → 12`.
pub type Requests = BTreeMap<(&'static str, &'static str), u64>;

/// Shared counters. An operation seen before costs a shared lock and one atomic addition.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<RwLock<BTreeMap<(&'static str, &'static str), AtomicU64>>>);

impl Counters {
    pub(crate) fn count(&self, service: &'static str, operation: &'static str) {
        let key = (service, operation);
        // A panic elsewhere cannot leave a count half-written, so a poisoned lock is as good as any.
        if let Some(count) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut counts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        counts.entry(key).or_default().fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Requests {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, count)| (*key, count.load(Ordering::Relaxed))).collect()
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
        let expected = Requests::from([(("s3", "PutObject"), 2), (("sqs", "SendMessage"), 1)]);
        assert_eq!(counters.snapshot(), expected);
    }
}
