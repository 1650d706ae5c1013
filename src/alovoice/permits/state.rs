//! The state of the permits of one tenant.

use std::collections::VecDeque;

use crate::alovoice::circuit_breaker::CircuitBreaker;
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;

/// Maximum number of failed lookups that are remembered for a tenant.
const MAX_FAILED_LOOKUPS: usize = 256;

/// The requests of one tenant and its circuit breaker.
pub(super) struct PermitState {
    pub(super) breaker: CircuitBreaker,
    pub(super) in_flight: usize,
    /// Number of requests in flight about calls whose previous request failed. Lookups do not count, because they have a separate
    /// limit.
    pub(super) failed_in_flight: usize,
    /// Number of lookups that wait for a permit. These lookups get the next permits.
    pub(super) waiting: usize,
    /// Calls whose last lookup failed, latest first. The store does not know these calls.
    pub(super) failed_lookups: VecDeque<CallId>,
}

impl PermitState {
    pub(super) const fn new(breaker: CircuitBreaker) -> Self {
        Self { breaker, in_flight: 0, failed_in_flight: 0, waiting: 0, failed_lookups: VecDeque::new() }
    }

    /// Returns the order in which the next claim selects due calls; `random` is between 0 and 1.
    pub(super) fn order(&self, now: Timestamp, random: f64) -> ClaimOrder {
        let breaker = &self.breaker;
        if breaker.is_closed() && !breaker.has_failing_calls(now) {
            return ClaimOrder::OldestFirst;
        }
        let max_failed = breaker.failed_limit(now).saturating_sub(self.failed_in_flight);
        // A probe concerns the call that became due last. Otherwise, half of the claims take the newest calls.
        ClaimOrder::UnfailedFirst { max_failed, newest: !breaker.is_closed() || random < 0.5 }
    }

    /// Remembers whether the lookup of a call failed.
    pub(super) fn remember_lookup(&mut self, call_id: &CallId, failed: bool) {
        self.failed_lookups.retain(|known| known != call_id);
        if failed {
            self.failed_lookups.truncate(MAX_FAILED_LOOKUPS - 1);
            self.failed_lookups.push_front(call_id.clone());
        }
    }
}
