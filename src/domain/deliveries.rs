//! One event on its way to one URL.

use super::callback_url::CallbackUrl;
use super::clock::{Entropy, Timestamp};
use super::ids::{CallId, DeliveryId, EventId, TenantId};
use super::trace::TraceContext;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// An attempt is still to come.
    Pending,
    /// The receiver took it.
    Delivered,
    /// No further attempt will be made on its own.
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

/// One event on its way to one URL.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The call it tells of.
    pub call_id: CallId,
    /// The event; its text form is the `webhook-id`.
    pub event_id: EventId,
    /// Where it goes.
    pub url: CallbackUrl,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Not before this moment. While it is leased, the lease's end.
    pub due_at: Timestamp,
    /// The trace of the submission.
    pub trace: TraceContext,
}

impl Delivery {
    /// A delivery that is due at once.
    pub fn begin(
        event: (&TenantId, &CallId, EventId),
        url: CallbackUrl,
        trace: TraceContext,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let (tenant, call_id, event_id) = event;
        Self {
            id: DeliveryId::generate(now, entropy),
            tenant: tenant.clone(),
            call_id: call_id.clone(),
            event_id,
            url,
            attempts: 0,
            due_at: now,
            trace,
        }
    }
}
