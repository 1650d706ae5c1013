//! Submits one call.

use std::sync::Arc;
use std::time::Duration;

use super::{Analyses, AnalysesError, Representation};
use crate::domain::analysis::Submission;
use crate::store::StoreError;
use crate::telemetry::spans;
use crate::tenants::Tenant;

impl Analyses {
    /// Checks a submission's callback without writing to the store.
    ///
    /// # Errors
    /// Returns an error if the address or the transform is forbidden, or if the tenant has no secret to sign callbacks.
    pub fn admit(&self, tenant: &Tenant, submission: &Submission) -> Result<(), AnalysesError> {
        if let Some(callback) = &submission.callback {
            self.guard.admit(&callback.url)?;
            if let Some(transform) = &callback.transform {
                self.guard.admit_transform(transform).map_err(AnalysesError::Template)?;
            }
            if tenant.callback_secrets().is_empty() {
                return Err(AnalysesError::NoCallbackSecret);
            }
        }
        Ok(())
    }

    /// Stores a submission on disk. With `wait`, returns when the outcome is known, or when `wait` has elapsed.
    ///
    /// # Errors
    /// The errors of [`Analyses::admit`], and [`AnalysesError::Store`] if the store fails.
    pub async fn submit(
        &self,
        tenant: &Tenant,
        submission: Submission,
        wait: Option<Duration>,
    ) -> Result<Arc<Representation>, AnalysesError> {
        self.admit(tenant, &submission)?;
        let key = (tenant.id().clone(), submission.call_id.clone());
        let trace = submission.trace;
        let span = spans::store_call("submit", &key.0, &key.1);
        let submit = self.store.submit(tenant.id(), submission);
        let found = spans::run(span, StoreError::label, submit).await?;
        self.cache.invalidate(&key);
        let submitted = Arc::new(Representation::new(found, &self.env.public_url)?);
        let Some(wait) = wait.filter(|_| submitted.under_way) else { return Ok(submitted) };
        let outcome = Box::pin(self.read_when(tenant, &key, wait, trace, |found| !found.under_way)).await;
        // The submission is stored, so a failure of the wait is not an error.
        Ok(outcome.unwrap_or(submitted))
    }
}
