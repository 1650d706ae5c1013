//! Lists of a tenant's analyses, page by page.

use super::cursor::{self, InvalidCursor};
use super::{Analyses, AnalysesError};
use crate::domain::listing::{AnalysisFilter, AnalysisQuery, ListPosition};
use crate::domain::summary::AnalysisSummary;
use crate::tenants::Tenant;

/// A page of a list.
#[derive(Debug)]
pub struct Listing {
    /// The newest first.
    pub analyses: Vec<AnalysisSummary>,
    /// Where the next page begins; `None` after the last.
    pub next_cursor: Option<String>,
}

impl Analyses {
    /// A page of the analyses that a filter lets through.
    ///
    /// # Errors
    /// [`AnalysesError::InvalidCursor`] for one of another list.
    pub async fn list(
        &self,
        tenant: &Tenant,
        filter: AnalysisFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing, AnalysesError> {
        let read = |text| cursor::read(tenant.id(), &filter, text);
        let after = cursor.map(read).transpose().map_err(|InvalidCursor| AnalysesError::InvalidCursor)?;
        // One more than is shown tells whether there is a next page.
        let page = AnalysisQuery { filter: filter.clone(), after, limit: limit.saturating_add(1) };
        let mut listed = self.store.list_analyses(tenant.id(), page).await?;
        let more = listed.len() > limit;
        listed.truncate(limit);
        let next_cursor = listed.last().filter(|_| more).map(|last| {
            let position = ListPosition {
                submitted_at: last.analysis.submitted_at,
                call_id: last.analysis.call_id.clone(),
            };
            cursor::write(tenant.id(), &filter, &position)
        });
        let analyses =
            listed.into_iter().map(|listed| AnalysisSummary::new(&listed.analysis, listed.result)).collect();
        Ok(Listing { analyses, next_cursor })
    }
}
