//! A tenant's events in one order, which never changes once it was seen.

use bytes::Bytes;

use super::ids::EventId;

/// A place in a tenant's feed: between one event and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPosition(i64);

impl FeedPosition {
    /// Before the first event there ever was.
    pub const BEGINNING: Self = Self(0);

    /// After the event of this number; they are counted from 1.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number of the event before it.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// An event of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// The place after it.
    pub position: FeedPosition,
    /// Its id.
    pub id: EventId,
    /// The word for what happened.
    pub kind: String,
    /// `{"type", "timestamp", "data"}` as JSON on one line, byte for byte as callbacks got it.
    pub body: Bytes,
}

impl FeedEvent {
    /// Appends `{"id", "type", "timestamp", "data"}`: the event as the feed shows it.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(format!("{{\"id\":\"{}\",", self.id).as_bytes());
        json.extend_from_slice(self.body.strip_prefix(b"{").unwrap_or(&self.body));
    }
}

/// How much of a feed is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// The most events.
    pub events: usize,
    /// Bytes of bodies; the page ends with the event that passes them.
    pub bytes: usize,
}
