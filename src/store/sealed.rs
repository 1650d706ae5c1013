//! Values that the store holds encrypted, for `store reseal`, which encrypts them with a new key.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::SealedSecrets;

/// The encrypted values of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedWebhook {
    /// The webhook's tenant.
    pub tenant: TenantId,
    /// The webhook's id.
    pub id: WebhookId,
    /// The encrypted values as stored.
    pub sealed: SealedSecrets,
}

/// The encrypted answer to a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAnswer {
    /// The request's tenant.
    pub tenant: TenantId,
    /// [`KeyedRequest::name`](crate::domain::idempotency::KeyedRequest::name).
    pub name: [u8; 32],
    /// The encrypted answer as stored.
    pub bytes: Vec<u8>,
}

/// Encrypted values of all tenants.
#[async_trait]
pub trait SealedStore: Send + Sync {
    /// Reads the encrypted values of up to `limit` webhooks after one, in the order of their ids.
    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError>;

    /// Replaces the encrypted values of a webhook. Returns `false` if the webhook was changed or deleted since it was
    /// read. A caller that read the webhook before cannot write it back.
    async fn reseal_webhook(&self, was: SealedWebhook, sealed: SealedSecrets) -> Result<bool, StoreError>;

    /// Reads up to `limit` encrypted answers after one, in the order of tenant and name.
    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError>;

    /// Replaces encrypted answers in one commit, except those that were changed or deleted since they were read. Returns
    /// the number of replaced answers.
    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError>;
}
