//! Outcomes of delivery attempts, and the retry schedule.

mod outcome;

use std::time::{Duration, UNIX_EPOCH};

pub use self::outcome::AttemptOutcome;
use super::clock::Timestamp;

/// Decision after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// The delivery succeeded.
    Delivered,
    /// The next attempt is at this time.
    RetryAt(Timestamp),
    /// The delivery failed permanently.
    GiveUp(GiveUpReason),
    /// The gateway itself could not send the attempt. The delivery waits until this time, and the attempt does not
    /// count in the schedule.
    WaitUntil(Timestamp),
    /// The webhook becomes disabled, and the delivery waits until the webhook is enabled again.
    Hold,
}

impl RetryDecision {
    /// Returns whether the delivery succeeded; `None` while it is pending.
    pub const fn arrived(self) -> Option<bool> {
        match self {
            Self::Delivered => Some(true),
            Self::GiveUp(_) => Some(false),
            Self::RetryAt(_) | Self::WaitUntil(_) | Self::Hold => None,
        }
    }
}

/// Reason why a delivery fails permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The receiver answered 410 and wants no more events.
    Gone,
    /// The schedule has no more attempts.
    Exhausted,
    /// The receiver will never accept the request.
    Rejected,
    /// An attempt may have reached the receiver, and another attempt would repeat the effect.
    Unknown,
}

/// Pauses before the second and each later attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule(Vec<Duration>);

impl RetrySchedule {
    /// Maximum jitter as a share of the pause.
    pub const JITTER: f64 = 0.2;
    /// Maximum `Retry-After` that is honoured, so that a receiver cannot delay work without limit.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

    /// Creates a schedule. No pause precedes the first attempt, so the number of attempts is the number of pauses plus one.
    pub const fn new(pauses: Vec<Duration>) -> Self {
        Self(pauses)
    }

    /// Returns the longest pause between two attempts that the schedule allows.
    pub fn longest_pause(&self) -> Duration {
        self.0.iter().map(|pause| spread(*pause, 1.0)).fold(Self::MAX_RETRY_AFTER, Duration::max)
    }

    /// Decides the next step after an attempt that ended at `now`. `attempts_made` is the number of this attempt, counted from 1.
    ///
    /// `jitter`, in `0.0..1.0`, spreads the retries of attempts that failed at the same time.
    pub fn next(
        &self,
        attempts_made: u32,
        outcome: &AttemptOutcome,
        now: Timestamp,
        jitter: f64,
    ) -> RetryDecision {
        let floor = match outcome {
            AttemptOutcome::Delivered { .. } => return RetryDecision::Delivered,
            AttemptOutcome::Gone => return RetryDecision::GiveUp(GiveUpReason::Gone),
            AttemptOutcome::Unknown => return RetryDecision::GiveUp(GiveUpReason::Unknown),
            AttemptOutcome::Rejected { .. } => return RetryDecision::GiveUp(GiveUpReason::Rejected),
            AttemptOutcome::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            AttemptOutcome::Declined { retry_after, .. } => *retry_after,
            // A forbidden address is retried, because the name may resolve differently later and settings can change. A transform
            // that fails can be changed too.
            AttemptOutcome::Unsigned { .. }
            | AttemptOutcome::Unrendered { .. }
            | AttemptOutcome::Forbidden { .. }
            | AttemptOutcome::Failed { .. } => Duration::ZERO,
        };
        let index = usize::try_from(attempts_made.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(pause) = self.0.get(index) else {
            return RetryDecision::GiveUp(GiveUpReason::Exhausted);
        };
        RetryDecision::RetryAt(now + spread(*pause, jitter).max(floor.min(Self::MAX_RETRY_AFTER)))
    }
}

/// Adds jitter to the pause. A `jitter` outside `0.0..=1.0` is clamped.
fn spread(pause: Duration, jitter: f64) -> Duration {
    let share = RetrySchedule::JITTER * jitter.clamp(0.0, 1.0);
    // A NaN is not a duration and gives no jitter.
    let extra = Duration::try_from_secs_f64(pause.as_secs_f64() * share).unwrap_or_default();
    pause.saturating_add(extra)
}

/// Parses a `Retry-After` header (RFC 9110, section 10.2.3): seconds, or a date relative to `now`.
///
/// A date in the past means zero. Returns `None` if the value has neither form.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number that does not fit counts as the maximum, which the schedule caps.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((Timestamp::from_millis(0) + date).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::transport_error::TransportError;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000); // 2024-05-20T12:20:17Z
    const EXHAUSTED: RetryDecision = RetryDecision::GiveUp(GiveUpReason::Exhausted);

