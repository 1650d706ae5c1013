//! The vendor's processing time for a tenant's calls, learned from completed calls. The first poll for a result comes when
//! the quickest results tend to be ready.
//!
//! The estimate is a low quantile of the processing times, learned by stochastic approximation (Robbins and Monro, 1951) on
//! their logarithm. A time above the estimate moves the estimate up a little, and a time below it moves it down by more; the
//! estimate settles where both balance. It needs three numbers and follows a vendor whose speed changes.
//!
//! Polls after the first come at ages that grow by `growth`, so a result that such a poll finds is late by at most this share.
//! A result that was ready long before the first poll is found later than that. [`Pace::QUANTILE`] is the largest share of
//! early results with which nine in ten results are found in time, and so gives the latest possible first poll.

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
    /// Time from the vendor's acceptance to the first poll, in whole milliseconds. It applies after enough samples.
    pub first_poll: Duration,
    /// Number of samples so far. It saturates at the maximum.
    pub samples: u32,
    /// Time of the last sample.
    pub learned_at: Timestamp,
}

/// Processing time of one call, as far as the polls reveal it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessingTime {
    /// Time from the vendor's acceptance to the poll that found the result.
    pub found_after: Duration,
    /// Whether this was the first poll. Then the result may have been ready long before.
    pub at_first_poll: bool,
}

impl Pace {
    /// Share of results that are ready before the first poll.
    pub const QUANTILE: f64 = 0.15;
    /// Number of samples after which the estimate is used. Until then, polls come early and often, which measures the
    /// times well.
    pub const ENOUGH_SAMPLES: u32 = 16;
    /// Maximum time to the first poll, even if the estimate is longer.
    pub const MAX_FIRST_POLL: Duration = Duration::from_secs(3600);

    /// Maximum gain: the first steps are large, but random outliers must not move the estimate far.
    const MOST_GAIN: f64 = 0.2;
    /// Gain per sample count: the steps shrink so that the quantile of a log-normal distribution with a spread of about 0.35
    /// is found soonest.
    const GAIN: f64 = 1.6;
    /// Minimum gain: the estimate follows a vendor that becomes faster by half within about fifty results, and a slower vendor
    /// within a few hundred results.
    const LEAST_GAIN: f64 = 0.02;
    /// Results that are closer together than the estimate divided by this number count once. The calls of a burst finish in
    /// the order of their processing times, and learning from each would drag the estimate to the slowest.
    const SPACING: u32 = 16;
    /// A result that the first poll finds was probably ready earlier, by this share of the time.
    const READY_BEFORE: f64 = 0.13;
    /// A first poll that is later than planned by more than this share teaches nothing: it was delayed, or it was planned by an
    /// old estimate.
    const LATE: f64 = 0.25;

    /// The estimate after one more result, found at `now`. `None` if the result teaches nothing.
    pub fn learn(
        known: Option<Self>,
        processed: ProcessingTime,
        policy: &PollingPolicy,
        now: Timestamp,
    ) -> Option<Self> {
        let planned = Self::first_poll(known, policy);
        if processed.at_first_poll && processed.found_after > planned.mul_f64(1.0 + Self::LATE) {
            return None;
        }
        let Some(known) = known else {
            let first_poll = bounded(processed.likely(policy), policy);
            return Some(Self { first_poll, samples: 1, learned_at: now });
        };
        let estimate = bounded(known.first_poll, policy);
        // A clock that was set back must not stop the learning.
        if now >= known.learned_at && now.since(known.learned_at) < estimate / Self::SPACING {
            return None;
        }
        let samples = known.samples.saturating_add(1);
        let gain = (Self::GAIN / f64::from(samples)).clamp(Self::LEAST_GAIN, Self::MOST_GAIN);
        // Compares with the current estimate, not with the one that planned the poll: many calls planned without an
        // estimate would push it without end.
        let below = processed.at_first_poll || processed.likely(policy) < estimate;
        let step = if below { -gain * (1.0 - Self::QUANTILE) } else { gain * Self::QUANTILE };
        let first_poll = bounded(estimate.mul_f64(step.exp()), policy);
        Some(Self { first_poll, samples, learned_at: now })
    }

    /// Time from the vendor's acceptance to the first poll.
    pub fn first_poll(known: Option<Self>, policy: &PollingPolicy) -> Duration {
        match known.filter(|known| known.samples >= Self::ENOUGH_SAMPLES) {
            Some(known) => bounded(known.first_poll, policy),
            None => policy.first_after,
        }
    }
}

impl ProcessingTime {
    /// The most likely processing time.
    fn likely(self, policy: &PollingPolicy) -> Duration {
        let share = if self.at_first_poll {
            1.0 - Pace::READY_BEFORE
        } else {
            // The previous poll was earlier by `growth`: take the geometric mean of both.
            1.0 / (1.0 + policy.growth).sqrt()
        };
        self.found_after.mul_f64(share)
    }
}

/// Bounds the time and rounds it to whole milliseconds, which the store keeps.
fn bounded(first_poll: Duration, policy: &PollingPolicy) -> Duration {
    let least = policy.min_interval;
    let bounded = first_poll.clamp(least, Pace::MAX_FIRST_POLL.max(least));
    Duration::from_millis(u64::try_from(bounded.as_millis()).unwrap_or(u64::MAX))
}
