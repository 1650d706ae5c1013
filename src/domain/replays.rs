//! Replays: sending past events to a webhook again.

use super::clock::Timestamp;
use super::ids::{ReplayId, WebhookId};
use super::trace::TraceContext;
use super::webhooks::EventFilter;

/// Selection of events that a replay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySpan {
    /// Inclusive start of the time span.
    pub since: Timestamp,
    /// Inclusive end of the time span.
    pub until: Timestamp,
    /// Types of the events.
    pub events: EventFilter,
}

/// Replay of past events. It continues after a restart until every event of its span has a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Id of the replay.
    pub id: ReplayId,
    /// Webhook that receives the events.
    pub webhook: WebhookId,
    /// Selection of the events.
    pub span: ReplaySpan,
    /// Time of the request.
    pub created_at: Timestamp,
    /// Time at which the last delivery was created; `None` while deliveries are still being created.
    pub finished_at: Option<Timestamp>,
    /// Number of events for which the replay has created a delivery so far.
    pub sent: u64,
    /// Number of deliveries of the replay that succeeded.
    pub delivered: u64,
    /// Number of deliveries of the replay that have failed and are not retried.
    pub failed: u64,
    /// Trace of the request.
    pub trace: TraceContext,
}

/// Number of events of a replay, including events that the filter of the webhook would drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayCount {
    /// Number of events that were counted.
    pub events: u64,
    /// Whether there may be more events, because the count stopped at [`ReplayCount::MAX_COUNTED`].
    pub more: bool,
}

impl ReplayCount {
    /// Maximum number of events that a count reads.
    pub const MAX_COUNTED: i64 = 100_000;
}
