//! Analyses: submitting, reading, listing and deleting them.

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use super::analysis_rows::{COLUMNS, CallKey, StoredAnalysis, read};
use super::deletion::{DeleteAnalysis, WasDeleted};
use super::engine::Engine;
use super::observations::Observation;
use super::refreshes::{RefreshAnalysis, Refreshing};
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::submissions::{Adopt, FindSubmittedData, Submit, SubmitAll};
use super::values::{Row, values};
use crate::domain::analysis::{Submission, SubmittedData, VendorResult};
use crate::domain::audit::Actor;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::listing::{AnalysisPage, AnalysisQuery};
use crate::domain::trace::TraceContext;

/// The outcome of a read with a limit on its size.
#[derive(Debug, Clone, PartialEq)]
pub enum SizedRead<T> {
    /// The value has at most the maximum size.
    Whole(T),
    /// The value is larger, and was not read.
    TooLarge {
        /// Size of the value in bytes.
        bytes: usize,
    },
}

impl<T> SizedRead<T> {
    /// Returns the value of a read without a limit.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the read nevertheless refused the value because of its size.
    fn unlimited(self) -> Result<T, StoreError> {
        match self {
            Self::Whole(value) => Ok(value),
            Self::TooLarge { bytes } => Err(StoreError::Corrupt(format!("a value has {bytes} bytes"))),
        }
    }
}

/// Analyses of one tenant.
#[async_trait]
pub trait AnalysisStore: Send + Sync {
    /// Creates the analysis of a new call, or changes the existing one.
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<StoredAnalysis, StoreError>;

    /// Submits several calls in order, in one commit: all of them or none.
    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<StoredAnalysis>, StoreError>;

    /// Stores the finished result of a call that was never submitted. Does nothing if an analysis of the call exists or if the
    /// call was deleted. Returns whether the result was stored.
    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<VendorResult>,
    ) -> Result<bool, StoreError>;

    /// Plans a poll for changes of a finished analysis. If a poll is already planned, the analysis does not change.
    async fn refresh_analysis(&self, tenant: &TenantId, call_id: &CallId) -> Result<Refreshing, StoreError>;

    /// Reads the analysis of a call.
    async fn find_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<StoredAnalysis>, StoreError>;

    /// Reads the analysis of a call, unless its result has more than `max_bytes`.
    async fn find_analysis_within(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        max_bytes: usize,
    ) -> Result<Option<SizedRead<StoredAnalysis>>, StoreError>;

    /// Reads the current metadata and facts of a call, without its result.
    async fn find_submitted_data(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<SubmittedData>, StoreError>;

    /// Reads the stored answer of the vendor, byte for byte. The stored result was parsed from this answer.
    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Reads the stored answer of the vendor, unless the answer has more than `max_bytes`.
    async fn find_vendor_answer_within(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        max_bytes: usize,
    ) -> Result<Option<SizedRead<Bytes>>, StoreError>;

    /// Reads one page of a tenant's analyses, newest first. The page may end early, see [`AnalysisPage::searched_to`].
    async fn list_analyses(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
    ) -> Result<AnalysisPage, StoreError>;

    /// Deletes a call with its result, events, deliveries and stored answers, and writes an audit record. A worker that processes
    /// the call does not prevent the deletion. Returns whether any data of the call existed.
    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError>;

    /// Returns whether an audit record says that the call was deleted.
    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError>;
}

