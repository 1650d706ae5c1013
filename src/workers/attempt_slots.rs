//! Limits the delivery attempts in flight, in total and per tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Wake;
use crate::domain::ids::TenantId;
use crate::domain::receivers::Receivers;
use crate::store::{ClaimedDelivery, DeliverySlots, TenantSlots};

/// Maximum number of attempts in flight in shared slots.
const MAX_CONCURRENCY: usize = 128;
/// Maximum size of the bodies in flight in shared slots, in bytes. Only the last body may exceed the limit.
const MAX_BYTES: usize = 16 << 20;
/// Maximum number of attempts in flight per tenant, for any number of receivers.
const MAX_CONCURRENCY_PER_TENANT: usize = 32;
/// Maximum size of a tenant's bodies in flight, in bytes. Only the last body may exceed the limit.
const MAX_BYTES_PER_TENANT: usize = 4 << 20;
/// Maximum number of attempts in flight per receiver. With this limit, a slow receiver delays only its own deliveries.
const MAX_CONCURRENCY_PER_RECEIVER: usize = 8;
/// Number of slots that are reserved for each tenant. These slots suffice for one receiver, so silent receivers of other tenants
/// do not affect a tenant with one receiver.
const OWN_SLOTS: usize = MAX_CONCURRENCY_PER_RECEIVER;
/// Maximum size of the bodies in a tenant's reserved slots, in bytes.
const OWN_BYTES: usize = 256 << 10;

/// The slots of a process.
pub(super) struct AttemptSlots {
    in_flight: Mutex<HashMap<TenantId, Load>>,
    /// Wakes the deliverer when a slot becomes free.
    wake: Wake,
}

/// Number and size of the attempts of a tenant that have not ended.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    attempts: usize,
    bytes: usize,
}

impl AttemptSlots {
    pub(super) fn new(wake: Wake) -> Self {
        Self { in_flight: Mutex::default(), wake }
    }

    /// Returns the slots that the next claim may take.
    pub(super) fn free(&self, tenants: Vec<TenantId>, receivers: &Arc<Receivers>) -> DeliverySlots {
        let in_flight = self.lock();
        let shared = in_flight.values().map(|load| load.attempts.saturating_sub(OWN_SLOTS)).sum();
        let shared_bytes = in_flight.values().map(|load| load.bytes.saturating_sub(OWN_BYTES)).sum();
        let of_tenant = |tenant: &TenantId| {
            let Load { attempts, bytes } = in_flight.get(tenant).copied().unwrap_or_default();
            TenantSlots {
                own: OWN_SLOTS.saturating_sub(attempts),
                own_bytes: OWN_BYTES.saturating_sub(bytes),
                shared_bytes: MAX_BYTES_PER_TENANT.saturating_sub(bytes),
            }
        };
        DeliverySlots {
            by_tenant: tenants.iter().map(|tenant| (tenant.clone(), of_tenant(tenant))).collect(),
            tenants,
            total: MAX_CONCURRENCY.saturating_sub(shared),
            bytes: MAX_BYTES.saturating_sub(shared_bytes),
            per_tenant: MAX_CONCURRENCY_PER_TENANT,
            per_receiver: MAX_CONCURRENCY_PER_RECEIVER,
            receivers: Some(Arc::clone(receivers)),
        }
    }

    /// Takes the slot of a claimed delivery.
    pub(super) fn take(self: &Arc<Self>, claimed: &ClaimedDelivery) -> Slot {
        let (tenant, bytes) = (claimed.delivery.tenant.clone(), claimed.body.len());
        let mut in_flight = self.lock();
        let load = in_flight.entry(tenant.clone()).or_default();
        load.attempts += 1;
        load.bytes += bytes;
        drop(in_flight);
        Slot { slots: Arc::clone(self), tenant, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Load>> {
        // Each change updates only counters, so a panic leaves them consistent.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of an attempt. Dropping this value releases the slot, even after a panic.
pub(super) struct Slot {
    slots: Arc<AttemptSlots>,
    tenant: TenantId,
    bytes: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(load) = self.slots.lock().get_mut(&self.tenant) {
            load.attempts -= 1;
            load.bytes -= self.bytes;
        }
        self.slots.wake.wake();
    }
}
