//! The live event stream of one caller.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Feed, cursor};
use crate::analyses::MemoryPermit;
use crate::domain::clock::Timestamp;
use crate::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::TenantId;
use crate::store::{FeedRows, StoreError};

/// Limits of the events that a stream holds in memory. A larger event becomes a page of its own.
const PAGE: PageLimits = PageLimits { events: 100, bytes: 256 * 1024 };

/// Pause after a busy store has refused a read.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// The next item of a stream.
#[derive(Debug)]
pub enum StreamItem {
    /// An event of the tenant's feed.
    Event(FeedEvent),
    /// The stored ids of events that cannot be read. The stream continues after these events.
    Unreadable(Vec<String>),
    /// No event arrived during one heartbeat interval. The stream must send a comment, so that the connection stays open.
    Heartbeat,
    /// The end of the stream, with a reason for people.
    End(&'static str),
}

/// The events of a tenant after a position.
pub struct EventStream {
    feed: Arc<Feed>,
    tenant: TenantId,
    position: FeedPosition,
    page: VecDeque<FeedEvent>,
    /// The position after the current page.
    page_end: FeedPosition,
    /// Maximum size of the next page in bytes. The read takes a permit for this size.
    page_bytes: usize,
    /// Permit for the memory of the events on the page.
    memory: Option<MemoryPermit>,
    until: Timestamp,
    /// Signal of new events. Until this receiver is dropped, it counts as one of the tenant's streams.
    signal: watch::Receiver<()>,
}

impl EventStream {
    pub(super) fn new(
        feed: Arc<Feed>,
        tenant: TenantId,
        position: FeedPosition,
        until: Timestamp,
        signal: watch::Receiver<()>,
    ) -> Self {
        feed.env.metrics.event_streams.inc();
        let (page, page_bytes) = (VecDeque::new(), PAGE.bytes);
        Self { feed, tenant, position, page, page_end: position, page_bytes, memory: None, until, signal }
    }

    /// Returns the cursor after the last event that this stream returned.
    pub fn cursor(&self) -> String {
        cursor(&self.tenant, self.position)
    }

    /// Waits for the next item.
    ///
    /// # Errors
    /// Returns the errors of the store, with two exceptions: an outage and a refusal of a busy store only delay the stream.
    pub async fn next(&mut self) -> Result<StreamItem, StoreError> {
        loop {
            if let Some(why) = self.end() {
                return Ok(StreamItem::End(why));
            }
            if let Some(event) = self.page.pop_front() {
                self.position = event.position;
                return Ok(StreamItem::Event(event));
            }
            self.position = self.page_end;
            self.memory = None;
            // This wait can be long: clients that do not read keep their permits until they are disconnected.
            let mut memory = tokio::select! {
                biased;
                memory = self.feed.memory.take(&self.tenant, self.page_bytes) => memory.ok(),
                () = self.feed.draining.cancelled() => continue,
                () = tokio::time::sleep(self.feed.settings.heartbeat) => return Ok(StreamItem::Heartbeat),
            };
            // The signal is marked as seen before the read, so that a signal during the read is not missed.
            self.signal.mark_unchanged();
            let limits = PageLimits { bytes: self.page_bytes, ..PAGE };
            let is_away = match self.feed.store.events_after(&self.tenant, self.position, limits).await {
                Ok(FeedRows { too_large: Some(bytes), .. }) => {
                    self.page_bytes = bytes;
                    continue;
                }
                Ok(rows) if rows.end != self.position => {
                    if let Some(memory) = &mut memory {
                        memory.shrink(rows.events.iter().map(|event| event.body.len()).sum());
                    }
                    (self.page_end, self.page_bytes) = (rows.end, PAGE.bytes);
                    (self.page, self.memory) = (rows.events.into(), memory);
                    if !rows.unreadable.is_empty() {
                        return Ok(StreamItem::Unreadable(rows.unreadable));
                    }
                    continue;
                }
                Ok(_) => false,
                Err(StoreError::Unavailable(error)) => {
                    tracing::warn!(%error, "event stream waits: the store is unavailable");
                    true
                }
                // The position has not changed, so the next read continues here.
                Err(StoreError::Refused(_)) => {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            drop(memory);
            if self.pause(is_away).await {
                return Ok(StreamItem::Heartbeat);
            }
        }
    }

    fn end(&self) -> Option<&'static str> {
        if self.feed.draining.is_cancelled() {
            return Some("this server stops: connect again");
        }
        (self.feed.env.wall_clock.now() >= self.until).then_some("the token has expired")
    }

    /// Waits for a signal of new events, for the end of the stream or for the next heartbeat. Returns whether the heartbeat is
    /// due. If the store is unavailable (`is_away`), ignores signals.
    async fn pause(&mut self, is_away: bool) -> bool {
        let left = self.until.since(self.feed.env.wall_clock.now());
        tokio::select! {
            biased;
            () = self.feed.draining.cancelled() => false,
            // The sender lives in the feed, which this stream holds, so this wait does not fail.
            _ = self.signal.changed(), if !is_away => false,
            () = tokio::time::sleep(left) => false,
            () = tokio::time::sleep(self.feed.settings.heartbeat) => true,
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.feed.env.metrics.event_streams.dec();
    }
}
