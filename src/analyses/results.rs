//! Reads the parts of a result: transcript, vendor answer and recording.

use bytes::Bytes;

use super::cache::Key;
use super::{Analyses, AnalysesError, MemoryPermit};
use crate::alovoice::{Recording, RecordingRequest};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::lifecycle::VendorFault;
use crate::domain::trace::TraceContext;
use crate::domain::transcript::Transcript;
use crate::store::{SizedRead, StoreError, StoredAnalysis};
use crate::tenants::Tenant;

/// Size up to which a value is read without a permit, in bytes.
const SMALL: usize = 64 << 10;

impl Analyses {
    /// Returns the transcript of a call, with a permit if it is large.
    ///
    /// # Errors
    /// The errors of [`Analyses::get`], and [`AnalysesError::NoResult`] until the analysis is completed.
    pub async fn transcript(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<(Transcript, Option<MemoryPermit>), AnalysesError> {
        let (StoredAnalysis { analysis, result }, permit) =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let result = result.ok_or(AnalysesError::NoResult { status: analysis.status, retry_after })?;
        let transcript = Transcript {
            call_id: analysis.call_id,
            revision: analysis.revision,
            begin_time: result.begin_time,
            call: analysis.call,
            turns: result.transcript,
        };
        Ok((transcript, permit))
    }

    /// Returns the vendor's answer that the result was parsed from, byte for byte, with a permit if it is large.
    ///
    /// # Errors
    /// The errors of [`Analyses::get`], and [`AnalysesError::NoResult`] until the analysis is completed.
    pub async fn vendor_answer(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<(Bytes, Option<MemoryPermit>), AnalysesError> {
        let key = (tenant.id().clone(), call_id.clone());
        if let Some(answer) = self.find_vendor_answer(&key).await? {
            return Ok(answer);
        }
        let (StoredAnalysis { analysis, .. }, _) = self.find(tenant, &key, trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let none = AnalysesError::NoResult { status: analysis.status, retry_after };
        self.find_vendor_answer(&key).await?.ok_or(none)
    }

    async fn find_vendor_answer(
        &self,
        (tenant, call_id): &Key,
    ) -> Result<Option<(Bytes, Option<MemoryPermit>)>, AnalysesError> {
        self.sized(tenant, 1, |max_bytes| self.store.find_vendor_answer_within(tenant, call_id, max_bytes))
            .await
    }

    /// Reads a value with `read`. Before the function reads a large value, it waits until the memory budget has room for `copies`
    /// copies of the value.
    pub(super) async fn sized<T, R>(
        &self,
        tenant: &TenantId,
        copies: usize,
        read: impl Fn(usize) -> R,
    ) -> Result<Option<(T, Option<MemoryPermit>)>, AnalysesError>
    where
        R: Future<Output = Result<Option<SizedRead<T>>, StoreError>>,
    {
        let (mut max_bytes, mut permit) = (SMALL, None);
        loop {
            match read(max_bytes).await? {
                None => return Ok(None),
                Some(SizedRead::Whole(value)) => return Ok(Some((value, permit))),
                // The value can grow between two reads.
                Some(SizedRead::TooLarge { bytes }) => {
                    drop(permit.take());
                    let taken = self.memory.take_in_time(tenant, bytes.saturating_mul(copies)).await?;
                    (max_bytes, permit) = (bytes, Some(taken));
                }
            }
        }
    }

    /// Opens the recording of a call for streaming. `headers` are the caller's headers that are in
    /// [`REQUEST_HEADERS`](crate::alovoice::REQUEST_HEADERS).
    ///
    /// # Errors
    /// The errors of [`Analyses::recording_path`], [`AnalysesError::NoRecording`] if the vendor answers 404, and
    /// [`AnalysesError::VendorUnavailable`] if the request for the recording fails.
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

    /// Returns the path of a call's recording on the vendor's host, without a request for the recording.
    ///
    /// # Errors
    /// The errors of [`Analyses::get`], [`AnalysesError::NoResult`] until the analysis is completed, and
    /// [`AnalysesError::NoRecording`] if the result names no recording on the vendor's host.
    pub async fn recording_path(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<String, AnalysesError> {
        let (StoredAnalysis { analysis, result }, _permit) =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let result = result.ok_or(AnalysesError::NoResult { status: analysis.status, retry_after })?;
        result.audio_path.ok_or(AnalysesError::NoRecording)
    }
}
