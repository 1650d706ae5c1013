//! The circuit breaker of one tenant: it decides whether requests to the vendor are allowed.
//!
//! ```text
//!     5 failures in a row, or one that asks for a pause          the pause is over
//! closed ────────────────────────────────────────────► open ─────────────────────► half-open
//!    ▲                                                   ▲                            │  │
//!    │                                                   └──── the probe fails ───────┘  │
//!    └──────────────── the vendor answers; the limit grows slowly ───────────────────────┘
//! ```
//!
//! A call that always fails must not look like a vendor that is down:
//!
//! - While the vendor answers about other calls, only the first of a call's consecutive failures counts.
//! - While the circuit is open, a call that has not failed may probe the vendor after each minimum interval. A call that has
//!   failed waits for the end of the pause, which grows.
//! - Calls that have failed share a separate, lower limit (`failed_limit`). This limit halves with each failure and doubles when
//!   a call that has failed succeeds.
//!
//! The breaker is pure: time and jitter are passed in.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::domain::analysis::FaultCode;
use crate::domain::clock::Timestamp;
use crate::domain::lifecycle::{PollOutcome, SubmitOutcome, VendorFault};
use crate::domain::polling::PollingPolicy;

/// Number of failures in a row that open the circuit.
const FAILURES_TO_OPEN: u32 = 5;
/// Maximum pause between two probes. A `Retry-After` of the vendor can extend this pause. A refused token can also extend the
/// pause, because only an operator can fix the token.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Time for which an answer shows that the vendor works and accepts the token. During this time, the breaker assumes that
/// repeated failures of one call, a single `Retry-After` or a refused token may concern only one call.
const ANSWER_VALIDITY: Duration = Duration::from_secs(60);
/// The limit of the calls that have failed is never below the maximum concurrency divided by this number.
const MIN_FAILED_SHARE: usize = 8;

/// State of the vendor, derived from one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VendorHealth {
    /// The vendor answers this tenant.
    Answering,
    /// The vendor answers this tenant, but its answer about this call cannot be used.
    Unusable,
    /// The vendor did not answer, answered with a server error, refused the token or limited the rate.
    Failing {
        /// Whether the vendor refused the tenant's token.
        token_refused: bool,
        /// Whether the vendor limits the rate of requests.
        is_throttled: bool,
        /// The value of the vendor's `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// A request to the vendor that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndedRequest {
    pub(super) health: VendorHealth,
    /// Whether the previous request about the same call failed.
    pub(super) failed_before: bool,
    pub(super) began: Timestamp,
}

/// The circuit breaker of one tenant.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    /// The polling policy. Its shortest and longest intervals bound the pauses.
    policy: PollingPolicy,
    /// Maximum number of concurrent requests while the circuit is closed.
    max_concurrency: usize,
    state: CircuitState,
    /// Number of times that the circuit has opened since the limit last reached `max_concurrency`. This number determines the
    /// length of the next pause.
    openings: u32,
    answered_at: Option<Timestamp>,
    /// Maximum number of concurrent requests about calls that have failed.
    failed_limit: usize,
    failed_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CircuitState {
    /// At most `limit` concurrent requests are allowed. After an outage the limit starts low, so that the work that has become
    /// due does not reach the vendor all at once.
    Closed { limit: usize, failures: u32 },
    /// Before `unfailed_from`, no request is allowed. From then on, one request at a time is allowed, and only about calls that
    /// have not failed. From `until` on, the circuit is half-open: one request at a time is allowed, about any call.
    Open { since: Timestamp, unfailed_from: Timestamp, until: Timestamp },
}

impl CircuitBreaker {
    pub(super) const fn new(max_concurrency: usize, policy: PollingPolicy) -> Self {
        let state = CircuitState::Closed { limit: max_concurrency, failures: 0 };
        let (answered_at, failed_at) = (None, None);
        Self {
            policy,
            max_concurrency,
            state,
            openings: 0,
            answered_at,
            failed_limit: max_concurrency,
            failed_at,
        }
    }

