//! The cache of finished analyses, stored as the bytes of the answer. Its size and the age of its entries are
//! limited.
//!
//! A read that began before a change must not insert the older state after the change. Therefore each key has an epoch, which it
//! shares with a few other keys. An invalidation increments the epoch, and an insertion succeeds only if the epoch still has the
//! value from before the read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::sync::Cache;

use super::Representation;
use crate::config::CacheSettings;
use crate::domain::ids::{CallId, TenantId};

/// Tenant and call id of an analysis.
pub(super) type Key = (TenantId, CallId);

/// Number of epochs. This number of epochs needs little memory, and a change of one call rarely prevents the insertion of another
/// call.
const EPOCHS: usize = 1024;
/// Approximate size of an entry without its body, in bytes.
const ENTRY_OVERHEAD: usize = 256;

pub(super) struct RepresentationCache {
    entries: Cache<Key, Arc<Representation>>,
    epochs: Box<[AtomicU64]>,
}

/// Limits the age of entries. An entry whose memory is counted again keeps its age.
struct Age(Duration);

impl Expiry<Key, Arc<Representation>> for Age {
    fn expire_after_create(&self, _: &Key, _: &Arc<Representation>, _: Instant) -> Option<Duration> {
        Some(self.0)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        _: &Arc<Representation>,
        _: Instant,
        remaining: Option<Duration>,
    ) -> Option<Duration> {
        remaining
    }
}

/// The epoch of a cache key, as it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl RepresentationCache {
    pub(super) fn new(settings: &CacheSettings) -> Self {
        let weigh = |(tenant, call_id): &Key, representation: &Arc<Representation>| {
            let compressed = representation.gzip.get().map_or(0, Bytes::len);
            let bytes =
                representation.body.len() + compressed + tenant.as_str().len() + call_id.as_str().len();
            u32::try_from(bytes + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder()
            .max_capacity(settings.max_bytes)
            .weigher(weigh)
            .expire_after(Age(settings.time_to_live))
            .build();
        Self { entries, epochs: (0..EPOCHS).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Representation>> {
        self.entries.get(key)
    }

    /// Whether the cache has this representation.
    pub(super) fn has(&self, key: &Key, representation: &Arc<Representation>) -> bool {
        self.entries.get(key).is_some_and(|cached| Arc::ptr_eq(&cached, representation))
    }

    /// Counts the memory of a representation again, if the cache still has it.
    pub(super) fn weigh_again(&self, key: &Key, representation: &Arc<Representation>) {
        let before = self.epoch(key);
        if self.has(key, representation) {
            self.insert(key, before, Arc::clone(representation));
        }
    }

    pub(super) fn epoch(&self, key: &Key) -> Epoch {
        Epoch(self.counter(key).load(Ordering::SeqCst))
    }

    /// Inserts an entry, unless the key was invalidated after its epoch `before` was read.
    pub(super) fn insert(&self, key: &Key, before: Epoch, representation: Arc<Representation>) {
        if self.epoch(key) != before {
            return;
        }
        self.entries.insert(key.clone(), representation);
        // Here the epoch shows whether an invalidation happened between the check and the insertion.
        if self.epoch(key) != before {
            self.entries.invalidate(key);
        }
    }

    pub(super) fn invalidate(&self, key: &Key) {
        self.counter(key).fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate(key);
    }

    pub(super) fn invalidate_all(&self) {
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.entries.invalidate_all();
    }

    /// Returns the size of all entries in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }

    fn counter(&self, key: &Key) -> &AtomicU64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.epochs[usize::try_from(hasher.finish() % EPOCHS as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> RepresentationCache {
        RepresentationCache::new(&CacheSettings { max_bytes: 1 << 20, time_to_live: Duration::from_hours(1) })
    }

    fn key() -> Key {
        (TenantId::parse("acme").unwrap(), CallId::parse("1").unwrap())
    }

    #[test]
    fn the_size_includes_compressed_bodies() {
        let cache = cache();
        let representation = Arc::new(Representation::for_test(b"a body"));
        cache.insert(&key(), cache.epoch(&key()), Arc::clone(&representation));
        let before = cache.bytes();
        representation.gzip.set(Bytes::from_static(&[0; 100])).unwrap();
        cache.weigh_again(&key(), &representation);
        assert_eq!(cache.bytes(), before + 100);
    }

    #[test]
    fn a_replaced_representation_is_not_weighed_again() {
        let cache = cache();
        let old = Arc::new(Representation::for_test(b"old"));
        cache.insert(&key(), cache.epoch(&key()), Arc::clone(&old));
        cache.insert(&key(), cache.epoch(&key()), Arc::new(Representation::for_test(b"new")));
        cache.weigh_again(&key(), &old);
        assert_eq!(cache.get(&key()).unwrap().body, "new");
    }

    #[test]
    fn a_read_that_began_before_a_change_is_not_cached() {
        let cache = cache();
        let before = cache.epoch(&key());
        cache.invalidate(&key());
        cache.insert(&key(), before, Arc::new(Representation::for_test(b"old")));
        assert!(cache.get(&key()).is_none());
        cache.insert(&key(), cache.epoch(&key()), Arc::new(Representation::for_test(b"new")));
        assert_eq!(cache.get(&key()).unwrap().body, &b"new"[..]);
    }
}
