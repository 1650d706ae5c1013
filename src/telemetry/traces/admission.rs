//! Which traces are recorded.
//!
//! A caller that records a trace of its own says so in `traceparent`, and would like to find the gateway's part in it. But
//! whoever can reach the port can say so, and must not have everything recorded where the operator asked for little: so
//! only some traces a second are recorded because a caller says so, and the rest as by chance, like traces that begin
//! here. That chance is not taken from the trace's id, which a caller chooses.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::config::TracesSettings;
use crate::domain::clock::Entropy;
use crate::domain::trace::TraceContext;

pub(super) struct Admission {
    ratio: f64,
    /// Those of callers; `None` if there are none.
    allowance: Option<DefaultDirectRateLimiter>,
}

impl Admission {
    pub(super) fn new(settings: &TracesSettings) -> Self {
        let allowance = NonZeroU32::new(settings.caller_samples_per_second);
        Self {
            ratio: settings.sample_ratio,
            allowance: allowance.map(|most| RateLimiter::direct(Quota::per_second(most))),
        }
    }

    /// The caller's trace or a new one, with the flag that tells whether it is recorded from here on.
    pub(super) fn decide(&self, given: Option<TraceContext>, entropy: &dyn Entropy) -> TraceContext {
        match given {
            None => TraceContext::start(entropy).sampled(self.draw(entropy)),
            // Whoever began it decided against it.
            Some(given) if !given.is_sampled() => given,
            Some(given) => given.sampled(self.draw(entropy) || self.allow()),
        }
    }

    fn draw(&self, entropy: &dyn Entropy) -> bool {
        self.ratio >= 1.0 || (self.ratio > 0.0 && entropy.fraction() < self.ratio)
    }

    fn allow(&self) -> bool {
        self.allowance.as_ref().is_some_and(|allowance| allowance.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemEntropy;

    const CALLERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn admission(sample_ratio: f64, caller_samples_per_second: u32) -> Admission {
        Admission::new(&TracesSettings {
            otlp_endpoint: None,
            headers_file: None,
            sample_ratio,
            caller_samples_per_second,
        })
    }

    /// How many of so many are recorded.
    fn recorded(admission: &Admission, given: Option<&str>, of: usize) -> usize {
        let given = given.map(|header| TraceContext::parse(header).unwrap());
        (0..of).filter(|_| admission.decide(given, &SystemEntropy).is_sampled()).count()
    }

    #[test]
    fn all_none_or_about_a_share_of_what_begins_here() {
        assert_eq!(recorded(&admission(1.0, 0), None, 1000), 1000);
        assert_eq!(recorded(&admission(0.0, 0), None, 1000), 0);
        // Nine standard deviations on either side.
        assert!((1600..=2400).contains(&recorded(&admission(0.2, 0), None, 10_000)));
    }

    #[test]
    fn a_caller_that_does_not_record_is_followed() {
        let unrecorded = CALLERS.replace("-01", "-00");
        assert_eq!(recorded(&admission(1.0, 1000), Some(&unrecorded), 1000), 0);
    }

    #[test]
    fn callers_that_record_are_followed_up_to_an_allowance_and_then_by_chance() {
        assert_eq!(recorded(&admission(1.0, 0), Some(CALLERS), 1000), 1000);
        assert_eq!(recorded(&admission(0.0, 0), Some(CALLERS), 1000), 0);
        // The allowance of the first second, and of a few more should the machine be that slow.
        assert!((7..500).contains(&recorded(&admission(0.0, 7), Some(CALLERS), 1000)));
    }

    #[test]
    fn a_callers_trace_keeps_its_ids() {
        let given = TraceContext::parse(CALLERS).unwrap();
        let decided = admission(0.0, 0).decide(Some(given), &SystemEntropy);
        assert_eq!(decided, given.sampled(false));
    }
}