    /// Returns the current maximum number of concurrent requests about calls that have not failed.
    pub(super) fn limit(&self, now: Timestamp) -> usize {
        match self.state {
            CircuitState::Closed { limit, .. } => limit,
            CircuitState::Open { .. } if self.unfailed_from(now).is_some() => 0,
            CircuitState::Open { .. } => self.max_concurrency.min(1),
        }
    }

    /// Returns the current maximum number of concurrent requests about calls that have failed.
    pub(super) fn failed_limit(&self, now: Timestamp) -> usize {
        match self.state {
            CircuitState::Closed { .. } if self.has_failing_calls(now) => self.failed_limit,
            CircuitState::Closed { limit, .. } => limit,
            CircuitState::Open { .. } if self.open_until(now).is_some() => 0,
            CircuitState::Open { .. } => self.max_concurrency.min(1),
        }
    }

    /// Whether calls have failed recently, so that the separate limit applies.
    pub(super) fn has_failing_calls(&self, now: Timestamp) -> bool {
        // Each failing call is tried again within the maximum interval.
        let memory = self.policy.max_interval.saturating_mul(2);
        let recently = |at: Timestamp| at > now || now.since(at) <= memory;
        self.failed_limit < self.max_concurrency && self.failed_at.is_some_and(recently)
    }

    /// Returns the time from which requests about calls that have failed are allowed; `None` if they are allowed now.
    pub(super) fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            // A clock that was set back must not extend the pause.
            CircuitState::Open { since, until, .. } if since <= now && now < until => Some(until),
            CircuitState::Open { .. } | CircuitState::Closed { .. } => None,
        }
    }

    /// Returns the time from which requests about calls that have not failed are allowed; `None` if they are allowed now.
    pub(super) fn unfailed_from(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            CircuitState::Open { since, unfailed_from, .. } if since <= now && now < unfailed_from => {
                Some(unfailed_from)
            }
            CircuitState::Open { .. } | CircuitState::Closed { .. } => None,
        }
    }

    /// Whether the circuit is closed.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, CircuitState::Closed { .. })
    }

    /// Allows a probe now, because the cause of the failures may be gone. An open circuit then ignores failures of requests that
    /// began earlier. A closed circuit forgets the failures so far.
    pub(super) fn probe_at_once(&mut self, now: Timestamp) {
        self.openings = 0;
        self.state = match self.state {
            CircuitState::Open { .. } => CircuitState::Open { since: now, unfailed_from: now, until: now },
            CircuitState::Closed { limit, .. } => CircuitState::Closed { limit, failures: 0 },
        };
    }

    /// Records the outcome of a request that ended at `now`; `jitter` is between 0 and 1.
    pub(super) fn record(&mut self, ended: EndedRequest, now: Timestamp, jitter: f64) {
        self.limit_failing_calls(ended, now);
        let VendorHealth::Failing { .. } = ended.health else {
            self.answered_at = Some(now);
            let previous = if let CircuitState::Closed { limit, .. } = self.state { limit } else { 1 };
            self.close(previous);
            return;
        };
        match self.state {
            CircuitState::Closed { .. } if ended.failed_before && self.has_just_answered(now) => {}
            CircuitState::Closed { limit, failures } => {
                let failures = failures.saturating_add(1);
                self.state = CircuitState::Closed { limit, failures };
                if failures >= FAILURES_TO_OPEN || self.must_pause(ended.health, now) {
                    self.open(ended.health, now, jitter);
                }
            }
            // The request began before the circuit opened, so its failure adds no information.
            CircuitState::Open { since, .. } if ended.began <= since && since <= now => {}
            CircuitState::Open { .. } => self.open(ended.health, now, jitter),
        }
    }

    fn limit_failing_calls(&mut self, ended: EndedRequest, now: Timestamp) {
        if !self.has_failing_calls(now) {
            self.failed_limit = self.max_concurrency;
        }
        if ended.health != VendorHealth::Answering {
            let least = (self.max_concurrency / MIN_FAILED_SHARE).max(1);
            self.failed_limit = (self.failed_limit / 2).max(least);
            self.failed_at = Some(now);
        } else if ended.failed_before {
            self.failed_limit = self.failed_limit.saturating_mul(2).min(self.max_concurrency);
        }
    }

    /// Whether this failure alone opens the circuit, because the vendor asks for a pause. The pause is ignored if the vendor has
    /// just answered, because the pause may concern only the failing call. A pause because of a rate limit is never ignored.
    fn must_pause(&self, health: VendorHealth, now: Timestamp) -> bool {
        let VendorHealth::Failing { is_throttled, retry_after, .. } = health else { return false };
        let asks = retry_after.is_some_and(|pause| !pause.is_zero());
        asks && (is_throttled || !self.has_just_answered(now))
    }

    fn has_just_answered(&self, now: Timestamp) -> bool {
        self.answered_at.is_some_and(|at| at <= now && now.since(at) < ANSWER_VALIDITY)
    }

    /// Closes the circuit after an answer and doubles the previous limit.
    fn close(&mut self, previous_limit: usize) {
        let limit = previous_limit.saturating_mul(2).min(self.max_concurrency);
        self.state = CircuitState::Closed { limit, failures: 0 };
        if limit == self.max_concurrency {
            self.openings = 0;
        }
    }

    fn open(&mut self, health: VendorHealth, now: Timestamp, jitter: f64) {
        let VendorHealth::Failing { token_refused, is_throttled, retry_after } = health else { return };
        self.openings = self.openings.saturating_add(1);
        let just_answered = self.has_just_answered(now);
        let only_operator_helps = token_refused && !just_answered;
        let max = if only_operator_helps { Duration::MAX } else { MAX_PAUSE.max(self.policy.min_interval) };
        let pause = self.policy.backoff(self.openings, jitter).min(max);
        let unfailed_pause = if only_operator_helps { pause } else { pause.min(self.policy.min_interval) };
        let floor = retry_after.unwrap_or_default().min(PollingPolicy::MAX_RETRY_AFTER);
        let unfailed_floor = if just_answered && !is_throttled { Duration::ZERO } else { floor };
        self.state = CircuitState::Open {
            since: now,
            unfailed_from: now + unfailed_pause.max(unfailed_floor),
            until: now + pause.max(floor),
        };
    }
}

