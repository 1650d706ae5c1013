//! Compressed bodies of cached analyses (gzip, RFC 1952).
//!
//! A body is compressed when the first caller accepts gzip, and the cache then keeps both forms. An analysis that is not cached is sent
//! uncompressed, so an analysis costs one compression while it is in the cache.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::cache::{Key, RepresentationCache};
use super::{Analyses, Representation};
use crate::domain::ids::CallId;
use crate::tenants::Tenant;

/// Minimum size of a body in bytes: a smaller answer needs one packet in any form.
const MIN_BYTES: usize = 1 << 10;
/// Maximum size in bytes of a body that is compressed on the thread of its request, which takes about a millisecond.
const SHORT_BYTES: usize = 64 << 10;
/// Maximum size of a body in bytes. Only one body of more than [`SHORT_BYTES`] is compressed at a time.
const MAX_BYTES: usize = 2 << 20;

impl Analyses {
    /// Compresses the body of a cached analysis and stores the result in [`Representation::gzip`]. Does nothing if the body is already
    /// compressed, too small or too large, if the analysis is not in the cache, or if another large body is being compressed.
    pub async fn compress(&self, tenant: &Tenant, call_id: &CallId, representation: &Arc<Representation>) {
        let size = representation.body.len();
        if representation.gzip.get().is_some() || !(MIN_BYTES..=MAX_BYTES).contains(&size) {
            return;
        }
        // The box keeps the future of a cached read small.
        Box::pin(self.compress_cached((tenant.id().clone(), call_id.clone()), representation)).await;
    }

    async fn compress_cached(&self, key: Key, representation: &Arc<Representation>) {
        if !self.cache.has(&key, representation) {
            return;
        }
        if representation.body.len() <= SHORT_BYTES {
            return compress(&self.cache, &key, representation);
        }
        let Ok(one_at_a_time) = Arc::clone(&self.compressing).try_lock_owned() else { return };
        let (cache, representation) = (Arc::clone(&self.cache), Arc::clone(representation));
        // The compression continues if the caller disconnects, so it holds the lock.
        let compression = tokio::task::spawn_blocking(move || {
            compress(&cache, &key, &representation);
            drop(one_at_a_time);
        });
        let _ = compression.await;
    }
}

/// Compresses a body, and counts the memory of the compressed body.
fn compress(cache: &RepresentationCache, key: &Key, representation: &Arc<Representation>) {
    if let Some(compressed) = gzip(&representation.body) {
        // Another request may have compressed the same body.
        let _ = representation.gzip.set(compressed);
        cache.weigh_again(key, representation);
    }
}

/// Returns the compressed form of a body; `None` if the encoder fails, which does not happen in memory.
fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    let mut compressed = encoder.finish().ok()?;
    compressed.shrink_to_fit();
    Some(compressed.into())
}
