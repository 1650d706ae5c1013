//! Probes how the vendor answers for a call that does not exist.

use super::client::{PROBE, VendorCall, VendorClient};
use super::error_body::{content_type_of, is_refusal, read_beginning, words_of_body};
use super::exchange::Exchange;
use super::faults::{fault_of_status, may_be_about_call};
use super::permits::VendorPermit;
use super::shape::{self, impossible_call, shape_of};
use crate::domain::answer_shape::AnswerShape;
use crate::domain::lifecycle::VendorFault;

impl VendorClient {
    /// Requests the result of a call that cannot exist. The id of this call has the same form as `request.call_id`. Records the
    /// outcome in the circuit breaker. Returns the shape of the answer, even if the answer is a result. Returns `None` if the
    /// vendor did not answer, or if the answer is an error that does not concern the call. The rest of a large answer is not
    /// read.
    pub async fn probe(&self, permit: &VendorPermit, request: VendorCall<'_>) -> Option<AnswerShape> {
        let call_id = impossible_call(request.call_id, &*self.env.entropy);
        let request = VendorCall { call_id: &call_id, ..request };
        let mut exchange = self.exchange(PROBE, permit, request);
        let (shape, fault) = match self.try_probe(request, &mut exchange).await {
            Ok((shape, fault)) => (Some(shape), fault),
            Err(fault) => (None, Some(fault)),
        };
        let fault = fault.as_ref();
        permit.record(fault.into());
        exchange.finish(&self.env.metrics, fault.map_or("answered", |fault| fault.code.as_str()), fault);
        shape
    }

    /// Returns the shape of the answer. Also returns the fault if the answer shows one.
    async fn try_probe(
        &self,
        request: VendorCall<'_>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(AnswerShape, Option<VendorFault>), VendorFault> {
        let response =
            self.send(PROBE, request, None, exchange).await.map_err(|unanswered| unanswered.fault)?;
        let (status, retry_after) = (response.status(), self.retry_after(response.headers()));
        let content_type = content_type_of(response.headers());
        let content_type = content_type.as_deref();
        let (body, fault) = if is_refusal(status) {
            let body = read_beginning(response, request.token).await;
            let words = words_of_body(&body, content_type, request.token);
            match fault_of_status(status, retry_after, words) {
                Some(fault) if !may_be_about_call(status) => return Err(fault),
                fault => (body, fault),
            }
        } else {
            let enough = shape::MAX_BYTES + 1;
            (self.read_up_to(enough, response, request.token, exchange).await?.0, None)
        };
        Ok((shape_of(status.as_u16(), content_type, &body, request.call_id), fault))
    }
}
