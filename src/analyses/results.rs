//! Reads the parts of a result: transcript, vendor answer and recording.

use bytes::Bytes;

use super::{Analyses, AnalysesError};
use crate::alovoice::{Recording, RecordingRequest};
use crate::domain::ids::CallId;
use crate::domain::lifecycle::VendorFault;
use crate::domain::trace::TraceContext;
use crate::domain::transcript::Transcript;
use crate::store::StoredAnalysis;
use crate::tenants::Tenant;

impl Analyses {
    /// Returns the transcript of a call.
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is completed.
    pub async fn transcript(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<Transcript, AnalysesError> {
        let StoredAnalysis { analysis, result } =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let result = result.ok_or(AnalysesError::NoResult { status: analysis.status, retry_after })?;
        Ok(Transcript {
            call_id: analysis.call_id,
            revision: analysis.revision,
            begin_time: result.begin_time,
            turns: result.transcript,
        })
    }

    /// Returns the vendor's answer that the result was parsed from, byte for byte.
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is completed.
    pub async fn vendor_answer(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<Bytes, AnalysesError> {
        if let Some(answer) = self.store.find_vendor_answer(tenant.id(), call_id).await? {
            return Ok(answer);
        }
        let found = self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = found.analysis.retry_after(self.env.clock.now());
        let none = AnalysesError::NoResult { status: found.analysis.status, retry_after };
        self.store.find_vendor_answer(tenant.id(), call_id).await?.ok_or(none)
    }

    /// Opens the recording of a call for streaming. `headers` are the caller's headers that are in
    /// [`REQUEST_HEADERS`](crate::alovoice::REQUEST_HEADERS).
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is completed, [`AnalysesError::NoRecording`] if the vendor
    /// named none on its own host.
    pub async fn recording(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        head: bool,
        headers: &[(&'static str, Vec<u8>)],
        trace: TraceContext,
    ) -> Result<Recording, AnalysesError> {
        let path = self.recording_path(tenant, call_id, trace).await?;
        let unavailable =
            |fault: VendorFault| AnalysesError::VendorUnavailable { retry_after: fault.retry_after };
        let token = tenant.vendor_token();
        let request = RecordingRequest { path: &path, head, token: &token, headers };
        let recording = self.vendor.recording((tenant.id(), call_id), request, trace).await;
        let recording = recording.map_err(unavailable)?;
        if recording.status() == 404 { Err(AnalysesError::NoRecording) } else { Ok(recording) }
    }

    /// Returns the path of a call's recording on the vendor's host, without a request to the vendor.
    ///
    /// # Errors
    /// As [`Analyses::recording`].
    pub async fn recording_path(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<String, AnalysesError> {
        let StoredAnalysis { analysis, result } =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let result = result.ok_or(AnalysesError::NoResult { status: analysis.status, retry_after })?;
        result.audio_path.ok_or(AnalysesError::NoRecording)
    }
}
