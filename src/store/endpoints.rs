//! What the store tells of registered endpoints, their deliveries and replays.

use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, DeliveryId, EventId, WebhookId};
use crate::domain::retries::{GiveUpReason, Next};
use crate::domain::webhooks::{Ended, Sealed};

use super::FinishedAttempt;

/// Events that one step of a replay looks at.
pub(super) const REPLAY_SCAN: usize = 1000;
/// Deliveries that it makes at most, and so how long others wait for it.
pub(super) const REPLAY_BATCH: usize = 200;
/// A replay adds nothing while its endpoint has so much waiting: what happens meanwhile does not stand behind all of it.
pub(super) const REPLAY_BACKLOG: usize = 400;
/// When to look again whether there is room.
pub(super) const REPLAY_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// When to look again at one that cannot be read: another version of this program may be able to.
pub(super) const REPLAY_PAUSE_WHILE_UNREADABLE: std::time::Duration = std::time::Duration::from_secs(60);
/// The same while the endpoint is disabled; enabling it looks at once.
pub(super) const REPLAY_PAUSE_WHILE_DISABLED: std::time::Duration = std::time::Duration::from_secs(60);
/// The youngest deliveries of an endpoint, whose attempts make its success rate.
pub(super) const ACTIVITY_WINDOW: i64 = 100;
/// Of each of them, so many of the last attempts: a delivery that is sent again and again does not outweigh the others.
pub(super) const ACTIVITY_ATTEMPTS: i64 = 10;
/// Waiting deliveries are counted up to here.
pub(super) const PENDING_COUNTED: i64 = 1000;
/// Deliveries of a deleted endpoint that go in one transaction.
pub(super) const DELETED_BATCH: usize = 500;

/// The endpoint of a claimed delivery, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedEndpoint {
    /// Its id.
    pub id: WebhookId,
    /// Its version: any change of it makes it another.
    pub version: u32,
    /// Its secrets and headers.
    pub sealed: Sealed,
}

/// What came of the wish to send something now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is due.
    Due(DeliveryId),
    /// There is no such thing.
    NotFound,
    /// The endpoint is disabled.
    Disabled,
}

/// What came of the wish to begin a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayBegin {
    /// It goes on by itself.
    Begun,
    /// There is no such endpoint.
    NotFound,
    /// The endpoint is disabled.
    Disabled,
    /// Another replay to the same endpoint is not finished.
    UnderWay,
}

/// What a step of the replays did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advanced {
    /// Replays that were looked at: 0 or 1.
    pub replays: usize,
    /// Events that were put on their way.
    pub sent: usize,
    /// When a replay is to be looked at next.
    pub next_due: Option<Timestamp>,
}

/// How an endpoint's youngest deliveries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Attempts that ended.
    pub attempts: u64,
    /// Those that were taken.
    pub delivered: u64,
    /// Deliveries with an attempt to come, counted up to a bound.
    pub pending: u64,
    /// Whether there are more.
    pub more_pending: bool,
}

/// A delivery as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDelivery {
    /// Its place in the list of all: later ones have higher numbers.
    pub place: i64,
    /// Its id.
    pub id: DeliveryId,
    /// The endpoint; `None` for a submission's own callback.
    pub webhook: Option<WebhookId>,
    /// Where it goes; an endpoint's as it is now.
    pub url: String,
    /// The event.
    pub event_id: EventId,
    /// The event's type.
    pub kind: String,
    /// The call that the event tells of.
    pub call_id: Option<CallId>,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// Attempts begun.
    pub attempts: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the next attempt is due. While one is under way, when it is given up for lost.
    pub due_at: Timestamp,
    /// Whether an attempt is under way.
    pub leased: bool,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

/// What an attempt's end says of its endpoint.
pub(super) struct Verdict {
    /// Of the endpoint as it was at this version.
    pub(super) version: u32,
    pub(super) ended: Ended,
}

/// Of a submission's own callback there is none.
pub(super) fn verdict(attempt: &FinishedAttempt) -> Option<Verdict> {
    let error = || attempt.detail.clone().unwrap_or_else(|| attempt.outcome.to_owned());
    let ended = match attempt.next {
        Next::Delivered => Ended::Delivered,
        Next::WaitUntil(_) => Ended::Unsigned { error: error() },
        Next::RetryAt(_) | Next::GiveUp(_) | Next::Hold => Ended::Failed {
            gone: matches!(attempt.next, Next::Hold | Next::GiveUp(GiveUpReason::Gone)),
            status: attempt.status,
            error: error(),
        },
    };
    Some(Verdict { version: attempt.endpoint_version?, ended })
}
