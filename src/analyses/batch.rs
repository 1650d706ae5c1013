//! Submits a batch of calls.

use super::{Analyses, AnalysesError};
use crate::domain::analysis::Submission;
use crate::domain::summary::{AnalysisSummary, ResultSummary};
use crate::store::{StoreError, StoredAnalysis};
use crate::telemetry::metrics::whole;
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// The result of one submission of a batch.
#[derive(Debug)]
pub struct BatchItem {
    /// Summary of the analysis. A batch omits transcripts, because a thousand of them would make the answer too
    /// large.
    pub summary: AnalysisSummary,
    /// Whether the analysis, or a reanalysis of the call, is in progress.
    pub under_way: bool,
}

impl Analyses {
    /// Stores submissions in their order in one transaction. If a stored call cannot be read, each submission gets its own
    /// transaction instead. The submissions are on disk when the function returns.
    ///
    /// # Errors
    /// Returns an error if the store fails. If the common transaction fails, no submission is stored. The errors of single
    /// submissions are in the returned list.
    pub async fn submit_all(
        &self,
        tenant: &Tenant,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Result<BatchItem, AnalysesError>>, AnalysesError> {
        let admitted: Vec<_> = submissions
            .into_iter()
            .map(|submission| self.admit(tenant, &submission).map(|()| submission))
            .collect();
        let good: Vec<Submission> = admitted.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
        let found = if good.is_empty() {
            Vec::new()
        } else {
            let span = spans::store("submit_all", "analyses");
            span.record("tenant", tracing::field::display(tenant.id()));
            span.record("batch_size", whole(good.len()));
            match spans::run(span, StoreError::label, self.store.submit_all(tenant.id(), good.clone())).await
            {
                // One of the calls cannot be read. The other calls must not fail because of it.
                Err(StoreError::Corrupt(_)) => self.submit_each(tenant, good).await?,
                found => found?.into_iter().map(Ok).collect(),
            }
        };
        let mut found = found.into_iter();
        let outcome = |item: Result<Submission, AnalysesError>| {
            let submission = item?;
            self.cache.invalidate(&(tenant.id().clone(), submission.call_id));
            let found = found.next().ok_or(AnalysesError::NotFound)??;
            let result = found.result.as_ref().map(ResultSummary::of);
            let under_way = found.analysis.is_under_way();
            Ok(BatchItem {
                summary: AnalysisSummary::new(&found.analysis, result, &self.env.public_url),
                under_way,
            })
        };
        Ok(admitted.into_iter().map(outcome).collect())
    }

    /// Stores each submission in a separate transaction. The returned list contains an error for each stored call that cannot be
    /// read. The function returns at once on any other error.
    async fn submit_each(
        &self,
        tenant: &Tenant,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Result<StoredAnalysis, AnalysesError>>, StoreError> {
        let mut found = Vec::with_capacity(submissions.len());
        for submission in submissions {
            found.push(match self.store.submit(tenant.id(), submission).await {
                Err(unreadable @ StoreError::Corrupt(_)) => Err(unreadable.into()),
                other => Ok(other?),
            });
        }
        Ok(found)
    }
}
