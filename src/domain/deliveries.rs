//! Deliveries. A delivery sends one event to one receiver.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::clock::{Entropy, Timestamp};
use super::event_payload::EventPayload;
use super::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use super::receiver_url::ReceiverUrl;
use super::trace::TraceContext;
use super::transforms::Transform;

/// The status of a delivery: `pending` (there will be another attempt), `delivered` (the receiver accepted the event) or
/// `failed` (there will be no further automatic attempt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// There will be another attempt.
    Pending,
    /// The receiver accepted the event.
    Delivered,
    /// There will be no further automatic attempt.
    Failed,
}

impl DeliveryStatus {
    /// All statuses of a delivery.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// Returns the name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// Filter of a list of deliveries. A delivery must match every part that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Webhook of the delivery.
    pub webhook: Option<WebhookId>,
    /// Status of the delivery.
    pub status: Option<DeliveryStatus>,
    /// Call of the event.
    pub call_id: Option<CallId>,
}

/// Query for one page of deliveries, newest first.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Filter of the list.
    pub filter: DeliveryFilter,
    /// Row id of the last delivery on the previous page; `None` for the first page.
    pub after: Option<i64>,
    /// Maximum number of deliveries on the page.
    pub limit: usize,
}

/// Delivery of one event to one receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Tenant that owns the delivery.
    pub tenant: TenantId,
    /// Call of the event; `None` for an event of a webhook.
    pub call_id: Option<CallId>,
    /// Webhook of the delivery; `None` for the callback of a submission.
    pub webhook: Option<WebhookId>,
    /// Id of the event, which is the `webhook-id` header.
    pub event_id: EventId,
    /// URL of the receiver. The URL is sealed if it has a secret and the gateway has an encryption key.
    pub url: ReceiverUrl,
    /// Number of attempts that started.
    pub attempts: u32,
    /// Number of attempts before the last redelivery. The retry schedule restarts after them.
    pub earlier_attempts: u32,
    /// Earliest time of the next attempt. While the delivery is leased, this is the end of the lease.
    pub due_at: Timestamp,
    /// Trace of the submission.
    pub trace: TraceContext,
}

impl Delivery {
    /// Returns the number of attempts since the last redelivery. Only these attempts count in the retry schedule.
    pub const fn attempts_of_round(&self) -> u32 {
        self.attempts.saturating_sub(self.earlier_attempts)
    }

    /// Returns the key for limits per receiver, as [`Destination::receiver`] does.
    pub fn receiver(&self) -> String {
        self.webhook.map_or_else(|| self.url.receiver(), |webhook| webhook.to_string())
    }
}

/// The callback of a submission, in the form that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCallback {
    /// URL of the receiver. It is sealed if it has a secret and the gateway has an encryption key.
    pub url: ReceiverUrl,
    /// Payload of the events for the receiver.
    pub payload: EventPayload,
    /// Transform that creates the body from the event. If it is `None`, the body is the event itself.
    pub transform: Option<Transform>,
}

/// Receiver of a new delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The callback of a submission.
    Callback(Box<StoredCallback>),
    /// A webhook. Each attempt uses the URL and the payload that the webhook has at the time of the attempt.
    Webhook(WebhookId),
}

impl Destination {
    /// Returns the webhook id for the store, which is empty for a callback.
    pub fn webhook_column(&self) -> String {
        match self {
            Self::Callback(_) => String::new(),
            Self::Webhook(webhook) => webhook.to_string(),
        }
    }

    /// Returns the text of the URL that the store keeps. The text is empty for a webhook, because the URL of a webhook may
    /// change.
    pub fn url(&self) -> String {
        match self {
            Self::Callback(callback) => callback.url.to_text().into_owned(),
            Self::Webhook(_) => String::new(),
        }
    }

    /// Returns the payload for the store. The value for a webhook is a placeholder: each attempt uses the payload that the
    /// webhook has at the time of the attempt.
    pub const fn payload(&self) -> EventPayload {
        match self {
            Self::Callback(callback) => callback.payload,
            Self::Webhook(_) => EventPayload::Full,
        }
    }

    /// Returns the transform for the store, as JSON. Returns `None` for a webhook, whose transform the store keeps with the
    /// webhook.
    pub fn transform(&self) -> Option<String> {
        match self {
            Self::Callback(callback) => callback.transform.as_ref().map(Transform::to_json),
            Self::Webhook(_) => None,
        }
    }

    /// Returns the key for limits per receiver: the webhook, or the origin of the callback's URL.
    pub fn receiver(&self) -> String {
        match self {
            Self::Callback(callback) => callback.url.receiver(),
            Self::Webhook(webhook) => webhook.to_string(),
        }
    }
}

/// A new delivery, which is due at once.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Tenant that owns the delivery.
    pub tenant: TenantId,
    /// Call of the event; `None` for an event of a webhook.
    pub call_id: Option<CallId>,
    /// Receiver of the delivery.
    pub destination: Destination,
    /// Time of the first attempt.
    pub due_at: Timestamp,
    /// Trace of the submission.
    pub trace: TraceContext,
}

impl NewDelivery {
    /// Creates a delivery of an event that happens `now`.
    pub fn begin(
        tenant: &TenantId,
        call_id: Option<&CallId>,
        destination: Destination,
        trace: TraceContext,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        Self {
            id: DeliveryId::generate(now, entropy),
            tenant: tenant.clone(),
            call_id: call_id.cloned(),
            destination,
            due_at: now,
            trace,
        }
    }
}
