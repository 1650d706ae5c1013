//! How many requests a tenant may have under way at the vendor: one allowance for submits, looks and lookups.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::TenantId;

/// Every tenant's allowance.
pub struct VendorSlots(HashMap<TenantId, Arc<Semaphore>>);

impl VendorSlots {
    /// From each tenant's number.
    pub fn new(tenants: impl IntoIterator<Item = (TenantId, usize)>) -> Self {
        Self(tenants.into_iter().map(|(tenant, slots)| (tenant, Arc::new(Semaphore::new(slots)))).collect())
    }

    /// How many each tenant has free now.
    pub fn free(&self) -> Vec<(TenantId, usize)> {
        self.0.iter().map(|(tenant, slots)| (tenant.clone(), slots.available_permits())).collect()
    }

    /// Waits for a free one and takes it; `None` if the tenant is not configured.
    pub async fn take(&self, tenant: &TenantId) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.0.get(tenant)?).acquire_owned().await.ok()
    }
}
