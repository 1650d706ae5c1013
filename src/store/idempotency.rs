//! Requests with an `Idempotency-Key`.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::idempotency::{KeyedRequest, StoredAnswer};
use crate::domain::ids::TenantId;

/// The right to process a request with a key and to write its answer, until another caller claims the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaim {
    pub(crate) name: [u8; 32],
    /// The fencing token.
    pub(crate) claim: i64,
}

/// How long a key is claimed and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerms {
    /// How long a request may be in progress before another caller may claim its key.
    pub lease: Duration,
    /// How long the answer is stored, from the claim.
    pub kept_for: Duration,
}

/// The state of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// The key is new: the caller processes the request now.
    Claimed(KeyClaim),
    /// Another caller is processing the same request.
    UnderWay,
    /// The key belongs to a different request.
    OfAnother,
    /// The request is done; with its answer, if the answer could be stored.
    Done(Option<StoredAnswer>),
}

/// Idempotency keys of one tenant.
#[async_trait]
pub trait IdempotencyKeyStore: Send + Sync {
    /// Claims the key of a request, unless it is claimed or used. Of two simultaneous callers, one gets the claim.
    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError>;

    /// Marks a request as done, with its answer if the answer can be stored. [`StoreError::LeaseLost`] if another caller
    /// holds the claim by now.
    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<StoredAnswer>,
    ) -> Result<(), StoreError>;

    /// Frees the key of a request that had no effect.
    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError>;

    /// Deletes up to `limit` expired keys. Returns their number.
    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError>;
}
