//! Subscriptions of webhooks to the events of their tenant: the lock that orders new events and changes of webhooks, and whether
//! a webhook is enabled.

use super::StoreError;
use super::rules::Transaction;
use super::sql::{Sql, sql};
use super::unreadable::skip;
use super::values::{Row, values};
use super::webhook_rows::read_filter;
use crate::domain::filters::ContentFilter;
use crate::domain::ids::{TenantId, WebhookId};

/// Waits until all transactions that write events of the tenant have committed, and blocks new transactions of this kind until
/// this transaction ends. So an event goes either to the webhooks as they were before this transaction, or to the webhooks as
/// they are after this transaction. `SQLite` has one writer and needs no lock.
pub(super) async fn lock(transaction: &impl Transaction, tenant: &TenantId) -> Result<(), StoreError> {
    static LOCK: Sql = Sql::per_engine(
        &[],
        &["SELECT pg_advisory_xact_lock(hashtext('alovoice-gateway webhooks'), \
           hashtext(current_schema() || ' ' || ?1))"],
    );
    transaction.execute(&LOCK, values![tenant]).await?;
    Ok(())
}

/// Returns the filter of a webhook. Returns `None` if the webhook does not exist or has no filter, or if the filter cannot be
/// read.
pub(super) async fn filter_of(
    transaction: &impl Transaction,
    id: WebhookId,
) -> Result<Option<ContentFilter>, StoreError> {
    let select = sql!("SELECT filter FROM webhooks WHERE id = ?1");
    let filter = |row: &dyn Row| skip(transaction, "webhooks", id, read_filter(row));
    Ok(transaction.find(select, values![id], filter).await?.flatten().flatten())
}

/// Returns whether a webhook is enabled, without reading its other columns. Returns `None` if there is no such webhook.
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

/// Blocks [`lock`] until this transaction ends. Every transaction that writes an event calls this function before it
/// reads the webhooks.
pub(super) async fn share(transaction: &impl Transaction, tenant: &TenantId) -> Result<(), StoreError> {
    static LOCK: Sql = Sql::per_engine(
        &[],
        &["SELECT pg_advisory_xact_lock_shared(hashtext('alovoice-gateway webhooks'), \
           hashtext(current_schema() || ' ' || ?1))"],
    );
    transaction.execute(&LOCK, values![tenant]).await?;
    Ok(())
}