impl From<&SubmitOutcome> for VendorHealth {
    fn from(outcome: &SubmitOutcome) -> Self {
        match outcome {
            SubmitOutcome::Accepted | SubmitOutcome::Rejected(_) => Self::Answering,
            SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) => fault.into(),
        }
    }
}

impl From<&PollOutcome> for VendorHealth {
    fn from(outcome: &PollOutcome) -> Self {
        match outcome {
            PollOutcome::Ready(_)
            | PollOutcome::Empty(_)
            | PollOutcome::NotReady { .. }
            | PollOutcome::Unchanged
            | PollOutcome::NotFound(_)
            | PollOutcome::Rejected(_) => Self::Answering,
            PollOutcome::Fault(fault) => fault.into(),
        }
    }
}

impl From<Option<&VendorFault>> for VendorHealth {
    fn from(fault: Option<&VendorFault>) -> Self {
        fault.map_or(Self::Answering, Self::from)
    }
}

impl From<&VendorFault> for VendorHealth {
    fn from(fault: &VendorFault) -> Self {
        match fault.code {
            FaultCode::CallNotFound | FaultCode::NoResult | FaultCode::SubmissionUnconfirmed => {
                return Self::Answering;
            }
            // Even an unreadable answer shows that the vendor works.
            FaultCode::AnswerUnreadable => return Self::Unusable,
            FaultCode::TokenRefused
            | FaultCode::VendorUnreachable
            | FaultCode::VendorTimeout
            | FaultCode::VendorError
            | FaultCode::VendorThrottled => {}
        }
        Self::Failing {
            token_refused: fault.code == FaultCode::TokenRefused,
            is_throttled: fault.code == FaultCode::VendorThrottled,
            retry_after: fault.retry_after,
        }
    }
}
