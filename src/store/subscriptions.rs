//! The subscriptions of a tenant's webhooks to its events: the lock that orders their changes, and whether a webhook gets events.

use super::StoreError;
use super::rules::Transaction;
use super::sql::{Sql, sql};
use super::values::values;
use crate::domain::ids::{TenantId, WebhookId};

/// Waits until the tenant's events that are being written are committed, and keeps new ones out until the transaction ends:
/// events are fanned out either by the webhooks before this transaction or by those after it. `SQLite` has one writer.
pub(super) async fn lock(transaction: &impl Transaction, tenant: &TenantId) -> Result<(), StoreError> {
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

/// Keeps out [`lock`] until the transaction ends. Every transaction that writes an event calls it before it reads the webhooks.
pub(super) async fn share(transaction: &impl Transaction, tenant: &TenantId) -> Result<(), StoreError> {
    static LOCK: Sql = Sql::per_engine(
        &[],
        &["SELECT pg_advisory_xact_lock_shared(hashtext('alovoice-gateway webhooks'), \
           hashtext(current_schema() || ' ' || ?1))"],
    );
    transaction.execute(&LOCK, values![tenant]).await?;
    Ok(())
}
