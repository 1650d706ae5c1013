//! The handler of `GET /v1/analyses/{call_id}/vendor-answer`.

use actix_web::{HttpRequest, HttpResponse};
use serde::de::IgnoredAny;

use super::answer_body::taken;
use super::problem::ApiError;
use super::request::ApiRequest;
use super::tagged::{tagged_bytes, tagged_json};
use crate::domain::ids::CallId;

/// Returns the answer of AloVoice as it was received.
pub(super) async fn get_vendor_answer(
    http: HttpRequest,
    request: ApiRequest<CallId>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: call_id, .. } = request;
    let (answer, memory) = state.analyses.vendor_answer(&tenant, &call_id, trace).await?;
    // serde does not check the encoding of strings that it ignores, so the encoding is checked first.
    let is_json = str::from_utf8(&answer).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let response = if is_json { tagged_json(&http, answer) } else { tagged_bytes(&http, answer) };
    Ok(taken(response, memory))
}
