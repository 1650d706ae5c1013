//! Usage per tenant and day.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// Usage per tenant and day.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Reads the usage of a tenant from one day to another, both included; days without usage are left out. `SQLite`
    /// counts in the transaction of the work. PostgreSQL replicas add up every few seconds: a killed replica may lose
    /// that much, and work that a lost connection interrupted may be counted twice or not at all.
    async fn usage(&self, tenant: &TenantId, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, StoreError>;
}
