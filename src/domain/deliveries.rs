//! One event on its way to one URL.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::callback_url::CallbackUrl;
use super::clock::{Entropy, Timestamp};
use super::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use super::trace::TraceContext;

/// The status of a delivery: `pending` (there will be another attempt), `delivered` (the receiver accepted it) or `failed`
/// (there will be no further attempt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// There will be another attempt.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// There will be no further automatic attempt.
    Failed,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// What a list of deliveries shows: those that are all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Of this endpoint.
    pub webhook: Option<WebhookId>,
    /// So far.
    pub status: Option<DeliveryStatus>,
    /// That tell of this call.
    pub call_id: Option<CallId>,
}

/// A part of a list of deliveries, the newest first.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Of what.
    pub filter: DeliveryFilter,
    /// What is older than this one's place in the store; from the newest if there is none.
    pub after: Option<i64>,
    /// So many at most.
    pub limit: usize,
}

/// One event on its way to one URL.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The call it tells of; a test tells of none.
    pub call_id: Option<CallId>,
    /// The registered endpoint; `None` for a submission's own callback.
    pub webhook: Option<WebhookId>,
    /// The event; its text form is the `webhook-id`.
    pub event_id: EventId,
    /// Where it goes.
    pub url: CallbackUrl,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Those of them that were made before it was last sent anew: the schedule begins again after them.
    pub earlier_attempts: u32,
    /// Not before this moment. While it is leased, the lease's end.
    pub due_at: Timestamp,
    /// The trace of the submission.
    pub trace: TraceContext,
}

impl Delivery {
    /// Attempts since it was last sent anew: what the schedule goes by.
    pub const fn attempts_of_round(&self) -> u32 {
        self.attempts.saturating_sub(self.earlier_attempts)
    }
}

/// Where a new delivery goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To a submission's own callback.
    Callback(CallbackUrl),
    /// To a registered endpoint, wherever that is when it is sent.
    Webhook(WebhookId),
}

impl Destination {
    /// The endpoint, for the store; empty if there is none.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Callback(_) => String::new(),
            Self::Webhook(webhook) => webhook.to_string(),
        }
    }

    /// The URL, for the store; empty if it is the endpoint's, which may change.
    pub fn url(&self) -> &str {
        match self {
            Self::Callback(url) => url.as_str(),
            Self::Webhook(_) => "",
        }
    }

    /// What counts as one receiver, for its share of the work: an endpoint, or the host of a callback.
    pub fn receiver(&self) -> String {
        match self {
            Self::Callback(url) => url.receiver(),
            Self::Webhook(webhook) => webhook.to_string(),
        }
    }
}

/// A delivery that is due at once.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The call it tells of; a test tells of none.
    pub call_id: Option<CallId>,
    /// Where it goes.
    pub destination: Destination,
    /// When it was made.
    pub due_at: Timestamp,
    /// The trace it belongs to.
    pub trace: TraceContext,
}

impl NewDelivery {
    /// Of something that happened at `now`.
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