    fn schedule() -> RetrySchedule {
        RetrySchedule::new([5, 300].map(Duration::from_secs).to_vec())
    }

    fn refused(retry_after: Option<u64>) -> AttemptOutcome {
        AttemptOutcome::Refused { status: 503, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn in_seconds(seconds: u64) -> RetryDecision {
        RetryDecision::RetryAt(NOW + Duration::from_secs(seconds))
    }

    #[test]
    fn follows_the_schedule_to_its_end() {
        let failed = AttemptOutcome::Failed { error: TransportError::Timeout };
        assert_eq!(schedule().next(1, &failed, NOW, 0.0), in_seconds(5));
        assert_eq!(schedule().next(1, &failed, NOW, 1.0), in_seconds(6));
        assert_eq!(schedule().next(2, &failed, NOW, 0.5), in_seconds(330));
        assert_eq!(schedule().next(3, &failed, NOW, 0.5), EXHAUSTED);
        assert_eq!(schedule().next(u32::MAX, &failed, NOW, 0.5), EXHAUSTED);
    }

    #[test]
    fn success_and_410_end_it_at_once() {
        assert_eq!(
            schedule().next(1, &AttemptOutcome::Delivered { status: 204 }, NOW, 0.0),
            RetryDecision::Delivered
        );
        assert_eq!(
            schedule().next(1, &AttemptOutcome::Gone, NOW, 0.0),
            RetryDecision::GiveUp(GiveUpReason::Gone)
        );
    }

    #[test]
    fn retry_after_is_a_floor_with_a_cap() {
        assert_eq!(schedule().next(1, &refused(Some(60)), NOW, 1.0), in_seconds(60));
        assert_eq!(schedule().next(2, &refused(Some(60)), NOW, 0.0), in_seconds(300));
        assert_eq!(schedule().next(1, &refused(Some(u64::MAX)), NOW, 0.0), in_seconds(86_400));
        assert_eq!(schedule().next(3, &refused(Some(60)), NOW, 0.0), EXHAUSTED);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |value| parse_retry_after(value, NOW).map(|d| d.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(read("Mon, 20 May 2024 12:21:17 GMT"), Some(60));
        assert_eq!(read("Mon, 20 May 2024 12:00:00 GMT"), Some(0));
        for neither in ["", "-1", "1.5", "soon", "+5"] {
            assert_eq!(read(neither), None, "{neither:?}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_comes_within_the_pause_plus_jitter(
            pauses in prop::collection::vec(0_u64..1_000_000, 1..10),
            attempts in 1_u32..12,
            jitter in 0.0..1.0_f64,
        ) {
            let schedule = RetrySchedule::new(pauses.iter().copied().map(Duration::from_secs).collect());
            match (schedule.next(attempts, &refused(None), NOW, jitter), pauses.get(attempts as usize - 1)) {
                (RetryDecision::RetryAt(at), Some(pause)) => {
                    let waited = at.since(NOW).as_secs_f64();
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let pause = *pause as f64;
                    prop_assert!(waited >= pause && waited <= pause * 1.2 + 0.001);
                }
                (EXHAUSTED, None) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn scheduling_never_panics(
            pause in any::<Duration>(), attempts in any::<u32>(), millis in any::<i64>(),
            jitter in prop::num::f64::ANY, retry_after in any::<Option<u64>>(), header in ".*",
        ) {
            let now = Timestamp::from_millis(millis);
            let next = RetrySchedule::new(vec![pause]).next(attempts, &refused(retry_after), now, jitter);
            if let RetryDecision::RetryAt(at) = next {
                prop_assert!(at >= now);
            }
            parse_retry_after(&header, now);
        }
    }
}
