//! A clock that moves only when a test moves it.
//!
//! Test binaries share this source with `#[path = "../support/clock.rs"] mod clock;`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, Timestamp};

pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn starting_at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_millis()))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }

    pub(crate) fn set(&self, to: Timestamp) {
        self.0.store(to.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
