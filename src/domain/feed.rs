//! The event feed of a tenant. The order of events never changes after a reader has seen it.

use bytes::Bytes;

use super::ids::EventId;

/// Position in a tenant's feed, between two events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPosition(i64);

impl FeedPosition {
    /// The position before the first event.
    pub const BEGINNING: Self = Self(0);

    /// Returns the position after the event with this number. Numbers start at 1.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number of the event before this position.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// Event in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// Position after the event.
    pub position: FeedPosition,
    /// Id of the event.
    pub id: EventId,
    /// Type of the event.
    pub kind: String,
    /// JSON object with `type`, `timestamp` and `data` on one line, identical to the body of callbacks.
    pub body: Bytes,
}

impl FeedEvent {
    /// Appends the event as the feed shows it: a JSON object with `id`, `type`, `timestamp` and `data`.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(format!("{{\"id\":\"{}\",", self.id).as_bytes());
        json.extend_from_slice(self.body.strip_prefix(b"{").unwrap_or(&self.body));
    }
}

/// Binary search by time for the position of a deleted event. The feed is almost sorted by time. The number of steps
/// is logarithmic in the length of the feed.
#[derive(Debug)]
pub struct Bisection {
    /// Events up to this number are older than the deleted event.
    older: i64,
    /// Events after this number are younger than the deleted event, or do not exist.
    younger: i64,
    found_younger: bool,
    /// Result of the search if no event is younger than the deleted event.
    end: i64,
}

impl Bisection {
    /// Creates a search in a feed that ends at `end`.
    pub const fn new(end: FeedPosition) -> Self {
        Self { older: 0, younger: end.0, found_younger: false, end: end.0 }
    }

    /// Returns a position. The caller must then read the next event after this position.
    ///
    /// # Errors
    /// Ends the search with the position of the deleted event. This "error" is the result of the search, not a failure.
    pub const fn next(&self) -> Result<FeedPosition, FeedPosition> {
        if self.older >= self.younger {
            return Err(FeedPosition(if self.found_younger { self.older } else { self.end }));
        }
        Ok(FeedPosition(self.older + (self.younger - self.older) / 2))
    }

    /// Continues the search. `found` describes the event after `place`: the position after that event, and whether that
    /// event is younger than the deleted event whose position is searched. `found` is `None` if no event follows `place`.
    pub const fn learn(&mut self, place: FeedPosition, found: Option<(FeedPosition, bool)>) {
        match found {
            Some((after, false)) if after.0 <= self.younger => self.older = after.0,
            Some(_) => (self.younger, self.found_younger) = (place.0, true),
            None => self.younger = place.0,
        }
    }
}

/// Limits of one page of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Maximum number of events.
    pub events: usize,
    /// Maximum size of the bodies in bytes. The page ends before the event that exceeds this size.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Tests feeds whose positions have gaps and whose times are sorted except for a jitter.
        #[test]
        fn no_younger_event_precedes_the_position_that_is_found(
            steps in prop::collection::vec((1_i64..5, 0_i64..20, 0_i64..10), 0..60),
            wanted in 0_i64..800,
        ) {
            let (mut place, mut time) = (0, 0);
            let events: Vec<(i64, i64)> = steps
                .into_iter()
                .map(|(gap, pause, jitter)| {
                    place += gap;
                    time += pause;
                    (place, time + jitter)
                })
                .collect();
            // The deleted event has the time `wanted`, and later events are at most 10 older.
            let is_younger = |time: i64| time >= wanted - 10;
            let mut bisection = Bisection::new(FeedPosition(place));
            let mut asked = 0;
            let found = loop {
                let next = match bisection.next() {
                    Ok(next) => next,
                    Err(found) => break found.0,
                };
                let event = events.iter().find(|(place, _)| *place > next.0);
                bisection.learn(next, event.map(|(place, time)| (FeedPosition(*place), is_younger(*time))));
                asked += 1;
                prop_assert!(asked < 20);
            };
            // The position may be anywhere between the last event that is certainly older and the first event that is certainly
            // younger.
            let first_after = events.iter().find(|(_, time)| *time > wanted + 10).map_or(place, |(place, _)| *place);
            prop_assert!(found <= first_after);
            let before = events.iter().rev().find(|(place, _)| *place <= found);
            prop_assert!(before.is_none_or(|(_, time)| !is_younger(*time)), "the position must follow an older event");
            if events.iter().all(|(_, time)| !is_younger(*time)) {
                prop_assert_eq!(found, place);
            }
        }
    }
}
