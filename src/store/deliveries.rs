//! Deliveries and their attempts.

use std::ops::ControlFlow;
use std::time::Duration;

use super::attempts::{
    ATTEMPT, DeliveryWithAttempts, FinishAttempt, FinishedAttempt, MOST_ATTEMPTS,
    recorded as recorded_attempt,
};
use super::claims::{ClaimBatch, ClaimedDelivery, DeliverySlots, Lease, Leased};
use super::delivery_rows::{RECORDED, RecordedDelivery, UnreadableDelivery, recorded};
use super::engine::Engine;
use super::observations::Observation;
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::unreadable::{postpone_claimed, postpone_delivery, skip};
use super::values::{Row, values};
use super::{Change, StoreError, subscriptions, webhook_health};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryQuery;
use crate::domain::ids::{DeliveryId, TenantId};
use crate::domain::webhooks::DisabledReason;
use async_trait::async_trait;

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
    /// claim. Deliveries that cannot be read are postponed.
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

    /// Ends a lease without an attempt, because nothing was sent. Deletes the record of the attempt. The delivery becomes due at
    /// `due`.
    async fn postpone_delivery(&self, lease: Lease, due: Timestamp) -> Result<(), StoreError>;

    /// Reads one page of a tenant's deliveries, the newest first.
    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, StoreError>;

    /// Reads a delivery and its last attempts in one snapshot.
    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<DeliveryWithAttempts>, StoreError>;

    /// Makes a delivery due now, whatever its status, and restarts its retry schedule. If an attempt is in progress, the
    /// delivery does not change. In both cases, ends a pause of the webhook.
    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError>;
}

#[async_trait]
impl<E: Engine> DeliveryStore for E {
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        let mut batch = self.claim_deliveries(slots, lease).await?;
        postpone_claimed(self, Leased::Delivery, &mut batch).await;
        Ok(batch)
    }

    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError> {
        let finish = FinishAttempt { lease, attempt };
        match finish.attempt.webhook_version {
            None => self.transact_in_group(finish).await,
            Some(_) => self.transact(finish).await,
        }
    }

    async fn postpone_delivery(&self, lease: Lease, due: Timestamp) -> Result<(), StoreError> {
        self.transact(PostponeDelivery { lease, due }).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, StoreError> {
        let rows = self.scans().run(tenant, |permit| self.deliveries(tenant, page, permit)).await?;
        for unreadable in rows.iter().filter_map(|row| row.as_ref().err()) {
            Observation::unreadable("deliveries", &unreadable.id).report(&self.env().metrics);
        }
        Ok(rows)
    }

    async fn find_delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryWithAttempts>, StoreError> {
        self.query(FindDelivery { tenant: tenant.clone(), id }).await
    }

    async fn redeliver(&self, tenant: &TenantId, id: DeliveryId) -> Result<Sending, StoreError> {
        self.transact(Redeliver { tenant: tenant.clone(), id }).await
    }
}

struct PostponeDelivery {
    lease: Lease,
    due: Timestamp,
}

impl Rule for PostponeDelivery {
    const NAME: &'static str = "postpone_delivery";
    const NOTIFIES: bool = false;
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<(), StoreError> {
        if postpone_delivery(transaction, &self.lease, self.due).await? == 0 {
            return Err(StoreError::LeaseLost);
        }
        transaction.end_lease(Leased::Delivery, self.lease);
        Ok(())
    }
}

struct FindDelivery {
    tenant: TenantId,
    id: DeliveryId,
}

/// Reads a delivery, joined with its last attempts, the newest first. This is one statement, because the statements of a read do
/// not share a snapshot on PostgreSQL. Parameters: the id, the tenant and the maximum number of attempts.
pub(super) static FIND: Sql = Sql::new(&[
    "SELECT ",
    RECORDED,
    ", ",
    ATTEMPT,
    " FROM deliveries JOIN events ON events.seq = event LEFT JOIN webhooks ON webhooks.id = webhook \
     LEFT JOIN attempts ON delivery = deliveries.seq \
     WHERE deliveries.id = ?1 AND deliveries.tenant = ?2 ORDER BY number DESC LIMIT ?3",
]);

impl Rule for FindDelivery {
    const NAME: &'static str = "find_delivery";
    type Output = Option<DeliveryWithAttempts>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Self::Output, StoreError> {
        find(transaction, &self.tenant, self.id).await
    }
}

async fn find(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<DeliveryWithAttempts>, StoreError> {
    let (mut delivery, mut attempts) = (None, Vec::new());
    let read = |row: &dyn Row| {
        if delivery.is_none() {
            delivery = Some(recorded(row)?);
        }
        // A delivery without attempts has one row without a number.
        if row.get::<Option<u32>>("number")?.is_some() {
            attempts.extend(skip(transaction, "attempts", id, recorded_attempt(row))?);
        }
        Ok(ControlFlow::Continue(()))
    };
    transaction.for_each(&FIND, values![id, tenant, MOST_ATTEMPTS], read).await?;
    attempts.reverse();
    Ok(delivery.map(|delivery| DeliveryWithAttempts { delivery, attempts }))
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
        let Some(found) = find(transaction, tenant, *id).await? else { return Ok(Sending::NotFound) };
        let delivery = found.delivery;
        if let Some(webhook) = delivery.webhook {
            match subscriptions::is_enabled(transaction, tenant, webhook).await? {
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
