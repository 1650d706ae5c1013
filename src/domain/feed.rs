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

/// Looks for the place of an event that is gone, by the times of those that are there: the feed is nearly in the order of
/// time. It asks a few times, however long the feed is.
#[derive(Debug)]
pub struct Bisection {
    /// What is before here is older.
    older: i64,
    /// What is after here is younger, or there is nothing.
    younger: i64,
    found_younger: bool,
    /// Where to go on if nothing younger is there.
    end: i64,
}

impl Bisection {
    /// In a feed that ends at `end`.
    pub const fn new(end: FeedPosition) -> Self {
        Self { older: 0, younger: end.0, found_younger: false, end: end.0 }
    }

    /// The place whose next event is to be looked at; an error is the place that was looked for.
    ///
    /// # Errors
    /// When it is found.
    pub const fn next(&self) -> Result<FeedPosition, FeedPosition> {
        if self.older >= self.younger {
            return Err(FeedPosition(if self.found_younger { self.older } else { self.end }));
        }
        Ok(FeedPosition(self.older + (self.younger - self.older) / 2))
    }

    /// The next event after `place`, if there is one: the place after it, and whether it is younger than the one that is gone.
    pub const fn learn(&mut self, place: FeedPosition, found: Option<(FeedPosition, bool)>) {
        match found {
            Some((after, false)) if after.0 <= self.younger => self.older = after.0,
            Some(_) => (self.younger, self.found_younger) = (place.0, true),
            None => self.younger = place.0,
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Places with gaps, times that are in order but for `disorder`.
        #[test]
        fn nothing_younger_stands_before_the_place_that_is_found(
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
            // The one that is gone came at `wanted`: whatever stands after it came no more than 10 before that.
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
            // Its own place may be anywhere between the last that is certainly older and the first certainly younger.
            let first_after = events.iter().find(|(_, time)| *time > wanted + 10).map_or(place, |(place, _)| *place);
            prop_assert!(found <= first_after);
            let before = events.iter().rev().find(|(place, _)| *place <= found);
            prop_assert!(before.is_none_or(|(_, time)| !is_younger(*time)), "it goes on after something older");
            if events.iter().all(|(_, time)| !is_younger(*time)) {
                prop_assert_eq!(found, place);
            }
        }
    }
}
