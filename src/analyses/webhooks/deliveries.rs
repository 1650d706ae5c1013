//! Deliveries to webhooks and callbacks: list them, read their attempts, send one again.

use super::{Webhooks, WebhooksError, due};
use crate::analyses::cursor::CursorCodec;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use crate::domain::ids::{DeliveryId, TenantId};
use crate::store::{DeliveryWithAttempts, RecordedDelivery, UnreadableDelivery};

/// A page of deliveries.
#[derive(Debug)]
pub struct DeliveryPage {
    /// The deliveries, newest first.
    pub deliveries: Vec<RecordedDelivery>,
    /// The ids of the deliveries on this page that cannot be read.
    pub unreadable: Vec<String>,
    /// Cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

impl Webhooks {
    /// Lists up to `limit` deliveries that match the filter, after the cursor or from the newest on.
    ///
    /// # Errors
    /// [`WebhooksError::InvalidCursor`] for a cursor of another list, [`WebhooksError::Store`] if the store fails.
    pub async fn deliveries(
        &self,
        tenant: &TenantId,
        filter: DeliveryFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<DeliveryPage, WebhooksError> {
        let codec = codec(tenant, &filter);
        let after = cursor.map(|cursor| codec.decode_number(cursor)).transpose()?;
        // One more row than the page holds shows whether there is a next page.
        let page = DeliveryQuery { filter, after, limit: limit.saturating_add(1) };
        let mut deliveries = self.store.list_deliveries(tenant, page).await?;
        let is_last = deliveries.len() <= limit;
        deliveries.truncate(limit);
        let last = deliveries.last().filter(|_| !is_last);
        let place = |last: &Result<RecordedDelivery, UnreadableDelivery>| match last {
            Ok(delivery) => delivery.place,
            Err(unreadable) => unreadable.place,
        };
        let next_cursor = last.map(|last| codec.encode_number(place(last)));
        let (readable, unreadable): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(Result::is_ok);
        let deliveries = readable.into_iter().filter_map(Result::ok).collect();
        let unreadable = unreadable.into_iter().filter_map(Result::err).map(|row| row.id).collect();
        Ok(DeliveryPage { deliveries, unreadable, next_cursor })
    }

    /// Returns a delivery with its latest attempts.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such delivery, or the store fails.
    pub async fn delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<DeliveryWithAttempts, WebhooksError> {
        self.store.find_delivery(tenant, id).await?.ok_or(WebhooksError::NotFound("delivery"))
    }

    /// Makes a delivery due now, even if it has succeeded or failed or is still pending. Ends a pause of its receiver.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such delivery, its webhook is disabled, or the store fails.
    pub async fn redeliver(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<DeliveryWithAttempts, WebhooksError> {
        // The pause ends first, because the deliverer claims the delivery as soon as it is due.
        if let Some(found) = self.store.find_delivery(tenant, id).await?
            && let Ok(url) = CallbackUrl::parse_stored(&found.delivery.url)
        {
            self.receivers.end_pause(tenant, &url.receiver());
        }
        due(self.store.redeliver(tenant, id).await?, "delivery")?;
        self.delivery(tenant, id).await
    }
}

fn codec(tenant: &TenantId, filter: &DeliveryFilter) -> CursorCodec {
    CursorCodec::new("deliveries", tenant)
        .filter(filter.webhook.map(|webhook| webhook.to_string()).unwrap_or_default())
        .filter(filter.status.map_or("", |status| status.as_str()))
        .filter(filter.call_id.as_ref().map_or("", |call_id| call_id.as_str()))
}
