//! When to ask the vendor, and when to stop asking.

use std::time::Duration;

/// `[vendor.polling]`: the rules of waiting for a result.
#[derive(Debug, Clone, PartialEq)]
pub struct PollingPolicy {
    /// From the vendor's acceptance to the first look, until a [`Pace`](super::pace::Pace) has been learned.
    pub first_after: Duration,
    /// The shortest pause between two looks.
    pub min_interval: Duration,
    /// The longest pause between two looks.
    pub max_interval: Duration,
    /// The next pause as a share of the job's age.
    pub growth: f64,
    /// From the submission to giving up.
    pub deadline: Duration,
    /// How long "not found" means "not yet".
    pub not_found_grace: Duration,
    /// How long an answer without turns and tags means "not yet".
    pub empty_grace: Duration,
    /// From completion to the one more look that catches late tags.
    pub settle_after: Duration,
}

impl PollingPolicy {
    /// `Retry-After` is honoured up to this; a longer one is a fault of the vendor's.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
    /// Kept of every pause for the request itself: a result that is ready just after the vendor looked is found by the
    /// answer to the next look, and should yet be found within its share.
    const REQUEST_TIME: Duration = Duration::from_millis(300);

    /// The pause after a look that found nothing: a share of the job's age, so that a quick result is found
    /// quickly and a slow one costs few looks.
    pub fn interval(&self, age: Duration) -> Duration {
        let share = age.as_secs_f64() * self.growth;
        Duration::try_from_secs_f64(share)
            .unwrap_or(self.max_interval)
            .saturating_sub(Self::REQUEST_TIME)
            .clamp(self.min_interval, self.max_interval.max(self.min_interval))
    }

    /// The pause after the `errors`-th fault in a row: anywhere between nothing and a ceiling that doubles from the
    /// shortest interval to the longest, as `jitter` (0 to 1) has it, but never below the shortest. "Full jitter"
    /// spreads those who wait for one vendor better than any other (AWS, "Exponential Backoff And Jitter", 2015).
    pub fn backoff(&self, errors: u32, jitter: f64) -> Duration {
        let doubled = self.min_interval.saturating_mul(1 << errors.saturating_sub(1).min(20));
        doubled.min(self.max_interval).mul_f64(jitter.clamp(0.0, 1.0)).max(self.min_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> PollingPolicy {
        PollingPolicy {
            first_after: Duration::from_secs(10),
            min_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(300),
            growth: 0.1,
            deadline: Duration::from_secs(86_400),
            not_found_grace: Duration::from_secs(600),
            empty_grace: Duration::from_secs(600),
            settle_after: Duration::from_secs(120),
        }
    }

    #[test]
    fn the_interval_is_a_share_of_the_age_between_floor_and_cap() {
        let millis = |age| policy().interval(Duration::from_secs(age)).as_millis();
        let pauses = [0, 50, 100, 3000, 90_000].map(millis);
        assert_eq!(pauses, [5000, 5000, 9700, 299_700, 300_000]);
    }

    #[test]
    fn the_backoff_doubles_and_is_spread() {
        assert_eq!(policy().backoff(1, 1.0), Duration::from_secs(5));
        assert_eq!(policy().backoff(3, 1.0), Duration::from_secs(20));
        assert_eq!(policy().backoff(3, 0.5), Duration::from_secs(10));
        assert_eq!(policy().backoff(u32::MAX, 1.0), Duration::from_secs(300));
        assert_eq!(policy().backoff(u32::MAX, 0.0), Duration::from_secs(5));
    }
}
