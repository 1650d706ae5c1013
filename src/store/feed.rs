//! The feed of a tenant's events.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::clock::Timestamp;
use crate::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::{EventId, TenantId};

/// Events written within this time of each other may appear in either order in the feed. Longer than a transaction lasts.
const FEED_DISORDER: Duration = Duration::from_mins(1);

/// Returns whether an event written `at` may come after this event in the feed.
pub(super) fn is_younger(event: EventId, at: Timestamp) -> bool {
    at + FEED_DISORDER >= event.generated_at()
}

/// The feed of a tenant's events.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Reads the events after a position, oldest first. A reader that continues after the last of them sees every event
    /// exactly once, however the transactions that wrote them were interleaved.
    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<Vec<FeedEvent>, StoreError>;

    /// Returns the position after the last event.
    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError>;

    /// Returns the position after an event. For an event that is no longer stored, returns a position with no younger
    /// event before it: events written within a minute of the lost one may be read again.
    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError>;
}
