//! The events of a tenant: a page at a time, and live.
//!
//! A stream holds one page at most, and reads the next when all of it was taken: a slow reader is held back by its socket
//! and costs no memory. What wakes a stream says only that there may be something new; what there is, and in which order,
//! the store tells. So a notice that comes twice does no harm, and one that is lost is made up for at the next heartbeat.

mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::stream::{EventStream, StreamItem};
use super::cursor::CursorCodec;
use crate::config::EventSettings;
use crate::domain::clock::Timestamp;
use crate::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::{EventId, TenantId};
use crate::env::Env;
use crate::store::{Change, Store, StoreError};

/// Where a reader wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event that is kept.
    Earliest,
    /// With the next that comes.
    Latest,
    /// After this place.
    Position(FeedPosition),
    /// After this event.
    Event(EventId),
}

impl Start {
    /// Reads `earliest`, `latest`, a cursor of this tenant's or an event's id; `None` if it is none of these.
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
    /// Cursor of the next page. There always is one, since the feed grows.
    pub next_cursor: String,
}

/// The tenant has as many streams open as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has {most} event streams open, and may have no more")]
pub struct TooManyStreams {
    /// How many it may have at one replica.
    pub most: usize,
}

/// The feeds of all tenants.
pub struct Feed {
    env: Env,
    store: Arc<dyn Store>,
    /// Cancelled when the gateway drains; streams end then.
    draining: CancellationToken,
    settings: EventSettings,
    /// A signal for each tenant that ever had a stream; it has a receiver for each stream that is open.
    signals: Mutex<HashMap<TenantId, watch::Sender<()>>>,
}

impl Feed {
    /// Creates the feeds, without streams yet. Streams end once `draining` is cancelled.
    pub fn new(
        settings: &EventSettings,
        env: Env,
        store: Arc<dyn Store>,
        draining: CancellationToken,
    ) -> Self {
        Self { env, store, draining, settings: settings.clone(), signals: Mutex::default() }
    }

    /// What comes after a place.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn page(
        &self,
        tenant: &TenantId,
        start: Start,
        limits: PageLimits,
    ) -> Result<FeedPage, StoreError> {
        let position = self.position(tenant, start).await?;
        let events = self.store.events_after(tenant, position, limits).await?;
        let last = events.last().map_or(position, |event| event.position);
        Ok(FeedPage { next_cursor: cursor(tenant, last), events })
    }

    /// Takes a place for a stream, which is given back with the stream.
    ///
    /// # Errors
    /// If the tenant has too many.
    pub fn join(&self, tenant: &TenantId) -> Result<watch::Receiver<()>, TooManyStreams> {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = signals.entry(tenant.clone()).or_default();
        let most = self.settings.streams_per_tenant;
        if signal.receiver_count() >= most {
            return Err(TooManyStreams { most });
        }
        Ok(signal.subscribe())
    }

    /// Everything that comes after a place, for as long as the caller's token counts.
    ///
    /// # Errors
    /// If the store fails.
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

/// The cursor of a position in a tenant's feed.
fn cursor(tenant: &TenantId, position: FeedPosition) -> String {
    codec(tenant).encode_number(position.number())
}

fn codec(tenant: &TenantId) -> CursorCodec {
    CursorCodec::new("events", tenant)
}
