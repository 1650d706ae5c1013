//! Schedule of the polls for a result.

use std::time::Duration;

/// Schedule of the polls, from `[vendor.polling]`. The settings reference describes each field.
#[derive(Debug, Clone, PartialEq)]
pub struct PollingPolicy {
    /// Time from the vendor's acceptance to the first poll. It applies until there are enough samples for a
    /// [`Pace`](super::pace::Pace).
    pub first_after: Duration,
    /// Minimum interval between two polls.
    pub min_interval: Duration,
    /// Maximum interval between two polls.
    pub max_interval: Duration,
    /// Next interval as a share of the time since the acceptance.
    pub growth: f64,
    /// Maximum time from the submission to the outcome. After this time, an unfinished analysis fails.
    pub deadline: Duration,
    /// Time for which "not found" means "not ready yet".
    pub not_found_grace: Duration,
    /// Time for which an answer without turns means "not ready yet".
    pub empty_grace: Duration,
    /// Time from completion to the poll for late tags.
    pub settle_after: Duration,
}

impl Default for PollingPolicy {
    /// Returns the defaults of the settings.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            first_after: seconds(10),
            min_interval: seconds(5),
            max_interval: seconds(300),
            growth: 0.1,
            deadline: seconds(86_400),
            not_found_grace: seconds(600),
            empty_grace: seconds(600),
            settle_after: seconds(120),
        }
    }
}

impl PollingPolicy {
    /// Maximum pause for a `Retry-After`. The gateway reduces a longer `Retry-After` to this maximum.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
    /// Part of each interval that is reserved for the request itself. A result that becomes ready just after a poll
    /// is found by the next poll, whose answer must arrive within the interval.
    const REQUEST_TIME: Duration = Duration::from_millis(300);

    /// Returns the interval after a poll without a result. The interval is a share of the age (the time since the acceptance), so
    /// that quick results are found quickly and slow results need few polls.
    pub fn interval(&self, age: Duration) -> Duration {
        let share = age.as_secs_f64() * self.growth;
        Duration::try_from_secs_f64(share)
            .unwrap_or(self.max_interval)
            .saturating_sub(Self::REQUEST_TIME)
            .clamp(self.min_interval, self.max_interval.max(self.min_interval))
    }

    /// Returns the pause after the given number of consecutive errors. The ceiling of the pause doubles from the minimum to the
    /// maximum interval. The pause is the share `jitter` (0 to 1) of the ceiling, but at least the minimum interval. This "full
    /// jitter" spreads retries best (AWS, "Exponential Backoff And Jitter", 2015).
    pub fn backoff(&self, errors: u32, jitter: f64) -> Duration {
        let doubled = self.min_interval.saturating_mul(1 << errors.saturating_sub(1).min(20));
        doubled.min(self.max_interval).mul_f64(jitter.clamp(0.0, 1.0)).max(self.min_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_a_share_of_the_age_within_bounds() {
        let millis = |age| PollingPolicy::default().interval(Duration::from_secs(age)).as_millis();
        let pauses = [0, 50, 100, 3000, 90_000].map(millis);
        assert_eq!(pauses, [5000, 5000, 9700, 299_700, 300_000]);
    }

    #[test]
    fn the_backoff_doubles_and_has_jitter() {
        assert_eq!(PollingPolicy::default().backoff(1, 1.0), Duration::from_secs(5));
        assert_eq!(PollingPolicy::default().backoff(3, 1.0), Duration::from_secs(20));
        assert_eq!(PollingPolicy::default().backoff(3, 0.5), Duration::from_secs(10));
        assert_eq!(PollingPolicy::default().backoff(u32::MAX, 1.0), Duration::from_secs(300));
        assert_eq!(PollingPolicy::default().backoff(u32::MAX, 0.0), Duration::from_secs(5));
    }
}
