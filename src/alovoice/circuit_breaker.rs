//! The circuit breaker of one tenant: it decides whether requests to the vendor are allowed.
//!
//! ```text
//!         5 failures in a row, or one with Retry-After           the pause is over
//! closed ────────────────────────────────────────────► open ─────────────────────► half-open
//!    ▲                                                   ▲                            │  │
//!    │                                                   └──── the probe fails ───────┘  │
//!    └──────────────── the vendor answers; the limit grows slowly ───────────────────────┘
//! ```
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
/// Maximum pause between two probes. A `Retry-After` of the vendor can extend it, and so can a refused token, which
/// only an operator can fix.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// State of the vendor, derived from one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VendorHealth {
    /// The vendor answers this tenant, even if the answer cannot be used.
    Answering,
    /// The vendor does not answer this tenant.
    Failing {
        /// Whether the vendor refused the tenant's token.
        token_refused: bool,
        /// The value of the vendor's `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// The circuit breaker of one tenant.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    /// The policy's shortest and longest intervals bound the pauses.
    policy: PollingPolicy,
    /// Maximum number of concurrent requests while the circuit is closed.
    max_concurrency: usize,
    state: CircuitState,
    /// Number of times that the circuit has opened since the full limit was last allowed. It determines the length of
    /// the next pause.
    openings: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CircuitState {
    /// After an outage the limit starts low, so that the work that has become due does not arrive all at once.
    Closed { limit: usize, failures: u32 },
    /// No request is allowed before `until`. Afterwards the circuit is half-open: one request at a time is allowed.
    Open { since: Timestamp, until: Timestamp },
}

impl CircuitBreaker {
    pub(super) const fn new(max_concurrency: usize, policy: PollingPolicy) -> Self {
        let state = CircuitState::Closed { limit: max_concurrency, failures: 0 };
        Self { policy, max_concurrency, state, openings: 0 }
    }

    /// Returns the maximum number of concurrent requests now.
    pub(super) fn limit(&self, now: Timestamp) -> usize {
        match self.state {
            CircuitState::Closed { limit, .. } => limit,
            CircuitState::Open { .. } if self.open_until(now).is_some() => 0,
            CircuitState::Open { .. } => self.max_concurrency.min(1),
        }
    }

    /// Returns the time when the next request is allowed; `None` if requests are allowed now.
    pub(super) fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            // A clock that was set back must not extend the pause.
            CircuitState::Open { since, until } if since <= now && now < until => Some(until),
            CircuitState::Open { .. } | CircuitState::Closed { .. } => None,
        }
    }

    /// Whether the circuit is closed.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, CircuitState::Closed { .. })
    }

    /// Allows a probe now, because the cause of the failures may be gone. Failures of requests that began earlier do
    /// not count.
    pub(super) fn probe_at_once(&mut self, now: Timestamp) {
        self.openings = 0;
        self.state = match self.state {
            CircuitState::Open { .. } => CircuitState::Open { since: now, until: now },
            CircuitState::Closed { limit, .. } => CircuitState::Closed { limit, failures: 0 },
        };
    }

    /// Records the outcome of a request that began at `began` and ended at `now`; `jitter` is between 0 and 1.
    pub(super) fn record(&mut self, health: VendorHealth, began: Timestamp, now: Timestamp, jitter: f64) {
        match (self.state, health) {
            (CircuitState::Closed { limit, .. }, VendorHealth::Answering) => self.close(limit),
            (CircuitState::Open { .. }, VendorHealth::Answering) => self.close(1),
            (
                CircuitState::Closed { limit, failures },
                VendorHealth::Failing { token_refused, retry_after },
            ) => {
                let failures = failures.saturating_add(1);
                self.state = CircuitState::Closed { limit, failures };
                if failures >= FAILURES_TO_OPEN || retry_after.is_some_and(|pause| !pause.is_zero()) {
                    self.open(token_refused, retry_after, now, jitter);
                }
            }
            // The request began before the circuit opened, so its failure adds no information.
            (CircuitState::Open { since, .. }, VendorHealth::Failing { .. })
                if began <= since && since <= now => {}
            (CircuitState::Open { .. }, VendorHealth::Failing { token_refused, retry_after }) => {
                self.open(token_refused, retry_after, now, jitter);
            }
        }
    }

    /// Closes the circuit after an answer and doubles the previous limit.
    fn close(&mut self, previous_limit: usize) {
        let limit = previous_limit.saturating_mul(2).min(self.max_concurrency);
        self.state = CircuitState::Closed { limit, failures: 0 };
        if limit == self.max_concurrency {
            self.openings = 0;
        }
    }

    fn open(&mut self, token_refused: bool, retry_after: Option<Duration>, now: Timestamp, jitter: f64) {
        self.openings = self.openings.saturating_add(1);
        let max = if token_refused { Duration::MAX } else { MAX_PAUSE.max(self.policy.min_interval) };
        let pause = self.policy.backoff(self.openings, jitter).min(max);
        let floor = retry_after.unwrap_or_default().min(PollingPolicy::MAX_RETRY_AFTER);
        self.state = CircuitState::Open { since: now, until: now + pause.max(floor) };
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
        let token_refused = match fault.code {
            // Even an unreadable answer shows that the vendor works.
            FaultCode::CallNotFound
            | FaultCode::NoResult
            | FaultCode::SubmissionUnconfirmed
            | FaultCode::AnswerUnreadable => return Self::Answering,
            FaultCode::TokenRefused => true,
            FaultCode::VendorUnreachable
            | FaultCode::VendorTimeout
            | FaultCode::VendorError
            | FaultCode::VendorThrottled => false,
        };
        Self::Failing { token_refused, retry_after: fault.retry_after }
    }
}
