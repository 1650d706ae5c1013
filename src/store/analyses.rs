//! Analyses: submitting, reading, listing and deleting them.

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use super::analysis_rows::{COLUMNS, CallKey, StoredAnalysis, read};
use super::deletion::{DeleteAnalysis, WasDeleted};
use super::refreshes::{RefreshAnalysis, Refreshing};
use super::rules::{Engine, Rule, Transaction};
use super::sql::sql;
use super::submissions::{Adopt, Submit, SubmitAll};
use super::values::values;
use crate::domain::analysis::{Submission, VendorResult};
use crate::domain::audit::Actor;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::listing::{AnalysisPage, AnalysisQuery};
use crate::domain::trace::TraceContext;

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

    /// Stores the finished result of a call that was never submitted. Does nothing if an analysis of the call exists
    /// or if the call was deleted. Returns whether the result was stored.
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

    /// Reads the vendor's answer that the result was read from, byte for byte.
    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Reads one page of a tenant's analyses, the newest first. The page may end early, see [`AnalysisPage::searched_to`].
    async fn list_analyses(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
    ) -> Result<AnalysisPage, StoreError>;

    /// Deletes a call with its result, events, deliveries and stored answers, even while a worker processes it, and
    /// writes an audit record. Returns whether any data of the call existed.
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
        self.transact(Submit { tenant: tenant.clone(), submission }).await
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
        self.query(FindAnalysis(CallKey::new(tenant, call_id))).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        self.query(FindVendorAnswer(CallKey::new(tenant, call_id))).await
    }

    async fn list_analyses(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
    ) -> Result<AnalysisPage, StoreError> {
        self.scans().run(tenant, |permit| self.list(tenant, query, permit)).await
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

struct FindAnalysis(CallKey);

impl Rule for FindAnalysis {
    const NAME: &'static str = "find_analysis";
    type Output = Option<StoredAnalysis>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<StoredAnalysis>, StoreError> {
        let Self(CallKey(tenant, call_id)) = self;
        // One statement, so that the analysis and its result come from one snapshot.
        let select = sql!(
            "SELECT ",
            COLUMNS,
            ", result FROM analyses LEFT JOIN results ON results.analysis = analyses.id \
             WHERE tenant = ?1 AND call_id = ?2",
        );
        transaction
            .find(select, values![tenant, call_id], |row| {
                let analysis = read(row)?;
                let result = if analysis.revision > 0 { row.json("result")? } else { None };
                Ok(StoredAnalysis { analysis, result })
            })
            .await
    }
}

struct FindVendorAnswer(CallKey);

impl Rule for FindVendorAnswer {
    const NAME: &'static str = "find_vendor_answer";
    type Output = Option<Bytes>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<Bytes>, StoreError> {
        let Self(CallKey(tenant, call_id)) = self;
        let select = sql!(
            "SELECT vendor_answer FROM results JOIN analyses ON analyses.id = results.analysis \
             WHERE tenant = ?1 AND call_id = ?2"
        );
        transaction
            .find(select, values![tenant, call_id], |row| {
                row.get::<Vec<u8>>("vendor_answer").map(Bytes::from)
            })
            .await
    }
}
