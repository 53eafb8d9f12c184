//! Opened secrets, kept in memory for a few minutes so that not every call asks KMS.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darkroom_core::id::KeyId;
use darkroom_core::key::Secret;
use darkroom_core::time::Timestamp;

/// A secret is kept in memory this long.
const SECRET_FRESH: Duration = Duration::from_secs(300);

/// The secrets that this process has opened. An older one is dropped, and with it overwritten, as soon as anything is
/// asked of the cache; Lambda may freeze a process between invocations, so nothing happens then.
#[derive(Default)]
pub(crate) struct SecretCache(Mutex<HashMap<KeyId, (Timestamp, Secret)>>);

impl SecretCache {
    /// A secret that was opened less than five minutes before `at`.
    pub(crate) fn get(&self, key: &KeyId, at: Timestamp) -> Option<Secret> {
        self.fresh(at).get(key).map(|(_, secret)| secret.clone())
    }

    /// Keeps a secret that was opened at `at`.
    pub(crate) fn put(&self, key: KeyId, at: Timestamp, secret: Secret) {
        self.fresh(at).insert(key, (at, secret));
    }

    /// Drops every secret that is too old at `at`.
    pub(crate) fn evict(&self, at: Timestamp) {
        drop(self.fresh(at));
    }

    fn fresh(&self, at: Timestamp) -> MutexGuard<'_, HashMap<KeyId, (Timestamp, Secret)>> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.retain(|_, (opened_at, _)| at.finds_fresh(*opened_at, SECRET_FRESH));
        secrets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn cache() -> (SecretCache, KeyId) {
        let (cache, key) = (SecretCache::default(), KeyId::derive("gemini", "one"));
        if let Ok(secret) = Secret::parse("one") {
            cache.put(key.clone(), at(1_000), secret);
        }
        (cache, key)
    }

    fn kept(cache: &SecretCache) -> usize {
        cache.0.lock().map_or(0, |secrets| secrets.len())
    }

    #[test]
    fn a_secret_is_kept_for_five_minutes_and_then_gone_from_memory() {
        let (cache, key) = cache();
        assert!(cache.get(&key, at(1_299)).is_some_and(|secret| secret.reveal() == "one"));
        assert!(cache.get(&key, at(1_300)).is_none());
        assert_eq!(kept(&cache), 0);
    }

    #[test]
    fn asking_for_another_key_or_for_nothing_drops_what_is_old() {
        let (cache, _) = cache();
        assert!(cache.get(&KeyId::derive("gemini", "two"), at(1_299)).is_none());
        assert_eq!(kept(&cache), 1);
        assert!(cache.get(&KeyId::derive("gemini", "two"), at(1_300)).is_none());
        assert_eq!(kept(&cache), 0);
        let (cache, _) = self::cache();
        cache.evict(at(1_299));
        assert_eq!(kept(&cache), 1);
        cache.evict(at(1_300));
        assert_eq!(kept(&cache), 0);
    }
}
