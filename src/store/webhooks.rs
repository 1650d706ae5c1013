//! Registered webhooks.
//!
//! A transaction that locks several rows locks them in this order, so that transactions cannot deadlock: the tenant's
//! subscriptions ([`subscriptions::lock`]), `replays`, `deliveries`, `replay_deliveries`, `replay_outcomes`, `webhooks`. New
//! rows may be inserted at any point.

use async_trait::async_trait;

use super::deliveries::Sending;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::unreadable::skip;
use super::values::values;
use super::webhook_activity::{ReadActivities, WebhookActivity};
use super::webhook_deletion::{DeleteWebhook, PurgeWebhook};
use super::webhook_rows::{COLUMNS, content, read};
use super::{Change, StoreError, events, replays, subscriptions, webhook_health};
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{MAX_WEBHOOKS, Webhook};

/// Maximum number of deliveries that are deleted together with their webhook. Retention deletes the other deliveries.
const PURGED_AT_ONCE: usize = 100;

/// Webhooks of one tenant.
#[async_trait]
pub trait WebhookStore: Send + Sync {
    /// Registers a webhook, which gets the events from now on. Returns `false` if the tenant has the maximum number
    /// of webhooks.
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError>;

    /// Reads a webhook of the tenant.
    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError>;

    /// Reads a tenant's webhooks, oldest first. For a webhook that cannot be read, the list has only the id as stored.
    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Result<Webhook, String>>, StoreError>;

    /// Writes back a webhook that was read before. Returns `false` if the webhook was changed or deleted since then. Does not
    /// write the health of the webhook. With `forgive`, resets the failures and ends a pause. New event types and a new filter
    /// apply to events from now on.
    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError>;

    /// Deletes a webhook with its replays and deliveries. Returns whether the webhook existed. The gateway sends nothing more to
    /// the webhook. If the webhook has very many deliveries, the rest of them is deleted later.
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

    /// Creates a test event for one webhook. The event does not appear in the feed. Ends a pause of the webhook.
    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError>;
}

#[async_trait]
impl<E: Engine> WebhookStore for E {
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError> {
        self.transact(AddWebhook { tenant: tenant.clone(), webhook }).await
    }

    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        self.query(FindWebhook { tenant: tenant.clone(), id }).await
    }

    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Result<Webhook, String>>, StoreError> {
        self.query(ListWebhooks { tenant: tenant.clone() }).await
    }

    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError> {
        self.transact(ChangeWebhook { tenant: tenant.clone(), webhook, forgive }).await
    }

    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError> {
        let existed = self.transact(DeleteWebhook { tenant: tenant.clone(), id }).await?;
        if existed {
            // This is a separate transaction, because a delivery that is being written may wait for the row of the
            // webhook.
            self.transact(PurgeWebhook { id: Some(id), limit: PURGED_AT_ONCE }).await?;
        }
        Ok(existed)
    }

    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<WebhookActivity>, StoreError> {
        self.scan(tenant, ReadActivities { tenant: tenant.clone(), ids }).await
    }

    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError> {
        self.transact(TestWebhook { tenant: tenant.clone(), id, trace }).await
    }
}

struct AddWebhook {
    tenant: TenantId,
    webhook: Webhook,
}

impl Rule for AddWebhook {
    const NAME: &'static str = "add_webhook";
    const NOTIFIES: bool = false;
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self { tenant, webhook } = self;
        subscriptions::lock(transaction, tenant).await?;
        // A repeated attempt must neither count its own row nor insert it again.
        let count = sql!(
            "SELECT count(*) AS others FROM webhooks WHERE tenant = ?1 AND deleted_at IS NULL AND id <> ?2"
        );
        let others: Option<usize> =
            transaction.find(count, values![tenant, webhook.id], |row| row.get("others")).await?;
        if others.unwrap_or(0) >= MAX_WEBHOOKS {
            return Ok(false);
        }
        let insert = sql!(
            "INSERT INTO webhooks (url, events, payload, description, header_names, headers, secret, previous_secret, \
             previous_until, disabled_at, disabled_reason, created_at, updated_at, filter, transform, method, \
             rate, id, tenant) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) ON CONFLICT (id) DO NOTHING"
        );
        let mut values = Vec::from(content(webhook));
        values.extend([webhook.id.into(), tenant.into()]);
        transaction.execute(insert, &values).await?;
        Ok(true)
    }
}