#[async_trait]
impl<E: Engine> AnalysisStore for E {
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<StoredAnalysis, StoreError> {
        self.transact_in_group(Submit { tenant: tenant.clone(), submission }).await
    }

    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<StoredAnalysis>, StoreError> {
        self.transact(SubmitAll { tenant: tenant.clone(), submissions }).await
    }

    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<VendorResult>,
    ) -> Result<bool, StoreError> {
        self.transact(Adopt { tenant: tenant.clone(), call_id: call_id.clone(), trace, obtained }).await
    }

    async fn refresh_analysis(&self, tenant: &TenantId, call_id: &CallId) -> Result<Refreshing, StoreError> {
        self.transact(RefreshAnalysis { tenant: tenant.clone(), call_id: call_id.clone() }).await
    }

    async fn find_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<StoredAnalysis>, StoreError> {
        let found = self.find_analysis_within(tenant, call_id, usize::MAX).await?;
        found.map(SizedRead::unlimited).transpose()
    }

    async fn find_analysis_within(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        max_bytes: usize,
    ) -> Result<Option<SizedRead<StoredAnalysis>>, StoreError> {
        self.query(FindAnalysis { call: CallKey::new(tenant, call_id), max_bytes }).await
    }

    async fn find_submitted_data(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<SubmittedData>, StoreError> {
        self.query(FindSubmittedData(CallKey::new(tenant, call_id))).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        let found = self.find_vendor_answer_within(tenant, call_id, usize::MAX).await?;
        found.map(SizedRead::unlimited).transpose()
    }

    async fn find_vendor_answer_within(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        max_bytes: usize,
    ) -> Result<Option<SizedRead<Bytes>>, StoreError> {
        self.query(FindVendorAnswer { call: CallKey::new(tenant, call_id), max_bytes }).await
    }

    async fn list_analyses(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
    ) -> Result<AnalysisPage, StoreError> {
        let page = self.scans().run(tenant, |permit| self.list(tenant, query, permit)).await?;
        for unreadable in page.analyses.iter().filter_map(|row| row.as_ref().err()) {
            let id = format_args!("{tenant}/{}", unreadable.call_id);
            Observation::unreadable("analyses", id).report(&self.env().metrics);
        }
        Ok(page)
    }

    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError> {
        self.transact(DeleteAnalysis { call: CallKey::new(tenant, call_id), actor }).await
    }

    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError> {
        self.query(WasDeleted(CallKey::new(tenant, call_id))).await
    }
}

struct FindAnalysis {
    call: CallKey,
    max_bytes: usize,
}

impl Rule for FindAnalysis {
    const NAME: &'static str = "find_analysis";
    type Output = Option<SizedRead<StoredAnalysis>>;

    async fn run<T: Transaction>(
        &self,
        transaction: &T,
    ) -> Result<Option<SizedRead<StoredAnalysis>>, StoreError> {
        let Self { call: CallKey(tenant, call_id), max_bytes } = self;
        // This is one statement, so that the analysis and its result come from one snapshot. Neither engine reads the value to
        // measure its size.
        let select = sql!(
            "SELECT ",
            COLUMNS,
            ", CAST(octet_length(result) AS bigint) AS bytes, \
             CASE WHEN octet_length(result) <= CAST(?3 AS bigint) THEN result END AS result \
             FROM analyses LEFT JOIN results ON results.analysis = analyses.id WHERE tenant = ?1 AND call_id = ?2",
        );
        transaction
            .find(select, values![tenant, call_id, *max_bytes], |row| {
                let analysis = read(row)?;
                if analysis.revision == 0 {
                    return Ok(SizedRead::Whole(StoredAnalysis { analysis, result: None }));
                }
                if let Some(bytes) = too_large(row, *max_bytes)? {
                    return Ok(SizedRead::TooLarge { bytes });
                }
                Ok(SizedRead::Whole(StoredAnalysis { analysis, result: row.json("result")? }))
            })
            .await
    }
}

/// Returns the size in the column `bytes` if it exceeds the limit.
fn too_large(row: &dyn Row, max_bytes: usize) -> Result<Option<usize>, StoreError> {
    let bytes: Option<usize> = row.get("bytes")?;
    Ok(bytes.filter(|bytes| *bytes > max_bytes))
}

struct FindVendorAnswer {
    call: CallKey,
    max_bytes: usize,
}

impl Rule for FindVendorAnswer {
    const NAME: &'static str = "find_vendor_answer";
    type Output = Option<SizedRead<Bytes>>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<SizedRead<Bytes>>, StoreError> {
        let Self { call: CallKey(tenant, call_id), max_bytes } = self;
        let select = sql!(
            "SELECT CAST(octet_length(vendor_answer) AS bigint) AS bytes, \
             CASE WHEN octet_length(vendor_answer) <= CAST(?3 AS bigint) THEN vendor_answer END AS vendor_answer \
             FROM results JOIN analyses ON analyses.id = results.analysis WHERE tenant = ?1 AND call_id = ?2"
        );
        transaction
            .find(select, values![tenant, call_id, *max_bytes], |row| match too_large(row, *max_bytes)? {
                Some(bytes) => Ok(SizedRead::TooLarge { bytes }),
                None => row.get::<Vec<u8>>("vendor_answer").map(Bytes::from).map(SizedRead::Whole),
            })
            .await
    }
}
