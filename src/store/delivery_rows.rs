//! Rows of the table `deliveries`.

use bytes::Bytes;

use super::attempts::webhook_id;
use super::deliveries::{ClaimedDelivery, ClaimedWebhook, RecordedDelivery};
use super::sealed::read_sealed;
use super::values::Row;
use super::{Lease, StoreError};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::deliveries::Delivery;
use crate::domain::ids::CallId;

/// The columns that [`recorded`] reads, from `deliveries` joined with `events` and `webhooks`.
pub(super) const RECORDED: &str = "deliveries.seq AS place, deliveries.id AS id, webhook, \
     CASE WHEN webhook = '' THEN deliveries.url ELSE coalesce(webhooks.url, '') END AS url, events.id AS event_id, kind, \
     deliveries.call_id AS call_id, status, attempts, deliveries.created_at AS created_at, due_at, leased, finished_at";

/// Reads a row of [`RECORDED`].
pub(super) fn recorded(row: &dyn Row) -> Result<RecordedDelivery, StoreError> {
    Ok(RecordedDelivery {
        place: row.get("place")?,
        id: row.get("id")?,
        webhook: webhook_id(row)?,
        url: row.get("url")?,
        event_id: row.get("event_id")?,
        kind: row.get("kind")?,
        call_id: call_id(row)?,
        status: row.get("status")?,
        attempts: row.get("attempts")?,
        created_at: row.get("created_at")?,
        due_at: row.get("due_at")?,
        leased: row.get("leased")?,
        finished_at: row.get("finished_at")?,
    })
}

/// Reads a claimed delivery, joined with its event (whose id is `event_id`) and its webhook.
pub(super) fn claimed(row: &dyn Row) -> Result<ClaimedDelivery, StoreError> {
    let delivery = Delivery {
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        call_id: call_id(row)?,
        webhook: webhook_id(row)?,
        event_id: row.get("event_id")?,
        url: row.parse("url", CallbackUrl::parse)?,
        attempts: row.get("attempts")?,
        earlier_attempts: row.get("earlier_attempts")?,
        due_at: row.get("due_at")?,
        trace: row.json("trace")?,
    };
    let webhook = match delivery.webhook {
        Some(id) => Some(ClaimedWebhook { id, version: row.get("version")?, sealed: read_sealed(row)? }),
        None => None,
    };
    let lease = Lease { row: row.get("seq")?, fence: row.get("fence")? };
    let body: Vec<u8> = row.get("body")?;
    Ok(ClaimedDelivery { lease, delivery, webhook, body: Bytes::from(body) })
}

/// Returns the call of a delivery; `None` for a test event.
fn call_id(row: &dyn Row) -> Result<Option<CallId>, StoreError> {
    row.parse("call_id", |text| match text {
        "" => Ok(None),
        call_id => CallId::parse(call_id).map(Some),
    })
}
