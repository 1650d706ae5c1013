//! Registered webhooks.

use async_trait::async_trait;

use super::{Sending, StoreError};
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::Webhook;

/// The number of a webhook's youngest deliveries whose attempts make up its success rate.
pub(super) const ACTIVITY_WINDOW: i64 = 100;
/// The number of last attempts that count per delivery: a delivery that is sent many times does not outweigh the others.
pub(super) const ACTIVITY_ATTEMPTS: i64 = 10;
/// The bound up to which pending deliveries are counted.
pub(super) const PENDING_COUNTED: i64 = 1000;
/// The number of deliveries of a deleted webhook that one transaction deletes.
pub(super) const DELETED_BATCH: usize = 500;

/// The recent deliveries of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookActivity {
    /// The number of finished attempts.
    pub attempts: u64,
    /// The number of successful attempts.
    pub delivered: u64,
    /// The number of pending deliveries, counted up to a bound.
    pub pending: u64,
    /// Whether there are more pending deliveries than `pending` says.
    pub more_pending: bool,
}

/// Webhooks of one tenant.
#[async_trait]
pub trait WebhookStore: Send + Sync {
    /// Registers a webhook; events from now on are sent to it. Returns `false` if the tenant has the most webhooks that
    /// are allowed.
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError>;

    /// Reads a webhook.
    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError>;

    /// Reads a tenant's webhooks, the oldest first.
    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError>;

    /// Writes back a webhook that was read before. Returns `false` if it was changed or deleted since. The health is not
    /// written; `forgive` resets the failures and ends a pause. Events from now on follow the new content.
    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError>;

    /// Deletes a webhook with its replays and deliveries. Returns whether it existed. Nothing more is sent to it; if it
    /// has very many deliveries, the rest of them is deleted later.
    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError>;

    /// Summarizes the recent deliveries of each of these webhooks, in the order of `ids`.
    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<WebhookActivity>, StoreError>;

    /// Summarizes the recent deliveries of one webhook.
    async fn webhook_activity(
        &self,
        tenant: &TenantId,
        id: WebhookId,
    ) -> Result<WebhookActivity, StoreError> {
        Ok(self.webhook_activities(tenant, vec![id]).await?.pop().unwrap_or_default())
    }

    /// Creates a test event for one webhook; it does not appear in the feed. Ends a pause of the webhook.
    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError>;
}
