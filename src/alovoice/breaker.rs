//! Whether the vendor is worth asking for a tenant: a circuit breaker.
//!
//! ```text
//!          faults in a row, or one that says until when            the pause is over
//! closed ────────────────────────────────────────────────► open ─────────────────────► half-open
//!    ▲                                                       ▲                             │  │
//!    │                                                       └──────── the probe fails ────┘  │
//!    └───────────────────────────── the vendor answers: slowly at first ──────────────────────┘
//! ```
//!
//! Pure: the time and the jitter are passed in.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::domain::analysis::FaultCode;
use crate::domain::clock::Timestamp;
use crate::domain::lifecycle::{PollOutcome, SubmitOutcome, VendorFault};
use crate::domain::polling::PollingPolicy;

/// Faults in a row that open it.
const FAULTS_TO_OPEN: u32 = 5;
/// The longest pause between two probes. It may be longer if the vendor says so itself, and while it refuses the token,
/// which only the operator can mend.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What a request tells of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It answers this tenant. What it says may be of no use.
    Answer,
    /// It does not.
    Fault {
        /// Whether it is there, but refuses the tenant's token.
        refused: bool,
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// One tenant's.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Its shortest and longest interval bound the pauses.
    policy: PollingPolicy,
    /// Requests at once when all is well.
    full: usize,
    state: State,
    /// Pauses since all was last well: each may be longer than the one before.
    openings: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After an outage fewer than all are allowed at first, lest all that has become due meanwhile comes at once.
    Closed { allowed: usize, faults: u32 },
    /// Until then nothing is allowed, and afterwards one request at a time: half-open.
    Open { since: Timestamp, until: Timestamp },
}

impl Breaker {
    pub(super) const fn new(full: usize, policy: PollingPolicy) -> Self {
        Self { policy, full, state: State::Closed { allowed: full, faults: 0 }, openings: 0 }
    }

    /// How many requests may be under way now.
    pub(super) fn allowance(&self, now: Timestamp) -> usize {
        match self.state {
            State::Closed { allowed, .. } => allowed,
            State::Open { .. } if self.opens_at(now).is_some() => 0,
            State::Open { .. } => self.full.min(1),
        }
    }

    /// When the next request is allowed, if none is now.
    pub(super) fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            // A clock that was set back must not make the pause longer.
            State::Open { since, until } if since <= now && now < until => Some(until),
            State::Open { .. } | State::Closed { .. } => None,
        }
    }

    /// Whether the vendor is taken to be there.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Takes in what a request that began at `began` has told by `now`; `jitter` is 0 to 1.
    pub(super) fn hear(&mut self, sign: Sign, began: Timestamp, now: Timestamp, jitter: f64) {
        match (self.state, sign) {
            (State::Closed { allowed, .. }, Sign::Answer) => self.close(allowed),
            (State::Open { .. }, Sign::Answer) => self.close(1),
            (State::Closed { allowed, faults }, Sign::Fault { refused, retry_after }) => {
                let faults = faults.saturating_add(1);
                self.state = State::Closed { allowed, faults };
                if faults >= FAULTS_TO_OPEN || retry_after.is_some_and(|pause| !pause.is_zero()) {
                    self.open(refused, retry_after, now, jitter);
                }
            }
            // Of the time before: nothing new.
            (State::Open { since, .. }, Sign::Fault { .. }) if began <= since && since <= now => {}
            (State::Open { .. }, Sign::Fault { refused, retry_after }) => {
                self.open(refused, retry_after, now, jitter);
            }
        }
    }

    /// After an answer, when so many were allowed.
    fn close(&mut self, allowed: usize) {
        let allowed = allowed.saturating_mul(2).min(self.full);
        self.state = State::Closed { allowed, faults: 0 };
        if allowed == self.full {
            self.openings = 0;
        }
    }

    fn open(&mut self, refused: bool, retry_after: Option<Duration>, now: Timestamp, jitter: f64) {
        self.openings = self.openings.saturating_add(1);
        let longest = if refused { Duration::MAX } else { MAX_PAUSE.max(self.policy.min_interval) };
        let pause = self.policy.backoff(self.openings, jitter).min(longest);
        let floor = retry_after.unwrap_or_default().min(PollingPolicy::MAX_RETRY_AFTER);
        self.state = State::Open { since: now, until: now + pause.max(floor) };
    }
}

impl From<&SubmitOutcome> for Sign {
    fn from(outcome: &SubmitOutcome) -> Self {
        match outcome {
            SubmitOutcome::Accepted | SubmitOutcome::Rejected(_) => Self::Answer,
            SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) => fault.into(),
        }
    }
}

impl From<&PollOutcome> for Sign {
    fn from(outcome: &PollOutcome) -> Self {
        match outcome {
            PollOutcome::Ready(_)
            | PollOutcome::Empty(_)
            | PollOutcome::NotReady { .. }
            | PollOutcome::Unchanged
            | PollOutcome::NotFound
            | PollOutcome::Rejected(_) => Self::Answer,
            PollOutcome::Fault(fault) => fault.into(),
        }
    }
}

impl From<&VendorFault> for Sign {
    fn from(fault: &VendorFault) -> Self {
        let refused = match fault.code {
            // What cannot be read is an answer all the same.
            FaultCode::CallNotFound | FaultCode::AnswerUnreadable => return Self::Answer,
            FaultCode::TokenRefused => true,
            FaultCode::VendorUnreachable
            | FaultCode::VendorTimeout
            | FaultCode::VendorError
            | FaultCode::VendorThrottled => false,
        };
        Self::Fault { refused, retry_after: fault.retry_after }
    }
}
