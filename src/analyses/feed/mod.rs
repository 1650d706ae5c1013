//! The events of a tenant, page by page and as a live stream.
//!
//! A stream holds one page at most. The stream reads the next page when its client has taken all events, so a slow client costs
//! no memory. A signal only means that there may be new events; the store determines the events and their order. So a repeated
//! signal does no harm, and the next heartbeat makes up for a lost signal.

mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::stream::{EventStream, StreamItem};
use super::cursor::CursorCodec;
use super::{AnalysesError, MemoryBudget, MemoryPermit};
use crate::config::EventSettings;
use crate::domain::clock::Timestamp;
use crate::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::{EventId, TenantId};
use crate::env::Env;
use crate::store::{Change, Store, StoreError};

/// Number of unreadable events after which a page ends even if it has no readable event.
const MOST_UNREADABLE: usize = 500;
/// Memory in bytes that a read of a page reserves until the size of the events is known. This memory suffices for 4 MiB of events
/// and for the answer that contains these events.
const READ_BYTES: usize = 8 << 20;

/// The position at which a read of the feed starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest stored event.
    Earliest,
    /// The next event that is written.
    Latest,
    /// The event after this position.
    Position(FeedPosition),
    /// The event that follows the event with this id.
    Event(EventId),
}

impl Start {
    /// Parses `earliest`, `latest`, a cursor of this tenant or the id of an event. Returns `None` for other texts.
    pub fn parse(tenant: &TenantId, text: &str) -> Option<Self> {
        match text {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ if text.starts_with("evt_") => EventId::parse(text).map(Self::Event),
            _ => {
                let number = codec(tenant).decode_number(text).ok()?;
                Some(Self::Position(FeedPosition::new(number)))
            }
        }
    }
}

/// A page of the feed.
#[derive(Debug)]
pub struct FeedPage {
    /// The events, oldest first.
    pub events: Vec<FeedEvent>,
    /// The ids of events on this page that cannot be read.
    pub unreadable: Vec<String>,
    /// Cursor of the next page. It always exists, because the feed grows.
    pub next_cursor: String,
    /// Permit for the memory of the events and of the answer that contains these events.
    pub memory: MemoryPermit,
}

/// The tenant has the maximum number of open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has reached its limit of {most} open event streams")]
pub struct TooManyStreams {
    /// Maximum number of streams per tenant and replica.
    pub most: usize,
}

/// The use cases about events.
pub struct Feed {
    env: Env,
    store: Arc<dyn Store>,
    /// Memory budget of events.
    memory: Arc<MemoryBudget>,
    /// Token that is cancelled when the gateway drains. The streams end at that time.
    draining: CancellationToken,
    settings: EventSettings,
    /// One signal for each tenant that has had a stream. Each open stream has a receiver of the signal.
    signals: Mutex<HashMap<TenantId, watch::Sender<()>>>,
}

impl Feed {
    /// Creates the feed without open streams. Streams end once `draining` is cancelled.
    pub fn new(
        settings: &EventSettings,
        env: Env,
        store: Arc<dyn Store>,
        memory: Arc<MemoryBudget>,
        draining: CancellationToken,
    ) -> Self {
        Self { env, store, memory, draining, settings: settings.clone(), signals: Mutex::default() }
    }

    /// Reads the events after `start`. The first event of a page may have any size. A later event is on the page only if the
    /// events together fit into `limits.bytes`. Before the read, the function waits for memory for the events.
    ///
    /// # Errors
    /// Returns an error if the store fails, or if there is no memory in time.
    pub async fn page(
        &self,
        tenant: &TenantId,
        start: Start,
        mut limits: PageLimits,
    ) -> Result<FeedPage, AnalysesError> {
        let mut position = self.position(tenant, start).await?;
        let memory = self.memory.take_in_time(tenant, READ_BYTES).await?;
        let mut unreadable = Vec::new();
        loop {
            let rows = self.store.events_after(tenant, position, limits).await?;
            if let Some(bytes) = rows.too_large {
                // An event that exceeds the limit becomes a page of its own.
                limits.bytes = bytes;
                continue;
            }
            let is_end = rows.end == position;
            position = rows.end;
            unreadable.extend(rows.unreadable);
            // A page without events shows that there is no newer event. So a few unreadable events alone do not make a page.
            if is_end || !rows.events.is_empty() || unreadable.len() >= MOST_UNREADABLE {
                let next_cursor = cursor(tenant, position);
                return Ok(FeedPage { events: rows.events, unreadable, next_cursor, memory });
            }
        }
    }

    /// Reserves one of the streams that the tenant may have. Dropping the receiver releases the stream.
    ///
    /// # Errors
    /// Returns an error if the tenant has too many streams.
    pub fn join(&self, tenant: &TenantId) -> Result<watch::Receiver<()>, TooManyStreams> {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = signals.entry(tenant.clone()).or_default();
        let most = self.settings.streams_per_tenant;
        if signal.receiver_count() >= most {
            return Err(TooManyStreams { most });
        }
        Ok(signal.subscribe())
    }

    /// Streams all events after a start, until the caller's token expires at `until`.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn stream(
        self: &Arc<Self>,
        tenant: &TenantId,
        start: Start,
        until: Timestamp,
        signal: watch::Receiver<()>,
    ) -> Result<EventStream, StoreError> {
        let position = self.position(tenant, start).await?;
        Ok(EventStream::new(Arc::clone(self), tenant.clone(), position, until, signal))
    }

    /// Wakes the streams of every tenant that has a new event, until `stop` is cancelled.
    pub async fn follow_changes(self: Arc<Self>, mut changes: Receiver<Change>, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(Change::Event(tenant)) => self.wake(|of| *of == tenant),
                Ok(Change::Analysis(..) | Change::Work(_) | Change::Delivery | Change::Replay) => {}
                Ok(Change::Everything) | Err(RecvError::Lagged(_)) => self.wake(|_| true),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn wake(&self, concerns: impl Fn(&TenantId) -> bool) {
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, signal) in signals.iter().filter(|(tenant, _)| concerns(tenant)) {
            signal.send_replace(());
        }
    }

    async fn position(&self, tenant: &TenantId, start: Start) -> Result<FeedPosition, StoreError> {
        match start {
            Start::Earliest => Ok(FeedPosition::BEGINNING),
            Start::Latest => self.store.feed_end(tenant).await,
            Start::Position(position) => Ok(position),
            Start::Event(event) => self.store.feed_position(tenant, event).await,
        }
    }
}

/// Returns the cursor of a position in a tenant's feed.
fn cursor(tenant: &TenantId, position: FeedPosition) -> String {
    codec(tenant).encode_number(position.number())
}

fn codec(tenant: &TenantId) -> CursorCodec {
    CursorCodec::new("events", tenant)
}
