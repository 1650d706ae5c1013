//! What was sent, what became of it, and sending it again.

use super::{Webhooks, WebhooksError, cursor, due};
use crate::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use crate::domain::ids::{DeliveryId, TenantId};
use crate::store::{RecordedAttempt, RecordedDelivery};

/// A page of deliveries.
#[derive(Debug)]
pub struct DeliveryList {
    /// The newest first.
    pub deliveries: Vec<RecordedDelivery>,
    /// Where the next page begins; `None` after the last.
    pub next_cursor: Option<String>,
}

/// A delivery and every attempt.
#[derive(Debug)]
pub struct DeliveryWithAttempts {
    /// The delivery.
    pub delivery: RecordedDelivery,
    /// The first one first.
    pub attempts: Vec<RecordedAttempt>,
}

impl Webhooks {
    /// A page of the deliveries that a filter lets through.
    ///
    /// # Errors
    /// [`WebhooksError::InvalidCursor`] for one of another list.
    pub async fn deliveries(
        &self,
        tenant: &TenantId,
        filter: DeliveryFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<DeliveryList, WebhooksError> {
        let after = cursor.map(|text| cursor::read(tenant, &filter, text)).transpose()?;
        // One more than is shown tells whether there is a next page.
        let page = DeliveryQuery { filter: filter.clone(), after, limit: limit.saturating_add(1) };
        let mut deliveries = self.store.list_deliveries(tenant, page).await?;
        let more = deliveries.len() > limit;
        deliveries.truncate(limit);
        let last = deliveries.last().filter(|_| more);
        let next_cursor = last.map(|last| cursor::write(tenant, &filter, last.place));
        Ok(DeliveryList { deliveries, next_cursor })
    }

    /// A delivery with its attempts.
    ///
    /// # Errors
    /// If the tenant has no such delivery.
    pub async fn delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<DeliveryWithAttempts, WebhooksError> {
        let found = self.store.find_delivery(tenant, id).await?;
        let delivery = found.ok_or(WebhooksError::NotFound("delivery"))?;
        let attempts = self.store.attempts(tenant, id).await?;
        Ok(DeliveryWithAttempts { delivery, attempts })
    }

    /// Makes a delivery due now, whatever became of it.
    ///
    /// # Errors
    /// If the tenant has no such delivery, or its endpoint is disabled.
    pub async fn redeliver(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<DeliveryWithAttempts, WebhooksError> {
        due(self.store.redeliver(tenant, id).await?, "delivery")?;
        self.delivery(tenant, id).await
    }
}