struct FindWebhook {
    tenant: TenantId,
    id: WebhookId,
}

impl Rule for FindWebhook {
    const NAME: &'static str = "find_webhook";
    type Output = Option<Webhook>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<Webhook>, StoreError> {
        let select =
            sql!("SELECT ", COLUMNS, " FROM webhooks WHERE id = ?1 AND tenant = ?2 AND deleted_at IS NULL");
        transaction.find(select, values![self.id, &self.tenant], read).await
    }
}

struct ListWebhooks {
    tenant: TenantId,
}

impl Rule for ListWebhooks {
    const NAME: &'static str = "list_webhooks";
    type Output = Vec<Result<Webhook, String>>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Self::Output, StoreError> {
        let select =
            sql!("SELECT ", COLUMNS, " FROM webhooks WHERE tenant = ?1 AND deleted_at IS NULL ORDER BY id");
        transaction
            .query(select, values![&self.tenant], |row| {
                let id: String = row.get("id")?;
                Ok(skip(transaction, "webhooks", &id, read(row))?.ok_or(id))
            })
            .await
    }
}

struct ChangeWebhook {
    tenant: TenantId,
    webhook: Webhook,
    forgive: bool,
}

impl Rule for ChangeWebhook {
    const NAME: &'static str = "change_webhook";
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self { tenant, webhook, forgive } = self;
        subscriptions::lock(transaction, tenant).await?;
        if webhook.disabled.is_none() {
            replays::wake(transaction, tenant, webhook.id).await?;
        }
        let update = sql!(
            "UPDATE webhooks SET version = version + 1, url = ?1, events = ?2, payload = ?3, description = ?4, \
             header_names = ?5, headers = ?6, secret = ?7, previous_secret = ?8, previous_until = ?9, disabled_at = ?10, \
             disabled_reason = ?11, created_at = ?12, updated_at = ?13, filter = ?14, transform = ?15, method = ?16, rate = ?17, \
             failures = CASE WHEN ?18 THEN 0 ELSE failures END, \
             failing_since = CASE WHEN ?18 THEN NULL ELSE failing_since END, \
             paused_until = CASE WHEN ?18 THEN NULL ELSE paused_until END, \
             unsigned_since = CASE WHEN ?18 THEN NULL ELSE unsigned_since END \
             WHERE id = ?19 AND tenant = ?20 AND version = ?21 AND deleted_at IS NULL"
        );
        let mut values = Vec::from(content(webhook));
        values.extend([(*forgive).into(), webhook.id.into(), tenant.into(), webhook.version.into()]);
        if transaction.execute(update, &values).await? == 0 {
            return Ok(false);
        }
        // Deliveries and replays that waited for the webhook may continue.
        transaction.notify(Change::Delivery);
        transaction.notify(Change::Replay);
        Ok(true)
    }
}

struct TestWebhook {
    tenant: TenantId,
    id: WebhookId,
    trace: TraceContext,
}

impl Rule for TestWebhook {
    const NAME: &'static str = "test_webhook";
    type Output = Sending;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Sending, StoreError> {
        let Self { tenant, id, trace } = self;
        match subscriptions::is_enabled(transaction, tenant, *id).await? {
            None => return Ok(Sending::NotFound),
            Some(false) => return Ok(Sending::Disabled),
            Some(true) => {}
        }
        let delivery = events::write_test(transaction, tenant, *id, *trace).await?;
        webhook_health::end_pause(transaction, *id).await?;
        Ok(Sending::Due(delivery))
    }
}
