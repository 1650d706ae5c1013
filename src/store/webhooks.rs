//! Registered webhooks.

use async_trait::async_trait;

use super::rules::Transaction;
use super::sql::{Sql, sql};
use super::values::values;
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

/// Waits until the tenant's events that are being written are committed, and keeps new ones out until the transaction ends:
/// events are fanned out either by the webhooks before this transaction or by those after it. `SQLite` has one writer.
pub(super) async fn lock_subscriptions(
    transaction: &impl Transaction,
    tenant: &TenantId,
) -> Result<(), StoreError> {
    static LOCK: Sql = Sql::per_engine(
        &[],
        &["SELECT pg_advisory_xact_lock(hashtext('alovoice-gateway webhooks'), \
           hashtext(current_schema() || ' ' || ?1))"],
    );
    transaction.execute(&LOCK, values![tenant]).await?;
    Ok(())
}

/// Whether a webhook is enabled, whatever else its row holds; `None` if there is no such webhook.
pub(super) async fn is_enabled(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: WebhookId,
) -> Result<Option<bool>, StoreError> {
    let select = sql!(
        "SELECT disabled_at IS NULL AS enabled FROM webhooks WHERE id = ?1 AND tenant = ?2 AND deleted_at IS NULL"
    );
    transaction.find(select, values![id, tenant], |row| row.get("enabled")).await
}

/// Takes the tenant, the webhook and the most deliveries to count.
pub(super) static PENDING: Sql =
    Sql::new(&["SELECT count(*) AS pending FROM (SELECT 1 FROM deliveries WHERE status = 'pending' \
     AND tenant = ?1 AND receiver = ?2 LIMIT ?3) AS waiting"]);

/// The number of pending deliveries to a webhook, counted up to a bound.
pub(super) async fn pending(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: WebhookId,
    most: usize,
) -> Result<usize, StoreError> {
    Ok(transaction.find(&PENDING, values![tenant, id, most], |row| row.get("pending")).await?.unwrap_or(0))
}
