//! The health of webhooks: consecutive failures, pauses and the reason why a webhook is disabled.

use super::rules::Transaction;
use super::sql::sql;
use super::unreadable::skip;
use super::values::{Row, values};
use super::webhook_rows::{COLUMNS, read};
use super::{StoreError, events};
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::{DisabledReason, Health, Webhook, WebhookOutcome};

/// Effect of an attempt on the health of its webhook.
pub(super) struct Verdict {
    /// The webhook's version that the attempt used.
    pub(super) version: u32,
    pub(super) outcome: WebhookOutcome,
}

/// Records the outcome of an attempt in the health of its webhook, unless the webhook has changed since the attempt
/// began. Returns the reason if the outcome disables the webhook.
///
/// If the outcome disables the webhook, this function writes an event. So the caller must have called
/// [`subscriptions::share`](super::subscriptions::share) for an outcome that can disable the webhook.
pub(super) async fn record(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: WebhookId,
    verdict: &Verdict,
) -> Result<Option<DisabledReason>, StoreError> {
    let now = transaction.env().clock.now();
    let counts = |webhook: &Webhook| {
        webhook.version == verdict.version && webhook.health.learns_from(&verdict.outcome, now)
    };
    // The first read takes no lock, because most attempts change nothing.
    let select = sql!("SELECT ", COLUMNS, " FROM webhooks WHERE id = ?1 AND deleted_at IS NULL");
    // The outcome must be written even if the webhook cannot be read. Otherwise the delivery would be sent again each time its
    // lease ends.
    let read = |row: &dyn Row| skip(transaction, "webhooks", id, read(row));
    let webhook = transaction.find(select, values![id], read).await?.flatten();
    if !webhook.is_some_and(|webhook| counts(&webhook)) {
        return Ok(None);
    }
    let lock =
        sql!("SELECT ", COLUMNS, " FROM webhooks WHERE id = ?1 AND deleted_at IS NULL FOR NO KEY UPDATE");
    let webhook = transaction.find(lock, values![id], read).await?.flatten();
    let Some(mut webhook) = webhook.filter(counts) else { return Ok(None) };
    let newly_disabled =
        webhook.health.attempted(&verdict.outcome, now).filter(|_| webhook.disabled.is_none());
    if let Some(reason) = newly_disabled {
        webhook.disable(reason, now);
    }
    save(transaction, &webhook, newly_disabled.is_some()).await?;
    if newly_disabled.is_some() {
        events::announce_disabled(transaction, tenant, &webhook).await?;
    }
    Ok(newly_disabled)
}

async fn save(
    transaction: &impl Transaction,
    webhook: &Webhook,
    is_new_version: bool,
) -> Result<(), StoreError> {
    let update = sql!(
        "UPDATE webhooks SET failures = ?2, failing_since = ?3, paused_until = ?4, last_success_at = ?5, \
         last_failure_at = ?6, last_status = ?7, last_error = ?8, disabled_at = ?9, disabled_reason = ?10, \
         version = version + ?11, unsigned_since = ?12 WHERE id = ?1"
    );
    let Health { failures, failing_since, paused_until, last_success_at, last_failure, unsigned_since } =
        &webhook.health;
    let last = last_failure.as_ref();
    let values = values![
        webhook.id,
        *failures,
        *failing_since,
        *paused_until,
        *last_success_at,
        last.map(|last| last.at),
        last.and_then(|last| last.status),
        last.map(|last| &last.error),
        webhook.disabled.map(|disabled| disabled.at),
        webhook.disabled.map(|disabled| disabled.reason.as_str()),
        i64::from(is_new_version),
        *unsigned_since,
    ];
    transaction.execute(update, values).await?;
    Ok(())
}

/// Ends the pause of a webhook, because a caller wants to see now whether the webhook works.
pub(super) async fn end_pause(transaction: &impl Transaction, id: WebhookId) -> Result<(), StoreError> {
    let update = sql!(
        "UPDATE webhooks SET failures = 0, paused_until = NULL WHERE id = ?1 AND paused_until IS NOT NULL"
    );
    transaction.execute(update, values![id]).await?;
    Ok(())
}
