//! Limits the number of concurrent requests to the vendor, per tenant.
//!
//! Submits, polls and lookups of a tenant share one limit, which the tenant's circuit breaker can lower. The circuit breaker also
//! has a separate limit for requests about calls whose earlier requests failed.

mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{MutexGuard, Notify, OwnedSemaphorePermit, Semaphore};

use self::state::PermitState;
use super::circuit_breaker::{CircuitBreaker, EndedRequest, VendorHealth};
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::polling::PollingPolicy;
use crate::env::Env;

/// The permits of all tenants.
pub struct VendorPermits {
    tenants: HashMap<TenantId, Arc<TenantPermits>>,
    /// A task holds this lock while it counts the permits and takes one, so that two tasks never take the same permit.
    taking: tokio::sync::Mutex<()>,
    env: Env,
    /// Signals that a permit of any tenant was released.
    released: Arc<Notify>,
}

/// The permits of one tenant.
struct TenantPermits {
    tenant: TenantId,
    state: Mutex<PermitState>,
    /// Limits lookups to a share of the tenant's permits, so that a flood of lookups cannot block submits and polls.
    lookups: Arc<Semaphore>,
    /// Signals that a permit of this tenant was released.
    released: Notify,
    env: Env,
    /// Signals that a permit of any tenant was released.
    any_released: Arc<Notify>,
}

/// Permission to have one request in flight. Dropping the value releases the permit.
pub struct VendorPermit {
    permits: Arc<TenantPermits>,
    acquired_at: Timestamp,
    /// Whether the previous request about the same call failed.
    failed_before: bool,
    lookup: Option<Lookup>,
}

/// The call of a lookup, and the permit that limits lookups.
struct Lookup {
    call_id: CallId,
    _place: Option<OwnedSemaphorePermit>,
}

/// The permits that workers may take now. While this value exists, no other task takes a permit.
pub struct FreePermits<'a> {
    /// The tenants with free permits, each with the number of its free permits and the order in which due calls get them.
    pub by_tenant: Vec<(TenantId, usize, ClaimOrder)>,
    /// Tenants whose circuit is open.
    pub open_circuits: Vec<TenantId>,
    /// Earliest time at which an open circuit allows a request. At first the circuit allows only requests about calls
    /// that have not failed, later all requests.
    pub next_probe: Option<Timestamp>,
    permits: &'a VendorPermits,
    _taking: MutexGuard<'a, ()>,
}

/// The circuit of the tenant is open: no request to the vendor is allowed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitOpen {
    /// Time when a request is allowed again; `None` if the tenant is not configured.
    pub until: Option<Timestamp>,
}

impl VendorPermits {
    /// Creates the permits from the limit of each tenant. Lookups may use a quarter of the limit. The policy's intervals
    /// bound the pauses of open circuits.
    pub fn new(
        tenants: impl IntoIterator<Item = (TenantId, usize)>,
        policy: &PollingPolicy,
        env: &Env,
    ) -> Self {
        let released = Arc::new(Notify::new());
        let permits = |(tenant, limit): (TenantId, usize)| {
            env.metrics.breakers_open.with_label_values(&[tenant.as_str()]).set(0);
            let breaker = CircuitBreaker::new(limit, policy.clone());
            let permits = TenantPermits {
                tenant: tenant.clone(),
                state: Mutex::new(PermitState::new(breaker)),
                lookups: Arc::new(Semaphore::new((limit / 4).max(1))),
                released: Notify::new(),
                env: env.clone(),
                any_released: Arc::clone(&released),
            };
            (tenant, Arc::new(permits))
        };
        let tenants = tenants.into_iter().map(permits).collect();
        Self { tenants, taking: tokio::sync::Mutex::default(), env: env.clone(), released }
    }

    /// Locks and counts the free permits.
    pub async fn free(&self) -> FreePermits<'_> {
        let taking = self.taking.lock().await;
        let now = self.env.clock.now();
        let mut free = FreePermits {
            by_tenant: Vec::new(),
            open_circuits: Vec::new(),
            next_probe: None,
            permits: self,
            _taking: taking,
        };
        for (tenant, permits) in &self.tenants {
            let state = permits.state();
            if let Some(until) = state.breaker.open_until(now) {
                free.open_circuits.push(tenant.clone());
                let at = state.breaker.unfailed_from(now).unwrap_or(until);
                free.next_probe = free.next_probe.into_iter().chain([at]).min();
            }
            let taken = state.in_flight + state.waiting;
            let count = state.breaker.limit(now).saturating_sub(taken);
            if count > 0 {
                let order = state.order(now, self.env.entropy.fraction());
                free.by_tenant.push((tenant.clone(), count, order));
            }
        }
        free
    }

    /// Waits for a permit for a lookup of this call and takes it.
    ///
    /// # Errors
    /// [`CircuitOpen`] if the circuit is open or opens during the wait, or if the tenant is not configured.
    pub async fn acquire_for_lookup(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<VendorPermit, CircuitOpen> {
        let permits = self.tenants.get(tenant).ok_or(CircuitOpen { until: None })?;
        self.check_circuit(permits, call_id)?;
        let place = Arc::clone(&permits.lookups).acquire_owned().await.ok();
        let _waiting = WaitingLookup::begin(permits);
        loop {
            // The future is created before the check, so that a permit that is released in between is not missed.
            let released = permits.released.notified();
            {
                let _taking = self.taking.lock().await;
                self.check_circuit(permits, call_id)?;
                let mut state = permits.state();
                if state.in_flight < state.breaker.limit(self.env.clock.now()) {
                    let failed_before = state.failed_lookups.contains(call_id);
                    let lookup = Lookup { call_id: call_id.clone(), _place: place };
                    return Ok(permits.take(&mut state, failed_before, Some(lookup)));
                }
            }
            released.await;
        }
    }

    /// Allows a request of the tenant now, even if its circuit is open, because the token that the vendor refused was replaced.
    pub fn token_changed(&self, tenant: &TenantId) {
        let Some(permits) = self.tenants.get(tenant) else { return };
        permits.state().breaker.probe_at_once(self.env.clock.now());
        permits.released.notify_waiters();
        self.released.notify_one();
    }

    /// Waits until a permit may have become free since this method last returned. Only one task may use this method.
    pub async fn released(&self) {
        self.released.notified().await;
    }

    fn check_circuit(&self, permits: &TenantPermits, call_id: &CallId) -> Result<(), CircuitOpen> {
        let (state, now) = (permits.state(), self.env.clock.now());
        let until = if state.failed_lookups.contains(call_id) {
            state.breaker.open_until(now)
        } else {
            state.breaker.unfailed_from(now)
        };
        match until {
            Some(at) => Err(CircuitOpen { until: Some(at) }),
            None => Ok(()),
        }
    }
}

