//! Registered webhooks.
//!
//! A transaction that locks several rows locks them in this order, so that transactions cannot deadlock: the tenant's
//! subscriptions ([`lock_subscriptions`]), `replays`, `deliveries`, `webhooks`. New rows may be inserted at any point.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use futures_util::try_join;

use super::rules::{Engine, Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::{Row, values};
use super::webhook_rows::{COLUMNS, content, read};
use super::{Change, Sending, StoreError, events, replays, webhook_health};
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{MAX_WEBHOOKS, Webhook};

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

#[async_trait]
impl<E: Engine> WebhookStore for E {
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError> {
        self.transact(AddWebhook { tenant: tenant.clone(), webhook }).await
    }

    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        self.query(FindWebhook { tenant: tenant.clone(), id }).await
    }

    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
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
            // A transaction of its own: a delivery that is being written may wait for the row of the webhook.
            self.transact(PurgeWebhook { id: Some(id) }).await?;
        }
        Ok(existed)
    }

    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<WebhookActivity>, StoreError> {
        self.query(ReadActivities { tenant: tenant.clone(), ids }).await
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
        lock_subscriptions(transaction, tenant).await?;
        // A repeated attempt does not count its own row, and does not insert it again.
        let count = sql!(
            "SELECT count(*) AS others FROM webhooks WHERE tenant = ?1 AND deleted_at IS NULL AND id <> ?2"
        );
        let others: Option<usize> =
            transaction.find(count, values![tenant, webhook.id], |row| row.get("others")).await?;
        if others.unwrap_or(0) >= MAX_WEBHOOKS {
            return Ok(false);
        }
        let insert = sql!(
            "INSERT INTO webhooks (url, events, description, header_names, headers, secret, previous_secret, \
             previous_until, disabled_at, disabled_reason, created_at, updated_at, id, tenant) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (id) DO NOTHING"
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
    type Output = Vec<Webhook>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<Webhook>, StoreError> {
        let select =
            sql!("SELECT ", COLUMNS, " FROM webhooks WHERE tenant = ?1 AND deleted_at IS NULL ORDER BY id");
        transaction.query(select, values![&self.tenant], read).await
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
        lock_subscriptions(transaction, tenant).await?;
        if webhook.disabled.is_none() {
            replays::wake(transaction, tenant, webhook.id).await?;
        }
        let update = sql!(
            "UPDATE webhooks SET version = version + 1, url = ?1, events = ?2, description = ?3, header_names = ?4, \
             headers = ?5, secret = ?6, previous_secret = ?7, previous_until = ?8, disabled_at = ?9, \
             disabled_reason = ?10, created_at = ?11, updated_at = ?12, \
             failures = CASE WHEN ?13 THEN 0 ELSE failures END, \
             failing_since = CASE WHEN ?13 THEN NULL ELSE failing_since END, \
             paused_until = CASE WHEN ?13 THEN NULL ELSE paused_until END, \
             unsigned_since = CASE WHEN ?13 THEN NULL ELSE unsigned_since END \
             WHERE id = ?14 AND tenant = ?15 AND version = ?16 AND deleted_at IS NULL"
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

/// Marks a webhook as deleted, which also disables it, and deletes its replays.
struct DeleteWebhook {
    tenant: TenantId,
    id: WebhookId,
}

impl Rule for DeleteWebhook {
    const NAME: &'static str = "delete_webhook";
    const NOTIFIES: bool = false;
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self { tenant, id } = self;
        lock_subscriptions(transaction, tenant).await?;
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

/// Deletes a batch of the deliveries of a deleted webhook, and the webhook after the last of them.
pub(super) struct PurgeWebhook {
    /// The webhook; `None` for any deleted one.
    pub(super) id: Option<WebhookId>,
}

/// The number of deliveries that one transaction deletes.
const DELETED_BATCH: usize = 500;

/// Takes the webhook and the most deliveries. Deliveries that are being written are left for the next batch. The array keeps
/// PostgreSQL's planner, which cannot know the size of the batch, from joining with the whole table.
pub(super) static DELETE_DELIVERIES: Sql = Sql::per_engine(
    &["DELETE FROM deliveries WHERE seq IN (", OF_WEBHOOK, ")"],
    &["DELETE FROM deliveries WHERE seq = ANY (ARRAY(", OF_WEBHOOK, "))"],
);
const OF_WEBHOOK: &str =
    "SELECT seq FROM deliveries WHERE webhook = ?1 AND webhook <> '' LIMIT ?2 FOR UPDATE SKIP LOCKED";

impl Rule for PurgeWebhook {
    const NAME: &'static str = "purge_webhook";
    const NOTIFIES: bool = false;
    /// The number of deleted rows.
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let deleted = sql!("SELECT id FROM webhooks WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 1");
        let id = match self.id {
            Some(id) => Some(id),
            None => transaction.find(deleted, &[], |row| row.get("id")).await?,
        };
        let Some(id) = id else { return Ok(0) };
        let deliveries = transaction.execute(&DELETE_DELIVERIES, values![id, DELETED_BATCH]).await?;
        let webhook = sql!(
            "DELETE FROM webhooks WHERE id = ?1 AND deleted_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook = ?1 AND webhook <> '')"
        );
        Ok(deliveries + transaction.execute(webhook, values![id]).await?)
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
        match is_enabled(transaction, tenant, *id).await? {
            None => return Ok(Sending::NotFound),
            Some(false) => return Ok(Sending::Disabled),
            Some(true) => {}
        }
        let delivery = events::write_test(transaction, tenant, *id, *trace).await?;
        webhook_health::end_pause(transaction, *id).await?;
        Ok(Sending::Due(delivery))
    }
}

struct ReadActivities {
    tenant: TenantId,
    ids: Vec<WebhookId>,
}

impl Rule for ReadActivities {
    const NAME: &'static str = "webhook_activities";
    type Output = Vec<WebhookActivity>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<WebhookActivity>, StoreError> {
        let mut activities = Vec::with_capacity(self.ids.len());
        for ids in self.ids.chunks(PIPELINED) {
            let read = ids.iter().map(|id| activity(transaction, &self.tenant, *id));
            activities.extend(try_join_all(read).await?);
        }
        Ok(activities)
    }
}

/// The number of webhooks that are read at the same time. `try_join_all` polls up to 30 futures at once, which `SQLite` needs.
const PIPELINED: usize = 25;
/// The number of a webhook's youngest deliveries whose attempts make up its success rate.
const ACTIVITY_WINDOW: usize = 100;
/// The number of last attempts that count per delivery: a delivery that is sent many times does not outweigh the others.
const ACTIVITY_ATTEMPTS: usize = 10;
/// The bound up to which pending deliveries are counted.
const PENDING_COUNTED: usize = 1000;

/// Takes the webhook, the number of deliveries, and the number of attempts of each.
pub(super) static ACTIVITY: Sql = Sql::new(&[
    "SELECT CAST(coalesce(sum(finished), 0) AS bigint) AS attempts, \
     CAST(coalesce(sum(successful), 0) AS bigint) AS delivered FROM (SELECT \
     (SELECT count(nullif(outcome, 'unsigned')) FROM attempts WHERE delivery = seq AND number > attempted - ?3) AS finished, \
     (SELECT count(*) FROM attempts WHERE delivery = seq AND number > attempted - ?3 AND outcome = 'delivered') AS successful \
     FROM (SELECT seq, attempts AS attempted FROM deliveries WHERE webhook = ?1 AND webhook <> '' \
     ORDER BY seq DESC LIMIT ?2) AS youngest) AS counted",
]);

async fn activity(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: WebhookId,
) -> Result<WebhookActivity, StoreError> {
    let of_attempts = values![id, ACTIVITY_WINDOW, ACTIVITY_ATTEMPTS];
    let attempts = |row: &dyn Row| Ok((row.get("attempts")?, row.get("delivered")?));
    let (attempts, pending) = try_join!(
        transaction.find(&ACTIVITY, of_attempts, attempts),
        pending(transaction, tenant, id, PENDING_COUNTED + 1),
    )?;
    let (attempts, delivered) = attempts.unwrap_or_default();
    let (counted, more_pending) = (pending.min(PENDING_COUNTED), pending > PENDING_COUNTED);
    Ok(WebhookActivity { attempts, delivered, pending: counted as u64, more_pending })
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
