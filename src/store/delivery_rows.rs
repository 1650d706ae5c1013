//! Rows of the table `deliveries`.

use bytes::Bytes;

use super::StoreError;
use super::claims::{ClaimedDelivery, ClaimedWebhook, Lease};
use super::values::Row;
use super::webhook_rows::{read_method, read_sealed, read_transform, read_url};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::Delivery;
use crate::domain::event_payload::EventPayload;
use crate::domain::ids::{CallId, DeliveryId, EventId, WebhookId};

/// A stored delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDelivery {
    /// Position in the list of all deliveries. A later delivery has a higher position.
    pub place: i64,
    /// The delivery's id.
    pub id: DeliveryId,
    /// The webhook; `None` for the callback of a submission.
    pub webhook: Option<WebhookId>,
    /// URL of the receiver without its secrets. For a webhook, this is the current URL; empty if it cannot be read.
    pub url: String,
    /// Form of the event's payload. For a webhook, this is the current setting of the webhook.
    pub payload: EventPayload,
    /// The event's id.
    pub event_id: EventId,
    /// The event's type.
    pub kind: String,
    /// The call that the event is about; `None` for an event of a webhook.
    pub call_id: Option<CallId>,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// Number of attempts that started.
    pub attempts: u32,
    /// Time when the delivery was created.
    pub created_at: Timestamp,
    /// Time of the next attempt. During an attempt, this is the end of the lease.
    pub due_at: Timestamp,
    /// Whether an attempt is in progress.
    pub leased: bool,
    /// Time when the delivery succeeded or failed permanently.
    pub finished_at: Option<Timestamp>,
}

/// A delivery in a list that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableDelivery {
    /// Position in the list of all deliveries.
    pub place: i64,
    /// The id as stored.
    pub id: String,
}

/// Reads a row of [`RECORDED`] for a list.
pub(super) fn listed(row: &dyn Row) -> Result<Result<RecordedDelivery, UnreadableDelivery>, StoreError> {
    match recorded(row) {
        Ok(delivery) => Ok(Ok(delivery)),
        Err(StoreError::Corrupt(_)) => {
            Ok(Err(UnreadableDelivery { place: row.get("place")?, id: row.get("id").unwrap_or_default() }))
        }
        Err(error) => Err(error),
    }
}

/// The columns that [`recorded`] reads, from `deliveries` joined with `events` and `webhooks`.
pub(super) const RECORDED: &str = "deliveries.seq AS place, deliveries.id AS id, webhook, \
     CASE WHEN webhook = '' THEN deliveries.url ELSE coalesce(webhooks.url, '') END AS url, \
     coalesce(webhooks.payload, deliveries.payload) AS payload, events.id AS event_id, kind, \
     deliveries.call_id AS call_id, deliveries.status AS status, deliveries.attempts AS attempts, \
     deliveries.created_at AS created_at, due_at, leased, finished_at";

/// Reads a row of [`RECORDED`].
pub(super) fn recorded(row: &dyn Row) -> Result<RecordedDelivery, StoreError> {
    Ok(RecordedDelivery {
        place: row.get("place")?,
        id: row.get("id")?,
        webhook: webhook_id(row)?,
        url: read_url(row).map(|url| url.masked().as_str().to_owned()).unwrap_or_default(),
        payload: row.get("payload")?,
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
        url: read_url(row)?,
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
    let (transform, method) = (read_transform(row)?, read_method(row)?);
    let follows_unknown = row.get("follows_unknown")?;
    Ok(ClaimedDelivery {
        lease,
        delivery,
        webhook,
        transform,
        method,
        follows_unknown,
        body: Bytes::from(body),
    })
}

/// Returns the webhook of a delivery; `None` for the callback of a submission.
pub(super) fn webhook_id(row: &dyn Row) -> Result<Option<WebhookId>, StoreError> {
    row.parse("webhook", |text| match text {
        "" => Ok(None),
        id => WebhookId::parse(id).map(Some).ok_or(()),
    })
}

/// Returns the call of a delivery; `None` for an event of a webhook.
pub(super) fn call_id(row: &dyn Row) -> Result<Option<CallId>, StoreError> {
    row.parse("call_id", |text| match text {
        "" => Ok(None),
        call_id => CallId::parse(call_id).map(Some),
    })
}
