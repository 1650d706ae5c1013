//! How many requests a tenant may have under way at the vendor: one allowance for submits, looks and lookups.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::TenantId;

/// Every tenant's allowance.
pub struct VendorSlots {
    by_tenant: HashMap<TenantId, Arc<Semaphore>>,
    freed: Arc<Notify>,
}

/// The right to have one request under way; given back when dropped.
pub struct VendorSlot {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl VendorSlots {
    /// From each tenant's number.
    pub fn new(tenants: impl IntoIterator<Item = (TenantId, usize)>) -> Self {
        let semaphores = tenants.into_iter().map(|(tenant, slots)| (tenant, Arc::new(Semaphore::new(slots))));
        Self { by_tenant: semaphores.collect(), freed: Arc::default() }
    }

    /// The tenants that have any free now, and how many.
    pub fn free(&self) -> Vec<(TenantId, usize)> {
        let free =
            |(tenant, slots): (&TenantId, &Arc<Semaphore>)| (tenant.clone(), slots.available_permits());
        self.by_tenant.iter().map(free).filter(|(_, slots)| *slots > 0).collect()
    }

    /// Takes a free one; `None` if there is none now.
    pub fn try_take(&self, tenant: &TenantId) -> Option<VendorSlot> {
        let permit = Arc::clone(self.by_tenant.get(tenant)?).try_acquire_owned().ok()?;
        Some(self.slot(permit))
    }

    /// Waits for a free one and takes it; `None` if the tenant is not configured.
    pub async fn take(&self, tenant: &TenantId) -> Option<VendorSlot> {
        let permit = Arc::clone(self.by_tenant.get(tenant)?).acquire_owned().await.ok()?;
        Some(self.slot(permit))
    }

    /// Returns when one was given back since the last time. For one listener.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> VendorSlot {
        VendorSlot { permit: Some(permit), freed: Arc::clone(&self.freed) }
    }
}

impl Drop for VendorSlot {
    fn drop(&mut self) {
        // Given back before it is told.
        self.permit = None;
        self.freed.notify_one();
    }
}
