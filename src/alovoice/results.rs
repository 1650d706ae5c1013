//! Requests results from the vendor.

use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap};

use super::answer::AnswerReader;
use super::body_budget::BodyPermit;
use super::client::{RESULT, VendorCall, VendorClient};
use super::error_body::{content_type_of, is_refusal, read_beginning, text_of, words_of_body};
use super::exchange::Exchange;
use super::faults::{UNKNOWN_CALL, answered, fault_of_status, may_be_about_call, quoted, unreadable};
use super::permits::VendorPermit;
use super::shape::shape_of;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::lifecycle::{PollOutcome, VendorFault};
use crate::domain::vendor_token::VendorToken;

/// Maximum size of a stored `ETag` in bytes. A longer `ETag` is not stored.
const MAX_ETAG_BYTES: usize = 256;

/// The vendor's answer to a request for a result.
#[derive(Debug)]
pub struct VendorAnswer {
    /// The meaning of the answer for the call.
    pub outcome: PollOutcome,
    /// Shape of an answer without a result. `None` if there was no answer, or if the answer is a result, a 304, or an error that
    /// does not concern the call.
    pub shape: Option<AnswerShape>,
    /// Permit for the memory of the answer. The caller holds the permit until the outcome is stored.
    pub body_permit: BodyPermit,
}

impl VendorAnswer {
    fn new(outcome: PollOutcome, shape: Option<AnswerShape>) -> Self {
        Self { outcome, shape, body_permit: BodyPermit::default() }
    }
}

impl VendorClient {
    /// Gets the result of a call (`callgetairesult`), and records the outcome in the circuit breaker. With `etag`, the
    /// vendor does not send an unchanged result again.
    pub async fn result(
        &self,
        permit: &VendorPermit,
        request: VendorCall<'_>,
        etag: Option<&str>,
    ) -> VendorAnswer {
        let mut exchange = self.exchange(RESULT, permit, request);
        let answer = match self.try_result(request, etag, &mut exchange).await {
            Ok(answer) => answer,
            Err(fault) => VendorAnswer::new(PollOutcome::Fault(fault), None),
        };
        permit.record((&answer.outcome).into());
        self.report_warnings(&answer.outcome, &exchange);
        let fault = if let PollOutcome::Fault(fault) = &answer.outcome { Some(fault) } else { None };
        exchange.finish(&self.env.metrics, poll_label(&answer.outcome), fault);
        answer
    }

    async fn try_result(
        &self,
        request: VendorCall<'_>,
        etag: Option<&str>,
        exchange: &mut Exchange<'_>,
    ) -> Result<VendorAnswer, VendorFault> {
        let response =
            self.send(RESULT, request, etag, exchange).await.map_err(|unanswered| unanswered.fault)?;
        let (status, retry_after) = (response.status(), self.retry_after(response.headers()));
        if status == StatusCode::NOT_MODIFIED {
            return Ok(VendorAnswer::new(PollOutcome::Unchanged, None));
        }
        let (new_etag, content_type) =
            (etag_of(response.headers(), request.token), content_type_of(response.headers()));
        let content_type = content_type.as_deref();
        let shape = |body: &[u8]| shape_of(status.as_u16(), content_type, body, request.call_id);
        let is_unfinished = matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT);
        if !is_unfinished && !is_refusal(status) {
            let (body, body_permit) = self.read(response, request.token, exchange).await?;
            let (base_url, max_bytes) = (&self.base_url, self.max_response_bytes);
            let reader = AnswerReader { base_url, token: request.token, max_bytes };
            let outcome = reader.read(&body, content_type, new_etag);
            let outcome = outcome.unwrap_or_else(|reason| PollOutcome::Fault(unreadable(reason)));
            let is_result = matches!(outcome, PollOutcome::Ready(_));
            let shape = (!is_result).then(|| shape(&body));
            return Ok(VendorAnswer { outcome, shape, body_permit });
        }
        let body = read_beginning(response, request.token).await;
        let words = words_of_body(&body, content_type, request.token);
        if let Some(fault) = fault_of_status(status, retry_after, words.clone()) {
            let shape = may_be_about_call(status).then(|| shape(&body));
            return Ok(VendorAnswer::new(PollOutcome::Fault(fault), shape));
        }
        let outcome = match status {
            _ if is_unfinished => PollOutcome::NotReady { etag: None, retry_after, detail: None },
            StatusCode::NOT_FOUND => {
                PollOutcome::NotFound(words.map(|words| quoted(UNKNOWN_CALL, Some(words))))
            }
            _ => PollOutcome::Rejected(answered(status, words)),
        };
        Ok(VendorAnswer::new(outcome, Some(shape(&body))))
    }

    /// Counts and logs the deviations that were tolerated in an answer.
    fn report_warnings(&self, outcome: &PollOutcome, exchange: &Exchange<'_>) {
        let (PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained)) = outcome else { return };
        for warning in &obtained.result.warnings {
            let (code, count) = (warning.code.as_str(), warning.count);
            self.env.metrics.vendor_answer_warnings.with_label_values(&[code]).inc();
            let Exchange { tenant, call_id, .. } = exchange;
            tracing::info!(%tenant, %call_id, code, count, "vendor answer deviates from its documentation");
        }
    }
}

/// Returns the `ETag` of an answer. Returns `None` if the `ETag` is too long or contains the token; the next poll is then
/// unconditional.
fn etag_of(headers: &HeaderMap, token: &VendorToken) -> Option<String> {
    text_of(headers, ETAG).filter(|etag| etag.len() <= MAX_ETAG_BYTES && !token.is_in(etag.as_bytes()))
}

const fn poll_label(outcome: &PollOutcome) -> &'static str {
    match outcome {
        PollOutcome::Ready(_) => "ready",
        PollOutcome::Empty(_) => "empty",
        PollOutcome::NotReady { .. } => "not_ready",
        PollOutcome::Unchanged => "unchanged",
        PollOutcome::NotFound(_) => "not_found",
        PollOutcome::Rejected(_) => "rejected",
        PollOutcome::Fault(fault) => fault.code.as_str(),
    }
}
