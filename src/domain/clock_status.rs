//! The state of the gateway's clock. `/readyz` shows this state. Retention is paused while the clock is in doubt, and for some
//! time after a correction.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clock::Timestamp;
use super::clock_guard::Doubt;

/// The state after the latest comparison of the clocks. Before the first comparison, retention is paused.
#[derive(Debug, Default)]
pub struct ClockStatus(Mutex<Option<Compared>>);

#[derive(Debug, Clone, Copy)]
struct Compared {
    doubt: Option<Doubt>,
    retention_after: Timestamp,
}

impl ClockStatus {
    /// Records the result of a comparison of the clocks.
    pub fn set(&self, doubt: Option<Doubt>, retention_after: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Compared { doubt, retention_after });
    }

    fn get(&self) -> Option<Compared> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether retention may delete data. `now` is the time of the gateway's clock.
    pub fn allows_retention(&self, now: Timestamp) -> bool {
        self.get().is_some_and(|compared| compared.doubt.is_none() && now >= compared.retention_after)
    }

    /// Returns a text for operators if the clock is in doubt or retention is paused after a correction. Returns `None` otherwise,
    /// and before the first comparison. `now` is the time of the gateway's clock.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let Compared { doubt, retention_after } = self.get()?;
        if let Some(doubt) = doubt {
            let by = Duration::from_secs(doubt.difference_millis.unsigned_abs() / 1000);
            let other = now.plus_millis(doubt.difference_millis);
            return Some(format!(
                "clock in doubt: the gateway's clock shows {now}, another clock {other} (difference {by:?}); retention is paused"
            ));
        }
        (now < retention_after)
            .then(|| format!("clock corrected: it shows {now}; retention is paused until {retention_after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_waits_for_a_comparison_without_doubt_and_for_the_end_of_the_pause() {
        let (status, now) = (ClockStatus::default(), Timestamp::from_millis(1_780_000_000_000));
        assert!(!status.allows_retention(now));
        status.set(None, now);
        assert!(status.allows_retention(now));
        assert_eq!(status.warning(now), None);
        status.set(None, now + Duration::from_secs(1));
        assert!(!status.allows_retention(now));
        assert!(status.warning(now).unwrap().contains("until 2026-05-28T20:26:41Z"));
        status.set(Some(Doubt { since: now, difference_millis: -86_400_000 }), now);
        assert!(!status.allows_retention(now));
        assert!(
            status.warning(now).unwrap().contains("another clock 2026-05-27T20:26:40Z (difference 86400s)")
        );
    }
}
