//! The vendor's processing time for a tenant's calls, learned from completed analyses. The processing time determines the time of
//! the first poll: the gateway polls when the quickest results are usually ready. The processing time also determines when a call
//! without a result was probably lost: after the longest processing times.
//!
//! The estimate is a low quantile of the processing times, computed by stochastic approximation (Robbins and Monro, 1951) on
//! their logarithm. A sample is the processing time of one call. A sample above the estimate increases the estimate a little, and
//! a sample below the estimate decreases it by more. The gain scales these changes. The estimate settles where both
//! effects balance. The estimate needs three numbers and follows a vendor whose speed changes.
//!
//! The age of a result is the time since the vendor's acceptance. A result is found in time if the delay until the poll is at
//! most `growth` times its age. Polls after the first one achieve this, because each interval is `growth` times the age. The
//! first poll does not always achieve this: a result that was ready long before the first poll is found too late.
//! [`Pace::QUANTILE`] is the share of results that are ready before the first poll. It is the largest share with which nine in
//! ten results are still found in time, so the first poll is as late as possible.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::clock::Timestamp;
use super::polling::PollingPolicy;

/// Estimate of a tenant's processing times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time from the vendor's acceptance to the first poll, in whole milliseconds. The gateway uses this time only after
    /// [`Pace::ENOUGH_SAMPLES`] samples.
    pub first_poll_after: Duration,
    /// Processing time that one result in a hundred exceeds, in whole milliseconds. An assumed minimum applies until there are
    /// [`Pace::ENOUGH_SAMPLES`] samples.
    pub slowest: Duration,
    /// Number of samples so far. It saturates at the maximum.
    pub samples: u32,
    /// Time of the last sample.
    pub learned_at: Timestamp,
}

/// Processing time of one call. The polls show this time only approximately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessingTime {
    /// Time from the vendor's acceptance to the poll that found the result.
    pub found_after: Duration,
    /// Whether the first poll found the result. The result may then have been ready long before the poll.
    pub at_first_poll: bool,
}

impl Pace {
    /// Share of results that are ready before the first poll.
    pub const QUANTILE: f64 = 0.15;
    /// Number of samples after which the estimate is used. Until then, the gateway polls early and often, and so it
    /// measures the processing times accurately.
    pub const ENOUGH_SAMPLES: u32 = 16;
    /// Maximum time to the first poll, even if the estimate is longer.
    pub const MAX_FIRST_POLL_AFTER: Duration = Duration::from_secs(3600);

    /// Share of results that are ready within [`Pace::slowest`].
    pub const SLOWEST_QUANTILE: f64 = 0.99;
    /// The assumed 99th percentile, as a multiple of `first_after`. With default settings, the assumed percentile is five
    /// minutes. Until there are enough samples, the estimate is not lower than the assumed percentile.
    const ASSUMED_SLOWEST: u32 = 30;
    /// First estimate of the 99th percentile as a multiple of the first sample. This multiple assumes a log-normal distribution
    /// with a spread of about 0.35, and a first sample at the first decile.
    const SLOWEST_OF_FIRST: f64 = 3.5;
    /// Gain of the estimate of the 99th percentile. This estimate follows a slower vendor within a few results, and a quicker
    /// vendor within some hundreds of results.
    const SLOWEST_GAIN: f64 = 0.2;

    /// Maximum gain. The first steps are large, but random outliers must not change the estimate much.
    const MOST_GAIN: f64 = 0.2;
    /// The gain of a sample is this number divided by the number of samples so far. This number makes the
    /// estimate converge fastest, for a log-normal distribution with a spread of about 0.35.
    const GAIN: f64 = 1.6;
    /// Minimum gain. With this gain, the estimate follows a vendor that becomes twice as fast within about fifty results, and a
    /// slower vendor within a few hundred results.
    const LEAST_GAIN: f64 = 0.02;
    /// If the time between two samples is less than the estimate divided by this number, the later sample is ignored. The
    /// calls of a burst finish in the order of their processing times. If each of them counted, the estimate would move to
    /// the longest processing time.
    const SPACING: u32 = 16;
    /// If the first poll finds the result, the result was ready before this poll. This constant is the average time from
    /// readiness to the poll, as a share of the time from the vendor's acceptance to the poll.
    const READY_BEFORE: f64 = 0.13;
    /// A first poll gives no sample if it is later than planned by more than this share. Such a poll was delayed, or an old
    /// estimate planned it.
    const LATE: f64 = 0.25;

