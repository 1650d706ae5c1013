//! What became of an attempt to deliver a callback, and when to try again.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use super::clock::Timestamp;

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver took it (2xx).
    Delivered {
        /// Its status.
        status: u16,
    },
    /// The receiver answered, but not with 2xx; a redirect counts too.
    Refused {
        /// Its status.
        status: u16,
        /// How long it asked to be left alone: `Retry-After` of a 429 or 503.
        retry_after: Option<Duration>,
    },
    /// The receiver wants no more callbacks at all: 410 (Standard Webhooks, "Delivery success and failure").
    Gone,
    /// Nothing was sent: there was nothing to sign with, or it could not be read. No fault of the receiver's.
    Unsigned {
        /// Why, for the operator.
        detail: String,
    },
    /// Nothing was sent: the guard does not let callbacks go there.
    Forbidden {
        /// Which rule forbids it.
        detail: String,
    },
    /// No answer came.
    Failed {
        /// Why not.
        error: AttemptError,
    },
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The name does not resolve.
    #[error("the host's name could not be resolved")]
    Dns,
    /// Nobody listens there, or there is no way there.
    #[error("no connection could be made")]
    Connect,
    /// The certificate or the handshake is not good.
    #[error("no TLS session could be made")]
    Tls,
    /// The deadline passed before the status came.
    #[error("no answer came in time")]
    Timeout,
    /// The connection ended before the status came.
    #[error("the connection was closed before an answer came")]
    Closed,
    /// What came is not HTTP.
    #[error("the answer is not HTTP")]
    Protocol,
    /// The URL or a header cannot be put into a request.
    #[error("the request could not be built")]
    Request,
}

impl AttemptOutcome {
    /// One of a few words, fit for a metric's label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Refused { .. } => "refused",
            Self::Gone => "gone",
            Self::Unsigned { .. } => "unsigned",
            Self::Forbidden { .. } => "forbidden",
            Self::Failed { error } => match error {
                AttemptError::Dns => "dns",
                AttemptError::Connect => "connect",
                AttemptError::Tls => "tls",
                AttemptError::Timeout => "timeout",
                AttemptError::Closed => "closed",
                AttemptError::Protocol => "protocol",
                AttemptError::Request => "request",
            },
        }
    }
}

/// One sentence for the record of the attempt; it never names the URL.
impl fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered { status } => write!(f, "delivered with status {status}"),
            Self::Refused { status, .. } => write!(f, "the receiver answered with status {status}"),
            Self::Gone => f.write_str("the receiver answered 410 and wants no more callbacks"),
            Self::Unsigned { detail } | Self::Forbidden { detail } => f.write_str(detail),
            Self::Failed { error } => error.fmt(f),
        }
    }
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Nothing: it is done.
    Delivered,
    /// Try again then.
    RetryAt(Timestamp),
    /// Nothing: it is hopeless.
    GiveUp(GiveUpReason),
    /// Nothing was sent and nothing can be, whatever the receiver does: it waits until then, and this attempt does not count
    /// in its schedule.
    WaitUntil(Timestamp),
    /// Nothing for now: its endpoint wants no more and is to be disabled; it goes on when that is enabled again.
    Hold,
}

impl RetryDecision {
    /// Whether the delivery arrived; `None` while that is open.
    pub const fn arrived(self) -> Option<bool> {
        match self {
            Self::Delivered => Some(true),
            Self::GiveUp(_) => Some(false),
            Self::RetryAt(_) | Self::WaitUntil(_) | Self::Hold => None,
        }
    }
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The receiver answered 410; its endpoint is to be disabled.
    Gone,
    /// The schedule has no more attempts.
    Exhausted,
}

/// The pauses before the second and every later attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule(Vec<Duration>);

impl RetrySchedule {
    /// The most that jitter adds to a pause, as a share of it.
    pub const JITTER: f64 = 0.2;
    /// The longest `Retry-After` that is honoured; a receiver cannot park work for ever.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

    /// A schedule of so many attempts and one more: the first has no pause before it.
    pub const fn new(pauses: Vec<Duration>) -> Self {
        Self(pauses)
    }

    /// What to do after the `attempts_made`th attempt (counted from 1) ended at `now` with `outcome`.
    ///
    /// `jitter`, in `0.0..1.0`, spreads attempts that failed together.
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
            AttemptOutcome::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            // A name may resolve elsewhere tomorrow, and settings can change: a forbidden place is tried again.
            AttemptOutcome::Unsigned { .. }
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

/// `pause` and up to 20 % more; what is not a share of one counts as the nearest that is.
fn spread(pause: Duration, jitter: f64) -> Duration {
    let share = RetrySchedule::JITTER * jitter.clamp(0.0, 1.0);
    // Only NaN has no duration: no jitter, then.
    let extra = Duration::try_from_secs_f64(pause.as_secs_f64() * share).unwrap_or_default();
    pause.saturating_add(extra)
}

/// Reads a `Retry-After` field (RFC 9110, 10.2.3): seconds, or a date, which is taken relative to `now`.
///
/// A date in the past means "at once"; what is neither form is as good as absent.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still "very long", and the schedule caps that.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((Timestamp::from_millis(0) + date).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000); // 2024-05-20T12:20:17Z

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
        let failed = AttemptOutcome::Failed { error: AttemptError::Timeout };
        assert_eq!(schedule().next(1, &failed, NOW, 0.0), in_seconds(5));
        assert_eq!(schedule().next(1, &failed, NOW, 1.0), in_seconds(6));
        assert_eq!(schedule().next(2, &failed, NOW, 0.5), in_seconds(330));
        assert_eq!(schedule().next(3, &failed, NOW, 0.5), RetryDecision::GiveUp(GiveUpReason::Exhausted));
        assert_eq!(
            schedule().next(u32::MAX, &failed, NOW, 0.5),
            RetryDecision::GiveUp(GiveUpReason::Exhausted)
        );
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
        assert_eq!(
            schedule().next(3, &refused(Some(60)), NOW, 0.0),
            RetryDecision::GiveUp(GiveUpReason::Exhausted)
        );
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
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
        fn a_retry_is_within_the_pause_and_its_jitter(
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
                (RetryDecision::GiveUp(GiveUpReason::Exhausted), None) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn nothing_panics(
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
