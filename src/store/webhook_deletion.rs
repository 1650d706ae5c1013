//! Deletion of webhooks, with their replays and deliveries.

use std::time::Instant;

use super::deletion_batches::DeletedBatch;
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::values;
use super::{StoreError, subscriptions};
use crate::domain::ids::{TenantId, WebhookId};

/// Marks a webhook as deleted, disables the webhook, and deletes its replays.
pub(super) struct DeleteWebhook {
    pub(super) tenant: TenantId,
    pub(super) id: WebhookId,
}

impl Rule for DeleteWebhook {
    const NAME: &'static str = "delete_webhook";
    const NOTIFIES: bool = false;
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self { tenant, id } = self;
        subscriptions::lock(transaction, tenant).await?;
        let replays = sql!("DELETE FROM replays WHERE webhook = ?1 AND tenant = ?2");
        transaction.execute(replays, values![*id, tenant]).await?;
        let mark = sql!(
            "UPDATE webhooks SET deleted_at = ?1, disabled_at = coalesce(disabled_at, ?1), version = version + 1, \
             secret = ?2, previous_secret = NULL, headers = NULL WHERE id = ?3 AND tenant = ?4 AND deleted_at IS NULL"
        );
        let now = transaction.env().clock.now();
        Ok(transaction.execute(mark, values![now, &[][..], *id, tenant]).await? > 0)
    }
}

/// Deletes a batch of deliveries of a deleted webhook, and the webhook itself after its last delivery.
pub(super) struct PurgeWebhook {
    /// The webhook; `None` for any deleted webhook.
    pub(super) id: Option<WebhookId>,
    /// Maximum number of deliveries.
    pub(super) limit: usize,
}

/// Deletes deliveries of a webhook. Parameters: the webhook and the maximum number of deliveries. Deliveries that
/// another transaction has locked are left for the next batch. The array prevents a join with the whole table, because
/// PostgreSQL's planner does not know the size of the batch.
pub(super) static DELETE_DELIVERIES: Sql = Sql::per_engine(
    &["DELETE FROM deliveries WHERE seq IN (", OF_WEBHOOK, ")"],
    &["DELETE FROM deliveries WHERE seq = ANY (ARRAY(", OF_WEBHOOK, "))"],
);
const OF_WEBHOOK: &str =
    "SELECT seq FROM deliveries WHERE webhook = ?1 AND webhook <> '' LIMIT ?2 FOR UPDATE SKIP LOCKED";

impl Rule for PurgeWebhook {
    const NAME: &'static str = "purge_webhook";
    const NOTIFIES: bool = false;
    type Output = DeletedBatch;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<DeletedBatch, StoreError> {
        let began = Instant::now();
        let deleted = sql!("SELECT id FROM webhooks WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 1");
        let id = match self.id {
            Some(id) => Some(id),
            None => transaction.find(deleted, &[], |row| row.get("id")).await?,
        };
        let Some(id) = id else { return Ok(DeletedBatch { rows: 0, took: began.elapsed() }) };
        let deliveries = transaction.execute(&DELETE_DELIVERIES, values![id, self.limit]).await?;
        let webhook = sql!(
            "DELETE FROM webhooks WHERE id = ?1 AND deleted_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook = ?1 AND webhook <> '')"
        );
        let rows = deliveries + transaction.execute(webhook, values![id]).await?;
        Ok(DeletedBatch { rows, took: began.elapsed() })
    }
}
