//! How much may be asked of the vendor now, tenant by tenant: one allowance for submits, looks and lookups, with a
//! breaker before it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{MutexGuard, Notify, OwnedSemaphorePermit, Semaphore};

use super::breaker::{Breaker, Sign};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::polling::PollingPolicy;
use crate::env::Env;

/// Every tenant's allowance.
pub struct VendorSlots {
    doors: HashMap<TenantId, Arc<Door>>,
    /// Held from counting to taking, so that two never count on the same place.
    turn: tokio::sync::Mutex<()>,
    env: Env,
    /// Notified whenever a slot of any tenant is released.
    freed: Arc<Notify>,
}

/// One tenant's way to the vendor.
struct Door {
    tenant: TenantId,
    state: Mutex<DoorState>,
    /// Lookups have a share of their own, and take no more of the whole than that: however many calls are made up, the
    /// tenant's submits and looks go on.
    lookups: Arc<Semaphore>,
    freed: Notify,
    env: Env,
    /// Notified whenever a slot of any tenant is released.
    any_freed: Arc<Notify>,
}

struct DoorState {
    breaker: Breaker,
    under_way: usize,
    /// Lookups that wait for a place; it is kept for them.
    waiting: usize,
}

/// The right to have one request under way; given back when dropped.
pub struct VendorSlot {
    door: Arc<Door>,
    taken_at: Timestamp,
    _share: Option<OwnedSemaphorePermit>,
}

/// What workers may take now. Nobody else takes anything while it is held.
pub struct Offer<'a> {
    /// The tenants that have any room, and how much.
    pub free: Vec<(TenantId, usize)>,
    /// The tenants whose vendor is left alone now.
    pub shut: Vec<TenantId>,
    /// When the first of those may be asked again.
    pub opens_at: Option<Timestamp>,
    slots: &'a VendorSlots,
    _turn: MutexGuard<'a, ()>,
}

/// The vendor is left alone for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shut {
    /// Until then; `None` if the tenant is not configured.
    pub until: Option<Timestamp>,
}

impl VendorSlots {
    /// From each tenant's number; a quarter of it is the lookups' share. The policy's intervals bound the pauses in
    /// which a vendor that does not answer is left alone.
    pub fn new(
        tenants: impl IntoIterator<Item = (TenantId, usize)>,
        policy: &PollingPolicy,
        env: &Env,
    ) -> Self {
        let any_freed = Arc::new(Notify::new());
        let door = |(tenant, slots): (TenantId, usize)| {
            env.metrics.breakers_open.with_label_values(&[tenant.as_str()]).set(0);
            let breaker = Breaker::new(slots, policy.clone());
            let state = Mutex::new(DoorState { breaker, under_way: 0, waiting: 0 });
            let lookups = Arc::new(Semaphore::new((slots / 4).max(1)));
            let door = Door {
                tenant: tenant.clone(),
                state,
                lookups,
                freed: Notify::new(),
                env: env.clone(),
                any_freed: Arc::clone(&any_freed),
            };
            (tenant, Arc::new(door))
        };
        let doors = tenants.into_iter().map(door).collect();
        Self { doors, turn: tokio::sync::Mutex::default(), env: env.clone(), freed: any_freed }
    }

    /// What may be taken now.
    pub async fn offer(&self) -> Offer<'_> {
        let turn = self.turn.lock().await;
        let now = self.env.clock.now();
        let mut offer =
            Offer { free: Vec::new(), shut: Vec::new(), opens_at: None, slots: self, _turn: turn };
        for (tenant, door) in &self.doors {
            let state = door.state();
            if let Some(at) = state.breaker.opens_at(now) {
                offer.shut.push(tenant.clone());
                offer.opens_at = offer.opens_at.into_iter().chain([at]).min();
            }
            let taken = state.under_way + state.waiting;
            let free = state.breaker.allowance(now).saturating_sub(taken);
            if free > 0 {
                offer.free.push((tenant.clone(), free));
            }
        }
        offer
    }

    /// Waits for a place for a lookup and takes it.
    ///
    /// # Errors
    /// At once if the vendor is left alone now.
    pub async fn lookup(&self, tenant: &TenantId) -> Result<VendorSlot, Shut> {
        let door = self.doors.get(tenant).ok_or(Shut { until: None })?;
        self.is_open(door)?;
        let share = Arc::clone(&door.lookups).acquire_owned().await.ok();
        let _waiting = Waiting::begin(door);
        loop {
            // Made before the look, so that what is given back meanwhile is not missed.
            let freed = door.freed.notified();
            {
                let _turn = self.turn.lock().await;
                self.is_open(door)?;
                let mut state = door.state();
                if state.under_way < state.breaker.allowance(self.env.clock.now()) {
                    state.under_way += 1;
                    drop(state);
                    return Ok(self.slot(door, share));
                }
            }
            freed.await;
        }
    }

    /// Returns when something was given back since the last time. For one listener.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn is_open(&self, door: &Door) -> Result<(), Shut> {
        match door.state().breaker.opens_at(self.env.clock.now()) {
            Some(at) => Err(Shut { until: Some(at) }),
            None => Ok(()),
        }
    }

    fn slot(&self, door: &Arc<Door>, share: Option<OwnedSemaphorePermit>) -> VendorSlot {
        VendorSlot { door: Arc::clone(door), taken_at: self.env.clock.now(), _share: share }
    }
}

impl Offer<'_> {
    /// Takes a place of those that are free; `None` if the tenant is not configured.
    pub fn take(&self, tenant: &TenantId) -> Option<VendorSlot> {
        let door = self.slots.doors.get(tenant)?;
        door.state().under_way += 1;
        Some(self.slots.slot(door, None))
    }
}

impl Door {
    fn state(&self) -> std::sync::MutexGuard<'_, DoorState> {
        // Numbers: there is no half-done state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VendorSlot {
    /// Tells what came of the request.
    pub(super) fn hear(&self, sign: Sign) {
        let Door { tenant, env, .. } = &*self.door;
        let now = env.clock.now();
        if matches!(sign, Sign::Fault { refused: true, .. }) {
            env.metrics.vendor_token_refusals.with_label_values(&[tenant.as_str()]).inc();
        }
        let mut state = self.door.state();
        let was_closed = state.breaker.is_closed();
        state.breaker.hear(sign, self.taken_at, now, env.entropy.fraction());
        let (is_closed, until) = (state.breaker.is_closed(), state.breaker.opens_at(now));
        drop(state);
        let is_open = env.metrics.breakers_open.with_label_values(&[tenant.as_str()]);
        match (was_closed, is_closed) {
            (true, false) => {
                is_open.set(1);
                let pause = until.map_or(0, |until| until.since(now).as_secs());
                tracing::warn!(%tenant, pause_seconds = pause, "circuit breaker opened: the vendor does not answer");
            }
            (false, true) => {
                is_open.set(0);
                tracing::info!(%tenant, "circuit breaker closed: the vendor answers again");
            }
            (true, true) | (false, false) => {}
        }
    }
}

impl Drop for VendorSlot {
    fn drop(&mut self) {
        // Given back before it is told.
        self.door.state().under_way -= 1;
        self.door.freed.notify_waiters();
        self.door.any_freed.notify_one();
    }
}

/// A lookup that waits for a place.
struct Waiting<'a> {
    door: &'a Door,
}

impl<'a> Waiting<'a> {
    fn begin(door: &'a Door) -> Self {
        door.state().waiting += 1;
        Self { door }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.door.state().waiting -= 1;
        // The place that was kept for it may be free.
        self.door.any_freed.notify_one();
    }
}