impl FreePermits<'_> {
    /// Takes one of the free permits; `None` if the tenant is not configured. `failed_before` says whether the previous request
    /// about the same call failed.
    pub fn take(&self, tenant: &TenantId, failed_before: bool) -> Option<VendorPermit> {
        let permits = self.permits.tenants.get(tenant)?;
        Some(permits.take(&mut permits.state(), failed_before, None))
    }
}

impl TenantPermits {
    fn state(&self) -> std::sync::MutexGuard<'_, PermitState> {
        // The state is a few numbers, so a panic cannot leave it half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(
        self: &Arc<Self>,
        state: &mut PermitState,
        failed_before: bool,
        lookup: Option<Lookup>,
    ) -> VendorPermit {
        state.in_flight += 1;
        state.failed_in_flight += usize::from(failed_before && lookup.is_none());
        if !state.breaker.is_closed() {
            tracing::info!(tenant = %self.tenant, "circuit not closed: one trial request is sent");
        }
        let acquired_at = self.env.clock.now();
        VendorPermit { permits: Arc::clone(self), acquired_at, failed_before, lookup }
    }
}

impl VendorPermit {
    /// Returns the tenant of the permit.
    pub(super) fn tenant(&self) -> &TenantId {
        &self.permits.tenant
    }

    /// Returns whether the circuit is open. If the circuit is open, this permit must not be used for another request.
    pub fn is_circuit_open(&self) -> bool {
        self.permits.state().breaker.open_until(self.permits.env.clock.now()).is_some()
    }

    /// Records the vendor's health in the circuit breaker.
    pub(super) fn record(&self, health: VendorHealth) {
        let TenantPermits { tenant, env, .. } = &*self.permits;
        let now = env.clock.now();
        if matches!(health, VendorHealth::Failing { token_refused: true, .. }) {
            env.metrics.vendor_token_refusals.with_label_values(&[tenant.as_str()]).inc();
        }
        let mut state = self.permits.state();
        let was_closed = state.breaker.is_closed();
        let ended = EndedRequest { health, failed_before: self.failed_before, began: self.acquired_at };
        state.breaker.record(ended, now, env.entropy.fraction());
        if let Some(lookup) = &self.lookup {
            state.remember_lookup(&lookup.call_id, health != VendorHealth::Answering);
        }
        let (is_closed, until) = (state.breaker.is_closed(), state.breaker.open_until(now));
        drop(state);
        let is_open = env.metrics.breakers_open.with_label_values(&[tenant.as_str()]);
        match (was_closed, is_closed) {
            (true, false) => {
                is_open.set(1);
                let pause = until.map_or(0, |until| until.since(now).as_secs());
                tracing::warn!(%tenant, pause_seconds = pause, "circuit open: requests to the vendor failed");
            }
            (false, true) => {
                is_open.set(0);
                tracing::info!(%tenant, "circuit closed: requests to the vendor succeed again");
            }
            (true, true) | (false, false) => {}
        }
    }
}

impl Drop for VendorPermit {
    fn drop(&mut self) {
        // The permit is released before the listeners are notified.
        {
            let mut state = self.permits.state();
            state.in_flight -= 1;
            state.failed_in_flight -= usize::from(self.failed_before && self.lookup.is_none());
        }
        self.permits.released.notify_waiters();
        self.permits.any_released.notify_one();
    }
}

/// A lookup that waits for a permit.
struct WaitingLookup<'a>(&'a TenantPermits);

impl<'a> WaitingLookup<'a> {
    fn begin(permits: &'a TenantPermits) -> Self {
        permits.state().waiting += 1;
        Self(permits)
    }
}

impl Drop for WaitingLookup<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
        // The permit that was reserved for this lookup may be free now.
        self.0.any_released.notify_one();
    }
}
