//! Deleting a call: from the store, from memory, and from what is still to be delivered.

use super::{Analyses, AnalysesError};
use crate::domain::audit::Actor;
use crate::domain::ids::CallId;
use crate::tenants::Tenant;

impl Analyses {
    /// Deletes a call and all that is known of it. It stays so until it is submitted again: the vendor is not asked for
    /// it any more.
    ///
    /// # Errors
    /// [`AnalysesError::NotFound`] if there is nothing to delete.
    pub async fn delete(&self, tenant: &Tenant, call_id: &CallId, actor: Actor) -> Result<(), AnalysesError> {
        let deleted = self.store.delete_analysis(tenant.id(), call_id, actor).await?;
        if !deleted {
            return Err(AnalysesError::NotFound);
        }
        self.cache.invalidate(&(tenant.id().clone(), call_id.clone()));
        Ok(())
    }
}
