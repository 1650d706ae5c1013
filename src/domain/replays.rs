//! Sending an endpoint again what happened before.

use super::clock::Timestamp;
use super::ids::{ReplayId, WebhookId};
use super::trace::TraceContext;
use super::webhooks::EventFilter;

/// Which events a replay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySpan {
    /// From this moment on.
    pub since: Timestamp,
    /// Up to this moment, included.
    pub until: Timestamp,
    /// Of these types.
    pub events: EventFilter,
}

/// A replay: it goes on by itself until every event of its span is on its way, through any restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// The endpoint.
    pub webhook: WebhookId,
    /// Which events.
    pub span: ReplaySpan,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the last event was put on its way.
    pub finished_at: Option<Timestamp>,
    /// Events put on their way so far.
    pub sent: u64,
    /// The trace of the request.
    pub trace: TraceContext,
}

/// How many events a replay would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayCount {
    /// So many, as far as was counted.
    pub events: u64,
    /// Whether there may be more: not every event was looked at.
    pub more: bool,
}

impl ReplayCount {
    /// The most events that are looked at to count.
    pub const LOOKED_AT: i64 = 100_000;
}
