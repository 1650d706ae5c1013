//! Deletes a call from the store, the cache and the pending deliveries.

use super::{Analyses, AnalysesError};
use crate::domain::audit::Actor;
use crate::domain::ids::CallId;
use crate::tenants::Tenant;

impl Analyses {
    /// Deletes a call and all its data. The gateway does not ask the vendor for the call until the call is submitted
    /// again.
    ///
    /// # Errors
    /// [`AnalysesError::NotFound`] if no data of the call exists, [`AnalysesError::Store`] if the store fails.
    pub async fn delete(&self, tenant: &Tenant, call_id: &CallId, actor: Actor) -> Result<(), AnalysesError> {
        let deleted = self.store.delete_analysis(tenant.id(), call_id, actor).await?;
        if !deleted {
            return Err(AnalysesError::NotFound);
        }
        self.cache.invalidate(&(tenant.id().clone(), call_id.clone()));
        Ok(())
    }
}
