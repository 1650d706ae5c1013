//! Analyses: submitting, reading, listing and deleting them.

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use crate::domain::analysis::{Analysis, AnalysisResult, Submission, VendorResult};
use crate::domain::audit::Actor;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};
use crate::domain::trace::TraceContext;

/// An analysis with its result, if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnalysis {
    /// The record.
    pub analysis: Analysis,
    /// The result; `None` before the first completion.
    pub result: Option<AnalysisResult>,
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

    /// Stores the finished result of a call that was never submitted. An existing analysis is not changed, and a
    /// deleted call stays deleted. Returns whether the result was stored.
    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<VendorResult>,
    ) -> Result<bool, StoreError>;

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

    /// Reads one page of a tenant's analyses, the newest first.
    async fn list_analyses(
        &self,
        tenant: &TenantId,
        page: AnalysisQuery,
    ) -> Result<Vec<ListedAnalysis>, StoreError>;

    /// Deletes a call with its result, events, deliveries and stored answers, also while it is being worked on, and
    /// writes an audit record. Returns whether there was anything to delete.
    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError>;

    /// Returns whether an audit record says that the call was deleted.
    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError>;
}
