//! Refreshes an analysis: polls the vendor once more, without a new submit.

use std::sync::Arc;
use std::time::Duration;

use super::{Analyses, AnalysesError, Representation};
use crate::domain::ids::CallId;
use crate::domain::trace::TraceContext;
use crate::store::{Refreshing, StoreError};
use crate::telemetry::spans;
use crate::tenants::Tenant;

impl Analyses {
    /// Plans one more poll of a finished analysis. Changes nothing if an analysis or a refresh of the call is in progress. With
    /// `wait`, returns when no analysis and no refresh of the call is in progress, or when `wait` has elapsed.
    ///
    /// # Errors
    /// The errors of [`Analyses::get`], and [`AnalysesError::TooManyRefreshes`].
    pub async fn refresh(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        wait: Option<Duration>,
        trace: TraceContext,
    ) -> Result<Arc<Representation>, AnalysesError> {
        let key = (tenant.id().clone(), call_id.clone());
        let span = spans::store_call("refresh", &key.0, &key.1);
        let refresh = self.store.refresh_analysis(&key.0, &key.1);
        let planned = match spans::run(span, StoreError::label, refresh).await? {
            Refreshing::UnderWay(found) => Arc::new(Representation::new(*found, &self.env.public_url)?),
            Refreshing::TooMany => return Err(AnalysesError::TooManyRefreshes),
            // The lookup of a call that was never submitted also polls the vendor.
            Refreshing::NotFound => return self.read(tenant, &key, trace).await,
        };
        self.cache.invalidate(&key);
        let is_over = |found: &Representation| !found.under_way && !found.refreshing;
        let Some(wait) = wait.filter(|_| !is_over(&planned)) else { return Ok(planned) };
        // The refresh is stored, so a failure of the wait is not an error.
        Ok(self.read_when(tenant, &key, wait, trace, is_over).await.unwrap_or(planned))
    }
}
