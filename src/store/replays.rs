//! Replays of past events to a webhook.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};

/// The most events that one step of a replay reads.
pub(super) const REPLAY_SCAN: usize = 1000;
/// The most deliveries that one step creates; bounds how long the step's transaction lasts.
pub(super) const REPLAY_BATCH: usize = 200;
/// A replay adds no deliveries while its webhook has so many pending: new events do not wait behind all past ones.
pub(super) const REPLAY_BACKLOG: usize = 400;
/// The pause before a replay checks the backlog again.
pub(super) const REPLAY_PAUSE: Duration = Duration::from_millis(500);
/// The pause before a replay that cannot be read is tried again; another version of this program may read it.
pub(super) const REPLAY_PAUSE_WHILE_UNREADABLE: Duration = Duration::from_secs(60);
/// The pause while the webhook is disabled. Enabling the webhook ends it.
pub(super) const REPLAY_PAUSE_WHILE_DISABLED: Duration = Duration::from_secs(60);

/// The outcome of a request to begin a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayBegin {
    /// The replay has begun.
    Begun,
    /// The webhook does not exist.
    NotFound,
    /// The webhook is disabled.
    Disabled,
    /// Another replay to the same webhook is not finished.
    UnderWay,
}

/// The outcome of one step of the replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advanced {
    /// The number of replays that the step looked at: 0 or 1.
    pub replays: usize,
    /// The number of events for which the step created or restarted a delivery.
    pub sent: usize,
    /// When the next replay is due.
    pub next_due: Option<Timestamp>,
}

/// Replays of past events.
#[async_trait]
pub trait ReplayStore: Send + Sync {
    /// Counts the events that a replay would send.
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError>;

    /// Begins a replay. An event whose delivery is pending is not sent twice; an event that was delivered or given up is
    /// sent again, under the same id.
    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError>;

    /// Reads a replay to a webhook.
    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError>;

    /// Advances one due replay by a batch: its deliveries and its cursor in one commit.
    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError>;
}
