//! Deliveries and their attempts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::attempts::{FinishAttempt, FinishedAttempt, ReadAttempts, RecordedAttempt};
use super::delivery_rows::{RECORDED, recorded};
use super::rules::{Engine, Rule, Transaction};
use super::sql::sql;
use super::values::values;
use super::{Change, ClaimBatch, Lease, StoreError, webhook_health, webhooks};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Delivery, DeliveryQuery};
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use crate::domain::webhooks::{DisabledReason, SealedSecrets};

/// Current state of the webhook of a claimed delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedWebhook {
    /// The webhook's id.
    pub id: WebhookId,
    /// Version of the webhook, which every change increments.
    pub version: u32,
    /// The webhook's secrets and headers.
    pub sealed: SealedSecrets,
}

/// A claimed delivery, whose attempt is already recorded.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Lease of the delivery. Every later write checks it.
    pub lease: Lease,
    /// The delivery; `attempts` counts the attempt that begins now.
    pub delivery: Delivery,
    /// Webhook of the delivery; `None` for the callback of a submission.
    pub webhook: Option<ClaimedWebhook>,
    /// Body of the request, byte for byte.
    pub body: Bytes,
}

/// Limits of one claim of deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliverySlots {
    /// Tenants whose deliveries may be claimed.
    pub tenants: Vec<TenantId>,
    /// Maximum number of deliveries in this claim.
    pub total: usize,
    /// Maximum number of body bytes in this claim. The delivery that exceeds it is the last one claimed.
    pub bytes: usize,
    /// Maximum number of deliveries of one tenant in progress, over all replicas.
    pub per_tenant: usize,
    /// Maximum number of deliveries in progress to one receiver of a tenant.
    pub per_receiver: usize,
}

/// A stored delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDelivery {
    /// Position in the list of all deliveries. A later delivery has a higher position.
    pub place: i64,
    /// The delivery's id.
    pub id: DeliveryId,
    /// The webhook; `None` for the callback of a submission.
    pub webhook: Option<WebhookId>,
    /// URL of the receiver. For a webhook it is the current URL.
    pub url: String,
    /// The event's id.
    pub event_id: EventId,
    /// The event's type.
    pub kind: String,
    /// The call that the event is about; `None` for a test event.
    pub call_id: Option<CallId>,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// Number of attempts that started.
    pub attempts: u32,
    /// Time when the delivery was created.
    pub created_at: Timestamp,
    /// Time of the next attempt. During an attempt it is the end of the lease.
    pub due_at: Timestamp,
    /// Whether an attempt is in progress.
    pub leased: bool,
    /// Time when the delivery succeeded or failed for good.
    pub finished_at: Option<Timestamp>,
}

/// Outcome of a request to send a delivery now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// The delivery is due now.
    Due(DeliveryId),
    /// The delivery or its webhook does not exist.
    NotFound,
    /// The webhook is disabled.
    Disabled,
}

/// Deliveries and their attempts.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Claims due deliveries with fair shares for tenants and receivers. Records the attempts that begin with the
    /// claim.
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError>;

    /// Writes the outcome of an attempt. Returns the reason if the attempt disables its webhook.
    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError>;

    /// Reads the last attempts of a delivery, the oldest first.
    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError>;

    /// Reads one page of a tenant's deliveries, the newest first.
    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError>;

    /// Reads a delivery.
    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError>;

    /// Makes a delivery due now, whatever its status, and restarts its retry schedule. If an attempt is in progress,
    /// nothing changes. Ends a pause of the webhook.
    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError>;
}

#[async_trait]
impl<E: Engine> DeliveryStore for E {
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        self.claim_deliveries(slots, lease).await
    }

    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError> {
        self.transact(FinishAttempt { lease, attempt }).await
    }

    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        self.query(ReadAttempts { tenant: tenant.clone(), delivery }).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        self.deliveries(tenant, page).await
    }

    async fn find_delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError> {
        self.query(FindDelivery { tenant: tenant.clone(), id }).await
    }

    async fn redeliver(&self, tenant: &TenantId, id: DeliveryId) -> Result<Sending, StoreError> {
        self.transact(Redeliver { tenant: tenant.clone(), id }).await
    }
}

struct FindDelivery {
    tenant: TenantId,
    id: DeliveryId,
}

impl Rule for FindDelivery {
    const NAME: &'static str = "find_delivery";
    type Output = Option<RecordedDelivery>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<RecordedDelivery>, StoreError> {
        find(transaction, &self.tenant, self.id).await
    }
}

async fn find(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<RecordedDelivery>, StoreError> {
    let select = sql!(
        "SELECT ",
        RECORDED,
        " FROM deliveries JOIN events ON events.seq = event LEFT JOIN webhooks ON webhooks.id = webhook \
         WHERE deliveries.id = ?1 AND deliveries.tenant = ?2"
    );
    transaction.find(select, values![id, tenant], recorded).await
}

struct Redeliver {
    tenant: TenantId,
    id: DeliveryId,
}

impl Rule for Redeliver {
    const NAME: &'static str = "redeliver";
    type Output = Sending;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Sending, StoreError> {
        let Self { tenant, id } = self;
        let Some(delivery) = find(transaction, tenant, *id).await? else { return Ok(Sending::NotFound) };
        if let Some(webhook) = delivery.webhook {
            match webhooks::is_enabled(transaction, tenant, webhook).await? {
                None => return Ok(Sending::NotFound),
                Some(false) => return Ok(Sending::Disabled),
                Some(true) => {}
            }
        }
        let update = sql!(
            "UPDATE deliveries SET status = 'pending', due_at = ?2, finished_at = NULL, earlier_attempts = attempts \
             WHERE seq = ?1 AND NOT (leased AND status = 'pending')"
        );
        let now = transaction.env().clock.now();
        transaction.execute(update, values![delivery.place, now]).await?;
        if let Some(webhook) = delivery.webhook {
            webhook_health::end_pause(transaction, webhook).await?;
        }
        transaction.notify(Change::Delivery);
        Ok(Sending::Due(*id))
    }
}
