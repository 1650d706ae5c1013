//! How much of the vendor's answers may lie in memory at once, whatever the number of tenants and of requests under way.
//!
//! Small answers are always read: those under way are counted already. A larger one waits until there is room for it, and
//! for the largest there is room for a few. Who waits has given back what it had, so that nobody waits for one who waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

const MIB: usize = 1 << 20;
/// An answer of this size needs no room.
const SMALL: usize = 64 << 10;
/// So many answers that are as large as is allowed may be read at once.
const LARGEST_AT_ONCE: usize = 4;
/// In any case so many of one megabyte.
const LEAST_MIB: usize = 64;

/// What an answer takes up until what came of it is stored: to be held as long.
#[derive(Debug, Default)]
#[must_use = "dropping it says that the answer is out of memory"]
pub struct Room(Option<OwnedSemaphorePermit>);

/// Gives out the room. Its permits are megabytes.
pub(super) struct Rooms {
    free: Arc<Semaphore>,
    largest: usize,
}

impl Rooms {
    pub(super) fn new(max_response_bytes: usize) -> Self {
        let largest = max_response_bytes.div_ceil(MIB);
        let all = (largest * LARGEST_AT_ONCE).max(LEAST_MIB);
        Self { free: Arc::new(Semaphore::new(all)), largest }
    }

    /// Room for an answer that has so many bytes so far, in place of what it has; `None` if there is none in time.
    pub(super) async fn enough(&self, room: Room, bytes: usize, deadline: Instant) -> Option<Room> {
        let needed = if bytes <= SMALL {
            0
        } else if bytes <= MIB {
            1
        } else {
            self.largest
        };
        if room.mebibytes() >= needed {
            return Some(room);
        }
        drop(room);
        let needed = u32::try_from(needed).ok()?;
        let permit = timeout_at(deadline, Arc::clone(&self.free).acquire_many_owned(needed)).await;
        Some(Room(Some(permit.ok()?.ok()?)))
    }
}

impl Room {
    fn mebibytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

/// The end of a request that began then and may take so long.
pub(super) fn deadline(began: std::time::Instant, patience: Duration) -> Instant {
    Instant::from_std(began) + patience
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_few_of_the_largest_and_many_of_the_others() {
        let rooms = Rooms::new(16 * MIB);
        let now = Instant::now();
        let mut taken = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            let medium = rooms.enough(Room::default(), MIB, now).await.unwrap();
            let large = rooms.enough(medium, MIB + 1, now).await.unwrap();
            assert_eq!(large.mebibytes(), 16);
            taken.push(rooms.enough(large, 16 * MIB, now).await.unwrap());
        }
        assert!(rooms.enough(Room::default(), SMALL, now).await.is_some());
        assert!(rooms.enough(Room::default(), SMALL + 1, now).await.is_none());
        taken.pop();
        assert!(rooms.enough(Room::default(), SMALL + 1, now).await.is_some());
        assert!(rooms.enough(Room::default(), 2 * MIB, now).await.is_some());
    }
}
