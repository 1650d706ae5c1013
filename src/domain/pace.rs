//! How fast the vendor is with a tenant's calls, learned from those that are done: the first look at a result comes
//! when the quickest few have tended to be ready.
//!
//! What is learned is a low quantile of the processing times, by stochastic approximation (Robbins and Monro, 1951) on
//! their logarithm: a time above the estimate moves it up a little, one below moves it down by more, and it rests
//! where the two are in balance. That takes three numbers and follows a vendor that changes.
//!
//! Looks after the first come at ages that grow by `growth`, so that whatever is found by one of them is found that
//! share late at most; what was ready before the first look is found later than that if it was ready long before.
//! [`Pace::QUANTILE`] is the most of those that leaves nine in ten results in time, and so the latest first look.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::clock::Timestamp;
use super::polling::PollingPolicy;

/// What is known of a tenant's processing times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the vendor's acceptance to the first look, once enough was learned; in whole milliseconds.
    pub first_look: Duration,
    /// Times learned from so far; stays at the largest number when it is reached.
    pub samples: u32,
    /// When the last of them was learned.
    pub learned_at: Timestamp,
}

/// How long the vendor took, as far as the looks can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessingTime {
    /// From the vendor's acceptance to the look that found the result.
    pub found_after: Duration,
    /// Whether that was the first look: then nothing says that it was not ready long before.
    pub at_first_look: bool,
}

impl Pace {
    /// The share of results that are ready before the first look.
    pub const QUANTILE: f64 = 0.15;
    /// Times to learn from before what was learned is used. Until then looks come early and often, and tell the
    /// times well.
    pub const ENOUGH_SAMPLES: u32 = 16;
    /// The latest first look, whatever was learned.
    pub const MAX_FIRST_LOOK: Duration = Duration::from_secs(3600);

    /// The first steps are large, but not so large that chance alone could lead far away, ...
    const MOST_GAIN: f64 = 0.2;
    /// ... then become smaller with the number of samples as finds a log-normal's quantile soonest (for a spread of
    /// about 0.35), ...
    const GAIN: f64 = 1.6;
    /// ... and in the end are no smaller than this: the estimate follows a vendor that became faster by half
    /// within some fifty results, and one that became slower within a few hundred.
    const LEAST_GAIN: f64 = 0.02;
    /// Of results that come closer together than this share of the first look, one counts. The calls of one burst are
    /// finished in the order of their times: learned from one by one, they would drag the estimate along to the last.
    const SPACING: u32 = 16;
    /// A result that the first look found was ready somewhat before: by this share of the time.
    const READY_BEFORE: f64 = 0.13;
    /// A first look that is later than planned by more than this share tells nothing: something kept it from coming, or
    /// it was planned by an estimate that has changed much since.
    const LATE: f64 = 0.25;

    /// What is known after a further result, found at `now`; `None` if it tells nothing.
    pub fn learn(
        known: Option<Self>,
        processed: ProcessingTime,
        policy: &PollingPolicy,
        now: Timestamp,
    ) -> Option<Self> {
        let planned = Self::first_look(known, policy);
        if processed.at_first_look && processed.found_after > planned.mul_f64(1.0 + Self::LATE) {
            return None;
        }
        let Some(known) = known else {
            let first_look = bounded(processed.likely(policy), policy);
            return Some(Self { first_look, samples: 1, learned_at: now });
        };
        let estimate = bounded(known.first_look, policy);
        // A clock that was set back must not end all learning.
        if now >= known.learned_at && now.since(known.learned_at) < estimate / Self::SPACING {
            return None;
        }
        let samples = known.samples.saturating_add(1);
        let gain = (Self::GAIN / f64::from(samples)).clamp(Self::LEAST_GAIN, Self::MOST_GAIN);
        // Against the present estimate, not the one that the look was planned by: calls without number that were
        // planned before anything was known would push it without end.
        let below = processed.at_first_look || processed.likely(policy) < estimate;
        let step = if below { -gain * (1.0 - Self::QUANTILE) } else { gain * Self::QUANTILE };
        let first_look = bounded(estimate.mul_f64(step.exp()), policy);
        Some(Self { first_look, samples, learned_at: now })
    }

    /// From the vendor's acceptance to the first look.
    pub fn first_look(known: Option<Self>, policy: &PollingPolicy) -> Duration {
        match known.filter(|known| known.samples >= Self::ENOUGH_SAMPLES) {
            Some(known) => bounded(known.first_look, policy),
            None => policy.first_after,
        }
    }
}

impl ProcessingTime {
    /// The time that stands for all that it may have been.
    fn likely(self, policy: &PollingPolicy) -> Duration {
        let share = if self.at_first_look {
            1.0 - Pace::READY_BEFORE
        } else {
            // The look before was earlier by `growth`: the geometric middle of the two.
            1.0 / (1.0 + policy.growth).sqrt()
        };
        self.found_after.mul_f64(share)
    }
}

/// Within what is sane, in whole milliseconds: that is what a store keeps.
fn bounded(first_look: Duration, policy: &PollingPolicy) -> Duration {
    let least = policy.min_interval;
    let bounded = first_look.clamp(least, Pace::MAX_FIRST_LOOK.max(least));
    Duration::from_millis(u64::try_from(bounded.as_millis()).unwrap_or(u64::MAX))
}
