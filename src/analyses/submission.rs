//! Submits one call.

use super::{Analyses, AnalysesError, Representation};
use crate::domain::analysis::Submission;
use crate::store::StoreError;
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// The result of a submission.
#[derive(Debug)]
pub struct Submitted {
    /// The analysis after the submission.
    pub representation: Representation,
    /// Whether the analysis is unfinished.
    pub under_way: bool,
}

impl Analyses {
    /// Checks a submission's callback without writing to the store.
    ///
    /// # Errors
    /// If the address is forbidden, or if the tenant has no secret to sign callbacks.
    pub fn admit(&self, tenant: &Tenant, submission: &Submission) -> Result<(), AnalysesError> {
        if let Some(callback) = &submission.callback {
            self.guard.admit(callback)?;
            if tenant.callback_secrets().is_empty() {
                return Err(AnalysesError::NoCallbackSecret);
            }
        }
        Ok(())
    }

    /// Stores a submission. It is on disk when this returns.
    ///
    /// # Errors
    /// As [`Analyses::admit`], and if the store fails.
    pub async fn submit(&self, tenant: &Tenant, submission: Submission) -> Result<Submitted, AnalysesError> {
        self.admit(tenant, &submission)?;
        let key = (tenant.id().clone(), submission.call_id.clone());
        let span = spans::store_call("submit", &key.0, &key.1);
        let submit = self.store.submit(tenant.id(), submission);
        let found = spans::run(span, StoreError::label, submit).await?;
        self.cache.invalidate(&key);
        let under_way = found.analysis.is_under_way();
        Ok(Submitted { representation: Representation::new(found, &self.env.public_url)?, under_way })
    }
}