    /// Returns the longest pause before the next poll or submit that a policy allows.
    pub fn longest_pause(policy: &PollingPolicy) -> Duration {
        let PollingPolicy { first_after, min_interval, max_interval, settle_after, .. } = *policy;
        [first_after, min_interval, max_interval, settle_after, PollingPolicy::MAX_RETRY_AFTER]
            .into_iter()
            .fold(Self::MAX_FIRST_POLL_AFTER, Duration::max)
    }

    /// Returns the estimate after one more result, found at `now`. Returns `None` if the result gives no sample.
    pub fn learn(
        known: Option<Self>,
        processed: ProcessingTime,
        policy: &PollingPolicy,
        now: Timestamp,
    ) -> Option<Self> {
        let planned = Self::first_poll_after(known, policy);
        if processed.at_first_poll && processed.found_after > planned.mul_f64(1.0 + Self::LATE) {
            return None;
        }
        let Some(known) = known else {
            let first_poll_after = bounded(processed.likely(policy), policy);
            let slowest = bounded_slowest(processed.found_after, policy).mul_f64(Self::SLOWEST_OF_FIRST);
            let slowest = bounded_slowest(slowest, policy);
            return Some(Self { first_poll_after, slowest, samples: 1, learned_at: now });
        };
        let estimate = bounded(known.first_poll_after, policy);
        // A clock that was set back must not stop the learning.
        if now >= known.learned_at && now.since(known.learned_at) < estimate / Self::SPACING {
            return None;
        }
        let samples = known.samples.saturating_add(1);
        let gain = (Self::GAIN / f64::from(samples)).clamp(Self::LEAST_GAIN, Self::MOST_GAIN);
        // The sample is compared with the current estimate, not with the estimate that planned the poll. Otherwise many calls
        // that were planned without an estimate would move the estimate without limit.
        let below = processed.at_first_poll || processed.likely(policy) < estimate;
        let step = if below { -gain * (1.0 - Self::QUANTILE) } else { gain * Self::QUANTILE };
        let first_poll_after = bounded(estimate.mul_f64(step.exp()), policy);
        // The poll that found the result bounds the processing time from above.
        let exceeds = processed.found_after > known.slowest;
        let share = if exceeds { Self::SLOWEST_QUANTILE } else { Self::SLOWEST_QUANTILE - 1.0 };
        let slowest = bounded_slowest(known.slowest, policy).mul_f64((Self::SLOWEST_GAIN * share).exp());
        let slowest = bounded_slowest(slowest, policy);
        Some(Self { first_poll_after, slowest, samples, learned_at: now })
    }

    /// Returns the processing time that one result in a hundred exceeds.
    pub fn slowest(known: Option<Self>, policy: &PollingPolicy) -> Duration {
        let assumed = policy.first_after.saturating_mul(Self::ASSUMED_SLOWEST);
        match known {
            Some(known) if known.samples >= Self::ENOUGH_SAMPLES => known.slowest,
            Some(known) => known.slowest.max(assumed),
            None => assumed,
        }
    }

    /// Returns the time from the vendor's acceptance to the first poll.
    pub fn first_poll_after(known: Option<Self>, policy: &PollingPolicy) -> Duration {
        match known.filter(|known| known.samples >= Self::ENOUGH_SAMPLES) {
            Some(known) => bounded(known.first_poll_after, policy),
            None => policy.first_after,
        }
    }
}

impl ProcessingTime {
    /// Returns the most likely processing time.
    fn likely(self, policy: &PollingPolicy) -> Duration {
        let share = if self.at_first_poll {
            1.0 - Pace::READY_BEFORE
        } else {
            // The age at the previous poll was smaller by the factor `1 + growth`. The geometric mean of both ages is the
            // likeliest time.
            1.0 / (1.0 + policy.growth).sqrt()
        };
        self.found_after.mul_f64(share)
    }
}

/// Limits the time to the first poll to its bounds.
fn bounded(first_poll_after: Duration, policy: &PollingPolicy) -> Duration {
    let least = policy.min_interval;
    whole_millis(first_poll_after.clamp(least, Pace::MAX_FIRST_POLL_AFTER.max(least)))
}

/// Limits the 99th percentile to its bounds. No result is found after the deadline.
fn bounded_slowest(slowest: Duration, policy: &PollingPolicy) -> Duration {
    let least = policy.min_interval;
    whole_millis(slowest.clamp(least, policy.deadline.max(least)))
}

/// Rounds to whole milliseconds, which the store keeps.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
