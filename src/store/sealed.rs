//! What stands sealed in a store, whichever key sealed it.

use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::Sealed;

/// What is sealed of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedWebhook {
    /// Whose.
    pub tenant: TenantId,
    /// The endpoint.
    pub id: WebhookId,
    /// As it stands.
    pub sealed: Sealed,
}

/// The sealed answer to a request that came with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAnswer {
    /// Whose.
    pub tenant: TenantId,
    /// [`KeyedRequest::name`](crate::domain::idempotency::KeyedRequest::name).
    pub name: [u8; 32],
    /// As it stands.
    pub bytes: Vec<u8>,
}
